//! Reading settings one by one, and complaining about them all at once.

use std::cell::RefCell;

use secrecy::SecretString;
use url::Url;

use super::{
    InvalidSettings, Settings, Storage,
    words::{Word, folder},
};
use crate::{
    drop::TenantId,
    identity::{Application, Identity},
    sink::{vault_secret_webhook::SecretReference, webhook::WebhookConfig},
    store::azure::{Account, AccountError},
};

/// What would do for a storage account.
const STORAGE: &str = "a connection string, UseDevelopmentStorage=true, or file:///dir";

/// Reads settings, and collects what is to be said of them.
pub(super) struct Reader<'s> {
    settings: &'s Settings,
    complaints: RefCell<Vec<String>>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        Self { settings, complaints: RefCell::default() }
    }

    /// The result, if nothing was wrong.
    pub(super) fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, InvalidSettings> {
        let complaints = self.complaints.into_inner();
        match build() {
            Some(config) if complaints.is_empty() => Ok(config),
            _ => Err(InvalidSettings(complaints)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'s str> {
        self.settings.get(name)
    }

    /// Complains once, whatever number of parts read a setting.
    pub(super) fn complain(&self, complaint: String) {
        let mut all = self.complaints.borrow_mut();
        if !all.contains(&complaint) {
            all.push(complaint);
        }
    }

    /// Complaints about a tenant's own settings. What was said of the app's is not said again.
    pub(super) fn complain_of(&self, tenant: TenantId, complaints: Vec<String>) {
        let mut all = self.complaints.borrow_mut();
        for complaint in complaints {
            if !all.contains(&complaint) {
                all.push(format!("TENANTS, {tenant}: {complaint}"));
            }
        }
    }

    /// Complains about a secret that is a Key Vault reference still: App Service hands the app what it refers to.
    pub(super) fn must_be_resolved(&self, name: &str) {
        if self.get(name).is_some_and(SecretReference::is_meant) {
            self.complain(format!(
                "{name} is a Key Vault reference that the platform did not resolve: check that the app's identity has the role \
                 Key Vault Secrets User, and that the secret is there"
            ));
        }
    }

    /// A setting that must be there.
    pub(super) fn required<T: Word>(&self, name: &str) -> Option<T> {
        match self.get(name) {
            Some(text) => self.word(name, text),
            None => {
                self.complain(format!("{name} is not set: expected {}", T::EXPECTED));
                None
            }
        }
    }

    /// A setting with a default.
    pub(super) fn or<T: Word>(&self, name: &str, default: &str) -> Option<T> {
        self.word(name, self.get(name).unwrap_or(default))
    }

    fn word<T: Word>(&self, name: &str, text: &str) -> Option<T> {
        let complaint = match T::read(text) {
            Ok(value) => return Some(value),
            Err(None) => format!("{}: expected {}", state(name, text), T::EXPECTED),
            Err(Some(more)) => format!("{name} is not usable: {more} (expected {})", T::EXPECTED),
        };
        self.complain_once(complaint);
        None
    }

    /// A setting that two parts read is complained about once.
    fn complain_once(&self, complaint: String) {
        if !self.complaints.borrow().contains(&complaint) {
            self.complain(complaint);
        }
    }

    /// Settings that are of use together alone: all of them, or none.
    pub(super) fn together<const N: usize>(&self, names: [&str; N]) -> Option<Option<[&'s str; N]>> {
        let values = names.map(|name| self.get(name));
        if values.iter().all(Option::is_none) {
            return Some(None);
        }
        let missing: Vec<_> =
            names.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        for name in &missing {
            let others = names.iter().filter(|other| *other != name).copied().collect::<Vec<_>>().join(" and ");
            self.complain_once(format!("{name} is not set: expected it together with {others}"));
        }
        missing.is_empty().then(|| Some(values.map(Option::unwrap_or_default)))
    }

    /// A storage account: a connection string, the account's URIs for managed identity, or a folder.
    pub(super) fn storage(&self, name: &str) -> Option<Storage> {
        let blob_uri = format!("{name}__blobServiceUri");
        let account = match (self.get(name), self.get(&blob_uri)) {
            (None, None) => {
                self.complain(format!("{name} is not set: expected {STORAGE}; or {blob_uri} for managed identity"));
                return None;
            }
            (Some(_), Some(_)) => {
                self.complain(format!("{name} and {blob_uri} are both set: expected one of them"));
                return None;
            }
            (Some(text), None) if text.starts_with("file:") => {
                let folder = folder(text);
                if folder.is_none() {
                    self.complain(format!("{}: expected file:///dir", state(name, text)));
                }
                return folder.map(Storage::Local);
            }
            (Some(text), None) => Account::from_connection_string(text),
            (None, Some(uri)) => {
                let (queue_uri, client_id) = (format!("{name}__queueServiceUri"), format!("{name}__clientId"));
                Account::with_identity(uri, self.get(&queue_uri), &self.identity_at(&client_id)?)
            }
        };
        self.account(name, account)
    }

    /// Who we are to an account. A client id next to it is a managed identity's, as the host reads it.
    pub(super) fn identity_at(&self, client_id: &str) -> Option<Identity> {
        let managed = self.get(client_id).map(|id| Identity::Managed(Some(id.to_owned())));
        managed.or_else(|| self.identity())
    }

    /// The account, or a complaint that it is none.
    pub(super) fn account(&self, name: &str, account: Result<Account, AccountError>) -> Option<Storage> {
        // The text may hold a key: it is not shown.
        account
            .map(|account| Storage::Azure(Box::new(account)))
            .map_err(|error| self.complain(format!("{name} is not usable: {error} (expected {STORAGE})")))
            .ok()
    }

    /// Who we are where no setting next to it says so: an application with a secret, the managed identity on Azure, and
    /// elsewhere whoever is signed in.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.must_be_resolved("AZURE_CLIENT_SECRET");
        if self.get("AZURE_CLIENT_SECRET").is_some() {
            let [tenant_id, app_id, app_secret] =
                self.together(["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"])??;
            return Some(Identity::Application(Application {
                tenant_id: tenant_id.to_owned(),
                app_id: app_id.to_owned(),
                app_secret: app_secret.into(),
            }));
        }
        // App Service sets the first on every app that has an identity; Cloud Shell and Azure ML the second.
        let is_on_azure = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"].iter().any(|name| self.get(name).is_some());
        let client_id = self.get("AZURE_CLIENT_ID").or_else(|| self.get("DropStorage__clientId"));
        Some(match client_id {
            Some(id) => Identity::Managed(Some(id.to_owned())),
            None if is_on_azure => Identity::Managed(None),
            None => Identity::Developer,
        })
    }

    /// The webhook, by its URL and the secret that goes with it.
    pub(super) fn webhook(&self, url: Url) -> Option<(WebhookConfig, Option<SecretReference>)> {
        let secret = self.get("WEBHOOK_SECRET");
        let (config, reference) = match secret.filter(|text| SecretReference::is_meant(text)) {
            None => (WebhookConfig::new(url, secret.map(SecretString::from).as_ref()), Some(None)),
            Some(text) => {
                let reference = text.parse::<SecretReference>();
                let reference =
                    reference.map_err(|error| self.complain(format!("WEBHOOK_SECRET is not usable: {error}")));
                (WebhookConfig::to_be_signed(url), reference.ok().map(Some))
            }
        };
        match config {
            Ok(config) => Some((config, reference?)),
            Err(error) => {
                // Neither is shown: a URL may hold a password, and a secret is one.
                error.url.inspect(|error| self.complain(format!("DELIVER_TO is not usable: {error}")));
                if let Some(error) = error.secret {
                    let state = if secret.is_some() { "is not usable" } else { "is not set" };
                    self.complain(format!("WEBHOOK_SECRET {state}: {error}"));
                }
                None
            }
        }
    }
}

/// A setting's state as a complaint has it: with its value, unless that may hold a secret.
fn state(name: &str, text: &str) -> String {
    let may_be_secret = text.contains(['@', '?', ';']) || text.contains("whsec_") || text.chars().count() > 60;
    if may_be_secret { format!("{name} is not usable") } else { format!("{name} is `{text}`") }
}
