//! Dates and times in texts for people.

use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// The date in UTC, as `2026-11-22`.
pub fn date(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]");
    time.to_offset(UtcOffset::UTC).format(format).expect("year, month and day can always be formatted")
}

/// Date and time in UTC, as `2026-11-22 12:00 UTC`.
pub fn date_and_time(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time.to_offset(UtcOffset::UTC).format(format).expect("a date and a time can always be formatted")
}
