//! Signs SAS query strings: an account SAS for our own requests, and a service SAS for a customer's container.
//!
//! Requests carry a SAS instead of the account key, so the key itself is never sent. (A few requests carry a signature
//! instead: [`super::shared_key`].) The SDK cannot sign a SAS: `azure_storage_blob` accepts a URL or an Entra
//! credential but no account key, and `azure_storage_sas` signs only with a user delegation key, in a version that no
//! emulator supports yet. Microsoft documents the string to sign at
//! <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>, and for a service SAS at
//! <https://learn.microsoft.com/rest/api/storageservices/create-service-sas>.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;
use time::{Duration, OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// The service version. It determines the string to sign. Every account supports this one.
const VERSION: &str = "2021-12-02";
/// Read, write, delete, list, add, create, update, process: of blobs and their leases, and of queue messages.
const PERMISSIONS: &str = "rwdlacup";
/// Create and write: the permissions of a customer's SAS.
pub(super) const CONTAINER_PERMISSIONS: &str = "cw";
const SERVICES: &str = "bq";
const RESOURCE_TYPES: &str = "sco";
/// A SAS starts this long before now, because clocks differ: Microsoft's recommendation.
pub(super) const CLOCK_SKEW: Duration = Duration::minutes(15);
/// Lifetime of an account SAS. Every request is signed anew, so it only has to outlive one request.
const ACCOUNT_SAS_LIFETIME: Duration = Duration::hours(1);
/// The end of the string to sign of a container's service SAS: resource type `c`, then no snapshot, no encryption scope
/// and none of the five response headers.
const CONTAINER_SAS_TAIL: &str = "c\n\n\n\n\n\n\n";
const TIME_FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// The name and the key of an account.
pub(super) struct AccountKey {
    pub(super) account: String,
    key: SecretSlice<u8>,
}

impl AccountKey {
    /// Decodes `key`; `None` if it is not the Base64 of at least one byte.
    pub(super) fn new(account: String, key: &str) -> Option<Self> {
        let key = STANDARD.decode(key).ok().filter(|key| !key.is_empty())?;
        Some(Self { account, key: key.into() })
    }

    /// The query string of an account SAS for the next hour. `protocol` is `https` or `https,http`.
    pub(super) fn sign_account_sas(&self, protocol: &str, now: OffsetDateTime) -> SecretString {
        let [start, expiry] = [now - CLOCK_SKEW, now + ACCOUNT_SAS_LIFETIME].map(timestamp);
        let account = &self.account;
        // The two empty fields are the IP range and the encryption scope.
        let text = format!(
            "{account}\n{PERMISSIONS}\n{SERVICES}\n{RESOURCE_TYPES}\n{start}\n{expiry}\n\n{protocol}\n{VERSION}\n\n"
        );
        let signature = STANDARD.encode(self.hmac(&text));
        let [start, expiry, protocol, signature] = [&start, &expiry, protocol, &signature].map(percent_encode);
        let query = format!(
            "sv={VERSION}&ss={SERVICES}&srt={RESOURCE_TYPES}&sp={PERMISSIONS}&st={start}&se={expiry}&spr={protocol}&sig={signature}"
        );
        query.into()
    }

    /// The query string of a service SAS for `container` that refers to the container's stored access policy `policy`,
    /// which has the permissions and the expiry.
    pub(super) fn sign_container_sas(&self, container: &str, protocol: &str, policy: &str) -> SecretString {
        let account = &self.account;
        // The three empty fields at the start are permissions, start and expiry: a SAS must not repeat the fields of
        // its policy. The empty field before the protocol is the IP range.
        let text =
            format!("\n\n\n/blob/{account}/{container}\n{policy}\n\n{protocol}\n{VERSION}\n{CONTAINER_SAS_TAIL}");
        let signature = STANDARD.encode(self.hmac(&text));
        let [policy, protocol, signature] = [policy, protocol, &signature].map(percent_encode);
        format!("sv={VERSION}&sr=c&si={policy}&spr={protocol}&sig={signature}").into()
    }

    /// The signature of `text`, in Base64.
    pub(super) fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.hmac(text))
    }

    fn hmac(&self, text: &str) -> [u8; 32] {
        hmac(self.key.expose_secret(), text)
    }
}

/// A user delegation key: the account issues it to our identity for signing.
pub(super) struct UserDelegationKey {
    pub(super) object: String,
    pub(super) tenant: String,
    pub(super) start: OffsetDateTime,
    pub(super) expiry: OffsetDateTime,
    pub(super) service: String,
    pub(super) version: String,
    pub(super) key: SecretSlice<u8>,
}

