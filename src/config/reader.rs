//! Reads single settings and collects the problems with them, so that all problems are reported together.

use std::{cell::RefCell, num::NonZeroUsize};

use secrecy::SecretString;
use url::Url;
use uuid::Uuid;

use super::{
    InvalidSettings, Settings, Storage,
    parse::{FromSetting, ParseError, folder},
};
use crate::{
    drop::TenantId,
    identity::{Application, Identity},
    sink::{
        vault_secret_webhook::SecretReference,
        webhook::{WebhookConfig, WebhookConfigError},
    },
    store::azure::{Account, AccountError},
};

/// The accepted values of `DropStorage`.
const EXPECTED_STORAGE: &str = "a connection string, UseDevelopmentStorage=true, or file:///dir";

/// The accepted values of `SinkStorage`.
const EXPECTED_QUEUES: &str = "a connection string, or UseDevelopmentStorage=true";

/// Reads settings and collects the problems with them.
///
/// A method that returns `None` has recorded at least one problem.
pub(super) struct Reader<'s> {
    settings: &'s Settings,
    problems: RefCell<Vec<String>>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        Self { settings, problems: RefCell::default() }
    }

    /// Calls `build` and returns its value if no problem was recorded; otherwise returns all problems.
    pub(super) fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, InvalidSettings> {
        let problems = self.problems.into_inner();
        match build() {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(InvalidSettings(problems)),
        }
    }

    /// The text of a setting; `None` if it is not set.
    pub(super) fn get(&self, name: &str) -> Option<&'s str> {
        self.settings.get(name)
    }

    /// Records a problem, once, even if several parts of the configuration read the same setting.
    pub(super) fn add_problem(&self, problem: String) {
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Records the problems with the settings of one tenant, except those that the app's settings have as well.
    pub(super) fn add_tenant_problems(&self, tenant: TenantId, tenant_problems: Vec<String>) {
        let mut problems = self.problems.borrow_mut();
        for problem in tenant_problems {
            if !problems.contains(&problem) {
                problems.push(format!("TENANTS, {tenant}: {problem}"));
            }
        }
    }

    /// Records a problem if the value of a secret is a Key Vault reference, which App Service should have replaced by
    /// the secret. Returns `false` if it recorded the problem.
    pub(super) fn require_resolved(&self, name: &str) -> bool {
        let is_resolved = self.is_resolved(name);
        if !is_resolved {
            self.add_problem(format!(
                "{name} is a Key Vault reference that the platform did not resolve: check that the app's identity has the role \
                 Key Vault Secrets User, and that the secret exists"
            ));
        }
        is_resolved
    }

    /// Whether the value of a secret is not a Key Vault reference.
    pub(super) fn is_resolved(&self, name: &str) -> bool {
        !self.get(name).is_some_and(SecretReference::is_reference)
    }

    /// Reads a setting that has no default.
    pub(super) fn required<T: FromSetting>(&self, name: &str) -> Option<T> {
        match self.get(name) {
            Some(text) => self.parse(name, text),
            None => {
                self.add_problem(format!("{name} is not set: expected {}", T::EXPECTED));
                None
            }
        }
    }

    /// Reads a setting; `default` applies if it is not set.
    pub(super) fn or_default<T: FromSetting>(&self, name: &str, default: &str) -> Option<T> {
        self.parse(name, self.get(name).unwrap_or(default))
    }

    /// Reads a number from 1 to `largest`.
    pub(super) fn at_most(&self, name: &str, default: &str, largest: usize) -> Option<NonZeroUsize> {
        let text = self.get(name).unwrap_or(default);
        let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= largest);
        if number.is_none() {
            let state = if is_short_word(text) { format!("`{text}`") } else { "not usable".into() };
            self.add_problem(format!("{name} is {state}: expected a number from 1 to {largest}"));
        }
        number
    }

    pub(super) fn parse<T: FromSetting>(&self, name: &str, text: &str) -> Option<T> {
        match T::from_setting(text) {
            Ok(value) => return Some(value),
            Err(ParseError::Unexpected) => {
                let state = if T::IS_WORD && is_short_word(text) { format!("`{text}`") } else { "not usable".into() };
                self.add_problem(format!("{name} is {state}: expected {}", T::EXPECTED));
            }
            Err(ParseError::Because(reason)) => {
                self.add_problem(format!("{name} is not usable: {reason} (expected {})", T::EXPECTED));
            }
        }
        None
    }

    /// Reads settings that must be set together: `Some(None)` if none of them is set.
    pub(super) fn all_or_none<const N: usize>(&self, names: [&str; N]) -> Option<Option<[&'s str; N]>> {
        let values = names.map(|name| self.get(name));
        if values.iter().all(Option::is_none) {
            return Some(None);
        }
        for (name, value) in names.iter().zip(values) {
            if value.is_none() {
                let others: Vec<_> = names.iter().filter(|other| *other != name).copied().collect();
                self.add_problem(format!("{name} is not set: expected it together with {}", others.join(" and ")));
            }
        }
        if values.iter().any(Option::is_none) {
            return None;
        }
        Some(Some(values.map(|value| value.expect("all values are set"))))
    }

    /// Reads a storage account: a connection string, its endpoints for a managed identity, or a folder instead of it.
    pub(super) fn storage(&self, name: &str) -> Option<Storage> {
        let blob_uri = format!("{name}__blobServiceUri");
        let account = match (self.get(name), self.get(&blob_uri)) {
            (None, None) => {
                self.add_problem(format!(
                    "{name} is not set: expected {EXPECTED_STORAGE}; or {blob_uri} for a managed identity"
                ));
                return None;
            }
            (Some(_), Some(_)) => {
                self.add_problem(format!("{name} and {blob_uri} are both set: expected one of them"));
                return None;
            }
            (Some(text), None) if text.starts_with("file:") => {
                let folder = folder(text);
                if folder.is_none() {
                    self.add_problem(format!("{name} is not usable: expected file:///dir"));
                }
                return folder.map(Storage::Local);
            }
            (Some(text), None) => Account::from_connection_string(text),
            (None, Some(uri)) => {
                let (queue_uri, client_id) = (format!("{name}__queueServiceUri"), format!("{name}__clientId"));
                let identity = self.account_identity(&client_id);
                // The endpoints are validated even if the identity is unusable.
                let any = Identity::Managed(None);
                let queue_uri = self.get(&queue_uri);
                let account = Account::with_identity(uri, queue_uri, identity.as_ref().unwrap_or(&any));
                if let (Err(_), Some(queue_uri)) = (&account, queue_uri) {
                    // The error is about one of the two endpoints; the other one is validated as well.
                    self.account(name, Account::queues_with_identity(queue_uri, &any));
                }
                return self.account(name, account).filter(|_| identity.is_some());
            }
        };
        self.account(name, account)
    }

    /// Reads `DropStorage`. A folder must exist: creating it would hide a misspelt path behind an empty storage.
    pub(super) fn drop_storage(&self) -> Option<Storage> {
        let storage = self.storage("DropStorage");
        if let Some(Storage::Local(folder)) = &storage
            && !folder.is_dir()
        {
            self.add_problem(
                "DropStorage is not usable: there is no such folder, or this user may not open it (create it; its \
                 subfolders are the containers)"
                    .into(),
            );
        }
        storage
    }

    /// The identity for one account: the managed identity that the setting `client_id` names, as for the Functions
    /// host, or else [`Self::identity`].
    pub(super) fn account_identity(&self, client_id: &str) -> Option<Identity> {
        match self.get(client_id) {
            Some(id) => Some(Identity::Managed(Some(id.to_owned()))),
            None => self.identity(),
        }
    }

    /// The account; an error is recorded without the text of the setting, which may contain a key.
    pub(super) fn account(&self, name: &str, account: Result<Account, AccountError>) -> Option<Storage> {
        match account {
            Ok(account) => Some(Storage::Azure(Box::new(account))),
            Err(error) => {
                let expected = if name == "SinkStorage" { EXPECTED_QUEUES } else { EXPECTED_STORAGE };
                self.add_problem(format!("{name} is not usable: {error} (expected {expected})"));
                None
            }
        }
    }

    /// The identity for everything that has no identity of its own: the application of `AZURE_CLIENT_SECRET`, on Azure
    /// the managed identity, and elsewhere the signed-in developer.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.require_resolved("AZURE_CLIENT_SECRET");
        if self.get("AZURE_CLIENT_SECRET").is_some() {
            let [tenant_id, app_id, app_secret] =
                self.all_or_none(["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"])??;
            self.check_tenant_id("AZURE_TENANT_ID", tenant_id)?;
            return Some(Identity::Application(Application {
                tenant_id: tenant_id.to_owned(),
                app_id: app_id.to_owned(),
                app_secret: app_secret.into(),
            }));
        }
        if let Some(id) = self.get("AZURE_CLIENT_ID").or_else(|| self.get("DropStorage__clientId")) {
            return Some(Identity::Managed(Some(id.to_owned())));
        }
        // App Service sets IDENTITY_ENDPOINT for an app that has an identity; Cloud Shell and Azure ML set
        // MSI_ENDPOINT.
        let is_on_azure = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"].iter().any(|name| self.get(name).is_some());
        Some(if is_on_azure { Identity::Managed(None) } else { Identity::Developer })
    }

    /// Validates the tenant of an application, because the errors of the library that requests tokens quote an invalid
    /// one.
    pub(super) fn check_tenant_id(&self, name: &str, tenant: &str) -> Option<()> {
        let is_label =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_id = is_label(tenant) && tenant.parse::<Uuid>().is_ok();
        if is_id || tenant.contains('.') && tenant.split('.').all(is_label) {
            return Some(());
        }
        self.add_problem(format!("{name} is not usable: expected a GUID, or a domain such as contoso.onmicrosoft.com"));
        None
    }

    /// The webhook at `url`, and the vault secret that `WEBHOOK_SECRET` refers to; `None` for the secret if the setting
    /// is not a reference.
    pub(super) fn webhook(&self, url: Url) -> Option<(WebhookConfig, Option<SecretReference>)> {
        match self.get("WEBHOOK_SECRET") {
            Some(text) if SecretReference::is_reference(text) => {
                let reference = text.parse::<SecretReference>();
                if let Err(error) = &reference {
                    self.add_problem(format!("WEBHOOK_SECRET is not usable: {error}"));
                }
                let config = self.webhook_config(WebhookConfig::without_secret(url))?;
                Some((config, Some(reference.ok()?)))
            }
            secret => {
                let secret = secret.map(SecretString::from);
                let config = self.webhook_config(WebhookConfig::new(url, secret.as_ref()))?;
                Some((config, None))
            }
        }
    }

    /// Validates `WEBHOOK_SECRET`, if it is set, although the sink is no webhook, or its URL is unusable.
    pub(super) fn check_webhook_secret(&self) {
        let Some(text) = self.get("WEBHOOK_SECRET") else { return };
        if SecretReference::is_reference(text) {
            if let Err(error) = text.parse::<SecretReference>() {
                self.add_problem(format!("WEBHOOK_SECRET is not usable: {error}"));
            }
            return;
        }
        let any = Url::parse("https://webhook.invalid").expect("the URL is valid");
        self.webhook_config(WebhookConfig::new(any, Some(&text.into())));
    }

    /// The configuration; errors are recorded without the values: a URL may contain a password, and the secret is one.
    fn webhook_config(&self, config: Result<WebhookConfig, WebhookConfigError>) -> Option<WebhookConfig> {
        let error = match config {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        if let Some(error) = error.url {
            self.add_problem(format!("DELIVER_TO is not usable: {error}"));
        }
        if let Some(error) = error.secret {
            let state = if self.get("WEBHOOK_SECRET").is_some() { "is not usable" } else { "is not set" };
            self.add_problem(format!("WEBHOOK_SECRET {state}: {error}"));
        }
        None
    }
}

/// Whether `text` looks like a word of an enumeration, a number or a duration: letters, or a number with a unit.
fn is_short_word(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_number = number.strip_prefix('-').unwrap_or(number).bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let has_unit = text.len() - number.len() <= 3;
    let is_word = text.bytes().all(|c| c.is_ascii_alphabetic() || c == b'-');
    text.len() <= 14 && (is_word || is_number && has_unit)
}
