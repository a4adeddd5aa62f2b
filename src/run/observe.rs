//! Reports a run to telemetry: its spans, and how it ended.

use super::{Outcome, Run, RunError, Trigger};
use crate::{
    clock,
    drop::DropPath,
    error_chain::error_chain,
    keys::{KeyError, Keys},
    ledger::{ClaimedFile, FileRecord, Status},
    telemetry::{Span, metrics},
    verdict::{Reason, Verdict},
};

/// The outcome of a run that failed: another run will retry the drop.
const RETRYING: &str = "retrying";

impl Trigger {
    fn name(&self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Command => "command",
            Self::Sweep(_) => "sweep",
        }
    }
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Completed { .. } => "completed",
            Self::Open { .. } => "open",
            Self::SetAside { .. } => "set-aside",
            Self::Postponed(_) => "postponed",
            Self::Waiting(_) => "waiting",
            Self::Paused => "paused",
            Self::NoDrop => "no-drop",
            Self::Refused(_) => "not-admitted",
        }
    }

    fn reason(&self) -> Option<Reason> {
        match self {
            Self::SetAside { reason, .. } => Some(*reason),
            _ => None,
        }
    }
}

impl RunError {
    /// The `error.type` of a failed run.
    fn kind(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Keys(_) => "keys",
            Self::Directory { .. } => "directory",
            Self::File { .. } => "file",
            Self::Notification { .. } => "notification",
            Self::NoMetadata => "no-metadata",
            Self::TimeLimit(_) => "time-limit",
            Self::Ledger(_) => "ledger",
        }
    }
}

/// Starts the span of a run.
pub(super) fn start_span(path: &DropPath, trigger: &Trigger) -> Span {
    let span = Span::start_run();
    span.set_text("vivadrop.drop.path", path);
    span.set("vivadrop.trigger", trigger.name());
    span
}

impl Run<'_> {
    /// Starts the span of the delivery of a claimed file. If the previous run of the file was killed, the spans of this
    /// run and of the file record it, because the span of the killed run was never exported.
    pub(super) fn start_file_span(&self, claimed: &ClaimedFile) -> Span {
        let record = claimed.record();
        let span = Span::start("file");
        span.set_text("vivadrop.file.name", &record.file.name);
        span.set("vivadrop.file.attempts", i64::from(record.attempts));
        span.set("vivadrop.file.first_row", record.next_row.cast_signed());
        if let Some(killed_run) = claimed.killed_run() {
            self.span.event("the previous run was killed");
            span.set("vivadrop.previous_run.killed", true);
            span.link(killed_run, "killed-run");
        }
        span
    }

    /// Reports how the run ended. Links it to the first run of the drop.
    pub(super) fn report(&self, result: &Result<Outcome, RunError>) {
        if let Some(first_run) = &self.record.first_run
            && self.span.traceparent().is_some_and(|own| own != *first_run)
        {
            self.span.link(first_run, "first-run");
        }
        if let Some(snapshot) = &self.snapshot {
            let admitted = &snapshot.admitted;
            self.span.set_text("vivadrop.tenant.id", &admitted.tenant);
            if let Some(id) = &admitted.facts.id {
                self.span.set_text("vivadrop.drop.id", id);
            }
        }
        self.count(result);
        match result {
            Ok(outcome) => {
                self.span.set("vivadrop.outcome", outcome.name());
                if let Some(reason) = outcome.reason() {
                    self.span.set("vivadrop.reason", reason.as_str());
                    self.span.fail(reason.as_str(), &"set aside");
                }
            }
            Err(error) => {
                self.span.set("vivadrop.outcome", RETRYING);
                self.span.fail(error.kind(), &error_chain(error));
            }
        }
    }

    /// Counts the run, unless it had nothing to do because an earlier run has ended the drop.
    fn count(&self, result: &Result<Outcome, RunError>) {
        let outcome = match result {
            Ok(Outcome::NoDrop | Outcome::Completed { earlier: Some(_), .. }) => return,
            Ok(outcome) => outcome.name(),
            Err(_) => RETRYING,
        };
        let reason = result.as_ref().ok().and_then(Outcome::reason);
        let Some(snapshot) = &self.snapshot else {
            if matches!(result, Ok(Outcome::Refused(_))) {
                metrics::count_run(None, outcome, reason);
            }
            return;
        };
        let tenant = snapshot.admitted.tenant;
        metrics::count_run(Some(tenant), outcome, reason);
        if let Ok(Outcome::Completed { .. } | Outcome::SetAside { is_over: true, .. }) = result {
            // A replay begins long after the metadata has arrived.
            let arrived = Some(snapshot.contents.metadata.modified).filter(|_| self.record.replays == 0);
            let since = arrived.or(self.record.first_seen).unwrap_or_else(clock::now);
            metrics::record_drop_age(tenant, outcome, clock::now() - since);
        }
    }
}

/// Reports on the span `keys` whether there are keys.
pub(super) fn report_keys(span: &Span, keys: &Result<Keys, KeyError>) {
    match keys {
        Ok(keys) => span.set("vivadrop.identified", keys.column.is_some()),
        Err(error) => {
            let kind = match error.verdict() {
                Verdict::Retry => "unavailable",
                Verdict::SetAside(reason) => reason.as_str(),
            };
            span.fail(kind, &error_chain(error));
        }
    }
}

/// Reports on the span `file` how far the file is, and why it is not done.
pub(super) fn report_file(span: &Span, record: &FileRecord, error: Option<&RunError>) {
    span.set("vivadrop.file.next_row", record.next_row.cast_signed());
    match (record.status, error) {
        (_, Some(error)) => span.fail(error.kind(), &error_chain(error)),
        (Status::SetAside(reason), None) => span.fail(reason.as_str(), &"set aside"),
        (Status::Running | Status::Done, None) => {}
    }
}
