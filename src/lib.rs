//! The life of a drop.
//!
//! A customer's pipeline lays encrypted files and their job metadata into the partner's storage account: a *drop*. The
//! Functions host hears of each new blob and posts it to [`host`], which believes the address only where it is one of ours.
//! [`drop`](mod@drop) finds the drop around the blob, reads what it says of itself, and believes that only where the tenant may
//! write. A [`run`] does whatever is left to do there. [`keys`] come wrapped, with the drop or from the Viva Insights API,
//! and are opened with the tenant's private key. [`deliver`] is the whole way of one file: the [`store`] gives bytes, the
//! [`pipeline`] drives them through the [`stage`]s to rows, rows are cut to batches, and a [`sink`] takes each as a
//! [`message`]. The [`ledger`] knows how far every file is. When all rows of the drop were taken, that is announced as
//! well; what cannot be delivered is announced and set aside, and what did not answer is tried again: [`verdict`] is the
//! one place where the two are told apart.

pub mod app;
pub mod buffers;
pub mod check;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod demo;
pub mod drop;
pub mod error_chain;
pub mod expected;
pub mod host;
mod http_response;
pub mod identity;
pub mod json;
pub mod keys;
pub mod ledger;
pub mod loopback;
pub mod message;
pub mod onboard;
pub mod one_line;
pub mod pipeline;
pub mod retry;
pub mod run;
pub mod simulate;
pub mod sink;
pub mod stage;
pub mod store;
pub mod sweep;
pub mod telemetry;
pub mod tenant_config;
pub mod verdict;
pub mod wipe;
