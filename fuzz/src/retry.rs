//! `Retry-After`, as any receiver may send it: for seconds a wait of so many, for a date one that gets shorter until the
//! date has passed, and none for anything else.

use std::time::{Duration, UNIX_EPOCH};

use vivadrop::retry::retry_after;

/// Instants before and behind the dates of the seeds, in seconds since 1970.
const INSTANTS: [u64; 4] = [0, 1, 784_111_837, 1 << 33];

/// Reads the bytes as the value of the header.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let waits = INSTANTS.map(|now| retry_after(text, UNIX_EPOCH + Duration::from_secs(now)));
    assert!(waits.iter().all(|wait| wait.is_some() == waits[0].is_some()), "a wait now and then: {waits:?}");
    assert!(waits.is_sorted_by(|before, wait| before >= wait), "a wait that gets longer: {waits:?}");
    if let (Ok(seconds), Some(wait)) = (text.trim().parse(), waits[0]) {
        assert_eq!(waits, [Some(wait); 4]);
        assert_eq!(wait, Duration::from_secs(seconds));
    }
}
