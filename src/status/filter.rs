//! Which drops a list shows.

use serde::Deserialize;
use time::{
    Date, Duration, OffsetDateTime, Weekday, format_description::well_known::Rfc3339, macros::format_description,
};

use super::{DropStatus, State, week_of};
use crate::{drop::TenantId, verdict::Reason};

/// Which drops a list shows: those that satisfy every condition that is set.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DropFilter {
    /// Only drops of this tenant.
    pub tenant: Option<TenantId>,
    /// Only drops in this state.
    pub state: Option<State>,
    /// Only drops that were set aside for this reason.
    pub reason: Option<Reason>,
    /// Only drops that are in their state since this time or later.
    pub since: Option<OffsetDateTime>,
    /// Only drops that arrived in the week that begins on this Sunday.
    pub week: Option<Date>,
}

impl DropFilter {
    /// Whether a list shows the drop.
    pub fn matches(&self, drop: &DropStatus) -> bool {
        self.tenant.is_none_or(|tenant| tenant == drop.tenant_id)
            && self.state.is_none_or(|state| state == drop.state)
            && self.reason.is_none_or(|reason| Some(reason) == drop.reason)
            && self.since.is_none_or(|since| drop.since >= since)
            && self.week.is_none_or(|week| week_of(drop.arrived) == week)
    }

    /// Whether no condition is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The text is not a value that a filter accepts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct InvalidFilter(&'static str);

/// Parses a state, such as `set-aside`.
pub fn parse_state(text: &str) -> Result<State, InvalidFilter> {
    parse_word(text).ok_or(InvalidFilter("completed, open, retrying, waiting, set-aside or overdue"))
}

/// Parses a reason, such as `wrong-key`.
pub fn parse_reason(text: &str) -> Result<Reason, InvalidFilter> {
    parse_word(text).ok_or(InvalidFilter("a reason of `drop.failed`, such as wrong-key"))
}

fn parse_word<'t, T: Deserialize<'t>>(text: &'t str) -> Option<T> {
    T::deserialize(serde::de::value::BorrowedStrDeserializer::<serde::de::value::Error>::new(text)).ok()
}

/// Parses a time: `7d`, `12h` or `30m` before `now`, or an RFC 3339 time.
pub fn parse_since(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, InvalidFilter> {
    let invalid = InvalidFilter("a time span such as 7d, 12h or 30m, or a time such as 2026-11-22T00:00:00Z");
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let unit = match text.bytes().last() {
        Some(b'd') => Duration::DAY,
        Some(b'h') => Duration::HOUR,
        Some(b'm') => Duration::MINUTE,
        _ => return Err(invalid),
    };
    let count: u16 = text[..text.len() - 1].parse().map_err(|_| invalid)?;
    Ok(now - unit * i32::from(count))
}

/// Parses the Sunday on which a week begins, such as `2026-11-22`.
pub fn parse_week(text: &str) -> Result<Date, InvalidFilter> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    date.filter(|date| date.weekday() == Weekday::Sunday).ok_or(InvalidFilter("a Sunday such as 2026-11-22"))
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    #[test]
    fn values_of_a_filter_are_parsed() {
        let now = datetime!(2026-11-22 12:00 UTC);
        assert_eq!(parse_state("set-aside"), Ok(State::SetAside));
        assert_eq!(parse_reason("wrong-key"), Ok(Reason::WrongKey));
        assert_eq!(parse_since("7d", now), Ok(datetime!(2026-11-15 12:00 UTC)));
        assert_eq!(parse_since("2026-11-20T00:00:00Z", now), Ok(datetime!(2026-11-20 00:00 UTC)));
        assert_eq!(parse_week("2026-11-22"), Ok(date!(2026 - 11 - 22)));
    }

    #[test]
    fn other_values_are_errors() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert!(parse_state("setaside").is_err() && parse_reason("").is_err());
        assert!(["", "d", "7", "-1d", "99999d", "7ü"].iter().all(|text| parse_since(text, now).is_err()));
        assert!(["2026-11-23", "2026-11", "x"].iter().all(|text| parse_week(text).is_err()));
    }
}
