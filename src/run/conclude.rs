//! How a drop ends: what is announced of it, and recorded.
//!
//! An ending is recorded once the receiver has taken it, and over what was known before the look that led to it. A crash
//! between the two, or another run that comes to the same end, announces it again, by the same id.

use std::collections::BTreeMap;

use tracing::{error, info, warn};

use super::{Look, Outcome, RunError, Runner};
use crate::{
    drop::FileVersion,
    error_chain::error_chain,
    ledger::{Ending, FileRecord, Scope, Status},
    message::{DropFacts, Failure, Message, MessageId},
    sink::{Sink, SinkError},
    verdict::Reason,
};

impl Look {
    /// How the drop ended in an earlier run, if what that ending was about has not changed.
    pub(super) fn ended_before(&self) -> Option<Outcome> {
        let ending = self.known.ending.as_ref()?;
        let is_current = match &ending.scope {
            Scope::Metadata(version) => *version == self.admitted.metadata_version,
            Scope::Files(version, files) => *version == self.admitted.metadata_version && *files == self.versions,
        };
        is_current.then_some(match ending.reason {
            None => Outcome::Completed { rows: ending.rows, bad_rows: ending.bad_rows },
            Some(reason) => Outcome::SetAside { reason, message: ending.message.clone(), is_over: true },
        })
    }

    /// The job metadata and all files as they are now.
    fn scope(&self) -> Scope {
        Scope::Files(self.admitted.metadata_version.clone(), self.versions.clone())
    }
}

/// What the records of a drop's files add up to.
struct Sum {
    /// Rows that are in, bad ones counted.
    rows: u64,
    bad_rows: u64,
}

impl Sum {
    fn of(records: &BTreeMap<String, FileRecord>) -> Self {
        Self {
            rows: records.values().map(|record| record.next_row).sum(),
            bad_rows: records.values().map(|record| record.bad_rows).sum(),
        }
    }
}

impl Runner {
    /// Ends the drop if nothing is missing any more.
    pub(super) async fn conclude(
        &self,
        look: &Look,
        records: &BTreeMap<String, FileRecord>,
        expected: Option<u64>,
    ) -> Result<Outcome, RunError> {
        let sum = Sum::of(records);
        let has_ended = |record: &FileRecord| record.status != Status::Running;
        let is_over = records.len() == look.versions.len() && records.values().all(has_ended);
        let set_aside = records.values().find_map(|record| match record.status {
            Status::SetAside(reason) => Some((reason, record)),
            Status::Running | Status::Done => None,
        });
        if let Some((reason, record)) = set_aside {
            if is_over {
                // The file had an announcement of its own.
                self.record(look, look.scope(), Some((reason, record.message.as_deref())), &sum, None).await?;
            }
            return Ok(Outcome::SetAside { reason, message: record.message.clone(), is_over });
        }
        if let Some(expected) = expected.filter(|&expected| sum.rows > expected) {
            let rows = sum.rows;
            let message = format!("the files hold at least {rows} rows, and `NumberOfRowsExtracted` is {expected}");
            return self.fail_drop(look, look.scope(), Reason::RowCount, &message).await;
        }
        // Where nothing says how many rows there will be, no files yet are not all files.
        let is_whole = expected.map_or(!look.versions.is_empty(), |expected| sum.rows == expected);
        if is_over && is_whole {
            self.complete(look, &sum).await
        } else {
            Ok(Outcome::Open { rows: sum.rows, of: expected })
        }
    }

    async fn complete(&self, look: &Look, sum: &Sum) -> Result<Outcome, RunError> {
        let (path, rows, bad_rows) = (&look.admitted.path, sum.rows - sum.bad_rows, sum.bad_rows);
        let message = Message::completed(&look.admitted.facts, &look.versions, rows, bad_rows);
        match self.tenant_configs.of(look.admitted.tenant).sink.deliver(&message).await {
            Ok(()) => {}
            Err(error @ SinkError::Rejected { .. }) => {
                return self.fail_drop(look, look.scope(), Reason::Refused, &error_chain(&error)).await;
            }
            Err(source @ SinkError::Unavailable { .. }) => {
                return Err(RunError::Announce { ending: "every row was taken".into(), source });
            }
        }
        self.record(look, look.scope(), None, sum, Some(message.id)).await?;
        info!(drop.path = %path, rows, bad_rows, "completed `{path}`: {rows} rows");
        Ok(Outcome::Completed { rows, bad_rows })
    }

    /// Sets the whole drop aside.
    pub(super) async fn fail_drop(
        &self,
        look: &Look,
        scope: Scope,
        reason: Reason,
        message: &str,
    ) -> Result<Outcome, RunError> {
        let path = &look.admitted.path;
        let records = self.ledger.files(path, &look.versions).await?;
        let sum = Sum::of(&records);
        let rows_delivered = sum.rows - sum.bad_rows;
        let failure = Failure { file: None, reason, message, rows_delivered };
        let sink = &self.tenant_configs.of(look.admitted.tenant).sink;
        let announced = announce(&**sink, &look.admitted.facts, &scope.versions(), &failure).await?;
        self.record(look, scope, Some((reason, Some(message))), &sum, Some(announced)).await?;
        error!(drop.path = %path, %reason, rows_delivered,
            "set aside `{path}`: {message}; `vivadrop replay {path}` starts it afresh");
        Ok(Outcome::SetAside { reason, message: Some(message.to_owned()), is_over: true })
    }

    async fn record(
        &self,
        look: &Look,
        scope: Scope,
        failure: Option<(Reason, Option<&str>)>,
        sum: &Sum,
        announced: Option<MessageId>,
    ) -> Result<(), RunError> {
        let ending = Ending {
            scope,
            reason: failure.map(|(reason, _)| reason),
            message: failure.and_then(|(_, message)| message).map(str::to_owned),
            rows: sum.rows - sum.bad_rows,
            bad_rows: sum.bad_rows,
            announced,
        };
        Ok(self.ledger.end(&look.admitted.path, &ending, &look.known).await?)
    }
}

/// Tells the receiver that something was set aside, and returns the message's id. One that refuses to hear it changes
/// nothing.
pub(super) async fn announce(
    sink: &dyn Sink,
    drop: &DropFacts,
    versions: &[FileVersion],
    failure: &Failure<'_>,
) -> Result<MessageId, RunError> {
    let failed = Message::failed(drop, versions, failure, sink.largest_message());
    match sink.deliver(&failed).await {
        Ok(()) => {}
        Err(error @ SinkError::Rejected { .. }) => {
            warn!(drop.path = %drop.path, "`drop.failed` of `{}` was not taken: {}", drop.path, error_chain(&error));
        }
        Err(source @ SinkError::Unavailable { .. }) => {
            let ending = format!("to be set aside ({}: {})", failure.reason, failure.message);
            return Err(RunError::Announce { ending, source });
        }
    }
    Ok(failed.id)
}
