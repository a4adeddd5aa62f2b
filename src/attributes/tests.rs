use time::{Duration, macros::date};

use super::*;
use crate::stage::decode::{Decoder, RowRules};

const WINDOW: Window = Window { start: date!(2024 - 07 - 21), end: date!(2024 - 10 - 13) };

fn definitions() -> Definitions {
    Definitions::parse(br#"{"attributes":[{"name":"Email hours"}]}"#).unwrap()
}

/// The report about a drop with a row of the same person for each date.
fn report<'a>(definitions: &'a Definitions, dates: &[Date], memory: usize) -> CycleReport<'a> {
    let rows: Vec<_> = dates.iter().map(|date| (*date, "1")).collect();
    report_of(definitions, &rows, memory)
}

/// The report about a drop with a row of the same person for each date, with the JSON of the metric.
fn report_of<'a>(definitions: &'a Definitions, rows: &[(Date, &str)], memory: usize) -> CycleReport<'a> {
    let columns = Some(RowParser::columns(definitions));
    let rules = RowRules { columns, records_values: true, encrypted_columns: Vec::new(), ..RowRules::default() };
    let id = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";
    let column = &definitions.attributes[0].column;
    let row = |(date, value): &(Date, &str)| {
        format!(r#"{{"ObjectId":"{id}","MetricDate":"{date}","{column}":{value}}}"#) + "\n"
    };
    let rows: String = rows.iter().map(row).collect();
    let rows = Decoder::new(&rules, None).rows(&rows.as_str().into()).unwrap();
    let mut pass = CyclePass::new(definitions, WINDOW, memory);
    pass.push(&RowParser::new(definitions, WINDOW).parse(&rows));
    pass.finish(true)
}

/// This many days with rows, each `days` after the one before.
fn every(days: i64, first: Date, count: usize) -> Vec<Date> {
    std::iter::successors(Some(first), |&date| Some(date + Duration::days(days))).take(count).collect()
}

#[test]
fn a_drop_with_too_many_people_has_the_period_of_its_dates() {
    let definitions = definitions();
    let months = [date!(2024 - 08 - 01), date!(2024 - 09 - 01), date!(2024 - 10 - 01)];
    let weeks = every(7, WINDOW.start, 12);
    for (dates, period) in [(&months[..], Period::Month), (&weeks[..], Period::Week), (&months[1..2], Period::Week)] {
        let report = report(&definitions, dates, 0);
        assert!(matches!(report.failure, Some(CycleFailure::TooManyPeople(_))), "{:?}", report.failure);
        assert_eq!((report.period, report.dates().period), (period, Some(period)));
        assert_eq!(report.reaches(WINDOW), dates.len() > 1, "{period:?}");
    }
}

#[test]
fn a_number_in_a_string_counts_also_with_escapes() {
    let definitions = Definitions::parse(br#"{"attributes":[{"name":"F","metric":"Focus","max":[2,7.25,8]}]}"#);
    let definitions = definitions.unwrap();
    let week = WINDOW.start;
    for (value, counts) in [
        ("7.25", [0, 0, 1, 0]),
        (r#""7.25""#, [0, 0, 1, 0]),
        (r#""\u0037.25""#, [0, 0, 1, 0]),
        (r#"" 7.25""#, [0; 4]),
        ("true", [0; 4]),
    ] {
        assert_eq!(report_of(&definitions, &[(week, value)], 64 << 20).counts, [counts], "{value}");
    }
}

#[test]
fn a_drop_with_more_dates_than_the_bound_is_not_weekly() {
    let definitions = definitions();
    // The last of these weeks lies before the window.
    let first = WINDOW.start - Duration::days(7 * (MAX_DATES as i64 + 1));
    let weeks = |count| every(7, first, count);
    let failure = |dates: &[Date]| report(&definitions, dates, 64 << 20).failure;
    assert_ne!(failure(&weeks(MAX_DATES)), Some(CycleFailure::NotWeekly));
    assert_eq!(failure(&weeks(MAX_DATES + 1)), Some(CycleFailure::NotWeekly));

    let mut days = every(1, date!(2030 - 01 - 01), 20_000);
    days.push(WINDOW.end - Duration::days(7));
    let report = report(&definitions, &days, 64 << 20);
    assert_eq!(report.failure, Some(CycleFailure::NotWeekly));
    assert_eq!(report.dates().dates.len(), MAX_DATES + 1, "the dates in the window are kept all the same");
    assert!(report.reaches(WINDOW), "the cycle fails, so that somebody notices");
}
