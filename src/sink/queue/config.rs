//! Which queue, and in whose account.

use std::{fmt, str::FromStr, time::Duration};

use url::Url;

use crate::{retry::RetryBudget, store::azure::Account};

/// A queue's name, as Azure allows it.
/// <https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueName(String);

/// The text is no queue's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a queue's name has 3 to 63 small letters, digits and single hyphens, with no hyphen at its ends")]
pub struct BadQueueName;

impl FromStr for QueueName {
    type Err = BadQueueName;

    fn from_str(text: &str) -> Result<Self, BadQueueName> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_letter);
        let is_name = (3..=63).contains(&text.len()) && text.split('-').all(is_part);
        if is_name { Ok(Self(text.to_owned())) } else { Err(BadQueueName) }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where and how messages are put.
#[derive(Debug)]
pub struct QueueConfig {
    pub(super) account: Account,
    pub(super) name: QueueName,
    /// Without what opens it: that is the account's to add.
    pub(super) url: Url,
    /// How long a message is tried (`DELIVERY_PATIENCE`), and with what waits.
    pub patience: RetryBudget,
}

impl QueueConfig {
    /// The queue called `name`, with 4 minutes of patience; `None` where the account does not say where its queues are.
    pub fn new(account: &Account, name: QueueName) -> Option<Self> {
        let mut url = account.queue_endpoint()?.clone();
        url.path_segments_mut().ok()?.pop_if_empty().push(&name.0);
        let patience = RetryBudget::lasting(Duration::from_secs(4 * 60));
        Some(Self { account: account.clone(), name, url, patience })
    }

    /// The queue's address.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_name_is_what_azure_takes() {
        let longest = "a".repeat(63);
        for name in ["abc", "viva-rows", "1-2-3", "000", &longest] {
            assert_eq!(name.parse(), Ok(QueueName(name.into())));
        }
        let too_long = "a".repeat(64);
        for name in ["", "ab", "Rows", "viva_rows", "viva--rows", "-rows", "rows-", "röws", "a/b", "a?b", &too_long] {
            assert_eq!(name.parse::<QueueName>(), Err(BadQueueName), "{name}");
        }
    }

    #[test]
    fn a_queue_lies_below_its_accounts_endpoint() {
        let url = |account: &str| {
            let account = Account::from_connection_string(account).unwrap();
            QueueConfig::new(&account, "rows".parse().unwrap()).map(|config| config.url.to_string())
        };
        let by_name = url("AccountName=acct;AccountKey=c2VjcmV0");
        assert_eq!(by_name.unwrap(), "https://acct.queue.core.windows.net/rows");
        let emulator = url("UseDevelopmentStorage=true");
        assert_eq!(emulator.unwrap(), "http://127.0.0.1:10001/devstoreaccount1/rows");
        assert_eq!(url("BlobEndpoint=https://blobs.contoso.com;SharedAccessSignature=sv=1&sig=s"), None);
    }
}
