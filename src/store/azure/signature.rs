//! What an account key signs, so that the key itself goes on no wire: the account SAS that opens the account to us, and
//! the service SAS that opens a container to a customer.
//!
//! `azure_storage_blob` takes a URL or an Entra credential, no account key, and `azure_storage_sas` signs with a user
//! delegation key alone. The text to sign is documented at
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
        // It holds at once: the empty line is the start. Behind the protocol: version, resource (a container), and of what is
        // left empty snapshot, encryption scope and the five headers of answers; before it policy and IP range.
        let text = format!("cw\n\n{expiry}\n/blob/{account}/{container}\n\n\n{protocol}\n{VERSION}\nc\n\n\n\n\n\n\n");
        let signature = STANDARD.encode(self.hmac(&text));
        let [expiry, protocol, signature] =
            [&expiry, protocol, &signature].map(|value| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string());
        format!("sv={VERSION}&sr=c&sp=cw&se={expiry}&spr={protocol}&sig={signature}").into()
    }

    fn hmac(&self, text: &str) -> [u8; 32] {
        Hmac::<Sha256>::new_from_slice(self.key.expose_secret())
            .expect("HMAC takes keys of any length")
            .chain_update(text)
            .finalize()
            .into_bytes()
            .into()
    }
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

    #[test]
    fn a_key_that_is_not_base64_is_none() {
        for key in ["", "not a key", "YQ"] {
            assert!(AccountKey::new("acct".into(), key).is_none(), "{key:?}");
        }
    }
}
