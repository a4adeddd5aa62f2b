//! Tests whether this machine's clock agrees with the store's.

use std::time::{Duration, SystemTime};

use reqwest::{header::DATE, redirect};
use url::Url;

use super::{Finding, Severity};
use crate::{error_chain::error_chain, loopback::is_loopback};

/// Largest accepted difference. Receivers that follow the Standard Webhooks specification tolerate 5 minutes; a SAS
/// that we sign becomes valid 15 minutes in the past, so the store tolerates more.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Timeout for the store's response.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Compares the clocks with the `Date` header of the store at `url`. Every response has it, even one that denies
/// access.
pub(super) async fn agrees_with_store(url: &Url) -> Finding {
    match measure(url).await {
        Ok(skew) => finding(&skew),
        Err(why) => {
            let text = format!("requested the time from the store at `{}`: {why}", url.origin().ascii_serialization());
            Finding::new(Severity::Retry, "clock", text)
                .todo("check that the account of DropStorage is available and that this machine can connect to it")
        }
    }
}

/// The difference between this machine's clock and the store's.
struct Skew {
    difference: Duration,
    /// Whether this machine's clock is ahead of the store's.
    is_ahead: bool,
}

impl Skew {
    fn between(ours: SystemTime, theirs: SystemTime) -> Self {
        match ours.duration_since(theirs) {
            Ok(difference) => Self { difference, is_ahead: true },
            Err(behind) => Self { difference: behind.duration(), is_ahead: false },
        }
    }
}

fn finding(skew: &Skew) -> Finding {
    let direction = if skew.is_ahead { "ahead of" } else { "behind" };
    let seconds = skew.difference.as_secs();
    // The `Date` header has a resolution of one second.
    if seconds <= 1 {
        return Finding::ok("clock", "compared this machine's clock with the store's: they agree");
    }
    let text =
        format!("compared this machine's clock with the store's: it is {} {direction} the store's", display(seconds));
    if skew.difference < TOLERANCE {
        return Finding::ok("clock", text);
    }
    Finding::fix("clock", text).todo(
        "set this machine's clock: receivers reject webhooks whose timestamp is 5 minutes off, and the store rejects a SAS or \
         token that is not valid yet or not valid any more",
    )
}

fn display(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

async fn measure(url: &Url) -> Result<Skew, String> {
    let without_url = |error: reqwest::Error| error_chain(&error.without_url());
    let client = reqwest::Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT);
    let client = if is_loopback(url) { client.no_proxy() } else { client };
    let client = client.build().map_err(without_url)?;
    let sent = SystemTime::now();
    let response = client.get(url.clone()).send().await.map_err(without_url)?;
    // The middle of the round trip is the best estimate of when the store wrote the header.
    let ours = sent + sent.elapsed().unwrap_or_default() / 2;
    let date = response.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    date.map(|theirs| Skew::between(ours, theirs)).ok_or_else(|| "its response has no date".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding_for(ours: u64, theirs: u64) -> Finding {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        finding(&Skew::between(at(ours), at(theirs)))
    }

    #[test]
    fn clocks_may_differ_by_less_than_five_minutes() {
        for (ours, theirs) in [(1000, 1000), (1000, 1299), (1299, 1000)] {
            assert_eq!(finding_for(ours, theirs).severity, Severity::Ok);
        }
        let (ahead, behind) = (finding_for(8200, 1000), finding_for(1000, 1301));
        assert_eq!((ahead.severity, behind.severity), (Severity::Fix, Severity::Fix));
        assert!(ahead.text.ends_with("it is 2 h 0 min ahead of the store's"), "{ahead}");
        assert!(behind.text.ends_with("it is 5 min 1 s behind the store's"), "{behind}");
    }
}
