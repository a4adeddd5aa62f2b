//! The name, the account and the address of a queue.

use std::{fmt, str::FromStr, time::Duration};

use url::Url;

use crate::{retry::RetryBudget, store::azure::Account};

/// The name of a queue that follows the rules of Azure.
/// <https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueName(String);

/// The text is not a valid queue name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a queue name has 3 to 63 lowercase letters, digits and single hyphens, with no hyphen at either end")]
pub struct InvalidQueueName;

impl FromStr for QueueName {
    type Err = InvalidQueueName;

    fn from_str(text: &str) -> Result<Self, InvalidQueueName> {
        let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_alphanumeric);
        let is_valid = (3..=63).contains(&text.len()) && text.split('-').all(is_part);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidQueueName) }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The configuration of the queue sink.
#[derive(Debug)]
pub struct QueueConfig {
    pub(super) account: Account,
    pub(super) name: QueueName,
    /// The URL of the queue, without credentials: those are in the account.
    pub(super) url: Url,
    /// How long a message is retried (`DELIVERY_PATIENCE`).
    pub retry_budget: RetryBudget,
}

impl QueueConfig {
    /// The queue called `name` in `account`, with retries for 4 minutes; `None` if the account has no queue endpoint.
    pub fn new(account: &Account, name: QueueName) -> Option<Self> {
        let mut url = account.queue_endpoint()?.clone();
        url.path_segments_mut().ok()?.pop_if_empty().push(&name.0);
        let retry_budget = RetryBudget::lasting(Duration::from_secs(4 * 60));
        Some(Self { account: account.clone(), name, url, retry_budget })
    }

    /// The URL of the queue.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_name_follows_the_rules_of_azure() {
        let longest = "a".repeat(63);
        for name in ["abc", "viva-rows", "1-2-3", "000", &longest] {
            assert_eq!(name.parse(), Ok(QueueName(name.into())));
        }
        let too_long = "a".repeat(64);
        for name in ["", "ab", "Rows", "viva_rows", "viva--rows", "-rows", "rows-", "röws", "a/b", "a?b", &too_long] {
            assert_eq!(name.parse::<QueueName>(), Err(InvalidQueueName), "{name}");
        }
    }

    #[test]
    fn the_url_is_below_the_queue_endpoint_of_the_account() {
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
