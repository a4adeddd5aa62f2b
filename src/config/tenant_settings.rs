//! The settings that may differ per tenant: how files are decoded, and where their rows are delivered.

use std::{collections::BTreeMap, num::NonZeroUsize, thread::available_parallelism, time::Duration};

use super::{
    InvalidSettings, Settings, Storage,
    parse::{ByteSize, ColumnFilter, ColumnNames, Destination, DirectoryColumns, RowValues, SERVICE_BUS_SCHEME},
    reader::Reader,
    row_columns::ROW_COLUMNS,
    service_bus::SERVICE_BUS,
    tenants::SINK_SETTINGS,
};
use crate::{
    batch::BatchLimits,
    deliver::Limits,
    directory::{DirectoryConfig, DirectoryRules},
    drop::TenantId,
    pipeline::FileRules,
    retry::RetryBudget,
    sink::{
        queue::QueueConfig, service_bus::ServiceBusConfig, vault_secret_webhook::SecretReference,
        webhook::WebhookConfig,
    },
    stage::{
        decode::{ColumnChecks, ExpectedColumn, RowRules},
        layout::LayoutRules,
    },
};

/// How files are decoded, and where their rows are delivered.
#[derive(Debug)]
pub struct TenantSettings {
    /// How files are decoded.
    pub rules: FileRules,
    /// The bounds for one file.
    pub limits: Limits,
    /// How directory exports are used: delivered, joined to other rows, or both.
    pub directory: DirectoryConfig,
    /// `DELIVER_TO`: the sink.
    pub deliver_to: DeliverTo,
}

/// The settings of one tenant that has settings of its own; settings that it does not override are those of the app.
#[derive(Debug)]
pub struct TenantOverrides {
    /// How its files are decoded.
    pub rules: FileRules,
    /// The bounds for one of its files.
    pub limits: Limits,
    /// How its directory exports are used: delivered, joined to other rows, or both.
    pub directory: DirectoryConfig,
    /// Its own sink; `None` if it uses that of the app.
    pub deliver_to: Option<DeliverTo>,
}

/// `DELIVER_TO`.
#[derive(Debug)]
pub enum DeliverTo {
    /// `https://…`. Messages are signed with the secret in the vault, if there is a reference, and otherwise with the
    /// secret in the configuration.
    Webhook(Box<WebhookConfig>, Option<SecretReference>),
    /// `queue://<name>`
    Queue(Box<QueueConfig>),
    /// `servicebus://<namespace>/<queue or topic>`
    ServiceBus(Box<ServiceBusConfig>),
    /// `stdout:`
    Stdout,
}

/// The largest values of `MAX_ROW_BYTES`, `BATCH_ROWS`, `IN_FLIGHT` and `DECODERS`: far above every useful one, and low
/// enough to find a typing error before it costs the memory of the machine.
const LARGEST_ROW_BYTES: usize = 64 << 20;
const LARGEST_BATCH_ROWS: usize = 1_000_000;
const LARGEST_IN_FLIGHT: usize = 1_024;
const LARGEST_DECODERS: usize = 256;

/// Reads the settings of the app, which apply to every tenant that does not override them.
pub(super) fn common_settings(reader: &Reader<'_>, drop_storage: Option<&Storage>) -> Option<TenantSettings> {
    let (limits, directory) = (limits(reader), directory(reader));
    let rules = file_rules(reader).map(|rules| expect_join_key(reader, rules, directory.as_ref()));
    let deliver_to = deliver_to(reader, drop_storage);
    Some(TenantSettings { rules: rules?, limits: limits?, directory: directory?, deliver_to: deliver_to? })
}

/// The setting that names the column of a row that is matched with the directory.
const DIRECTORY_KEY: &str = "DIRECTORY_KEY";

/// The setting that names the encrypted columns.
const ENCRYPTED_COLUMNS: &str = "ENCRYPTED_COLUMNS";

/// The default of `DEADLINE`.
pub(super) const DEADLINE: &str = "25m";

/// Reads the settings of each tenant that overrides any of the app's `settings`.
pub(super) fn tenant_overrides(
    reader: &Reader<'_>,
    settings: &Settings,
    drop_storage: Option<&Storage>,
    overrides: &BTreeMap<TenantId, Settings>,
) -> Option<BTreeMap<TenantId, TenantOverrides>> {
    let mut all = BTreeMap::new();
    let mut has_problems = false;
    for (&tenant, own) in overrides {
        if own.0.is_empty() {
            continue;
        }
        match overrides_of_tenant(settings, drop_storage, own) {
            Ok(overrides) => {
                all.insert(tenant, overrides);
            }
            Err(InvalidSettings(problems)) => {
                // The tenants after this one are still read: their problems are reported as well.
                reader.add_tenant_problems(tenant, problems);
                has_problems = true;
            }
        }
    }
    if has_problems { None } else { Some(all) }
}

