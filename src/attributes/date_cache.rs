//! The dates that rows have, so that each text of a date is parsed once.

use time::Date;

use super::calendar::metric_date;
use crate::json::members::string_value;

/// How many texts are kept. A drop of a year has 52.
const MAX_TEXTS: usize = 64;

/// Parses the dates of rows, and remembers the last ones.
#[derive(Default)]
pub(super) struct DateCache {
    /// The JSON texts, with their dates.
    known: Vec<(Vec<u8>, Date)>,
    /// The position of the next text if the texts come in the same order again.
    next: usize,
}

/// A date that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) date: Date,
    /// Whether the cache did not have it.
    pub(super) is_new: bool,
}

impl DateCache {
    /// The date in the JSON text `value`; `None` if `value` is not a string with a date at midnight UTC.
    pub(super) fn find(&mut self, value: &[u8]) -> Option<Found> {
        let is_next = self.known.get(self.next).is_some_and(|(text, _)| text == value);
        let position = if is_next { Some(self.next) } else { self.known.iter().position(|(text, _)| text == value) };
        if let Some(position) = position {
            self.next = (position + 1) % self.known.len();
            return Some(Found { date: self.known[position].1, is_new: false });
        }
        let date = metric_date(&string_value(value)?)?;
        if self.known.len() == MAX_TEXTS {
            self.known.clear();
        }
        self.known.push((value.to_vec(), date));
        self.next = 0;
        Some(Found { date, is_new: true })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_date_is_new_once() {
        let mut cache = DateCache::default();
        let texts = ["\"2024-10-06\"", "\"2024-10-13T00:00:00Z\"", "\"2024-10-06\"", "\"2024-10-13T00:00:00Z\""];
        let found: Vec<_> = texts.iter().map(|text| cache.find(text.as_bytes()).unwrap()).collect();
        assert_eq!(found.iter().map(|found| found.is_new).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!((found[2].date, found[3].date), (date!(2024 - 10 - 06), date!(2024 - 10 - 13)));
        for text in ["20241006", "null", "\"soon\""] {
            assert_eq!(cache.find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_number_of_texts_is_bounded() {
        let mut cache = DateCache::default();
        for year in 1000..9000 {
            assert!(cache.find(format!("\"{year}-01-01\"").as_bytes()).unwrap().is_new);
            assert!(cache.known.len() <= MAX_TEXTS);
        }
    }
}
