//! The receiver: whether it takes a message.

use super::Finding;
use crate::{drop::TenantId, message::Message, sink::Sink};

/// Sends a message that says that it is a check: to where everybody's go, or those of `tenant`.
pub(super) async fn takes_a_message(sink: &dyn Sink, tenant: Option<TenantId>) -> Finding {
    let message = Message::check();
    let of = tenant.map_or_else(String::new, |tenant| format!(" to the destination of {tenant}"));
    let tried = format!("sent `vivadrop.check`{of}");
    match sink.deliver(&message).await {
        Ok(()) => Finding::well("sink", format!("{tried} with the id `{}`: it was taken", message.id)),
        Err(error) => Finding::of_sink("sink", &tried, &error),
    }
}