/// Reads the settings of a tenant: its `own` ones, and the app's `settings` for the others.
fn overrides_of_tenant(
    settings: &Settings,
    drop_storage: Option<&Storage>,
    own: &Settings,
) -> Result<TenantOverrides, InvalidSettings> {
    let mut merged = settings.clone();
    if own.get("DELIVER_TO").is_some() {
        // A receiver that knows a secret can sign with it, so two receivers must not share one.
        merged.0.remove("WEBHOOK_SECRET");
        // The app's key is for the namespace or the entity of the app.
        merged.0.remove(SERVICE_BUS);
    }
    if own.0.keys().any(|name| name.starts_with("SinkStorage")) {
        // Several settings together describe one account; those of the app describe another account.
        merged.0.retain(|name, _| !name.starts_with("SinkStorage"));
    }
    merged.0.extend(own.0.clone());

    let reader = Reader::new(&merged);
    let (limits, directory) = (limits(&reader), directory(&reader));
    let rules = file_rules(&reader).map(|rules| expect_join_key(&reader, rules, directory.as_ref()));
    let has_own_sink = SINK_SETTINGS.iter().any(|name| own.get(name).is_some());
    let deliver_to = if has_own_sink { deliver_to(&reader, drop_storage).map(Some) } else { Some(None) };
    reader.finish(|| {
        Some(TenantOverrides { rules: rules?, limits: limits?, directory: directory?, deliver_to: deliver_to? })
    })
}

/// Reads how files are decoded.
pub(super) fn file_rules(reader: &Reader<'_>) -> Option<FileRules> {
    let layout = reader.or_default("FILE_LAYOUT", "auto");
    let cipher = reader.or_default("FILE_CIPHER", "auto");
    let allow_plaintext = reader.or_default("ALLOW_PLAINTEXT", "false");
    let columns = reader.or_default(ROW_COLUMNS, "*");
    let encrypted_columns = reader.or_default(ENCRYPTED_COLUMNS, "ObjectId");
    let column_cipher = reader.or_default("COLUMN_CIPHER", "auto");
    let row_values: Option<RowValues> = reader.or_default("ROW_VALUES", "typed");
    let max_row_bytes = reader.at_most("MAX_ROW_BYTES", "1048576", LARGEST_ROW_BYTES);
    let max_depth: Option<NonZeroUsize> = reader.or_default("MAX_ROW_DEPTH", "50");
    let (ColumnFilter(columns), encrypted_columns): (_, ColumnNames) = (columns?, encrypted_columns?);
    let mut expected = Vec::new();
    if let Some(columns) = &columns {
        expected.extend(expected_columns(ROW_COLUMNS, columns));
    }
    // By default, files without encrypted columns are accepted.
    if reader.get(ENCRYPTED_COLUMNS).is_some() {
        expected.extend(expected_columns(ENCRYPTED_COLUMNS, &encrypted_columns));
    }
    Some(FileRules {
        layout: LayoutRules { layout: layout?, cipher: cipher?, allow_plaintext: allow_plaintext? },
        rows: RowRules {
            checks: ColumnChecks { expected, rejects_empty_rows: columns.is_some() },
            columns: columns.map(|columns| columns.names),
            records_values: false,
            encrypted_columns: encrypted_columns.names,
            column_cipher: column_cipher?,
            typed: row_values? == RowValues::Typed,
            max_row_bytes: max_row_bytes?.get(),
            max_depth: max_depth?.get(),
        },
    })
}

/// The columns that `setting` names.
fn expected_columns(setting: &'static str, ColumnNames { names, optional }: &ColumnNames) -> Vec<ExpectedColumn> {
    let expected = |name: &String| match optional.contains(name) {
        true => ExpectedColumn::optional(setting, name),
        false => ExpectedColumn::new(setting, name),
    };
    names.iter().map(expected).collect()
}

/// The same rules, which expect the column of `DIRECTORY_KEY` if that is set and rows are joined.
fn expect_join_key(reader: &Reader<'_>, mut rules: FileRules, directory: Option<&DirectoryConfig>) -> FileRules {
    let key = directory.filter(|directory| directory.joins() && reader.get(DIRECTORY_KEY).is_some());
    let column = key.map(|directory| ExpectedColumn::new(DIRECTORY_KEY, &directory.rules.key.column));
    rules.rows.checks.expected.extend(column);
    rules
}