impl UserDelegationKey {
    /// The query string of a SAS that permits creating and writing blobs in `container` of `account` until `expires`.
    pub(super) fn sign_container_sas(&self, account: &str, container: &str, expires: OffsetDateTime) -> SecretString {
        let Self { object, tenant, service, version, .. } = self;
        let [expiry, key_start, key_expiry] = [expires, self.start, self.expiry].map(timestamp);
        // The four empty fields are two agents' object ids, a correlation id and the IP range.
        let text = format!(
            "{CONTAINER_PERMISSIONS}\n\n{expiry}\n/blob/{account}/{container}\n{object}\n{tenant}\n{key_start}\n{key_expiry}\n{service}\n{version}\n\
             \n\n\n\nhttps\n{VERSION}\n{CONTAINER_SAS_TAIL}"
        );
        let key = [object, tenant, &key_start, &key_expiry, service, version].map(|value| percent_encode(value));
        let [object, tenant, start, end, service, version] = key;
        let key = format!("&skoid={object}&sktid={tenant}&skt={start}&ske={end}&sks={service}&skv={version}");
        container_query(&expiry, &key, &hmac(self.key.expose_secret(), &text))
    }
}

fn container_query(expiry: &str, key: &str, signature: &[u8]) -> SecretString {
    let [expiry, signature] = [expiry, &STANDARD.encode(signature)].map(percent_encode);
    format!("sv={VERSION}&sr=c&sp={CONTAINER_PERMISSIONS}&se={expiry}&spr=https{key}&sig={signature}").into()
}

fn percent_encode(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key)
        .expect("HMAC accepts keys of any length")
        .chain_update(text)
        .finalize()
        .into_bytes()
        .into()
}

fn timestamp(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(TIME_FORMAT).expect("a date with a four-digit year can be formatted")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// The expected signature was computed independently: with Python's `hmac`, from the string that Microsoft
    /// documents.
    #[test]
    fn an_account_sas_is_signed_as_microsoft_documents_it() {
        let key = AccountKey::new("acct".into(), &STANDARD.encode("not a secret")).unwrap();
        let query = key.sign_account_sas("https", datetime!(2026-11-22 01:00:00 UTC));
        assert_eq!(
            query.expose_secret(),
            "sv=2021-12-02&ss=bq&srt=sco&sp=rwdlacup&st=2026%2D11%2D22T00%3A45%3A00Z&se=2026%2D11%2D22T02%3A00%3A00Z\
             &spr=https&sig=ft6LrvzBSvU61IU2wq0vk5Q2ET%2FVY1YGkLe63iTz06Q%3D"
        );
    }

    /// The expected signatures were computed in the same way.
    #[test]
    fn a_container_sas_is_signed_as_microsoft_documents_it() {
        let expires = datetime!(2026-11-22 02:00:00 UTC);
        let key = AccountKey::new("acct".into(), &STANDARD.encode("not a secret")).unwrap();
        assert_eq!(
            key.sign_container_sas("customer", "https", "vivadrop-1").expose_secret(),
            "sv=2021-12-02&sr=c&si=vivadrop%2D1&spr=https&sig=B8GLQOgvBWAO9t%2FeA%2Fms8vKXJAPCJdXQo9t4ZSjY2Vs%3D"
        );
        let key = UserDelegationKey {
            object: "o-1".into(),
            tenant: "t-1".into(),
            start: datetime!(2026-11-22 00:45:00 UTC),
            expiry: expires,
            service: "b".into(),
            version: "2025-01-05".into(),
            key: b"not a secret".to_vec().into(),
        };
        assert_eq!(
            key.sign_container_sas("acct", "customer", expires).expose_secret(),
            "sv=2021-12-02&sr=c&sp=cw&se=2026%2D11%2D22T02%3A00%3A00Z&spr=https&skoid=o%2D1&sktid=t%2D1\
             &skt=2026%2D11%2D22T00%3A45%3A00Z&ske=2026%2D11%2D22T02%3A00%3A00Z&sks=b&skv=2025%2D01%2D05\
             &sig=zgxbYuUhq9uNJJmHCx1RCBDSe0ZZ9Uj5yRfld5bRtVA%3D"
        );
    }

    #[test]
    fn a_key_that_is_not_base64_is_rejected() {
        for key in ["", "not a key", "YQ"] {
            assert!(AccountKey::new("acct".into(), key).is_none(), "{key:?}");
        }
    }
}
