//! The terms: how files are read and where their rows go, for all tenants and for those that differ.

use std::{collections::BTreeMap, num::NonZeroUsize};

use super::{
    InvalidSettings, Settings, Storage,
    reader::Reader,
    tenants::OF_THE_SINK,
    words::{Choice, Columns, Destination, Names, RowValues, Span, Switch},
};
use crate::{
    batch::BatchLimits,
    deliver::Limits,
    drop::TenantId,
    pipeline::FileRules,
    retry::RetryBudget,
    sink::{queue::QueueConfig, vault_secret_webhook::SecretReference, webhook::WebhookConfig},
    stage::{decode::RowRules, layout::LayoutRules},
};

/// How files are read and where their rows go.
#[derive(Debug)]
pub struct TenantSettings {
    /// How files are read.
    pub rules: FileRules,
    /// What one file may take.
    pub limits: Limits,
    /// `DELIVER_TO`: where batches go.
    pub deliver_to: DeliverTo,
}

/// What differs for one tenant.
#[derive(Debug)]
pub struct TenantOverrides {
    /// How its files are read.
    pub rules: FileRules,
    /// What one of its files may take.
    pub limits: Limits,
    /// Where its batches go, if not where all others do.
    pub deliver_to: Option<DeliverTo>,
}

/// `DELIVER_TO`.
#[derive(Debug)]
pub enum DeliverTo {
    /// `https://…`, signed with the secret at this place, if it has none of its own.
    Webhook(Box<WebhookConfig>, Option<SecretReference>),
    /// `queue://<name>`
    Queue(Box<QueueConfig>),
    /// `stdout:`
    Stdout,
}

/// The app's own terms.
pub(super) fn common_settings(reader: &Reader<'_>, drop_storage: Option<&Storage>) -> Option<TenantSettings> {
    let (rules, limits, deliver_to) = (file_rules(reader), limits(reader), deliver_to(reader, drop_storage));
    Some(TenantSettings { rules: rules?, limits: limits?, deliver_to: deliver_to? })
}

/// The terms of each tenant that has any of its own: its settings, over those of the app.
pub(super) fn tenant_overrides(
    reader: &Reader<'_>,
    settings: &Settings,
    drop_storage: Option<&Storage>,
    own: &BTreeMap<TenantId, Settings>,
) -> Option<BTreeMap<TenantId, TenantOverrides>> {
    let overrides = |(&tenant, own): (&TenantId, &Settings)| {
        let has_a_sink = OF_THE_SINK.iter().any(|name| own.get(name).is_some());
        let mut merged = settings.clone();
        if own.get("DELIVER_TO").is_some() {
            // Who holds a secret can sign with it: what one receiver knows must not vouch for messages to another.
            merged.0.remove("WEBHOOK_SECRET");
        }
        if own.0.keys().any(|name| name.starts_with("SinkStorage")) {
            // One account is named by several settings: those of another one must not stand beside it.
            merged.0.retain(|name, _| !name.starts_with("SinkStorage"));
        }
        merged.0.extend(own.0.clone());
        let own = Reader::new(&merged);
        let (rules, limits) = (file_rules(&own), limits(&own));
        let deliver_to = if has_a_sink { deliver_to(&own, drop_storage).map(Some) } else { Some(None) };
        let settings = own.finish(|| Some(TenantOverrides { rules: rules?, limits: limits?, deliver_to: deliver_to? }));
        settings
            .map(|settings| (tenant, settings))
            .map_err(|InvalidSettings(complaints)| reader.complain_of(tenant, complaints))
            .ok()
    };
    // All of them are looked at before one is missed.
    own.iter().filter(|(_, own)| !own.0.is_empty()).map(overrides).collect::<Vec<_>>().into_iter().collect()
}

/// How files are read.
pub(super) fn file_rules(reader: &Reader<'_>) -> Option<FileRules> {
    let layout = reader.or("FILE_LAYOUT", "auto");
    let cipher = reader.or("FILE_CIPHER", "auto");
    let allow_plaintext = reader.or("ALLOW_PLAINTEXT", "false");
    let columns = reader.or("COLUMNS", "*");
    let encrypted_columns = reader.or("ENCRYPTED_COLUMNS", "ObjectId");
    let column_cipher = reader.or("COLUMN_CIPHER", "auto");
    let row_values = reader.or("ROW_VALUES", "typed");
    let max_row_bytes = reader.or::<NonZeroUsize>("MAX_ROW_BYTES", "1048576");
    let (Choice(layout), Choice(cipher), Choice(column_cipher)) = (layout?, cipher?, column_cipher?);
    let (Switch(allow_plaintext), Names(encrypted_columns)) = (allow_plaintext?, encrypted_columns?);
    let Columns(columns) = columns?;
    Some(FileRules {
        layout: LayoutRules { layout, cipher, allow_plaintext },
        rows: RowRules {
            columns,
            encrypted_columns,
            column_cipher,
            typed: matches!(row_values?, RowValues::Typed),
            max_row_bytes: max_row_bytes?.get(),
        },
    })
}

fn limits(reader: &Reader<'_>) -> Option<Limits> {
    let rows = reader.or("BATCH_ROWS", "500");
    let bytes = reader.or("BATCH_BYTES", "1048576");
    let in_flight = reader.or("IN_FLIGHT", "8");
    let bad_rows_allowed = reader.or("BAD_ROWS_ALLOWED", "0");
    let decoders = decoders(reader);
    Some(Limits {
        batch: BatchLimits { rows: rows?, bytes: bytes?, message: None },
        in_flight: in_flight?,
        decoders: decoders?,
        bad_rows_allowed: bad_rows_allowed?,
    })
}

/// How many blocks are decoded at once.
pub(super) fn decoders(reader: &Reader<'_>) -> Option<NonZeroUsize> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    reader.or("DECODERS", &cores.to_string())
}

fn deliver_to(reader: &Reader<'_>, drop_storage: Option<&Storage>) -> Option<DeliverTo> {
    let destination = reader.required("DELIVER_TO");
    let gzip = reader.or("WEBHOOK_GZIP", "false");
    let timeout = reader.or("WEBHOOK_TIMEOUT", "30s");
    let patience = reader.or("DELIVERY_PATIENCE", "4m");
    match destination? {
        Destination::Stdout => Some(DeliverTo::Stdout),
        Destination::Queue(name) => {
            let mut queue = reader.queue(name, drop_storage)?;
            queue.patience = patience.map(|Span(patience)| RetryBudget::lasting(patience))?;
            Some(DeliverTo::Queue(Box::new(queue)))
        }
        Destination::Webhook(url) => {
            // URL and secret are checked whatever is wrong with the rest.
            let (mut webhook, secret) = reader.webhook(url)?;
            webhook.gzip = gzip.map(|Switch(gzip)| gzip)?;
            webhook.timeout = timeout.map(|Span(timeout)| timeout)?;
            webhook.patience = patience.map(|Span(patience)| RetryBudget::lasting(patience))?;
            Some(DeliverTo::Webhook(Box::new(webhook), secret))
        }
    }
}