/// Reads how directory exports are used.
fn directory(reader: &Reader<'_>) -> Option<DirectoryConfig> {
    let mode = reader.or_default("DIRECTORY", "deliver");
    let columns = reader.or_default("DIRECTORY_COLUMNS", "mail,department,jobTitle,country");
    let key = reader.or_default(DIRECTORY_KEY, "ObjectId=id");
    let wait = reader.or_default("DIRECTORY_WAIT", "1h");
    let memory: Option<ByteSize> = reader.or_default("DIRECTORY_MEMORY", "256MiB");
    let (DirectoryColumns(columns), ByteSize(memory)) = (columns?, memory?);
    Some(DirectoryConfig { mode: mode?, rules: DirectoryRules { columns, key: key?, memory }, wait: wait? })
}

/// Reads the bounds for one file. The size limit of a message is not a setting: each sink has its own.
fn limits(reader: &Reader<'_>) -> Option<Limits> {
    let rows = reader.at_most("BATCH_ROWS", "500", LARGEST_BATCH_ROWS);
    let bytes = batch_bytes(reader);
    let in_flight = reader.at_most("IN_FLIGHT", "8", LARGEST_IN_FLIGHT);
    let bad_rows_allowed = reader.or_default("BAD_ROWS_ALLOWED", "0");
    let decoders = decoders(reader);
    Some(Limits {
        batch: BatchLimits { rows: rows?, bytes: bytes?, message: None },
        in_flight: in_flight?,
        decoders: decoders?,
        bad_rows_allowed: bad_rows_allowed?,
    })
}

/// Reads the maximum size of a batch. In the standard tier of Service Bus, a message has at most 256 KiB with
/// properties.
fn batch_bytes(reader: &Reader<'_>) -> Option<NonZeroUsize> {
    let is_service_bus = reader.get("DELIVER_TO").is_some_and(|text| text.starts_with(SERVICE_BUS_SCHEME));
    reader.or_default("BATCH_BYTES", if is_service_bus { "204800" } else { "1048576" })
}

/// Reads the number of blocks of a file that are decoded in parallel; the default is the number of cores.
pub(super) fn decoders(reader: &Reader<'_>) -> Option<NonZeroUsize> {
    let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    reader.at_most("DECODERS", &cores.get().min(LARGEST_DECODERS).to_string(), LARGEST_DECODERS)
}

/// Reads how long a message is retried: at most `DEADLINE`, because a run ends then.
fn delivery_patience(reader: &Reader<'_>) -> Option<Duration> {
    let patience: Option<Duration> = reader.or_default("DELIVERY_PATIENCE", "4m");
    let deadline: Option<Duration> = reader.or_default("DEADLINE", DEADLINE);
    let (patience, deadline) = (patience?, deadline?);
    if reader.get("DELIVERY_PATIENCE").is_some() && patience > deadline {
        let problem = "DELIVERY_PATIENCE is longer than DEADLINE: expected at most DEADLINE, because a run ends then";
        reader.add_problem(problem.into());
        return None;
    }
    Some(patience.min(deadline))
}

fn deliver_to(reader: &Reader<'_>, drop_storage: Option<&Storage>) -> Option<DeliverTo> {
    let destination = reader.required("DELIVER_TO");
    let gzip = reader.or_default("WEBHOOK_GZIP", "false");
    let timeout = reader.or_default("WEBHOOK_TIMEOUT", "30s");
    let retry_for = delivery_patience(reader);
    // The settings of the other kinds of sinks are validated as well.
    if !matches!(destination, Some(Destination::Webhook(_))) {
        reader.check_webhook_secret();
    }
    if !matches!(destination, Some(Destination::Queue(_))) {
        reader.check_sink_storage();
    }
    if destination.is_none()
        || !matches!(destination, Some(Destination::ServiceBus(_))) && reader.is_resolved(SERVICE_BUS)
    {
        reader.check_service_bus();
    }
    match destination? {
        Destination::Stdout => Some(DeliverTo::Stdout),
        Destination::Queue(name) => {
            let mut queue = reader.queue(name, drop_storage)?;
            queue.retry_budget = RetryBudget::lasting(retry_for?);
            Some(DeliverTo::Queue(Box::new(queue)))
        }
        Destination::ServiceBus(address) => {
            let mut entity = reader.service_bus(address)?.for_batches(batch_bytes(reader)?);
            entity.retry_budget = RetryBudget::lasting(retry_for?);
            Some(DeliverTo::ServiceBus(Box::new(entity)))
        }
        Destination::Webhook(url) => {
            // This records the problems of URL and secret, so it comes before the first `?`.
            let (mut webhook, secret) = reader.webhook(url)?;
            webhook.gzip = gzip?;
            webhook.timeout = timeout?;
            webhook.retry_budget = RetryBudget::lasting(retry_for?);
            Some(DeliverTo::Webhook(Box::new(webhook), secret))
        }
    }
}
