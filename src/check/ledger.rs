//! Tests whether the ledger can be read, and counts outcomes.

use std::sync::Arc;

use super::{Finding, Severity};
use crate::{
    ledger::{Ledger, Survey},
    store::Store,
};

/// Number of unreadable records that get a finding of their own.
const LISTED_RECORDS: usize = 5;

/// Reads the ledger; returns a finding with the numbers of drops and files by outcome, and one for each unreadable
/// record.
pub(super) async fn is_readable(store: &Arc<dyn Store>, container: &str) -> Vec<Finding> {
    let test = format!("read the ledger in `{container}`");
    let survey = match Ledger::new(Arc::clone(store), container).survey().await {
        Ok(survey) => survey,
        Err(error) => return vec![Finding::of_store_error("ledger", &test, &error)],
    };
    let mut findings = vec![outcomes(&test, &survey)];
    for why in survey.unreadable.iter().take(LISTED_RECORDS) {
        findings.push(Finding::fix("ledger", format!("{test}: {why}")));
    }
    let more = survey.unreadable.len().saturating_sub(LISTED_RECORDS);
    if more > 0 {
        findings.push(Finding::fix("ledger", format!("{test}: {more} more records cannot be read")));
    }
    findings
}

fn outcomes(test: &str, survey: &Survey) -> Finding {
    let Survey { completed, set_aside, open, files_set_aside, unread, .. } = survey;
    let mut text = format!(
        "{test}: completed drops: {completed}, set-aside drops: {set_aside}, set-aside files: {files_set_aside}"
    );
    if *open > 0 {
        text += &format!(", open drops: {open}");
    }
    if *unread > 0 {
        text += &format!("; {unread} older records were not read");
    }
    if set_aside + files_set_aside > 0 {
        return Finding::new(Severity::Note, "ledger", text)
            .todo("their records state the reason; fix it, then run `vivadrop replay DROP_PATH`");
    }
    Finding::ok("ledger", text)
}
