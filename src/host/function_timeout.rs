//! `functionTimeout` in `host.json`: how long the Functions host lets an event run before it kills the handler.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

/// `host.json` is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("host.json is not JSON: {0}")]
pub struct InvalidHostJson(pub serde_json::Error);

/// Reads `functionTimeout` of the `host.json` in `folder`. `None` if there is no such file, no such member, or no
/// limit.
pub fn function_timeout(folder: &Path) -> Result<Option<Duration>, InvalidHostJson> {
    let Ok(text) = fs::read_to_string(folder.join("host.json")) else {
        return Ok(None);
    };
    let host: Value = serde_json::from_str(&text).map_err(InvalidHostJson)?;
    Ok(host["functionTimeout"].as_str().and_then(parse))
}

/// Parses `hh:mm:ss` or `d.hh:mm:ss`. `None` for any other text, and for `-1`, which means no limit.
fn parse(text: &str) -> Option<Duration> {
    let (days, time) = text.split_once('.').unwrap_or(("0", text));
    let mut seconds: u64 = days.parse().ok()?;
    let parts: Vec<&str> = time.split(':').collect();
    if parts.len() != 3 {
        return None;
    }
    for (part, unit) in parts.into_iter().zip([24, 60, 60]) {
        seconds = seconds.checked_mul(unit)?.checked_add(part.parse().ok()?)?;
    }
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_timeout_has_days_hours_minutes_and_seconds() {
        let seconds = |text| parse(text).map(|timeout| timeout.as_secs());
        assert_eq!(seconds("00:30:00"), Some(1800));
        assert_eq!(seconds("1.01:00:05"), Some(90_005));
        for text in ["-1", "", "30", "00:30", "a:b:c", "00:00:00:00"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
