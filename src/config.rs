//! Settings: the environment's text, parsed and validated.
//!
//! All settings are read before any problem is reported, and all problems are reported together. Parsed values need no
//! further validation. A setting that is not set never selects something less secure.

mod decode;
mod env_file;
mod ledger;
mod onboard;
mod parse;
mod queue;
mod reader;
mod row_columns;
mod service_bus;
mod telemetry;
mod tenant_settings;
mod tenants;

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use url::Url;
use uuid::Uuid;

use self::{
    decode::attributes_memory,
    parse::{ApiUrl, ContainerName},
    reader::Reader,
    telemetry::telemetry,
    tenant_settings::{DEADLINE, common_settings, tenant_overrides},
    tenants::{TenantList, overrides_of_valid_entries},
};
pub use self::{
    decode::{DecodeConfig, PreviewConfig},
    ledger::LedgerConfig,
    onboard::{OffboardConfig, OnboardConfig},
    tenant_settings::{DeliverTo, TenantOverrides, TenantSettings},
};
pub use crate::drop::containers::DropContainer;
use crate::{
    drop::{TenantId, tenant::Tenants},
    identity::Identity,
    keys::{unwrap::KeyWrap, viva_api::token::Partner},
    run::RunLimits,
    store::azure::Account,
    telemetry::TelemetryConfig,
};

/// The variables of the file that [`Settings::read_env_file`] has read.
static ENV_FILE: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// Settings as text, by name.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The environment of the process; Azure Functions passes app settings as environment variables.
    pub fn from_env() -> Self {
        // Variables that are not Unicode are skipped: `get` then reports them as not set.
        let unicode =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut settings = Self(unicode.collect());
        for (name, value) in ENV_FILE.get().into_iter().flatten() {
            settings.0.entry(name.clone()).or_insert_with(|| value.clone());
        }
        settings
    }

    /// Reads `file`: [`Self::from_env`] then returns its settings as well, except those that the environment has. Must
    /// be called once, at the start of the process.
    pub fn read_env_file(file: &Path) -> Result<(), String> {
        let name = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read `{name}`: {error}"))?;
        let variables = env_file::parse(&text).map_err(|error| format!("`{name}`, {error}"))?;
        ENV_FILE.get_or_init(|| variables);
        Ok(())
    }

    /// The value of `name`, trimmed; `None` if it is not set or blank.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The environment for a child process: only variables of the system, so that no setting of vivadrop is inherited.
    pub fn for_child_process(&self) -> impl Iterator<Item = (&str, &str)> {
        let inherited =
            ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "RUST_LOG", "RUST_BACKTRACE", "SSL_CERT_FILE", "SSL_CERT_DIR"];
        inherited.into_iter().filter_map(|name| Some((name, self.get(name)?)))
    }

    /// Sets `name`; replaces the value that it has.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl fmt::Debug for Settings {
    /// Prints only the names, because values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Settings {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The problems with the settings: one text for each, which names the setting and the accepted values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSettings(pub Vec<String>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 setting is not usable")?,
            count => write!(f, "{count} settings are not usable")?,
        }
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// All settings that a run needs.
#[derive(Debug)]
pub struct Config {
    /// `DropStorage`: the storage account of the drops.
    pub drop_storage: Storage,
    /// `DROP_CONTAINER`: the container of the drops.
    pub drop_container: DropContainer,
    /// `STATE_CONTAINER`: the container of the ledger. Events for its blobs are ignored.
    pub state_container: String,
    /// `TENANTS`: which tenants may drop, and where.
    pub tenants: Tenants,
    /// `PRIVATE_KEYS`: the key store with the tenants' private keys.
    pub private_keys: KeyStoreLocation,
    /// The identity that accesses vault and storage account: the application of `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`
    /// and `AZURE_CLIENT_SECRET`, or else that of the machine.
    pub identity: Identity,
    /// `KEY_WRAP`: the RSA padding of wrapped keys.
    pub key_wrap: KeyWrap,
    /// The Viva Insights API and its credentials.
    pub viva_api: VivaApiConfig,
    /// How files are decoded and where their rows are delivered, unless the tenant overrides it.
    pub common: TenantSettings,
    /// The settings of the tenants that have settings of their own in `TENANTS`.
    pub tenant_overrides: BTreeMap<TenantId, TenantOverrides>,
    /// `DEADLINE`: how long one event is processed at most.
    pub deadline: Duration,
    /// `MAX_FILES` and `GIVE_UP_AFTER`: the bounds of every run.
    pub run_limits: RunLimits,
    /// The export of traces and metrics: `OTEL_…`, `TELEMETRY_TENANTS` and `WEBHOOK_TRACEPARENT`.
    pub telemetry: TelemetryConfig,
    /// `ATTRIBUTES_MEMORY`: the bound of the tables of people of all attributes passes, in bytes.
    pub attributes_memory: usize,
    /// Recommended changes of settings that are usable, one sentence each. They contain no values.
    pub warnings: Vec<String>,
}

