//! Tables for a terminal. Formats only.

use std::io::Write;

use time::{Duration, OffsetDateTime};

use crate::{
    date::date_and_time,
    one_line::{escape_deceptive, one_line},
    status::{DropDetail, DropStatus, FileState},
    verdict::Reason,
};

/// The longest text in a column, in characters. Paths are shorter.
const MAX_CELL: usize = 2_000;

/// Writes one line for each drop.
pub(super) fn write_drops(drops: &[&DropStatus], now: OffsetDateTime, out: &mut Vec<u8>) {
    if drops.is_empty() {
        out.extend(b"no drops\n");
        return;
    }
    let heading =
        ["TENANT", "DROP", "STATE", "ROWS", "AGE", "ATTEMPTS", "NEXT TRY", "REASON", "WHAT TO DO"].map(str::to_owned);
    let lines = drops.iter().map(|drop| {
        [
            drop.tenant_id.to_string(),
            text(drop.path.as_deref()),
            drop.state.to_string(),
            rows(drop),
            age(now - drop.since),
            drop.attempts.filter(|attempts| *attempts > 0).map_or_else(none, |attempts| attempts.to_string()),
            drop.next_try.map_or_else(none, date_and_time),
            drop.reason.map_or_else(none, |reason| reason.to_string()),
            text(drop.remedy.as_deref()),
        ]
    });
    write_columns(std::iter::once(heading).chain(lines).collect(), out);
}

/// Writes a drop, and one line for each of its files.
pub(super) fn write_drop(
    DropDetail { drop, file_list, has_more_files }: &DropDetail,
    now: OffsetDateTime,
    out: &mut Vec<u8>,
) {
    let files = match (drop.files.done, drop.files.set_aside, drop.files.total) {
        (Some(done), Some(set_aside), Some(total)) => format!("{done} of {total} done, {set_aside} set aside"),
        _ => none(),
    };
    let state = format!("{} since {} ({})", drop.state, date_and_time(drop.since), age(now - drop.since));
    let lines = [
        ("drop", text(drop.path.as_deref())),
        ("tenant", drop.tenant_id.to_string()),
        ("state", state),
        ("rows", rows(drop)),
        ("files", files),
        ("attempts", drop.attempts.map_or_else(none, |attempts| attempts.to_string())),
        ("next try", drop.next_try.map_or_else(none, date_and_time)),
        ("reason", drop.reason.map_or_else(none, |reason| reason.to_string())),
        ("message", text(drop.message.as_deref())),
        ("what to do", text(drop.remedy.as_deref())),
    ];
    write_columns(lines.map(|(name, value)| [name.to_owned(), value]).to_vec(), out);
    if file_list.is_empty() {
        return;
    }
    out.push(b'\n');
    let heading = ["FILE", "STATE", "ROWS", "BAD ROWS", "ATTEMPTS", "UPDATED", "REASON", "MESSAGE"].map(str::to_owned);
    let lines = file_list.iter().map(|file| {
        let state = match file.state {
            FileState::Running => "running",
            FileState::Done => "done",
            FileState::SetAside => "set-aside",
        };
        [
            file.name.clone(),
            state.to_owned(),
            file.next_row.to_string(),
            file.bad_rows.to_string(),
            file.attempts.to_string(),
            date_and_time(file.updated),
            text(file.reason.map(Reason::as_str)),
            text(file.message.as_deref()),
        ]
    });
    write_columns(std::iter::once(heading).chain(lines).collect(), out);
    if *has_more_files {
        out.extend(b"there are more files\n");
    }
}

fn none() -> String {
    "-".to_owned()
}

fn text(text: Option<&str>) -> String {
    text.map_or_else(none, str::to_owned)
}

fn rows(drop: &DropStatus) -> String {
    match (drop.rows, drop.expected_rows) {
        (None, _) => none(),
        (Some(rows), None) => rows.to_string(),
        (Some(rows), Some(expected)) => format!("{rows} of {expected}"),
    }
}

/// A time span with one unit, such as `3h`.
fn age(span: Duration) -> String {
    let minutes = span.whole_minutes().max(0);
    match minutes {
        ..120 => format!("{minutes}m"),
        120..2_880 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1_440),
    }
}

/// Writes lines whose columns begin at the same position, without spaces at the end.
fn write_columns<const N: usize>(lines: Vec<[String; N]>, out: &mut Vec<u8>) {
    let lines: Vec<[String; N]> =
        lines.into_iter().map(|line| line.map(|text| one_line(&escape_deceptive(&text), MAX_CELL))).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for line in &lines {
        let padded = line.iter().zip(widths).map(|(text, width)| format!("{text:width$}"));
        let joined = padded.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", joined.trim_end()).expect("writing to memory does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let mut out = Vec::new();
        write_columns(vec![["A".into(), "B".into()], ["long".into(), "a\n\u{202e}b".into()]], &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "A     B\nlong  a \\u202eb\n");
    }

    #[test]
    fn an_age_has_one_unit() {
        let ages = [0, 119, 120, 2_879, 2_880, -5].map(|minutes| age(Duration::minutes(minutes)));
        assert_eq!(ages, ["0m", "119m", "2h", "47h", "2d", "0m"]);
    }
}
