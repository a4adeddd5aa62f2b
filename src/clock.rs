//! The time of day.

use std::time::{Duration, Instant as SystemInstant};

use time::OffsetDateTime;
use tokio::time::Instant;

/// The time of day. In a test that pauses tokio's clock, it advances with that clock.
pub fn now() -> OffsetDateTime {
    let (system, tokio) = (SystemInstant::now(), Instant::now().into_std());
    let now = OffsetDateTime::now_utc();
    if tokio >= system { now + (tokio - system) } else { now - (system - tokio) }
}

/// Whether the recorded time `until`, which is never more than `longest` ahead when it is recorded, has passed. A time that is
/// further ahead was recorded by a machine whose clock was fast: waiting for it would take as long as that clock was wrong.
pub(crate) fn has_passed(until: OffsetDateTime, longest: Duration) -> bool {
    let wait = until - now();
    wait <= time::Duration::ZERO || wait > longest
}

/// Whether something that was last done at the recorded time `last` is due again. A time in the far future was recorded by a
/// machine whose clock was fast.
pub(crate) fn is_due_again(last: OffsetDateTime, every: time::Duration) -> bool {
    (now() - last).abs() >= every
}

/// The time without the part of a second, as lists show it.
pub fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}
