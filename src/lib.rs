//! The life of a drop.

pub mod app;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod demo;
pub mod drop;
pub mod host;
pub mod keys;
pub mod ledger;
pub mod message;
pub mod pipeline;
pub mod retry;
pub mod run;
pub mod simulate;
pub mod sink;
pub mod stage;
pub mod store;
pub mod stub;
pub mod telemetry;
pub mod text;
pub mod verdict;
