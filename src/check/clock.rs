//! Whether our clock agrees with the store's.

use std::time::{Duration, SystemTime};

use reqwest::{header::DATE, redirect};
use url::Url;

use super::{Finding, State};
use crate::loopback::is_loopback;

/// How far two clocks may be apart: what a receiver by the Standard Webhooks specification tolerates. A SAS that we sign
/// for the store begins a quarter of an hour ago, so this is the narrower bound.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How long the store may take to say what time it is.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the store at `address` for nothing: whatever it answers has a date, also where it does not let us in.
pub(super) async fn agrees(address: &Url) -> Finding {
    match skew(address).await {
        Ok(skew) => finding(&skew),
        Err(why) => {
            let text = format!("asked the store at `{}` for its time: {why}", address.origin().ascii_serialization());
            Finding::new(State::TryAgain, "clock", text)
                .todo("see that the account of DropStorage is up, and that this machine may connect to it")
        }
    }
}

/// How far our clock is from another.
struct Skew {
    apart: Duration,
    is_ahead: bool,
}

impl Skew {
    fn between(ours: SystemTime, theirs: SystemTime) -> Self {
        match ours.duration_since(theirs) {
            Ok(apart) => Self { apart, is_ahead: true },
            Err(behind) => Self { apart: behind.duration(), is_ahead: false },
        }
    }
}

fn finding(skew: &Skew) -> Finding {
    let direction = if skew.is_ahead { "ahead of" } else { "behind" };
    let seconds = skew.apart.as_secs();
    // The store tells whole seconds.
    if seconds <= 1 {
        return Finding::well("clock", "compared with the store's: they agree");
    }
    let text = format!("compared with the store's: ours is {} {direction} it", length(seconds));
    if skew.apart < TOLERANCE {
        return Finding::well("clock", text);
    }
    Finding::mend("clock", text).todo(
        "set this machine's clock: receivers refuse webhooks whose timestamp is 5 minutes off, and the store refuses a SAS or \
         token that is not valid yet, or not any more",
    )
}

fn length(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

async fn skew(address: &Url) -> Result<Skew, String> {
    let without_url = |error: reqwest::Error| crate::error_chain::error_chain(&error.without_url());
    let client = reqwest::Client::builder().redirect(redirect::Policy::none()).timeout(PATIENCE);
    let client = if is_loopback(address) { client.no_proxy() } else { client };
    let client = client.build().map_err(without_url)?;
    let asked = SystemTime::now();
    let answer = client.get(address.clone()).send().await.map_err(without_url)?;
    let ours = asked + asked.elapsed().unwrap_or_default() / 2;
    let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    date.map(|theirs| Skew::between(ours, theirs)).ok_or_else(|| "its answer has no date".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ours: u64, theirs: u64) -> Finding {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        finding(&Skew::between(at(ours), at(theirs)))
    }

    #[test]
    fn clocks_may_be_apart_by_less_than_five_minutes() {
        for (ours, theirs) in [(1000, 1000), (1000, 1299), (1299, 1000)] {
            assert_eq!(found(ours, theirs).state, State::Well);
        }
        let (ahead, behind) = (found(8200, 1000), found(1000, 1301));
        assert_eq!((ahead.state, behind.state), (State::Mend, State::Mend));
        assert!(ahead.text.ends_with("ours is 2 h 0 min ahead of it"), "{ahead}");
        assert!(behind.text.ends_with("ours is 5 min 1 s behind it"), "{behind}");
    }
}
