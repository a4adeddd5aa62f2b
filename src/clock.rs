//! The current date and time, in UTC.

use std::time::{Duration, Instant as SystemInstant};

use time::OffsetDateTime;
use tokio::time::Instant;

/// The current date and time, in UTC. In a test that pauses tokio's clock, it advances with that clock.
pub fn now() -> OffsetDateTime {
    let (system, tokio) = (SystemInstant::now(), Instant::now().into_std());
    let now = OffsetDateTime::now_utc();
    if tokio >= system { now + (tokio - system) } else { now - (system - tokio) }
}

/// Whether the recorded time `until` has passed. A machine whose clock is right records times that are up to `longest`
/// ahead. So a time that is further ahead counts as passed: a machine whose clock was fast has recorded it.
pub(crate) fn has_passed(until: OffsetDateTime, longest: Duration) -> bool {
    let wait = until - now();
    wait <= time::Duration::ZERO || wait > longest
}

/// Whether a task that was last done at the recorded time `last` is due again. It is also due if `last` is at least
/// `every` ahead: a machine whose clock was fast has recorded it.
pub(crate) fn is_due_again(last: OffsetDateTime, every: time::Duration) -> bool {
    (now() - last).abs() >= every
}

/// The time, truncated to whole seconds, as lists show it.
pub fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}
