//! Creates the SAS that a customer's Data Factory writes with: for one container, with permission to create and write.
//!
//! The Data Factory sink puts blobs, or puts blocks and commits them, so *create* and *write* suffice. The SAS grants
//! neither *read* nor *list*, because the container holds earlier drops for as long as the partner keeps them.
//!
//! With an account key, each SAS refers to a stored access policy of its own, so that it can be revoked alone
//! ([`super::access_policy`]). With an identity, that is not possible: Azure supports no stored access policy for a SAS
//! that a user delegation key signs.

use azure_core::http::{RequestContent, XmlFormat};
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::KeyInfo};
use secrecy::{ExposeSecret, SecretString};
use time::{Duration, OffsetDateTime};
use url::Url;

use super::{
    account::{Account, Credential},
    failure::store_error,
    request::send,
    signature::{CLOCK_SKEW, UserDelegationKey},
};
use crate::store::{BlobPath, StoreError};

/// Longest lifetime of a SAS signed by an identity, in days: Microsoft's limit for user delegation keys.
const MAX_DAYS_BY_IDENTITY: u16 = 7;
/// Longest lifetime of a SAS signed with an account key, in days: our own limit.
const MAX_DAYS_BY_KEY: u16 = 365;

/// The URL of a container with a SAS. The URL is a secret.
#[derive(Debug)]
pub struct ContainerSas {
    /// The URL of the container, including the SAS.
    pub url: SecretString,
    /// When the SAS expires.
    pub expires: OffsetDateTime,
    /// The stored access policy that [`Account::revoke_container_sas`] deletes to revoke the SAS. `None` if an identity
    /// signed the SAS: it cannot be revoked alone.
    pub policy: Option<String>,
}

