//! The check: whether all that a drop meets on its way is there, lets us in, and will go on doing so.
//!
//! It changes nothing but a probe blob of its own, which it takes away again, and sends one message to the receiver that
//! says that it is a check. Everything is tried, whatever else was wrong; each finding says what was tried, what was found
//! and what to do about it.

mod api;
mod clock;
mod finding;
mod key;
mod place;
mod sink;

use std::sync::Arc;

use futures::{Stream, StreamExt, future::BoxFuture, stream};
use url::Url;

pub use self::finding::{Finding, State};
use crate::{
    drop::{TenantId, tenant::Tenants},
    keys::{
        custody::KeyCustody,
        unwrap::{KeyWrap, PrivateKeys},
        viva_api::VivaApi,
    },
    sink::Sink,
    store::Store,
};

/// How many things are looked at at once. They are told of in order.
const AT_ONCE: usize = 8;

/// All that is looked at.
#[derive(Debug)]
pub struct CheckTargets {
    /// Where drops lie.
    pub store: Arc<dyn Store>,
    /// Where the storage account is, where it is one.
    pub store_address: Option<Url>,
    /// The containers that drops may lie in.
    pub drop_containers: Vec<String>,
    /// Where our own state lies.
    pub state_container: String,
    /// Who may drop, and where.
    pub tenants: Tenants,
    /// The public halves of the tenants' keys.
    pub custody: Arc<dyn KeyCustody>,
    /// The private halves.
    pub private_keys: Arc<dyn PrivateKeys>,
    /// How keys are wrapped.
    pub wrap: KeyWrap,
    /// Who is asked for wrapped keys.
    pub api: VivaApi,
    /// Where messages go: those of everybody, and those of tenants that have a sink of their own.
    pub sinks: Vec<(Option<TenantId>, Arc<dyn Sink>)>,
}

impl CheckTargets {
    /// Looks at everything; what was found, in order, as it is found.
    pub fn findings(&self) -> impl Stream<Item = Finding> + '_ {
        let mut looks: Vec<BoxFuture<'_, Vec<Finding>>> = Vec::new();
        if let Some(address) = &self.store_address {
            looks.push(Box::pin(async move { vec![clock::agrees(address).await] }));
        }
        for container in &self.drop_containers {
            looks.push(Box::pin(async move { vec![place::drops(&*self.store, container).await] }));
            looks.push(Box::pin(async move { place::owners(&self.tenants, container).into_iter().collect() }));
        }
        looks.push(Box::pin(async { place::passed_over(&self.tenants, &self.drop_containers) }));
        looks.push(Box::pin(async { vec![place::state(&*self.store, &self.state_container).await] }));
        looks.push(Box::pin(async { place::ledger(&self.store, &self.state_container).await }));
        for tenant in self.tenants.ids() {
            looks.push(Box::pin(async move { key::of(self, tenant).await }));
        }
        looks.push(Box::pin(async { api::lets_us_in(&self.api).await }));
        for (tenant, sink) in &self.sinks {
            looks.push(Box::pin(async move { vec![sink::takes_a_message(&**sink, *tenant).await] }));
        }
        stream::iter(looks).buffered(AT_ONCE).flat_map(stream::iter)
    }
}
