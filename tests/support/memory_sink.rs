//! A [`Sink`] in memory.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
};

/// Accepts every message and keeps it.
#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    messages: Mutex<Vec<Message>>,
}

impl MemorySink {
    /// The messages in order of arrival, including duplicates.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.lock().clone()
    }

    /// The messages deduplicated by id, as a receiver is expected to do.
    pub(crate) fn distinct(&self) -> Vec<Message> {
        let mut seen = HashSet::new();
        let mut messages = self.messages();
        messages.retain(|message| seen.insert(message.id.clone()));
        messages
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        self.lock().push(message.clone());
        Ok(())
    }

    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::ONE_ATTEMPT
    }

    fn name(&self) -> String {
        "a sink in memory".to_owned()
    }
}
