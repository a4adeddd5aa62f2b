//! Prints the attributes of a cycle as a table, as JSON or as CSV.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use crate::{
    attributes::{Attribute, Cycle, CycleReport, Program, RANGES, Value},
    directory::Directory,
    json::members::string_value,
};

/// The width of the longest bar of a table, in characters.
const BAR: u64 = 40;

/// A cycle and what was computed for it.
pub(super) struct Subject<'a> {
    pub(super) program: &'a Program,
    pub(super) cycle: &'a Cycle,
    pub(super) report: &'a CycleReport<'a>,
    pub(super) directory: Option<&'a Directory>,
}

/// Writes the number of people in each range as bars.
pub(super) fn write_table(out: &mut impl Write, subject: &Subject<'_>) -> io::Result<()> {
    let report = subject.report;
    let (weeks, window) = (report.weeks, report.window);
    writeln!(
        out,
        "{} / {}: {} people, {weeks} {}s with rows from {} to before {}",
        subject.program.name,
        subject.cycle.name,
        report.people_count(),
        report.period.name(),
        window.start,
        window.end
    )?;
    for (attribute, counts) in report.counts() {
        writeln!(out, "\n{}", attribute.name)?;
        let labels = attribute.labels();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let most = counts.iter().flatten().max().copied().unwrap_or(0).max(1);
        for (label, count) in labels.iter().zip(counts) {
            match count {
                Some(count) => {
                    let bar = "█".repeat((count * BAR).div_ceil(most) as usize);
                    writeln!(out, "  {label:width$}  {bar} {count}")?;
                }
                None => writeln!(out, "  {label:width$}  withheld")?,
            }
        }
    }
    writeln!(out)
}

/// Writes one JSON line.
pub(super) fn write_json(out: &mut impl Write, subject: &Subject<'_>) -> io::Result<()> {
    let report = subject.report;
    write!(
        out,
        "{{\"program\":{},\"cycle\":{},\"window\":{{\"start\":\"{}\",\"end\":\"{}\",\"weeks\":{},\"period\":\"{}\"}},\"people\":[",
        json_string(&subject.program.name),
        json_string(&subject.cycle.name),
        report.window.start,
        report.window.end,
        report.weeks,
        report.period.name()
    )?;
    let (mut entry, mut text) = (Vec::new(), Vec::new());
    for (number, person) in report.people().enumerate() {
        entry.clear();
        match subject.directory {
            Some(directory) => directory.append(directory.find_by_id(person.id), &mut entry),
            None => entry.extend_from_slice(b"null"),
        }
        text.clear();
        if number > 0 {
            text.push(b',');
        }
        report.append_person(&person, &entry, &mut text);
        out.write_all(&text)?;
    }
    write!(out, "],\"counts\":{{")?;
    for (number, (attribute, counts)) in report.counts().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        write!(out, "{comma}{}:{}", json_string(&attribute.name), json_counts(counts))?;
    }
    writeln!(out, "}}}}")
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

fn json_counts(counts: [Option<u64>; RANGES]) -> String {
    serde_json::to_string(&counts).expect("numbers and null are always JSON")
}

