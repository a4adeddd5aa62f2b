//! `Retry-After` headers: seconds give that wait, a date gives a wait that gets shorter until the date, and anything
//! else gives none.

use std::time::{Duration, UNIX_EPOCH};

use vivadrop::retry::retry_after;

/// Times before and after the dates in the seeds, in seconds since 1970.
const INSTANTS: [u64; 4] = [0, 1, 784_111_837, 1 << 33];

/// Parses the bytes as the value of the header.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let waits = INSTANTS.map(|now| retry_after(text, UNIX_EPOCH + Duration::from_secs(now)));
    assert!(
        waits.iter().all(|wait| wait.is_some() == waits[0].is_some()),
        "whether the header is valid depends on the time: {waits:?}"
    );
    assert!(waits.is_sorted_by(|before, wait| before >= wait), "the wait gets longer: {waits:?}");
    if let (Ok(seconds), Some(wait)) = (text.trim().parse(), waits[0]) {
        assert_eq!(waits, [Some(wait); 4]);
        assert_eq!(wait, Duration::from_secs(seconds));
    }
}
