//! Where every drop stands, and what to do: the read model of `vivadrop status`, the API and the operator's page.
//!
//! A [`Snapshot`] is built from one listing of the ledger's `list/`, so it costs a request for each 1,000 drops, and
//! none for each drop. Its memory is bounded: if there are too many drops, it omits the oldest completed ones. Only
//! [`load()`] does I/O; the other parts group, sort and describe. A [`ListCopy`] has the same entries in one blob: the
//! first view of a process is built from it.

mod copy;
mod customers;
mod detail;
mod drop_status;
mod failed_cycles;
mod filter;
mod groups;
mod interval;
pub mod load;
mod notes;
mod remedy;
mod snapshot;
mod weeks;

pub(crate) use self::remedy::remedy_of_failed_import;
pub use self::{
    copy::ListCopy,
    customers::{Customer, LastDrop},
    detail::{DropDetail, FileState, FileStatus},
    drop_status::{DropStatus, FileCounts, RETRIED_LONG, State},
    filter::{DropFilter, InvalidFilter, parse_reason, parse_since, parse_state, parse_week},
    groups::{Group, groups},
    load::{load, load_and_copy, load_copy},
    notes::{Note, NoteSubject},
    snapshot::{Snapshot, SnapshotBuilder},
    weeks::{Cell, TenantWeeks, Weeks, week_of, weeks},
};
