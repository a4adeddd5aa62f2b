//! A SAS for a customer's container: what a Data Factory needs to drop there, and no more.
//!
//! That is *create* and *write*: its sink puts blobs, or puts blocks and commits them. It neither reads nor lists what is
//! there, and whoever holds the SAS must not: a container holds what was dropped for as long as the partner keeps it.

use azure_core::http::{RequestContent, XmlFormat};
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::KeyInfo};
use secrecy::{ExposeSecret, SecretString};
use time::{Duration, OffsetDateTime};
use url::Url;

use super::{
    CALL,
    account::{Access, Account},
    call,
    failure::store_error,
    signature::DelegationKey,
};
use crate::store::{BlobPath, StoreError};

/// What Microsoft lets a key of an identity be good for.
const LONGEST_BY_IDENTITY: u16 = 7;
/// A key of ours is no longer of use than that either.
const LONGEST_BY_KEY: u16 = 365;
/// Clocks differ: Microsoft's advice.
const BEGUN: Duration = Duration::minutes(15);

/// The address of a container, with the SAS that opens it: a secret.
#[derive(Debug)]
pub struct DropUrl {
    /// The address and the SAS.
    pub url: SecretString,
    /// Until when it opens the container.
    pub expires: OffsetDateTime,
}

/// Why there is no SAS.
#[derive(Debug, thiserror::Error)]
pub enum NoDropUrl {
    /// What opens the account makes no other SAS.
    #[error(
        "DropStorage has a SAS, and a SAS makes no other: make one for the container in the portal, with Create and Write \
         alone, or set an account key or a managed identity"
    )]
    FromASignature,
    /// Nobody can make one that lasts so long.
    #[error("a SAS that {by} lasts {longest} days at most: expected --sas-days 1 to {longest}")]
    TooLong {
        /// What signs it.
        by: &'static str,
        /// How long it may last.
        longest: u16,
    },
    /// The account gave no key to sign with.
    #[error(
        "the account gives no key to sign a SAS with (the roles Storage Blob Data Owner and Storage Blob Delegator let an identity have one)"
    )]
    Store(#[from] StoreError),
    /// What came is no key.
    #[error("the account's key to sign a SAS with cannot be read")]
    NoKey,
}

impl Account {
    /// Whether a SAS that lasts `days` can be made here.
    pub fn may_sign_for(&self, days: u16) -> Result<(), NoDropUrl> {
        let (by, longest) = match &self.access {
            Access::Signature(_) => return Err(NoDropUrl::FromASignature),
            Access::Key(_) => ("an account key signs", LONGEST_BY_KEY),
            Access::Identity(_) => ("an identity signs", LONGEST_BY_IDENTITY),
        };
        if (1..=longest).contains(&days) { Ok(()) } else { Err(NoDropUrl::TooLong { by, longest }) }
    }

    /// The address of `container`, with a SAS that lasts `days` and lets its holder create and write blobs there.
    pub async fn drop_url(&self, container: &str, days: u16) -> Result<DropUrl, NoDropUrl> {
        self.may_sign_for(days)?;
        let now = OffsetDateTime::now_utc();
        let mut expires = now + Duration::days(days.into());
        let is_tls = self.blob.scheme() == "https";
        let query = match &self.access {
            Access::Signature(_) => return Err(NoDropUrl::FromASignature),
            Access::Key(key) => key.sign_drop(container, if is_tls { "https" } else { "https,http" }, expires),
            Access::Identity(_) => {
                let begun = now - BEGUN;
                expires = expires.min(begun + Duration::days(LONGEST_BY_IDENTITY.into()));
                self.delegated(container, begun, expires).await?
            }
        };
        let endpoint = self.blob.as_str().trim_end_matches('/');
        Ok(DropUrl { url: format!("{endpoint}/{container}?{}", query.expose_secret()).into(), expires })
    }

    /// A query string that a key signs which the account gives our identity.
    async fn delegated(
        &self,
        container: &str,
        begun: OffsetDateTime,
        expires: OffsetDateTime,
    ) -> Result<SecretString, NoDropUrl> {
        let place = BlobPath::new(container, "");
        let failed = |error: azure_core::Error| NoDropUrl::Store(store_error(&place, &error));
        let options =
            BlobServiceClientOptions { client_options: self.client_options(), ..BlobServiceClientOptions::default() };
        let service = BlobServiceClient::new(self.blob.clone(), self.credential(), Some(options)).map_err(failed)?;
        let wanted = KeyInfo { start: Some(begun), expiry: Some(expires), ..KeyInfo::default() };
        let wanted: RequestContent<KeyInfo, XmlFormat> = wanted.try_into().map_err(|_| NoDropUrl::NoKey)?;
        let key = call(&place, CALL, service.get_user_delegation_key(wanted, None)).await?;
        let key = key.into_model().ok().and_then(|key| {
            Some(DelegationKey {
                object: key.signed_oid?,
                tenant: key.signed_tid?,
                start: key.signed_start?,
                expiry: key.signed_expiry?,
                service: key.signed_service?,
                version: key.signed_version?,
                key: key.value?.into(),
            })
        });
        Ok(key.ok_or(NoDropUrl::NoKey)?.sign_drop(&account_name(&self.blob), container, expires))
    }
}

/// The first label of the host; of an emulator, the first segment of the path.
fn account_name(blob: &Url) -> String {
    let of_path = blob.path().trim_matches('/');
    let of_host = blob.host_str().and_then(|host| host.split('.').next()).unwrap_or_default();
    if of_path.is_empty() { of_host.to_owned() } else { of_path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_named_by_the_host_or_an_emulators_path() {
        let name = |url: &str| account_name(&url.parse().unwrap());
        assert_eq!(name("https://acct.blob.core.windows.net/"), "acct");
        assert_eq!(name("https://127.0.0.1:10000/devstoreaccount1"), "devstoreaccount1");
    }

    #[test]
    fn a_sas_lasts_no_longer_than_what_signs_it() {
        let by_key = Account::from_connection_string("UseDevelopmentStorage=true").unwrap();
        let by_sas = Account::from_connection_string("AccountName=acct;SharedAccessSignature=sv=1&sig=a").unwrap();
        for (days, is_fine) in [(0, false), (1, true), (365, true), (366, false)] {
            assert_eq!(by_key.may_sign_for(days).is_ok(), is_fine, "{days}");
        }
        assert!(matches!(by_sas.may_sign_for(1), Err(NoDropUrl::FromASignature)));
    }
}
