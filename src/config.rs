//! Settings: text in, usable values out.
//!
//! All settings are read before the first complaint, and all complaints are made together. What comes out needs no further
//! checking. Nothing falls back to something weaker because a setting was forgotten.

mod onboard;
mod queue;
mod reader;
mod tenant_settings;
mod tenants;
mod words;

use std::{collections::BTreeMap, fmt, num::NonZeroUsize, path::PathBuf, time::Duration};

use url::Url;

pub use self::{
    onboard::OnboardConfig,
    tenant_settings::{DeliverTo, TenantOverrides, TenantSettings},
};
use self::{
    reader::Reader,
    tenant_settings::{common_settings, decoders, file_rules, tenant_overrides},
    tenants::TenantList,
    words::{ApiUrl, ContainerName, Span},
};
pub use crate::drop::containers::DropContainer;
use crate::{
    drop::{TenantId, tenant::Tenants},
    identity::Identity,
    keys::{unwrap::KeyWrap, viva_api::token::Partner},
    pipeline::FileRules,
    store::azure::Account,
};

/// Settings as text, by name.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The process's environment, which is where the host puts app settings.
    pub fn from_env() -> Self {
        // A value that is not Unicode is none of ours; looking it up then says that it is not set.
        let unicode =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self(unicode.collect())
    }

    /// The value of `name`; a blank one is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// What a child process keeps of the environment: the system's own variables, and none of ours that could stray in.
    pub fn for_a_child(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept =
            ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "RUST_LOG", "RUST_BACKTRACE", "SSL_CERT_FILE", "SSL_CERT_DIR"];
        kept.into_iter().filter_map(|name| Some((name, self.get(name)?)))
    }

    /// Sets `name`, over what the environment says.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl fmt::Debug for Settings {
    /// Names alone: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Settings {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The settings that are not usable, one complaint each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSettings(pub Vec<String>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 setting is not usable")?,
            count => write!(f, "{count} settings are not usable")?,
        }
        self.0.iter().try_for_each(|complaint| write!(f, "\n  {complaint}"))
    }
}

/// Everything that a run needs to know.
#[derive(Debug)]
pub struct Config {
    /// `DropStorage`: where drops lie.
    pub drop_storage: Storage,
    /// `DROP_CONTAINER`: which container they lie in.
    pub drop_container: DropContainer,
    /// `STATE_CONTAINER`: where the ledger is kept. Events about it are none of ours.
    pub state_container: String,
    /// `TENANTS`: who may drop, and where.
    pub tenants: Tenants,
    /// `PRIVATE_KEYS`: where the tenants' private keys are.
    pub private_keys: PrivateKeysIn,
    /// Who asks for tokens: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`, or what this machine offers.
    pub identity: Identity,
    /// `KEY_WRAP`: how keys are wrapped.
    pub key_wrap: KeyWrap,
    /// `VIVA_API_URL` and how to be let in there.
    pub viva_api: VivaApiConfig,
    /// How files are read and where their rows go.
    pub common: TenantSettings,
    /// The terms of tenants that have settings of their own in `TENANTS`.
    pub tenant_overrides: BTreeMap<TenantId, TenantOverrides>,
    /// `DEADLINE`: how long an event is worked on at most.
    pub deadline: Duration,
}

/// A storage account, or a folder in its place.
#[derive(Debug, Clone)]
pub enum Storage {
    /// An Azure Storage account.
    Azure(Box<Account>),
    /// A folder whose folders are containers: for local work.
    Local(PathBuf),
}

/// `PRIVATE_KEYS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrivateKeysIn {
    /// `https://{vault}.vault.azure.net`.
    Vault(Url),
    /// `file:///dir`: PEM files, for local work.
    Folder(PathBuf),
}

/// The Viva Insights API.
#[derive(Debug)]
pub struct VivaApiConfig {
    /// `VIVA_API_URL`.
    pub url: Url,
    /// `VIVA_API_SCOPE`: what the token is asked for.
    pub scope: String,
    /// `PARTNER_TENANT_ID`, `PARTNER_APP_ID`, `PARTNER_APP_SECRET`; without them the app's managed identity asks.
    pub partner: Option<Partner>,
}

