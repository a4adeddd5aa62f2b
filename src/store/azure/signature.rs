//! What an account key signs, so that the key itself goes on no wire: the account SAS that opens the account to us, and
//! the service SAS that opens a container to a customer.
//!
//! `azure_storage_blob` takes a URL or an Entra credential, no account key, and `azure_storage_sas` signs with a user
//! delegation key alone, and by a version of the text that no emulator checks yet. The text to sign is documented at
//! <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>, and beside it for a service SAS.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;
use time::{Duration, OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// What the text to sign looks like depends on this. Every account takes it.
const VERSION: &str = "2021-12-02";
/// Read, write, delete, list, add, create, update, process: of blobs and their leases, and of queue messages.
const PERMISSIONS: &str = "rwdlacup";
const SERVICES: &str = "bq";
const RESOURCE_TYPES: &str = "sco";
/// Clocks differ: Microsoft's advice.
const BEGUN: Duration = Duration::minutes(15);
/// Signed anew for every request, so this only has to outlive one.
const LASTS: Duration = Duration::hours(1);
const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// Name and key of an account.
pub(super) struct AccountKey {
    pub(super) account: String,
    key: SecretSlice<u8>,
}

impl AccountKey {
    /// `None` when `key` is not the Base64 of at least one byte.
    pub(super) fn new(account: String, key: &str) -> Option<Self> {
        let key = STANDARD.decode(key).ok().filter(|key| !key.is_empty())?;
        Some(Self { account, key: key.into() })
    }

    /// A query string that opens the account for the hour to come, over `protocol` (`https`, or `https,http`).
    pub(super) fn sign(&self, protocol: &str, now: OffsetDateTime) -> SecretString {
        let [start, expiry] = [now - BEGUN, now + LASTS].map(timestamp);
        let account = &self.account;
        // The two empty lines are the IP range and the encryption scope: any.
        let text = format!(
            "{account}\n{PERMISSIONS}\n{SERVICES}\n{RESOURCE_TYPES}\n{start}\n{expiry}\n\n{protocol}\n{VERSION}\n\n"
        );
        let signature = STANDARD.encode(self.hmac(&text));
        let [start, expiry, protocol, signature] = [&start, &expiry, protocol, &signature]
            .map(|value| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string());
        let query = format!(
            "sv={VERSION}&ss={SERVICES}&srt={RESOURCE_TYPES}&sp={PERMISSIONS}&st={start}&se={expiry}&spr={protocol}&sig={signature}"
        );
        query.into()
    }

    /// A query string that lets its holder create and write blobs in `container` until `expires`.
    pub(super) fn sign_drop(&self, container: &str, protocol: &str, expires: OffsetDateTime) -> SecretString {
        let (account, expiry) = (&self.account, timestamp(expires));
        // The first empty line is the start: it holds at once. Those before the protocol are a policy and an IP range.
        let text = format!("cw\n\n{expiry}\n/blob/{account}/{container}\n\n\n{protocol}\n{VERSION}\n{REST}");
        drop_query(&expiry, protocol, "", &self.hmac(&text))
    }

    fn hmac(&self, text: &str) -> [u8; 32] {
        hmac(self.key.expose_secret(), text)
    }
}

/// What a service SAS of a container ends in: that it is a container, and nothing of a snapshot, an encryption scope and five
/// headers of answers.
const REST: &str = "c\n\n\n\n\n\n\n";

/// A key that the account gave to our identity, to sign with.
pub(super) struct DelegationKey {
    pub(super) object: String,
    pub(super) tenant: String,
    pub(super) start: OffsetDateTime,
    pub(super) expiry: OffsetDateTime,
    pub(super) service: String,
    pub(super) version: String,
    pub(super) key: SecretSlice<u8>,
}

impl DelegationKey {
    /// As [`AccountKey::sign_drop`], for an account that is called `account`.
    pub(super) fn sign_drop(&self, account: &str, container: &str, expires: OffsetDateTime) -> SecretString {
        let Self { object, tenant, service, version, .. } = self;
        let [expiry, key_start, key_expiry] = [expires, self.start, self.expiry].map(timestamp);
        // The four empty lines are two agents, a correlation id and an IP range.
        let text = format!(
            "cw\n\n{expiry}\n/blob/{account}/{container}\n{object}\n{tenant}\n{key_start}\n{key_expiry}\n{service}\n{version}\n\
             \n\n\n\nhttps\n{VERSION}\n{REST}"
        );
        let key = [object, tenant, &key_start, &key_expiry, service, version].map(|value| encoded(value));
        let [object, tenant, start, end, service, version] = key;
        let key = format!("&skoid={object}&sktid={tenant}&skt={start}&ske={end}&sks={service}&skv={version}");
        drop_query(&expiry, "https", &key, &hmac(self.key.expose_secret(), &text))
    }
}

fn drop_query(expiry: &str, protocol: &str, key: &str, signature: &[u8]) -> SecretString {
    let [expiry, protocol, signature] = [expiry, protocol, &STANDARD.encode(signature)].map(encoded);
    format!("sv={VERSION}&sr=c&sp=cw&se={expiry}&spr={protocol}{key}&sig={signature}").into()
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key)
        .expect("HMAC takes keys of any length")
        .chain_update(text)
        .finalize()
        .into_bytes()
        .into()
}

