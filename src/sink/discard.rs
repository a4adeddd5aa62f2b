//! The sink for rows that are only counted.

use async_trait::async_trait;

use crate::{
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
};

/// Acknowledges every message and discards it. Used for the rows of a directory that is joined and not delivered: the
/// directory is read as if it were delivered, so that its rows are counted and damage is noticed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Discard;

#[async_trait]
impl Sink for Discard {
    async fn try_deliver(&self, _message: &Message) -> Result<(), FailedTry> {
        Ok(())
    }

    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::ONE_ATTEMPT
    }

    fn name(&self) -> String {
        "nowhere".to_owned()
    }

    fn is_measured(&self) -> bool {
        false
    }
}
