//! The remedies: one sentence for each state and reason of a drop. `docs/partner.md` explains them.

use time::OffsetDateTime;

use super::State;
use crate::verdict::Reason;

/// The remedy for an unfinished drop whose tenant is not in `TENANTS`.
pub(super) const OF_UNKNOWN_TENANT: &str =
    "Add the drop's tenant to TENANTS again: as long as TENANTS does not have it, sweeps skip the drop.";

/// The remedy for an unfinished drop whose tenant is paused in `TENANTS`.
pub(super) const OF_PAUSED_TENANT: &str =
    "Nothing: the drop waits for the end of its tenant's pause in TENANTS; a sweep then delivers it.";

/// The remedy for a drop in this state, which is run again at `next_try`; `None` if there is nothing to do.
pub(super) fn remedy(state: State, reason: Option<Reason>, next_try: Option<OffsetDateTime>) -> Option<&'static str> {
    match state {
        State::Completed => None,
        // Only the wait for a directory has a known end.
        State::Waiting if next_try.is_some() => {
            Some("Nothing: the drop waits for the directory of its run, until DIRECTORY_WAIT is over.")
        }
        State::Waiting => Some(OF_PAUSED_TENANT),
        State::Open => Some(
            "Wait for the missing files: their events continue the drop, and after 30 days it is set aside as `row-count`.",
        ),
        State::Retrying => Some(
            "Fix the cause that the message names; sweeps then continue the drop, and `vivadrop deliver DROP_PATH` runs it at once.",
        ),
        State::Overdue => Some("Ask the customer whether their pipeline still runs, and run `vivadrop check`."),
        State::SetAside => Some(reason.map_or("Run `vivadrop replay DROP_PATH`.", remedy_of_reason)),
    }
}

/// The remedy for a survey cycle that cannot be imported, by the `reason` of `attributes.failed`.
pub(crate) fn remedy_of_failed_import(reason: &str) -> &'static str {
    match reason {
        "not-weekly" => "Ask the customer to export weeks or months, and import the new drop with `vivadrop import`.",
        "not-identified" => "Ask the customer to consent to identified rows.",
        "too-few-people" => "Nothing: the group is smaller than `minGroupSize`.",
        "too-many-people" => "Raise ATTRIBUTES_MEMORY, and import the drop again.",
        "would-identify" => "Choose other bounds.",
        "refused" => "Correct the receiver, whose log has the message id, and import the drop again.",
        "unavailable" | "drop-gone" => "Import another drop with `vivadrop import`.",
        _ => "Correct what the message names, and import the drop again.",
    }
}

/// The remedy for a drop that was set aside.
fn remedy_of_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Errors => {
            "Follow Microsoft's message, or ask Microsoft support; the next run of the customer's pipeline is a new drop."
        }
        Reason::Metadata => "Ask the customer to run the pipeline again.",
        Reason::NoKey => {
            "Check that the customer's key exists and is registered (`vivadrop check`), then run `vivadrop replay DROP_PATH`."
        }
        Reason::WrongKey => {
            "Compare the registered public key with the private key (`vivadrop check`), then run `vivadrop replay DROP_PATH`."
        }
        Reason::Plaintext => {
            "Ask the customer what was uploaded, because real exports are encrypted; `ALLOW_PLAINTEXT=true` is for sample data."
        }
        Reason::Damaged => "Ask the customer for the drop again, and find out who else writes to the container.",
        Reason::BadRow => {
            "Raise BAD_ROWS_ALLOWED and run `vivadrop replay DROP_PATH`, or report the row that the message names to Microsoft."
        }
        Reason::RowTooLong => "If such rows are valid, raise MAX_ROW_BYTES and run `vivadrop replay DROP_PATH`.",
        Reason::RowCount => {
            "Ask the customer for missing files, or delete files of another run and then run `vivadrop replay DROP_PATH`."
        }
        Reason::Refused => {
            "Fix the receiver, whose log has the message id (after HTTP 413, lower BATCH_BYTES), then run `vivadrop replay DROP_PATH`."
        }
        Reason::TooManyFiles => {
            "Ask the customer who else writes to the folder; if the files are right, raise MAX_FILES and run `vivadrop replay DROP_PATH`."
        }
        Reason::DirectoryTooLarge => {
            "Raise DIRECTORY_MEMORY or join fewer DIRECTORY_COLUMNS, then run `vivadrop replay DROP_PATH`."
        }
        Reason::Unavailable => "Fix the cause that the message names, then run `vivadrop replay DROP_PATH`.",
        Reason::Internal => "Report the defect; after an upgrade, run `vivadrop replay DROP_PATH`.",
    }
}
