//! Imports a cycle from a drop.

use std::{collections::BTreeSet, sync::Arc};

use tracing::warn;

use super::{
    ImportError, MAX_ERROR, Pass, Stop,
    compute::{NotImportable, OpenedDrop},
};
use crate::{
    attributes::{Attribute, CycleReport, Definitions, DropDates, DueCycle, RANGES},
    directory::{Directory, DirectorySnapshot},
    drop::DropPath,
    error_chain::error_chain,
    ledger::{CycleImport, ExaminedDrop, ImportState, ImportedAttribute, KnownRanges, LedgerError, ListingFacts},
    message::{DropFacts, ImportVersion, WindowFacts},
    one_line::one_line,
    verdict::{Reason, Verdict},
};

/// How many attributes without numbers a warning names.
const MAX_MISSING: usize = 5;

/// With how many bounds an attribute can be imported for the people of a window. Bounds are never forgotten, because
/// receivers may have kept any of them: further ones are refused, which bounds the records and the time of the
/// comparison.
const MAX_KNOWN_BOUNDS: usize = 100;

/// Dates that are longer ago than this are not recorded: no cycle that is due needs them.
const OLDEST_DATES: time::Duration = time::Duration::days(850);

/// Dates that are further ahead than this are not recorded: a drop has no rows of a week that has yet to come. The days
/// allow for a clock that differs.
const NEWEST_DATES: time::Duration = time::Duration::days(2);

/// Why a drop has no import of a cycle. It cannot help to try again, unless the drop changes.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoImport {
    /// The drop does not reach the cycle's last week.
    #[error("the drop has no rows of the last week of this cycle")]
    NotReached,
    /// Rows of the drop are missing.
    #[error("files of the drop were deleted")]
    Incomplete,
    /// The path has no drop that can be imported.
    #[error(transparent)]
    NotImportable(#[from] NotImportable),
    /// The drop was delivered, but cannot be read any more.
    #[error("{text}")]
    Unreadable {
        /// Why, as a code.
        reason: Reason,
        /// Why, for people.
        text: String,
    },
}

impl NoImport {
    /// The `reason` of a running import that ends because its drop no longer has an import of the cycle.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { reason, .. } => reason.as_str(),
            Self::NotImportable(NotImportable::Metadata(_)) => Reason::Metadata.as_str(),
            Self::NotImportable(NotImportable::TooManyFiles(_)) => Reason::TooManyFiles.as_str(),
            Self::NotReached | Self::Incomplete | Self::NotImportable(_) => "drop-gone",
        }
    }
}

