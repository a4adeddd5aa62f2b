//! Tests whether a sink accepts messages.

use super::{Finding, Severity};
use crate::{
    drop::TenantId,
    message::Message,
    sink::{self, Sink},
};

/// The finding with `--no-send`.
pub(super) fn is_skipped(tenant: Option<TenantId>) -> Finding {
    let of = tenant.map_or_else(String::new, |tenant| format!(" to the sink of {tenant}"));
    Finding::new(Severity::Skipped, "sink", format!("`vivadrop.check` was not sent{of}: --no-send"))
}

/// Sends a message of type `vivadrop.check` to the common sink (`None`), or to the sink of `tenant`.
pub(super) async fn accepts_a_message(sink: &dyn Sink, tenant: Option<TenantId>) -> Finding {
    let message = Message::check();
    let of = tenant.map_or_else(String::new, |tenant| format!(" to the sink of {tenant}"));
    let test = format!("sent `vivadrop.check`{of}");
    match sink::deliver(sink, &message).await {
        Ok(()) => Finding::ok("sink", format!("{test} with the id `{}`: it was accepted", message.id)),
        Err(error) => Finding::of_sink_error("sink", &test, &error),
    }
}
