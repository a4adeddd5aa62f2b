//! The bad rows of a block.

use crate::json::scanner::MAX_NUMBER_CHARS;

/// Why a row could not be decoded. Never contains anything of the row's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRowReason {
    /// The line is not a JSON object.
    #[error("is not a JSON object")]
    NotAnObject,
    /// The line has more than this number of levels of objects and arrays: parsers of receivers would reject the whole
    /// message.
    #[error("is nested deeper than {0} levels (`MAX_ROW_DEPTH`)")]
    TooDeep(usize),
    /// The line has a number that is longer than parsers of receivers accept.
    #[error("has a number of more than {} characters", MAX_NUMBER_CHARS)]
    LongNumber,
    /// The line has columns, and `ROW_COLUMNS` names none of them: the row would be `{}`.
    #[error("has none of the columns in `ROW_COLUMNS`")]
    NoColumns,
    /// A value of an encrypted column is not Base64.
    #[error("has a value of `{0}` (`ENCRYPTED_COLUMNS`) that is not Base64")]
    NotBase64(String),
    /// A value of an encrypted column does not decrypt to text.
    #[error(
        "has a value of `{0}` (`ENCRYPTED_COLUMNS`) that does not decrypt to text: wrong Column key, or a damaged value"
    )]
    Undecipherable(String),
}

/// The bad rows of a block, in order.
///
/// Takes 8 bytes for each, because a block can consist of lines of one character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    /// The number of each bad row within the block, and the index of its reason.
    rows: Vec<(u32, u32)>,
    /// The different reasons: a few for each encrypted column.
    reasons: Vec<BadRowReason>,
}

impl BadRows {
    /// The number of bad rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no bad row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of each bad row within the block, and why it is bad.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &BadRowReason)> {
        (0..).map_while(|index| self.get(index))
    }

    /// The number within the block of the bad row at `index`, and why it is bad.
    pub fn get(&self, index: usize) -> Option<(u64, &BadRowReason)> {
        self.rows.get(index).map(|&(row, reason)| (u64::from(row), &self.reasons[reason as usize]))
    }

    /// Appends the row `row` of the block.
    pub fn push(&mut self, row: u64, reason: BadRowReason) {
        let row = u32::try_from(row).expect("a block has less than 4 Gi rows");
        let known = self.reasons.iter().position(|known| *known == reason);
        let index = known.unwrap_or_else(|| {
            self.reasons.push(reason);
            self.reasons.len() - 1
        });
        self.rows.push((row, index as u32));
    }
}
