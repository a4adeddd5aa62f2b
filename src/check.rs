//! `vivadrop check`: tests everything that the delivery of a drop depends on.
//!
//! Tests access to the storage, the keys, the API and the sinks, that keys and registrations do not expire soon, and
//! who may call the functions of the operator's page. It changes nothing, except for a probe blob that it deletes
//! again, and sends one message of type `vivadrop.check` to each sink, which creates the queue of a sink if it is
//! missing. Every test runs, even if others fail; each [`Finding`] states what was tested, the result, and how to fix
//! it.

mod api;
mod clock;
mod containers;
mod directory;
mod finding;
mod functions;
mod key;
mod ledger;
mod service_bus;
mod settings;
mod sink;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt,
    future::{BoxFuture, OptionFuture},
    stream,
};
use url::Url;

pub use self::{
    finding::{Finding, Severity},
    functions::parse_app,
};
use crate::{
    drop::{TenantId, tenant::Tenants},
    keys::{key_store::KeyStore, unwrap::KeyWrap, viva_api::VivaApi},
    ledger::Ledger,
    sink::Sink,
    store::Store,
};

/// Number of tests that run concurrently. Findings keep their order.
const CONCURRENT_TESTS: usize = 8;

/// The targets of `vivadrop check`.
#[derive(Debug)]
pub struct CheckTargets {
    /// The drop storage.
    pub store: Arc<dyn Store>,
    /// The blob endpoint of the drop storage, if it is a storage account.
    pub store_url: Option<Url>,
    /// The containers that may hold drops.
    pub drop_containers: Vec<String>,
    /// `STATE_CONTAINER`.
    pub state_container: String,
    /// `TENANTS`.
    pub tenants: Tenants,
    /// The tenants' keys.
    pub key_store: Arc<dyn KeyStore>,
    /// The folder of the tenants' keys, if they are not in a vault.
    pub key_folder: Option<PathBuf>,
    /// `ALLOW_PLAINTEXT`.
    pub allow_plaintext: bool,
    /// `DEADLINE`.
    pub deadline: Duration,
    /// The working directory, which has `host.json` if the Functions host started this process.
    pub working_directory: PathBuf,
    /// `KEY_WRAP`.
    pub wrap: KeyWrap,
    /// The Viva Insights API.
    pub api: VivaApi,
    /// Whether drops need the API. In a local set-up without credentials for it, the drops contain their keys.
    pub needs_api: bool,
    /// Whether to send a message to each sink.
    pub send: bool,
    /// The sinks: the common one (`None`), and those of tenants with a sink of their own.
    pub sinks: Vec<(Option<TenantId>, Arc<dyn Sink>)>,
    /// The tenants whose rows are joined to a directory.
    pub joined_tenants: Vec<TenantId>,
    /// The Functions app with the operator's page, if it is known.
    pub app: Option<Url>,
    /// `GIVE_UP_AFTER`: for how long messages may be sent again.
    pub give_up_after: Duration,
}

impl CheckTargets {
    /// Runs all tests, several at a time; returns the findings in a fixed order.
    pub fn findings(&self) -> impl Stream<Item = Finding> + '_ {
        let mut tests: Vec<BoxFuture<'_, Vec<Finding>>> = Vec::new();
        tests.push(Box::pin(async {
            let deadline = settings::deadline_is_before_function_timeout(self.deadline, &self.working_directory);
            settings::plaintext_is_rejected(self.allow_plaintext).into_iter().chain(deadline).collect()
        }));
        if let Some(folder) = &self.key_folder {
            tests.push(Box::pin(async { settings::private_keys_are_private(folder) }));
        }
        if let Some(url) = &self.store_url {
            tests.push(Box::pin(async move { vec![clock::agrees_with_store(url).await] }));
        }
        for container in &self.drop_containers {
            tests.push(Box::pin(async move { vec![containers::drops_are_listed(&*self.store, container).await] }));
            tests.push(Box::pin(async move {
                containers::is_shared_by_tenants(&self.tenants, container).into_iter().collect()
            }));
        }
        tests.push(Box::pin(async { containers::unreachable_places(&self.tenants, &self.drop_containers) }));
        tests.push(Box::pin(async {
            let tenants = self.tenants.ids().into_iter();
            tenants.filter_map(|tenant| settings::is_not_paused(&self.tenants, tenant)).collect()
        }));
        tests.push(Box::pin(async { vec![containers::state_is_writable(&*self.store, &self.state_container).await] }));
        tests.push(Box::pin(async { ledger::is_readable(&self.store, &self.state_container).await }));
        for tenant in self.tenants.ids() {
            tests.push(Box::pin(async move { key::is_usable(self, tenant).await }));
        }
        for tenant in &self.joined_tenants {
            tests.push(Box::pin(async move {
                let ledger = Ledger::new(Arc::clone(&self.store), self.state_container.as_str());
                vec![directory::arrives(&ledger, *tenant).await]
            }));
        }
        tests.push(Box::pin(async {
            if self.needs_api { api::grants_access(&self.api).await } else { vec![api::is_not_needed(&self.api)] }
        }));
        for (tenant, sink) in &self.sinks {
            tests.push(Box::pin(async move {
                let sends = self.send.then(|| sink::accepts_a_message(&**sink, *tenant));
                vec![OptionFuture::from(sends).await.unwrap_or_else(|| sink::is_skipped(*tenant))]
            }));
            if let Some(entity) = sink.as_service_bus() {
                tests.push(Box::pin(service_bus::properties_are_suitable(entity, *tenant, self.give_up_after)));
            }
        }
        tests.push(Box::pin(async {
            let mut findings = functions::declare_who_may_call_them(&self.working_directory);
            match &self.app {
                Some(app) => findings.extend(functions::demand_a_key(app).await),
                None => findings.push(functions::are_not_called()),
            }
            findings
        }));
        stream::iter(tests).buffered(CONCURRENT_TESTS).flat_map(stream::iter)
    }
}
