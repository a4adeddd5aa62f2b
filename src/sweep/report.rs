//! The result of a sweep.

use std::fmt;

use tracing::error;

use crate::{
    drop::{DropPath, TenantId},
    run::Outcome,
};

/// The result of a sweep.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Drops that were due, or found in a container.
    pub drops: usize,
    /// Drops that are completed.
    pub completed: usize,
    /// Drops with missing rows.
    pub open: usize,
    /// Drops that wait for a directory, for the end of a pause, or because their receiver asked for it.
    pub waiting: usize,
    /// Drops that are set aside, or that have a file that is set aside.
    pub set_aside: usize,
    /// Drops that are not admitted: they do not belong to a tenant that may write there.
    pub refused: usize,
    /// Drops that will be retried, each with its error.
    pub failed: Vec<(DropPath, String)>,
    /// Tenants whose attributes will be imported later, each with the error.
    pub failed_imports: Vec<(TenantId, String)>,
    /// Drops that are left for the next sweep, because the time was used up.
    pub left: usize,
    /// Containers that could not be listed, each with its error.
    pub not_listed: Vec<(String, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drops, completed, open, waiting, set_aside, refused, failed, failed_imports, left, not_listed } =
            self;
        write!(
            f,
            "swept {drops} drops: {completed} completed, {open} open, {set_aside} set aside, {refused} not admitted"
        )?;
        write!(f, ", {} will be retried", failed.len())?;
        if *waiting > 0 {
            write!(f, ", {waiting} waiting")?;
        }
        if *left > 0 {
            write!(f, ", {left} left for the next sweep")?;
        }
        if !failed_imports.is_empty() {
            write!(f, "; the attributes of {} tenants will be imported later", failed_imports.len())?;
        }
        if !not_listed.is_empty() {
            write!(f, "; {} containers could not be listed", not_listed.len())?;
        }
        Ok(())
    }
}

impl Report {
    /// Whether every drop was run, every container listed and every import made without an error.
    pub fn has_no_errors(&self) -> bool {
        self.failed.is_empty() && self.failed_imports.is_empty() && self.not_listed.is_empty()
    }

    /// Counts the outcome of a run.
    pub(super) fn count(&mut self, path: DropPath, outcome: Result<Outcome, String>) {
        match outcome {
            Ok(Outcome::Completed { .. }) => self.completed += 1,
            Ok(Outcome::SetAside { .. }) => self.set_aside += 1,
            Ok(Outcome::Refused(_)) => self.refused += 1,
            Ok(Outcome::Open { .. } | Outcome::NoDrop) => self.open += 1,
            Ok(Outcome::Postponed(_) | Outcome::Waiting(_) | Outcome::Paused) => self.waiting += 1,
            Err(why) => {
                error!(drop.path = %path, "`{path}` will be retried: {why}");
                self.failed.push((path, why));
            }
        }
    }
}