impl Config {
    /// Reads all settings; complains about all that are not usable.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        // Everything is read before anything is used: the first complaint must not hide the others.
        let drop_storage = reader.storage("DropStorage");
        let drop_container = reader.or("DROP_CONTAINER", "datasets");
        let state_container = reader.or("STATE_CONTAINER", "vivadrop-state");
        let tenants = reader.required("TENANTS");
        let private_keys = reader.required("PRIVATE_KEYS");
        let identity = reader.identity();
        let key_wrap = reader.or("KEY_WRAP", "auto");
        let viva_api = viva_api(&reader);
        let common = common_settings(&reader, drop_storage.as_ref());
        let tenant_overrides = tenants
            .as_ref()
            .and_then(|tenants: &TenantList| tenant_overrides(&reader, settings, drop_storage.as_ref(), &tenants.own));
        let deadline = reader.or("DEADLINE", "25m");
        if let (Some(DropContainer::Named(drops)), Some(ContainerName(state))) = (&drop_container, &state_container)
            && drops == state
        {
            reader.complain(format!("STATE_CONTAINER is `{state}`: expected another container than DROP_CONTAINER"));
        }
        reader.finish(|| {
            let ContainerName(state_container) = state_container?;
            Some(Self {
                drop_storage: drop_storage?,
                drop_container: drop_container?,
                state_container,
                tenants: tenants.map(|list| list.tenants)?,
                private_keys: private_keys?,
                identity: identity?,
                key_wrap: key_wrap?,
                viva_api: viva_api?,
                common: common?,
                tenant_overrides: tenant_overrides?,
                deadline: deadline.map(|Span(span)| span)?,
            })
        })
    }
}

/// The settings of a file's bytes and rows alone: all that `decode` needs.
#[derive(Debug)]
pub struct DecodeConfig {
    /// How files are read.
    pub rules: FileRules,
    /// `BAD_ROWS_ALLOWED`.
    pub bad_rows_allowed: u64,
    /// `KEY_WRAP`.
    pub key_wrap: KeyWrap,
    /// `DECODERS`.
    pub decoders: NonZeroUsize,
}

impl DecodeConfig {
    /// Reads these settings; complains about all that are not usable.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let (rules, bad_rows_allowed) = (file_rules(&reader), reader.or("BAD_ROWS_ALLOWED", "0"));
        let (key_wrap, decoders) = (reader.or("KEY_WRAP", "auto"), decoders(&reader));
        reader.finish(|| {
            Some(Self { rules: rules?, bad_rows_allowed: bad_rows_allowed?, key_wrap: key_wrap?, decoders: decoders? })
        })
    }
}

/// The settings of the drop storage alone: all that `simulate --upload` needs.
#[derive(Debug)]
pub struct UploadConfig {
    /// `DropStorage`.
    pub drop_storage: Storage,
    /// `DROP_CONTAINER`.
    pub drop_container: DropContainer,
}

impl UploadConfig {
    /// Reads these settings; complains about all that are not usable.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let (drop_storage, drop_container) = (reader.storage("DropStorage"), reader.or("DROP_CONTAINER", "datasets"));
        reader.finish(|| Some(Self { drop_storage: drop_storage?, drop_container: drop_container? }))
    }
}

fn viva_api(reader: &Reader<'_>) -> Option<VivaApiConfig> {
    let url = reader.or::<ApiUrl>("VIVA_API_URL", "https://api.orginsights.viva.office.com");
    let partner = partner(reader);
    let ApiUrl(url) = url?;
    // Microsoft's pages name no scope; everything that the application was granted at the API is what a scope of
    // `<resource>/.default` asks for.
    let origin = url.origin().ascii_serialization();
    let scope = reader.get("VIVA_API_SCOPE").map_or_else(|| format!("{origin}/.default"), ToOwned::to_owned);
    let partner = partner?;
    Some(VivaApiConfig { url, scope, partner })
}

/// The partner's own application. Without a secret the app's own identity asks for tokens, and the ids are for `onboard`.
fn partner(reader: &Reader<'_>) -> Option<Option<Partner>> {
    let [tenant_id, app_id, secret] = ["PARTNER_TENANT_ID", "PARTNER_APP_ID", "PARTNER_APP_SECRET"];
    reader.must_be_resolved(secret);
    if reader.get(secret).is_none() {
        return reader.together([tenant_id, app_id]).map(|_| None);
    }
    let partner = reader.together([tenant_id, app_id, secret])?;
    Some(partner.map(|[tenant_id, app_id, app_secret]| Partner {
        tenant_id: tenant_id.to_owned(),
        app_id: app_id.to_owned(),
        app_secret: app_secret.into(),
    }))
}

#[cfg(test)]
mod tests;
