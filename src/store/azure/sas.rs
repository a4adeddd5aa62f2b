//! Creates the SAS that a customer's Data Factory writes with: for one container, with permission to create and write.
//!
//! The Data Factory sink puts blobs, or puts blocks and commits them, so *create* and *write* suffice. The SAS grants
//! neither *read* nor *list*, because the container holds earlier drops for as long as the partner keeps them.

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
}

/// Why no SAS was created.
#[derive(Debug, thiserror::Error)]
pub enum SasError {
    /// The account is configured with a SAS, which cannot sign another one.
    #[error(
        "DropStorage has a SAS, and a SAS cannot sign another one: create one for the container in the portal, with only \
         Create and Write, or set an account key or a managed identity"
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
    /// The account did not issue a user delegation key.
    #[error(
        "the account issued no user delegation key to sign a SAS with (an identity needs the roles Storage Blob Data Owner \
         and Storage Blob Delegator)"
    )]
    Store(#[from] StoreError),
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
        if (1..=max_days).contains(&days) { Ok(()) } else { Err(SasError::InvalidLifetime { signer, max_days }) }
    }

    /// Creates a SAS for `container` that lasts `days` and permits its holder to create and write blobs there.
    pub async fn create_container_sas(&self, container: &str, days: u16) -> Result<ContainerSas, SasError> {
        self.check_sas_lifetime(days)?;
        let now = OffsetDateTime::now_utc();
        let mut expires = now + Duration::days(days.into());
        let is_tls = self.blob.scheme() == "https";
        let query = match &self.credential {
            Credential::Sas(_) => return Err(SasError::AccountHasOnlySas),
            Credential::AccountKey(key) => {
                key.sign_container_sas(container, if is_tls { "https" } else { "https,http" }, expires)
            }
            Credential::Identity(_) => {
                let start = now - CLOCK_SKEW;
                expires = expires.min(start + Duration::days(MAX_DAYS_BY_IDENTITY.into()));
                let key = self.user_delegation_key(container, start, expires).await?;
                key.sign_container_sas(&account_name(&self.blob), container, expires)
            }
        };
        let endpoint = self.blob.as_str().trim_end_matches('/');
        Ok(ContainerSas { url: format!("{endpoint}/{container}?{}", query.expose_secret()).into(), expires })
    }

    /// Requests a key that signs on behalf of our identity.
    async fn user_delegation_key(
        &self,
        container: &str,
        start: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Result<UserDelegationKey, SasError> {
        let path = BlobPath::new(container, "");
        let to_error = |error: azure_core::Error| SasError::Store(store_error(&path, &error));
        let options =
            BlobServiceClientOptions { client_options: self.client_options(), ..BlobServiceClientOptions::default() };
        let service = BlobServiceClient::new(self.blob.clone(), self.credential(), Some(options)).map_err(to_error)?;
        let key_info = KeyInfo { start: Some(start), expiry: Some(expiry), ..KeyInfo::default() };
        let body: RequestContent<KeyInfo, XmlFormat> =
            key_info.try_into().map_err(|_| SasError::InvalidDelegationKey)?;
        let response = send(&path, service.get_user_delegation_key(body, None)).await?;
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

/// The account's name: the first label of the host, or, for an emulator, the path.
fn account_name(blob: &Url) -> String {
    let path = blob.path().trim_matches('/');
    if !path.is_empty() {
        return path.to_owned();
    }
    blob.host_str().and_then(|host| host.split('.').next()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_name_is_in_the_host_or_in_an_emulators_path() {
        let name = |url: &str| account_name(&url.parse().unwrap());
        assert_eq!(name("https://acct.blob.core.windows.net/"), "acct");
        assert_eq!(name("https://127.0.0.1:10000/devstoreaccount1"), "devstoreaccount1");
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