/// Writes CSV (RFC 4180) with one record per person. `columns` are the joined columns of the directory, if there is
/// one: the e-mail address then comes first, and the other columns follow the object id.
pub(super) fn write_csv(out: &mut impl Write, subject: &Subject<'_>, columns: Option<&[String]>) -> io::Result<()> {
    let columns: Option<Vec<&str>> = columns.map(|columns| columns.iter().map(|name| name.trim()).collect());
    let attributes: Vec<&Attribute> = subject.report.counts().map(|(attribute, _)| attribute).collect();
    let mut head: Vec<&str> = Vec::new();
    head.extend(columns.as_ref().map(|_| "Email"));
    head.push("Object ID");
    head.extend(columns.iter().flatten().filter(|&&name| name != "mail"));
    head.extend(attributes.iter().map(|attribute| attribute.name.as_str()));
    write_record(out, head.into_iter().map(Cow::Borrowed))?;
    for person in subject.report.people() {
        let mut cells: Vec<Cow<'_, str>> = Vec::new();
        let id = person.id.to_string();
        let known: Option<Vec<&[u8]>> =
            subject.directory.and_then(|directory| directory.values(person.id)).map(Iterator::collect);
        let value =
            |at: Option<usize>| at.and_then(|at| known.as_ref().map(|known| cell_of(known[at]))).unwrap_or_default();
        if let Some(columns) = &columns {
            cells.push(value(columns.iter().position(|&name| name == "mail")));
        }
        cells.push(Cow::Owned(id));
        for (at, _) in columns.iter().flatten().enumerate().filter(|(_, name)| **name != "mail") {
            cells.push(value(Some(at)));
        }
        cells.extend(person.attributes.iter().map(|value| match value {
            Some(Value::Range { label, .. }) => Cow::Borrowed(*label),
            Some(Value::Withheld) | None => Cow::Borrowed(""),
        }));
        write_record(out, cells.into_iter())?;
    }
    Ok(())
}

/// The text of a JSON value in a cell: empty for null, the content of a string, otherwise the JSON without spaces.
fn cell_of(json: &[u8]) -> Cow<'_, str> {
    if json == b"null" {
        return Cow::Borrowed("");
    }
    if json.starts_with(b"\"") {
        let text = string_value(json).unwrap_or_default();
        return Cow::Owned(String::from_utf8_lossy(&text).into_owned());
    }
    Cow::Owned(compact(&String::from_utf8_lossy(json)))
}

/// JSON without the whitespace between its tokens.
fn compact(json: &str) -> String {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let mut keep = |c: char| {
        let was_in_string = is_in_string;
        if c == '"' && !is_escaped {
            is_in_string = !is_in_string;
        }
        is_escaped = was_in_string && c == '\\' && !is_escaped;
        was_in_string || !c.is_ascii_whitespace()
    };
    json.chars().filter(|&c| keep(c)).collect()
}

fn write_record<'a>(out: &mut impl Write, cells: impl Iterator<Item = Cow<'a, str>>) -> io::Result<()> {
    for (number, cell) in cells.enumerate() {
        let comma = if number > 0 { "," } else { "" };
        // A spreadsheet would take such a cell for a formula.
        let guard = if cell.starts_with(['=', '+', '-', '@', '\t']) { "'" } else { "" };
        if cell.contains([',', '"', '\r', '\n']) {
            write!(out, "{comma}\"{guard}{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{comma}{guard}{cell}")?;
        }
    }
    write!(out, "\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cells: &[&str]) -> String {
        let mut out = Vec::new();
        write_record(&mut out, cells.iter().map(|&cell| Cow::Borrowed(cell))).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_cell_has_quotes_only_where_they_are_needed() {
        assert_eq!(record(&["a", "b c", "", "ä"]), "a,b c,,ä\r\n");
        assert_eq!(record(&["a,b", "say \"no\"", "two\nlines"]), "\"a,b\",\"say \"\"no\"\"\",\"two\nlines\"\r\n");
    }

    #[test]
    fn a_cell_that_looks_like_a_formula_is_guarded() {
        assert_eq!(record(&["=1+1", "+49", "-", "@x", "\tx", "1=1"]), "'=1+1,'+49,'-,'@x,'\tx,1=1\r\n");
        assert_eq!(record(&["=A1,B1"]), "\"'=A1,B1\"\r\n");
    }

    #[test]
    fn a_json_value_becomes_the_text_of_a_cell() {
        assert_eq!(cell_of(b"null"), "");
        assert_eq!(cell_of(br#""a\"b\u00e4""#), "a\"bä");
        assert_eq!(cell_of(br#"[ 1, {"a b": "c \" d"} ]"#), r#"[1,{"a b":"c \" d"}]"#);
        assert_eq!(cell_of(b"1.50"), "1.50");
    }
}
