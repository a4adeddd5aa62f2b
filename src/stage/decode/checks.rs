//! Detects column names in settings that no row of a file has: most are typing errors.
//!
//! Names are recorded where [`Names`](super::names::Names) parses a name that it did not predict, which is once per
//! block for each name, so the check costs nothing per row.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde::de::IgnoredAny;

use crate::{
    json::scanner as json,
    similar::{letters_of, most_similar},
    stage::{
        columns::METRICS,
        lines::{Block, is_blank},
    },
};

/// The number of rows at the start of a file whose names are compared with those of the settings.
const SAMPLE_ROWS: usize = 16;

/// The maximum length of each of these rows in bytes, which bounds the memory for their names. If one is longer, names
/// are checked at the end of the file only.
const MAX_SAMPLE_ROW_BYTES: usize = 64 << 10;

/// The maximum number of names of a file that are kept to suggest one of them, and their maximum length in bytes.
const MAX_SUGGESTIONS: usize = 512;
const MAX_SUGGESTION_BYTES: usize = 100;

/// Which columns a file must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnChecks {
    /// The columns of which each must be in at least one row of a file that has rows, unless it is optional. No row may
    /// have one of them in another spelling instead.
    pub expected: Vec<ExpectedColumn>,
    /// Whether a row that has columns, but none of [`RowRules::columns`](super::RowRules::columns), is a bad row.
    pub rejects_empty_rows: bool,
}

/// A column that a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedColumn {
    /// The setting.
    pub setting: &'static str,
    /// The exact name of the column.
    pub name: String,
    /// Whether a file may lack the column.
    pub is_optional: bool,
}

impl ExpectedColumn {
    /// The column `name`, which `setting` names.
    pub fn new(setting: &'static str, name: &str) -> Self {
        Self { setting, name: name.to_owned(), is_optional: false }
    }

    /// As [`new`](Self::new), for a column that files may lack.
    pub fn optional(setting: &'static str, name: &str) -> Self {
        Self { is_optional: true, ..Self::new(setting, name) }
    }
}

/// No row of a file has a column that a setting names. Each text continues a sentence that begins with
/// ``file `part-0.json.gz` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingColumns(Vec<MissingColumn>);

impl std::error::Error for MissingColumns {}

#[derive(Debug, Clone, PartialEq, Eq)]
struct MissingColumn {
    column: ExpectedColumn,
    /// The most similar name in the file.
    nearest: Option<String>,
}

impl fmt::Display for MissingColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 {
            "lacks a column that a setting names: "
        } else {
            "lacks columns that settings name: "
        })?;
        for (index, MissingColumn { column: ExpectedColumn { setting, name, .. }, nearest }) in
            self.0.iter().enumerate()
        {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}`{name}` in {setting}")?;
            if let Some(nearest) = nearest {
                write!(f, " (the nearest is `{nearest}`)")?;
            }
        }
        Ok(())
    }
}

/// The check of one file. May be used by several threads at once.
pub(super) struct FileColumns {
    expected: Vec<ExpectedColumn>,
    /// Whether a row has the column, by name.
    seen: HashMap<Box<str>, AtomicBool>,
    /// The columns that the file may lack.
    optional: Vec<OptionalColumn>,
    /// The names in the first rows of the file.
    first_names: OnceLock<Vec<String>>,
}

/// A column that a file may lack, but not have in another spelling.
struct OptionalColumn {
    column: ExpectedColumn,
    /// The letters of its name.
    letters: String,
    /// The same letters in a spelling that a row has and its setting does not name.
    respelled: OnceLock<String>,
}

impl FileColumns {
    pub(super) fn new(checks: &ColumnChecks) -> Self {
        let seen = checks.expected.iter().map(|column| (column.name.as_str().into(), AtomicBool::new(false))).collect();
        let optional = checks.expected.iter().filter(|column| column.is_optional).map(|column| OptionalColumn {
            column: column.clone(),
            letters: letters_of(&column.name),
            respelled: OnceLock::new(),
        });
        Self { expected: checks.expected.clone(), seen, optional: optional.collect(), first_names: OnceLock::new() }
    }

    /// Records that a row has the column `name`.
    pub(super) fn see(&self, name: &str) {
        // Threads share the flags, so they are written once.
        if let Some(seen) = self.seen.get(name).filter(|seen| !seen.load(Relaxed)) {
            seen.store(true, Relaxed);
        }
        if !self.optional.is_empty() {
            let letters = letters_of(name);
            let respelled = self.optional.iter().filter(|optional| optional.letters == letters);
            for optional in respelled.filter(|optional| self.is_misspelling(&optional.column, name)) {
                optional.respelled.get_or_init(|| name.to_owned());
            }
        }
    }

