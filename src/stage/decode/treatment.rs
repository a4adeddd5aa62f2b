//! Decides for each column whether its values are kept, converted or omitted.

use std::collections::HashMap;

use super::{RowRules, checks::FileColumns};
use crate::stage::columns::{IS_ACTIVE, METRICS};

/// The member that the join adds, as the last one of a row. A row's own column of this name is omitted.
const DIRECTORY: &str = "directory";

/// The action for each column.
pub(super) struct Columns {
    named: HashMap<Box<str>, Treatment>,
    /// The action for columns that are not in `named`.
    others: Action,
    /// The columns that the file must have.
    pub(super) checked: FileColumns,
}

/// How the values of a column are processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Treatment {
    pub(super) action: Action,
    pub(super) is_encrypted: bool,
    /// Whether the join looks up the column's value.
    pub(super) is_join_key: bool,
    /// The number of the column in [`RowRules::columns`], if the places of its values are recorded.
    pub(super) recorded: Option<usize>,
}

/// The action for the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    /// Convert strings; keep other values.
    Convert(Conversion),
    /// Omit the value and its name.
    Omit,
}

/// The conversion of the strings of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    Decrypt,
    ToNumber,
    ToBoolean,
}

/// A column of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    /// The name if it is one of [`Columns::named`], otherwise empty.
    pub(super) name: &'a str,
    pub(super) treatment: Treatment,
}

impl Treatment {
    pub(super) fn of(action: Action) -> Self {
        Self {
            action,
            is_encrypted: action == Action::Convert(Conversion::Decrypt),
            is_join_key: false,
            recorded: None,
        }
    }
}

impl Columns {
    pub(super) fn new(rules: &RowRules) -> Self {
        let mut named: HashMap<Box<str>, Action> = HashMap::new();
        if rules.typed {
            named.extend(METRICS.iter().map(|&name| (name.into(), Action::Convert(Conversion::ToNumber))));
            named.insert(IS_ACTIVE.into(), Action::Convert(Conversion::ToBoolean));
        }
        let checked = FileColumns::new(&rules.checks);
        let encrypted = rules.encrypted_columns.iter();
        named.extend(encrypted.map(|name| (name.as_str().into(), Action::Convert(Conversion::Decrypt))));
        let Some(kept) = &rules.columns else {
            let named = named.into_iter().map(|(name, action)| (name, Treatment::of(action))).collect();
            return Self { named, others: Action::Keep, checked };
        };
        let action = |name: &str| named.get(name).copied().unwrap_or(Action::Keep);
        let named = kept.iter().enumerate().map(|(number, name)| {
            let recorded = rules.records_values.then_some(number);
            (name.as_str().into(), Treatment { recorded, ..Treatment::of(action(name)) })
        });
        let named = named.collect();
        Self { named, others: Action::Omit, checked }
    }

    /// Adds what a join needs: its key, which `rules` may hide, and no column with the name of the joined member.
    pub(super) fn join(&mut self, rules: &RowRules, key: &str) {
        let hidden = Treatment {
            is_encrypted: rules.encrypted_columns.iter().any(|name| name == key),
            ..Treatment::of(self.others)
        };
        self.named.entry(key.into()).or_insert(hidden).is_join_key = true;
        let own = self.named.entry(DIRECTORY.into()).or_insert(Treatment::of(Action::Omit));
        own.action = Action::Omit;
    }

    /// Finds a column by its name; `None` is a name that is not text.
    pub(super) fn find(&self, name: Option<&str>) -> Column<'_> {
        match name.and_then(|name| self.named.get_key_value(name)) {
            Some((name, &treatment)) => Column { name, treatment },
            None => Column { name: "", treatment: Treatment::of(self.others) },
        }
    }
}