/// Why no SAS was created.
#[derive(Debug, thiserror::Error)]
pub enum SasError {
    /// The account is configured with a SAS, which cannot sign another one.
    #[error(
        "DropStorage has a SAS, and a SAS can neither sign nor revoke another one: create one for the container in the portal, \
         with only Create and Write, or set an account key or a managed identity"
    )]
    AccountHasOnlySas,
    /// The requested lifetime is zero or above the limit of the credential.
    #[error("a SAS that {signer} signs lasts {max_days} days at most: expected --sas-days 1 to {max_days}")]
    InvalidLifetime {
        /// The credential that would sign the SAS.
        signer: &'static str,
        /// The longest lifetime in days.
        max_days: u16,
    },
    /// The name of the account is not in its URL, and a SAS that an identity signs contains the name.
    #[error(
        "the name of the account is not in DropStorage__blobServiceUri, and the SAS contains it: set \
         https://{{account}}.blob.core.windows.net for this command"
    )]
    UnknownAccountName,
    /// An identity signed the SAS, so there is no stored access policy.
    #[error(
        "a SAS that an identity signs cannot be revoked alone: `az storage account revoke-delegation-keys` revokes all of them, \
         and each expires within {MAX_DAYS_BY_IDENTITY} days (with a connection string in DropStorage, --revoke revokes a SAS \
         that was signed with the account key)"
    )]
    NotRevocable,
    /// The container has no stored access policy of this name.
    #[error("the container has no stored access policy `{policy}`; it has: {}", list(.policies))]
    UnknownPolicy {
        /// The requested name.
        policy: String,
        /// The names of the policies of the container.
        policies: Vec<String>,
    },
    /// The container has as many stored access policies as Azure allows.
    #[error(
        "the container has five stored access policies, as many as Azure allows: revoke one with `--revoke POLICY`; it has: {}",
        list(.policies)
    )]
    TooManyPolicies {
        /// The names of the policies of the container.
        policies: Vec<String>,
    },
    /// The account did not issue a user delegation key.
    #[error(
        "the account issued no user delegation key to sign a SAS with (an identity needs the roles Storage Blob Data Owner \
         and Storage Blob Delegator)"
    )]
    DelegationKey(#[source] StoreError),
    /// The stored access policies of the container cannot be read or written.
    #[error("the stored access policies of the container cannot be read or written")]
    Policies(#[from] StoreError),
    /// The account's response is not a complete user delegation key.
    #[error("the account's user delegation key cannot be parsed")]
    InvalidDelegationKey,
}

impl Account {
    /// Checks that this account can sign a SAS that lasts `days`.
    pub fn check_sas_lifetime(&self, days: u16) -> Result<(), SasError> {
        let (signer, max_days) = match &self.credential {
            Credential::Sas(_) => return Err(SasError::AccountHasOnlySas),
            Credential::AccountKey(_) => ("an account key", MAX_DAYS_BY_KEY),
            Credential::Identity(_) => ("an identity", MAX_DAYS_BY_IDENTITY),
        };
        if !(1..=max_days).contains(&days) {
            return Err(SasError::InvalidLifetime { signer, max_days });
        }
        match &self.credential {
            Credential::Identity(_) if account_name(&self.blob).is_none() => Err(SasError::UnknownAccountName),
            _ => Ok(()),
        }
    }

    /// Creates a SAS for `container` that lasts `days` and permits its holder to create and write blobs there.
    pub async fn create_container_sas(&self, container: &str, days: u16) -> Result<ContainerSas, SasError> {
        self.check_sas_lifetime(days)?;
        let now = OffsetDateTime::now_utc();
        let mut expires = now + Duration::days(days.into());
        let is_tls = self.blob.scheme() == "https";
        let (query, policy) = match &self.credential {
            Credential::Sas(_) => return Err(SasError::AccountHasOnlySas),
            Credential::AccountKey(key) => {
                let policy = self.create_policy(key, container, expires).await?;
                let protocol = if is_tls { "https" } else { "https,http" };
                (key.sign_container_sas(container, protocol, &policy), Some(policy))
            }
            Credential::Identity(_) => {
                let account = account_name(&self.blob).ok_or(SasError::UnknownAccountName)?;
                let start = now - CLOCK_SKEW;
                expires = expires.min(start + Duration::days(MAX_DAYS_BY_IDENTITY.into()));
                let key = self.user_delegation_key(container, start, expires).await?;
                (key.sign_container_sas(account, container, expires), None)
            }
        };
        let endpoint = self.blob.as_str().trim_end_matches('/');
        Ok(ContainerSas { url: format!("{endpoint}/{container}?{}", query.expose_secret()).into(), expires, policy })
    }

    /// Requests a key that signs on behalf of our identity.
    async fn user_delegation_key(
        &self,
        container: &str,
        start: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Result<UserDelegationKey, SasError> {
        let path = BlobPath::new(container, "");
        let to_error = |error: azure_core::Error| SasError::DelegationKey(store_error(&path, &error));
        let options =
            BlobServiceClientOptions { client_options: self.client_options(), ..BlobServiceClientOptions::default() };
        let service = BlobServiceClient::new(self.blob.clone(), self.credential(), Some(options)).map_err(to_error)?;
        let key_info = KeyInfo { start: Some(start), expiry: Some(expiry), ..KeyInfo::default() };
        let body: RequestContent<KeyInfo, XmlFormat> =
            key_info.try_into().map_err(|_| SasError::InvalidDelegationKey)?;
        let response =
            send(&path, service.get_user_delegation_key(body, None)).await.map_err(SasError::DelegationKey)?;
        let key = response.into_model().ok().and_then(|key| {
            Some(UserDelegationKey {
                object: key.signed_oid?,
                tenant: key.signed_tid?,
                start: key.signed_start?,
                expiry: key.signed_expiry?,
                service: key.signed_service?,
                version: key.signed_version?,
                key: key.value?.into(),
            })
        });
        key.ok_or(SasError::InvalidDelegationKey)
    }
}

/// The account's name: the path of an emulator's URL, or the first label of a host such as
/// `{account}.blob.core.windows.net` or `{account}.z1.blob.storage.azure.net`. `None` for a custom domain.
fn account_name(blob: &Url) -> Option<&str> {
    let path = blob.path().trim_matches('/');
    if !path.is_empty() {
        return Some(path);
    }
    let (account, domain) = blob.host_str()?.split_once('.')?;
    let is_blob_service = domain.split('.').take(2).any(|label| label == "blob");
    is_blob_service.then_some(account)
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_name_is_in_the_host_or_in_an_emulators_path() {
        let name = |url: &str| account_name(&url.parse().unwrap()).map(ToOwned::to_owned);
        assert_eq!(name("https://acct.blob.core.windows.net/").as_deref(), Some("acct"));
        assert_eq!(name("https://acct.z12.blob.storage.azure.net").as_deref(), Some("acct"));
        assert_eq!(name("https://acct.privatelink.blob.core.windows.net").as_deref(), Some("acct"));
        assert_eq!(name("https://127.0.0.1:10000/devstoreaccount1").as_deref(), Some("devstoreaccount1"));
    }

    #[test]
    fn a_custom_domain_with_an_identity_is_reported_before_a_sas_is_signed() {
        for url in ["https://drops.contoso.com", "https://blob.contoso.com", "https://localhost"] {
            assert_eq!(account_name(&url.parse().unwrap()), None, "{url}");
            let account = Account::with_identity(url, None, &crate::identity::Identity::Managed(None)).unwrap();
            assert!(matches!(account.check_sas_lifetime(7), Err(SasError::UnknownAccountName)), "{url}");
        }
    }

    #[test]
    fn the_lifetime_of_a_sas_is_limited_by_the_credential() {
        let with_key = Account::from_connection_string("UseDevelopmentStorage=true").unwrap();
        let with_sas = Account::from_connection_string("AccountName=acct;SharedAccessSignature=sv=1&sig=a").unwrap();
        for (days, is_valid) in [(0, false), (1, true), (365, true), (366, false)] {
            assert_eq!(with_key.check_sas_lifetime(days).is_ok(), is_valid, "{days}");
        }
        assert!(matches!(with_sas.check_sas_lifetime(1), Err(SasError::AccountHasOnlySas)));
    }
}