impl Pass<'_> {
    /// Imports a cycle from a drop. If the drop has an import of the cycle, that has ended, as completed or failed.
    pub(super) async fn import(
        &mut self,
        definitions: &Arc<Definitions>,
        due: &DueCycle<'_>,
        drop: &OpenedDrop,
        run: u32,
        earlier: Option<&CycleImport>,
    ) -> Result<Result<(), NoImport>, Stop> {
        let path: DropPath = drop.facts.path.parse().expect("the path of a drop that was opened");
        let (computed, mut reserved) = self.compute_within_memory(drop, definitions, due.window).await?;
        let report = match computed {
            Ok(Some(report)) => report,
            Ok(None) => return Ok(Err(NoImport::Incomplete)),
            Err(error) => match error.verdict() {
                Verdict::Retry => return Err(Stop::cannot_read(&path, error)),
                Verdict::SetAside(reason) => {
                    let text = error_chain(&error);
                    warn!(drop.path = %path, "no attributes are imported from `{path}`: {text}");
                    self.remember(&path, drop.listing, DropDates::default()).await?;
                    return Ok(Err(NoImport::Unreadable { reason, text }));
                }
            },
        };
        reserved.shrink_to(report.bytes());
        let days = self.today - OLDEST_DATES..=self.today + NEWEST_DATES;
        self.remember(&path, drop.listing, report.dates().within(days)).await?;
        if !report.reaches(due.window) {
            return Ok(Err(NoImport::NotReached));
        }
        let directory = match report.failure {
            None => self.directory_of(&path).await,
            Some(_) => Ok(None),
        };
        self.permit.restart();
        let directory = match directory {
            Ok(directory) => directory,
            Err(error) => match error.verdict() {
                Verdict::Retry => return Err(Stop::cannot_read(&path, error)),
                Verdict::SetAside(reason) => {
                    let mut import = self.begin(definitions, due, drop, run, None, earlier);
                    self.fail(&mut import, reason.as_str(), error_chain(&error)).await?;
                    return Ok(Ok(()));
                }
            },
        };
        // Before people are sent: a receiver that does not answer ends the pass at its time limit.
        self.note_read(&path).await?;
        let snapshot = directory.as_ref().map(|directory| &directory.snapshot);
        let mut import = self.begin(definitions, due, drop, run, snapshot, earlier);
        import.failing_since = None;
        import.window = Some(window_facts(&report));
        import.people = Some(report.people_count() as u64);
        import.message = None;
        match failure_of(&report, &import, &self.known_ranges) {
            Some((reason, message)) => {
                import.people = None;
                self.fail(&mut import, reason, message).await?;
            }
            None => {
                self.send_report(&mut import, &report, directory.as_ref().map(|directory| &directory.people)).await?
            }
        }
        Ok(Ok(()))
    }

    /// Sends the people of a cycle, and the end of its import.
    async fn send_report(
        &mut self,
        import: &mut CycleImport,
        report: &CycleReport<'_>,
        directory: Option<&Directory>,
    ) -> Result<(), Stop> {
        import.attributes = report
            .counts()
            .map(|(attribute, counts)| ImportedAttribute {
                name: attribute.name.clone(),
                columns: attribute.columns().map(str::to_owned).collect(),
                bounds: attribute.bounds,
                labels: attribute.labels(),
                counts,
            })
            .collect();
        let missing = report.missing_numbers().take(MAX_MISSING).collect::<Vec<_>>().join("; ");
        if !missing.is_empty() {
            let CycleImport { program, cycle, drop: DropFacts { path, .. }, .. } = &*import;
            warn!(drop.path = %path, "the import of `{program}` `{cycle}` from `{path}` has attributes without numbers: {missing}");
            import.message = Some(one_line(&missing, MAX_ERROR));
        }
        import.add_known_ranges();
        self.runner.ledger.write_cycle_import(self.tenant, import).await?;
        let facts = import.facts(self.tenant).expect("the window is known");
        match self.send_people(import, &facts, report, directory).await {
            Ok(()) => {
                import.state = ImportState::Completed;
                self.end(import).await
            }
            Err(Stop::Failed(ImportError::Sink(error))) if error.is_rejection() => {
                self.fail(import, "refused", error_chain(&error)).await
            }
            Err(stop) => Err(stop),
        }
    }

    /// The record of the import of a cycle from a drop: that of the `earlier` import, if it is the same import and has
    /// not ended.
    pub(super) fn begin(
        &self,
        definitions: &Definitions,
        due: &DueCycle<'_>,
        drop: &OpenedDrop,
        run: u32,
        directory: Option<&DirectorySnapshot>,
        earlier: Option<&CycleImport>,
    ) -> CycleImport {
        let version = ImportVersion {
            tenant: self.tenant,
            program: &due.program.name,
            cycle: &due.cycle.name,
            revision: self.record.revision,
            run,
            drop: &drop.facts.path,
            files: &drop.files,
            directory,
        };
        let id = version.id();
        match earlier.filter(|earlier| earlier.import_id == id) {
            Some(earlier) if earlier.state == ImportState::Running => earlier.clone(),
            _ => CycleImport::begin(
                (&due.program.name, &due.cycle.name),
                (drop.facts.clone(), drop.files.clone(), drop.listing),
                (self.record.revision, definitions.rules_of(due.cycle), run, id),
                earlier,
            ),
        }
    }

    /// Records which dates a drop has.
    async fn remember(&mut self, path: &DropPath, listing: ListingFacts, dates: DropDates) -> Result<(), LedgerError> {
        let examined = ExaminedDrop { path: path.clone(), listing, dates };
        if self.record.examined.contains(&examined) {
            return Ok(());
        }
        self.update_record(|record| record.remember(examined.clone())).await
    }
}

/// Why the cycle must not be imported: the reason and its explanation; `None` if it may be imported. `known_ranges` are
/// those from imports of all cycles.
fn failure_of(
    report: &CycleReport<'_>,
    import: &CycleImport,
    known_ranges: &[KnownRanges],
) -> Option<(&'static str, String)> {
    if let Some(failure) = &report.failure {
        return Some((failure.reason(), failure.to_string()));
    }
    // Other cycles with the same window have the same people. Ranges of an unknown window may be of this one.
    let end = import.window.as_ref().map(|window| &window.end);
    let is_of_window = |known: &&KnownRanges| known.window_end.is_none() || known.window_end.as_ref() == end;
    let known = |columns: &[&str]| -> BTreeSet<[u64; RANGES - 1]> {
        let all = import.known_ranges.iter().chain(known_ranges.iter().filter(is_of_window));
        all.filter(|known| known.have_any_of(columns)).map(|known| known.bounds).collect()
    };
    if let Some(attribute) = report.identifying_change(|columns| known(columns).into_iter().collect()) {
        let name = &attribute.name;
        let message = format!(
            "the new ranges of `{name}` would move a group smaller than `minGroupSize` from one range of an earlier \
             import to another: choose other bounds"
        );
        return Some(("would-identify", message));
    }
    let has_too_many = |attribute: &&Attribute| {
        let known = known(&attribute.columns().collect::<Vec<_>>());
        known.len() >= MAX_KNOWN_BOUNDS && !known.contains(&attribute.bounds)
    };
    let attribute = report.attributes().find(has_too_many)?;
    let name = &attribute.name;
    let message = format!(
        "`{name}` has been imported with {MAX_KNOWN_BOUNDS} other bounds, and new ones are not compared with more: \
         choose bounds of an earlier import"
    );
    Some(("would-identify", message))
}

fn window_facts(report: &CycleReport<'_>) -> WindowFacts {
    WindowFacts {
        start: report.window.start.to_string(),
        end: report.window.end.to_string(),
        weeks: report.weeks as u64,
        period: report.period.name().to_owned(),
    }
}
