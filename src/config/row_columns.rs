//! `COLUMNS`, the former name of `ROW_COLUMNS`.
//!
//! Shells export the width of the terminal as `COLUMNS`, so a number there is ignored: it must not act as a list of
//! columns. Any other value is read for one more version, with a warning.

use super::Settings;

/// The name of the setting.
pub(super) const ROW_COLUMNS: &str = "ROW_COLUMNS";

/// The former name.
pub(super) const COLUMNS: &str = "COLUMNS";

/// Whether a value of `COLUMNS` is the width of a terminal.
pub(super) fn is_terminal_width(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The warning about a value of `COLUMNS` that is read.
pub(super) fn renamed() -> String {
    format!(
        "{COLUMNS} was renamed to {ROW_COLUMNS}: rename the setting, because the next version does not read {COLUMNS}"
    )
}

/// The settings with `ROW_COLUMNS` in place of `COLUMNS`, and a warning if `COLUMNS` is a list of columns.
pub(super) fn rename(settings: &Settings) -> (Settings, Option<String>) {
    let mut renamed_settings = settings.clone();
    renamed_settings.0.remove(COLUMNS);
    let Some(columns) = settings.get(COLUMNS).filter(|text| !is_terminal_width(text)) else {
        return (renamed_settings, None);
    };
    if settings.get(ROW_COLUMNS).is_some() {
        return (
            renamed_settings,
            Some(format!("{COLUMNS} is ignored, because {ROW_COLUMNS} is set: remove {COLUMNS}")),
        );
    }
    renamed_settings.set(ROW_COLUMNS, columns);
    (renamed_settings, Some(renamed()))
}
