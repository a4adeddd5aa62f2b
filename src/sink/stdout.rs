//! Standard output: one message a line, for pipes and for looking at what would be sent.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::{
    message::Message,
    sink::{Sink, SinkError},
};

/// The sink `stdout:`. A line is written whole, so that neither another message nor a log line gets between.
pub struct Stdout {
    out: Arc<Mutex<dyn Write + Send>>,
}

impl Stdout {
    /// The process's standard output.
    pub fn new() -> Self {
        Self::to(io::stdout())
    }

    /// Another place for the lines.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(out)) }
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Sink for Stdout {
    /// Fails with [`SinkError::Unavailable`] when nobody reads any more.
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        // Standard output locks itself for one write: text and line end are one.
        let line = [message.body.as_ref(), b"\n"].concat();
        let out = Arc::clone(&self.out);
        // On the blocking pool a line is finished even where nobody waits for it any more.
        let write = move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(&line)?;
            out.flush()
        };
        let written = spawn_blocking(write).await.map_err(io::Error::other).flatten();
        written.map_err(|error| SinkError::Unavailable {
            id: message.id.to_string(),
            tries: 1,
            answer: format!("standard output: {error}"),
        })
    }
}

impl fmt::Debug for Stdout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stdout")
    }
}
