//! The receiver: whether it takes a message.

use super::Finding;
use crate::{drop::TenantId, message::Message, run::chain, sink::Sink};

/// Sends a message that says that it is a check: to everybody's receiver, or to one that is a tenant's own.
pub(super) async fn takes_a_message(sink: &dyn Sink, of: Option<TenantId>) -> Finding {
    let message = Message::check();
    let sent = match of {
        None => "sent `vivadrop.check`".to_owned(),
        Some(tenant) => format!("sent `vivadrop.check` to the receiver of {tenant}"),
    };
    match sink.deliver(&message).await {
        Ok(()) => Finding::well("sink", format!("{sent} with the id `{}`: it was taken", message.id)),
        Err(error) => Finding::of_sink("sink", format!("{sent}: {}", chain(&error)), &error),
    }
}
