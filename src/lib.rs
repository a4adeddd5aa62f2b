//! # The life of a drop
//!
//! A customer's pipeline copies encrypted files and their job metadata into the partner's storage account; together
//! they are a *drop*. The Functions host posts an event for each new blob to [`host`], which ignores blobs outside the
//! [watched containers](drop::containers). [`drop`](mod@drop) finds the drop that the blob belongs to, parses the job
//! metadata, and checks that the tenant may write there. A [`run`] then does the remaining work on that drop. It claims
//! one file after another in the [`ledger`], so that each file has one worker at a time. [`keys`] gets the wrapped keys
//! from the drop or from the Viva Insights API and unwraps them with the tenant's private key. [`deliver`] processes
//! one file: it reads the bytes from the [`store`], turns them into rows in the [`pipeline`], and sends batches of rows
//! as [messages](message) to a [`sink`]. The ledger records the checkpoint, the row up to which the sink has
//! acknowledged every row, so a later run resumes there. When every row of the drop is acknowledged, the run sends
//! `drop.completed`. If an error stops a file or a drop, its [`verdict`] decides: if the file or drop itself is at
//! fault, it is set aside and reported as `drop.failed`; otherwise a later run retries it. Events can get lost, so a
//! [`sweep`](mod@sweep) regularly finds unfinished drops and runs them.
//!
//! # Modules
//!
//! - Entry points: [`cli`] (commands), [`host`] (HTTP server for the Functions host), [`sweep`](mod@sweep) (timer),
//!   [`app`] (builds the parts from the settings), [`config`], [`tenant_config`]
//! - A drop: [`drop`](mod@drop) (blobs, job metadata, tenant), [`run`] (one run of a drop), [`run_permits`] (how many
//!   at once), [`deliver`] (one file of it), [`ledger`] (persistent state)
//! - Bytes to rows: [`pipeline`] (stages joined by streams), [`stage`] (one module per stage), [`batch`] (rows to
//!   batches), [`buffers`]
//! - People: [`directory`] (the join with a directory export), [`attributes`] (ranges for survey programs),
//!   [`definitions`] (of attributes, in storage), [`import`] (attributes of delivered drops), [`pass_permits`] (how
//!   many imports at once), [`person_id`]
//! - Keys: [`keys`] (wrapped keys and their private key), [`identity`] (Microsoft Entra tokens), [`wipe`] (clears key
//!   material from the stack)
//! - Destination: [`message`] (JSON messages and their ids), [`sink`] (webhook, queue, Service Bus, stdout)
//! - Storage: [`store`] (Azure Blob Storage, or a folder)
//! - Failures: [`verdict`] (retry or set aside), [`retry`] (backoff)
//! - Operation: [`status`] (where every drop stands, and what to do), [`replay`](mod@replay) (many drops at once),
//!   [`api`] (HTTP), [`page`] and [`page_server`]
//! - Setup and tests of a deployment: [`onboard`] (a customer's key and container), [`check`], [`simulate`] (creates
//!   drops)
//! - Observability: [`telemetry`] (logs, traces and metrics)
//! - Helpers: [`clock`], [`date`], [`error_chain`], [`expected`], [`hex`], [`json`], [`loopback`], [`memory_budget`],
//!   [`one_line`]

pub mod api;
pub mod app;
pub mod attributes;
pub mod batch;
pub mod buffers;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod date;
pub mod definitions;
pub mod deliver;
pub mod directory;
pub mod drop;
pub mod error_chain;
pub mod expected;
pub mod hex;
pub mod host;
mod http_response;
pub mod identity;
pub mod import;
pub mod json;
pub mod keys;
pub mod ledger;
pub mod loopback;
pub mod memory_budget;
pub mod message;
pub mod onboard;
pub mod one_line;
pub mod page;
pub mod page_server;
pub mod pass_permits;
pub mod person_id;
pub mod pipeline;
pub mod replay;
pub mod retry;
pub mod run;
pub mod run_permits;
mod schedule;
mod similar;
pub mod simulate;
pub mod sink;
pub mod stage;
pub mod status;
pub mod store;
pub mod sweep;
pub mod telemetry;
pub mod tenant_config;
pub mod verdict;
mod waiters;
pub mod wipe;