/// A storage account, or a local folder instead of it.
#[derive(Debug, Clone)]
pub enum Storage {
    /// An Azure Storage account.
    Azure(Box<Account>),
    /// A folder, for local work; its subfolders are the containers.
    Local(PathBuf),
}

/// `PRIVATE_KEYS`: where the key store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStoreLocation {
    /// A Key Vault: `https://{vault}.vault.azure.net`.
    Vault(Url),
    /// A folder of PEM files, for local work: `file:///dir`.
    Folder(PathBuf),
}

/// The Viva Insights API.
#[derive(Debug)]
pub struct VivaApiConfig {
    /// `VIVA_API_URL`.
    pub url: Url,
    /// `VIVA_API_SCOPE`: the scope of the access token.
    pub scope: String,
    /// The application that authenticates to the API: `PARTNER_TENANT_ID`, `PARTNER_APP_ID` and `PARTNER_APP_SECRET`.
    /// `None` without a secret: the app's managed identity authenticates.
    pub partner: Option<Partner>,
}

impl Config {
    /// Reads all settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let (settings, warning) = &row_columns::rename(settings);
        let mut warnings: Vec<String> = warning.iter().cloned().collect();
        let reader = Reader::new(settings);
        // Every setting is read before the first `?`, so that one problem does not hide the others.
        let drop_storage = reader.drop_storage();
        let drop_container = reader.or_default("DROP_CONTAINER", "datasets");
        let state_container = reader.or_default("STATE_CONTAINER", "vivadrop-state");
        let tenants: Option<TenantList> = reader.required("TENANTS");
        let private_keys = reader.required("PRIVATE_KEYS");
        if let Some(KeyStoreLocation::Folder(folder)) = &private_keys
            && !folder.is_dir()
        {
            reader.add_problem(
                "PRIVATE_KEYS is not usable: there is no such folder, or this user may not open it (`vivadrop onboard` \
                 creates it)"
                    .into(),
            );
        }
        let identity = reader.identity();
        let key_wrap = reader.or_default("KEY_WRAP", "auto");
        let viva_api = viva_api(&reader);
        let common = common_settings(&reader, drop_storage.as_ref());
        let tenant_overrides = match &tenants {
            Some(list) => {
                warnings.extend_from_slice(&list.warnings);
                tenant_overrides(&reader, settings, drop_storage.as_ref(), &list.overrides)
            }
            None => {
                // The settings of the valid entries are validated as well.
                let overrides = settings.get("TENANTS").map(overrides_of_valid_entries).unwrap_or_default();
                tenant_overrides(&reader, settings, drop_storage.as_ref(), &overrides).and(None)
            }
        };
        let deadline = reader.or_default("DEADLINE", DEADLINE);
        let max_files: Option<NonZeroUsize> = reader.or_default("MAX_FILES", "20000");
        let give_up_after = reader.or_default("GIVE_UP_AFTER", "3d");
        let telemetry = telemetry(&reader);
        let attributes_memory = attributes_memory(&reader);
        if let (Some(DropContainer::Named(drops)), Some(ContainerName(state))) = (&drop_container, &state_container)
            && drops == state
        {
            reader.add_problem("STATE_CONTAINER is not usable: expected another container than DROP_CONTAINER".into());
        }
        reader.finish(|| {
            let ContainerName(state_container) = state_container?;
            Some(Self {
                drop_storage: drop_storage?,
                drop_container: drop_container?,
                state_container,
                tenants: tenants?.tenants,
                private_keys: private_keys?,
                identity: identity?,
                key_wrap: key_wrap?,
                viva_api: viva_api?,
                common: common?,
                tenant_overrides: tenant_overrides?,
                deadline: deadline?,
                run_limits: RunLimits { max_files: max_files?.get(), give_up_after: give_up_after? },
                telemetry: telemetry?,
                attributes_memory: attributes_memory?,
                warnings,
            })
        })
    }
}

