//! Tests whether the ledger can be read, and counts outcomes.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use futures::TryStreamExt;

use super::{Finding, Severity};
use crate::{
    date::date_and_time,
    ledger::{DropState, Ledger, ListEntry, Survey},
    store::Store,
};

/// Number of drops with problems that get a finding of their own.
const LISTED_DROPS: usize = 10;

/// Number of unreadable records that get a finding of their own.
const LISTED_RECORDS: usize = 5;

/// Reads the ledger; returns a finding with the numbers of drops and files by outcome, and one for each unreadable
/// record.
pub(super) async fn is_readable(store: &Arc<dyn Store>, container: &str) -> Vec<Finding> {
    let test = format!("read the ledger in `{container}`");
    let ledger = Ledger::new(Arc::clone(store), container);
    let survey = match ledger.survey().await {
        Ok(survey) => survey,
        Err(error) => return vec![Finding::of_store_error("ledger", &test, &error)],
    };
    let mut findings = vec![outcomes(&test, &survey)];
    findings.extend(drops_with_problems(&ledger).await);
    for why in survey.unreadable.iter().take(LISTED_RECORDS) {
        findings.push(Finding::fix("ledger", format!("{test}: {why}")));
    }
    let more = survey.unreadable.len().saturating_sub(LISTED_RECORDS);
    if more > 0 {
        findings.push(Finding::fix("ledger", format!("{test}: {more} more records cannot be read")));
    }
    findings
}

/// Names the newest drops that are set aside, and those that are retried.
async fn drops_with_problems(ledger: &Ledger) -> Vec<Finding> {
    let mut entries = ledger.list_entries();
    let mut problems = BinaryHeap::new();
    // If the store fails, the survey has already reported this.
    while let Ok(Some(entry)) = entries.try_next().await {
        if let DropState::SetAside | DropState::Retrying = entry.state {
            problems.push(Reverse((entry.since, problem_of(&entry))));
            if problems.len() > LISTED_DROPS {
                problems.pop();
            }
        }
    }
    let newest_first = problems.into_sorted_vec();
    newest_first.into_iter().map(|Reverse((_, text))| Finding::new(Severity::Note, "ledger", text)).collect()
}

/// The state, time and cause of a drop with a problem, in one line.
fn problem_of(entry: &ListEntry) -> String {
    let ListEntry { path, tenant, reason, since, next_try, .. } = entry;
    let message = entry.message.as_deref().unwrap_or_default();
    match (entry.state, reason, next_try) {
        (DropState::SetAside, Some(reason), _) => {
            format!("`{path}` of {tenant} has been set aside since {}: {reason}: {message}", date_and_time(*since))
        }
        (_, _, Some(next_try)) => {
            let (since, next_try) = (date_and_time(*since), date_and_time(*next_try));
            format!("`{path}` of {tenant} has failed since {since}, and is retried at {next_try}: {message}")
        }
        _ => format!("`{path}` of {tenant} has had a problem since {}: {message}", date_and_time(*since)),
    }
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
