//! A [`Sink`] in memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde_json::Value;
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

    /// The messages deduplicated by id, as a receiver is expected to do. Panics if two messages with the same id differ
    /// in more than `timestamp`: the receiver would lose the content of the later one.
    pub(crate) fn distinct(&self) -> Vec<Message> {
        let mut seen = HashMap::new();
        let mut messages = self.messages();
        messages.retain(|message| match seen.entry(message.id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(message.clone());
                true
            }
            Entry::Occupied(first) => {
                assert_eq!(content(first.get()), content(message), "two messages have the id `{}`", message.id);
                false
            }
        });
        messages
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The JSON of a message without the time at which it was made.
fn content(message: &Message) -> Value {
    let mut json: Value = serde_json::from_slice(&message.body).expect("a message is JSON");
    json["timestamp"].take();
    json
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