/// Checks that `DEADLINE` is below `function_timeout`, the time after which the Functions host kills the handler. A
/// `DEADLINE` that is unusable by itself is left to [`Config::read`].
pub fn check_deadline(settings: &Settings, function_timeout: Duration) -> Result<(), InvalidSettings> {
    let deadline: Option<Duration> = Reader::new(settings).or_default("DEADLINE", DEADLINE);
    if deadline.is_none_or(|deadline| deadline < function_timeout) {
        return Ok(());
    }
    let is_default = if settings.get("DEADLINE").is_some() { "" } else { ", which is the default" };
    Err(InvalidSettings(vec![format!(
        "DEADLINE is {}{is_default}: expected less than functionTimeout in host.json ({} s), by some minutes, because the \
         host then ends the process",
        settings.get("DEADLINE").unwrap_or(DEADLINE),
        function_timeout.as_secs()
    )]))
}

/// The services that `decode` calls for keys: settings that it reads only if it needs them.
#[derive(Debug)]
pub struct KeyServices {
    /// The identity that accesses the vault.
    pub identity: Identity,
    /// The Viva Insights API; `None` unless `VIVA_API_URL` or a `PARTNER_…` setting is set.
    pub viva_api: Option<VivaApiConfig>,
}

impl KeyServices {
    /// Reads these settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let identity = reader.identity();
        let names = ["VIVA_API_URL", "PARTNER_TENANT_ID", "PARTNER_APP_ID", "PARTNER_APP_SECRET"];
        let has_api = names.iter().any(|name| settings.get(name).is_some());
        let viva_api = if has_api { viva_api(&reader).map(Some) } else { Some(None) };
        reader.finish(|| Some(Self { identity: identity?, viva_api: viva_api? }))
    }
}

/// The settings that `simulate --upload` needs: the storage of the drops.
#[derive(Debug)]
pub struct UploadConfig {
    /// `DropStorage`.
    pub drop_storage: Storage,
    /// `DROP_CONTAINER`.
    pub drop_container: DropContainer,
}

impl UploadConfig {
    /// Reads these settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let drop_storage = reader.drop_storage();
        let drop_container = reader.or_default("DROP_CONTAINER", "datasets");
        reader.finish(|| Some(Self { drop_storage: drop_storage?, drop_container: drop_container? }))
    }
}

fn api_url(reader: &Reader<'_>) -> Option<ApiUrl> {
    reader.or_default("VIVA_API_URL", "https://api.orginsights.viva.office.com")
}

fn viva_api(reader: &Reader<'_>) -> Option<VivaApiConfig> {
    let url = api_url(reader);
    let partner = partner(reader);
    let ApiUrl(url) = url?;
    let scope = match reader.get("VIVA_API_SCOPE") {
        Some(scope) => scope.to_owned(),
        // Microsoft documents no scope. `<resource>/.default` requests every permission that the application was
        // granted.
        None => format!("{}/.default", url.origin().ascii_serialization()),
    };
    Some(VivaApiConfig { url, scope, partner: partner? })
}

/// The application that authenticates to the Viva Insights API; `Some(None)` without a secret. The two ids may then be
/// set all the same: `onboard` needs them.
fn partner(reader: &Reader<'_>) -> Option<Option<Partner>> {
    let [tenant_id, app_id, secret] = ["PARTNER_TENANT_ID", "PARTNER_APP_ID", "PARTNER_APP_SECRET"];
    reader.require_resolved(secret);
    let tenant = reader.get(tenant_id).map(|tenant| reader.check_tenant_id(tenant_id, tenant));
    let app = reader.get(app_id).map(|app| reader.parse::<Uuid>(app_id, app));
    if reader.get(secret).is_none() {
        reader.all_or_none([tenant_id, app_id])?;
        return Some(None);
    }
    let Some([tenant_text, _, app_secret]) = reader.all_or_none([tenant_id, app_id, secret])? else {
        return Some(None);
    };
    tenant??;
    Some(Some(Partner { tenant_id: tenant_text.to_owned(), app_id: app??.to_string(), app_secret: app_secret.into() }))
}

#[cfg(test)]
mod tests;
