//! `Retry-After`, as any receiver may send it: a wait or none, and for seconds that many.

use std::time::{Duration, UNIX_EPOCH};

use vivadrop::retry::retry_after;

/// Reads the bytes as the value of the header.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let begun = retry_after(text, UNIX_EPOCH);
    match (text.trim().parse(), begun) {
        (Ok(seconds), Some(wait)) => assert_eq!(wait, Duration::from_secs(seconds)),
        (_, Some(wait)) => {
            let later = UNIX_EPOCH + Duration::from_secs(1);
            let left = retry_after(text, later).expect("the same text is read the same");
            assert!(left == wait || left == wait.saturating_sub(Duration::from_secs(1)), "{wait:?}, then {left:?}");
        }
        (_, None) => assert_eq!(retry_after(text, UNIX_EPOCH + Duration::from_secs(1)), None),
    }
}
