//! The sink for standard output: one message per line, for pipes and for inspecting messages.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::{
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
};

/// The sink `stdout:`. Each line is one write, so that no other message and no log line is mixed into it.
pub struct Stdout {
    writer: Arc<Mutex<dyn Write + Send>>,
}

impl Stdout {
    /// Writes to the standard output of the process.
    pub fn new() -> Self {
        Self::to(io::stdout())
    }

    /// Writes to `writer` instead.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)) }
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Sink for Stdout {
    /// Fails transiently if the reader of the pipe is gone.
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        // Standard output is locked for one write, so message and line end are written together.
        let line = [message.body.as_ref(), b"\n"].concat();
        let writer = Arc::clone(&self.writer);
        // A task on the blocking pool completes the line even if this future is dropped.
        let write = move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.write_all(&line)?;
            writer.flush()
        };
        let written = spawn_blocking(write).await.map_err(io::Error::other).flatten();
        written.map_err(|error| FailedTry::transient(format!("standard output: {error}")))
    }

    /// No retries: a reader that is gone does not come back.
    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::ONE_ATTEMPT
    }

    fn name(&self) -> String {
        "standard output".to_owned()
    }
}

impl fmt::Debug for Stdout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stdout")
    }
}