fn timestamp(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(TIME).expect("years of four digits have this form")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// The expected signature comes from another implementation (Python's `hmac` over the text in Microsoft's page).
    #[test]
    fn an_account_key_is_signed_as_microsoft_documents_it() {
        let key = AccountKey::new("acct".into(), &STANDARD.encode("not a secret")).unwrap();
        let query = key.sign("https", datetime!(2026-11-22 01:00:00 UTC));
        assert_eq!(
            query.expose_secret(),
            "sv=2021-12-02&ss=bq&srt=sco&sp=rwdlacup&st=2026%2D11%2D22T00%3A45%3A00Z&se=2026%2D11%2D22T02%3A00%3A00Z\
             &spr=https&sig=ft6LrvzBSvU61IU2wq0vk5Q2ET%2FVY1YGkLe63iTz06Q%3D"
        );
    }

    /// As above.
    #[test]
    fn a_customers_sas_is_signed_as_microsoft_documents_it() {
        let expires = datetime!(2026-11-22 02:00:00 UTC);
        let key = AccountKey::new("acct".into(), &STANDARD.encode("not a secret")).unwrap();
        assert_eq!(
            key.sign_drop("customer", "https", expires).expose_secret(),
            "sv=2021-12-02&sr=c&sp=cw&se=2026%2D11%2D22T02%3A00%3A00Z&spr=https\
             &sig=HvoBq90mhIrFinN%2FwvDHOLnCRUFWewbOPwny3YZfGCs%3D"
        );
        let key = DelegationKey {
            object: "o-1".into(),
            tenant: "t-1".into(),
            start: datetime!(2026-11-22 00:45:00 UTC),
            expiry: expires,
            service: "b".into(),
            version: "2025-01-05".into(),
            key: b"not a secret".to_vec().into(),
        };
        assert_eq!(
            key.sign_drop("acct", "customer", expires).expose_secret(),
            "sv=2021-12-02&sr=c&sp=cw&se=2026%2D11%2D22T02%3A00%3A00Z&spr=https&skoid=o%2D1&sktid=t%2D1\
             &skt=2026%2D11%2D22T00%3A45%3A00Z&ske=2026%2D11%2D22T02%3A00%3A00Z&sks=b&skv=2025%2D01%2D05\
             &sig=zgxbYuUhq9uNJJmHCx1RCBDSe0ZZ9Uj5yRfld5bRtVA%3D"
        );
    }

    #[test]
    fn a_key_that_is_not_base64_is_none() {
        for key in ["", "not a key", "YQ"] {
            assert!(AccountKey::new("acct".into(), key).is_none(), "{key:?}");
        }
    }
}
