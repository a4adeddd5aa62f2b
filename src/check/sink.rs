//! The receiver: whether it takes a message.

use super::Finding;
use crate::{message::Message, sink::Sink};

/// Sends a message that says that it is a check.
pub(super) async fn takes_a_message(sink: &dyn Sink) -> Finding {
    let message = Message::check();
    match sink.deliver(&message).await {
        Ok(()) => Finding::well("sink", format!("sent `vivadrop.check` with the id `{}`: it was taken", message.id)),
        Err(error) => Finding::of_sink("sink", &error),
    }
}
