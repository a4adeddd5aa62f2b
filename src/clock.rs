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