    /// Compares the names in the first rows of the file with those in settings. Reports a name in a setting that
    /// differs from a name in the file only in case, spaces or punctuation. Reports all names in `ROW_COLUMNS`, which
    /// are `row_columns`, if the first rows have none of them.
    ///
    /// Other columns may be rare: [`Self::missing`] reports them when all rows are read.
    pub(super) fn check_first(&self, first: &Block, row_columns: Option<&[String]>) -> Result<(), MissingColumns> {
        if self.expected.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = first.lines().filter(|line| !is_blank(line)).take(SAMPLE_ROWS).collect();
        if rows.iter().any(|line| line.len() > MAX_SAMPLE_ROW_BYTES) {
            return Ok(());
        }
        let members = |line| serde_json::from_slice::<HashMap<String, IgnoredAny>>(json::trimmed(line)).ok();
        let names: BTreeSet<String> = rows.into_iter().filter_map(members).flat_map(HashMap::into_keys).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.first_names
            .get_or_init(|| names.iter().filter(|name| is_short(name)).take(MAX_SUGGESTIONS).cloned().collect());
        let has = |name: &String| names.contains(name);
        let kept = row_columns.unwrap_or_default();
        let has_none = !kept.iter().any(has);
        let is_misspelled = |column: &&ExpectedColumn| {
            let is_one_of_none = has_none && !column.is_optional && kept.contains(&column.name);
            !has(&column.name) && (is_one_of_none || self.is_respelled(column, &names))
        };
        self.report(self.expected.iter().filter(is_misspelled))
    }

    /// Reports the columns that no row had, and of the optional ones those that a row had in another spelling. To be
    /// called when all rows are decoded.
    pub(super) fn missing(&self) -> Result<(), MissingColumns> {
        let is_missing = |column: &&ExpectedColumn| {
            !self.seen[&*column.name].load(Relaxed) && (!column.is_optional || self.spelling_of(column).is_some())
        };
        self.report(self.expected.iter().filter(is_missing))
    }

    /// The spelling of an optional column that a row had and its setting does not name.
    fn spelling_of(&self, column: &ExpectedColumn) -> Option<&String> {
        self.optional.iter().find(|optional| optional.column == *column)?.respelled.get()
    }

    /// Whether `names` contain the letters and digits of `column` in another spelling that its setting does not name.
    fn is_respelled(&self, column: &ExpectedColumn, names: &BTreeSet<String>) -> bool {
        let letters = letters_of(&column.name);
        names.iter().any(|other| letters_of(other) == letters && self.is_misspelling(column, other))
    }

    /// Whether `column`, whose letters `name` has in another spelling, was meant to be `name`: unless its setting names
    /// both, or a file may lack it and both are metrics, because Microsoft's two schemas spell some metrics
    /// differently.
    fn is_misspelling(&self, column: &ExpectedColumn, name: &str) -> bool {
        let is_named = self.expected.iter().any(|other| other.setting == column.setting && other.name == name);
        let are_metrics = [&column.name, name].iter().all(|name| METRICS.contains(name));
        !(is_named || column.is_optional && are_metrics)
    }

    fn report<'a>(&self, missing: impl Iterator<Item = &'a ExpectedColumn>) -> Result<(), MissingColumns> {
        let missing: Vec<_> =
            missing.map(|column| MissingColumn { column: column.clone(), nearest: self.nearest(column) }).collect();
        if missing.is_empty() { Ok(()) } else { Err(MissingColumns(missing)) }
    }

    /// The spelling of an optional column that a row had, or else the name in the first rows that is most similar to
    /// that of `column`, if one is similar.
    fn nearest(&self, column: &ExpectedColumn) -> Option<String> {
        if let Some(spelling) = self.spelling_of(column).filter(|spelling| is_short(spelling)) {
            return Some(spelling.clone());
        }
        most_similar(&column.name, self.first_names.get()?.iter().map(String::as_str)).map(str::to_owned)
    }
}

/// Whether a message may suggest this name of a file.
fn is_short(name: &str) -> bool {
    name.len() <= MAX_SUGGESTION_BYTES && !name.contains(char::is_control)
}
