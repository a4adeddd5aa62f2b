//! The time of day.

use std::time::Instant as SystemInstant;

use time::OffsetDateTime;
use tokio::time::Instant;

/// The time of day. In a test that pauses tokio's clock, it advances with that clock.
pub fn now() -> OffsetDateTime {
    let (system, tokio) = (SystemInstant::now(), Instant::now().into_std());
    let now = OffsetDateTime::now_utc();
    if tokio >= system { now + (tokio - system) } else { now - (system - tokio) }
}

/// The time without the part of a second, as lists show it.
pub fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}
