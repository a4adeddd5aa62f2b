//! Imports that a person asks for.

use std::sync::Arc;

use tracing::warn;
use uuid::Uuid;

use super::{ImportError, Imported, Pass, ReadError, Stop, cycle::NoImport, due_cycles::tolerate};
use crate::{
    attributes::{Definitions, DueCycle},
    clock, definitions,
    drop::{DropPath, TenantId, discover, tenant::Refusal},
    error_chain::error_chain,
    ledger::{CycleImport, ImportState, LedgerError, RequestedImport, TenantImports},
    run::{AdmittedDrop, Runner},
    store::StoreError,
};

/// How many requests of a tenant wait at once.
const MAX_REQUESTS: usize = 100;

/// An import that a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// The drop.
    pub path: DropPath,
    /// Only this program.
    pub program: Option<String>,
    /// Only this cycle of the program.
    pub cycle: Option<String>,
    /// Also cycles that were imported before. Their messages have new ids.
    pub again: bool,
}

/// Why a request for an import cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no drop of a tenant at this path.
    #[error("there is no job metadata below `{0}`: not a drop")]
    NoDrop(DropPath),
    /// The drop does not belong to a tenant that may write there.
    #[error(transparent)]
    Refused(Refusal),
    /// The tenant has no definitions, or they have no attributes.
    #[error("the tenant {0} has no definitions of attributes")]
    NoDefinitions(TenantId),
    /// No cycle that has ended has these names.
    #[error(
        "the definitions have no cycle `{cycle}` of a program `{program}` that is imported: it has not ended, or is too old"
    )]
    NoCycle {
        /// The program that was asked for.
        program: String,
        /// The cycle that was asked for, or `*`.
        cycle: String,
    },
    /// Too many requests wait.
    #[error("{MAX_REQUESTS} imports of the tenant wait already: try again later")]
    TooMany,
    /// The store did not answer.
    #[error("cannot read the drop")]
    Store(#[from] StoreError),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Runner {
    /// Records that a person asks for an import, and makes the next pass over the tenant's imports due. Returns the
    /// tenant.
    pub async fn request_import(&self, request: &ImportRequest) -> Result<TenantId, RequestError> {
        let ImportRequest { path, program, cycle, again } = request;
        // No request to storage for a path where no tenant may write.
        if self.tenants.possible_owners(path).is_empty() {
            return Err(RequestError::NoDrop(path.clone()));
        }
        let contents = discover::list_contents(&*self.store, path, self.limits.max_files).await?;
        let contents = contents.ok_or_else(|| RequestError::NoDrop(path.clone()))?;
        let admitted = AdmittedDrop::admit(&*self.store, &self.tenants, &contents, 0).await?;
        let tenant = admitted.map_err(RequestError::Refused)?.tenant;
        loop {
            let (loaded, mut record) = definitions::accept(&self.ledger, tenant).await?;
            let definitions = loaded.definitions.filter(|definitions| !definitions.attributes.is_empty());
            let Some(definitions) = definitions else { return Err(RequestError::NoDefinitions(tenant)) };
            let requested = RequestedImport {
                id: Uuid::new_v4().to_string(),
                number: record.requested + 1,
                path: path.clone(),
                program: program.clone(),
                cycle: cycle.clone(),
                again: *again,
                failing_since: None,
            };
            let due = definitions.due_cycles(clock::now().date());
            if let Some(program) = program.clone().filter(|_| !due.iter().any(|due| is_requested(&requested, due))) {
                return Err(RequestError::NoCycle { program, cycle: cycle.clone().unwrap_or_else(|| "*".into()) });
            }
            if record.requests.len() >= MAX_REQUESTS {
                return Err(RequestError::TooMany);
            }
            record.requested += 1;
            record.requests.push(requested);
            if self.ledger.write_tenant_imports(tenant, &mut record).await? {
                self.ledger.mark_imports_due(tenant, clock::now()).await?;
                self.due_imports.add(tenant);
                return Ok(tenant);
            }
        }
    }
}

impl Pass<'_> {
    /// Makes the imports that people have asked for.
    pub(super) async fn handle_requests(
        &mut self,
        definitions: &Arc<Definitions>,
        first_error: &mut Option<ImportError>,
    ) -> Result<(), Stop> {
        for request in self.record.requests.clone() {
            let result = match self.handle_request(definitions, &request).await {
                Err(Stop::Failed(ImportError::Drop { path, source })) => {
                    self.note_unreadable_drop(&request, path, source).await
                }
                // Every other failure comes after the drop could be opened.
                Err(stop) => {
                    self.note_read(&request.path).await?;
                    Err(stop)
                }
                Ok(()) => Ok(()),
            };
            let is_handled = result.is_ok();
            tolerate(result, first_error)?;
            if is_handled {
                self.update_record(|record| record.requests.retain(|other| other.id != request.id)).await?;
            }
        }
        Ok(())
    }

    /// Records that the drop of a request cannot be read. After `GIVE_UP_AFTER` the request ends with that failure. A
    /// wait for memory is no failure: it comes after the drop could be read.
    async fn note_unreadable_drop(
        &mut self,
        request: &RequestedImport,
        path: DropPath,
        source: Box<ReadError>,
    ) -> Result<(), Stop> {
        if source.is_memory_in_use() {
            self.note_read(&path).await?;
            return Err(Stop::Failed(ImportError::Drop { path, source }));
        }
        let now = clock::now();
        // This pass may have read the drop for another cycle or request, so `request` may be outdated.
        let recorded = self.record.requests.iter().find(|other| other.id == request.id);
        match recorded.and_then(|recorded| recorded.failing_since) {
            Some(since) if now - since >= self.runner.limits.give_up_after => {
                self.note_rejected_request(None, &path, format!("given up: {}", error_chain(&*source)));
                return Ok(());
            }
            Some(_) => {}
            None => {
                let note = |record: &mut TenantImports| {
                    let requests = record.requests.iter_mut().filter(|other| other.id == request.id);
                    requests.for_each(|request| request.failing_since = Some(now));
                };
                self.update_record(note).await?;
            }
        }
        Err(Stop::Failed(ImportError::Drop { path, source }))
    }

    /// Records that the drop at `path` could be read: failures of requests before that no longer count.
    pub(super) async fn note_read(&mut self, path: &DropPath) -> Result<(), LedgerError> {
        let is_failing = |request: &RequestedImport| request.path == *path && request.failing_since.is_some();
        if !self.record.requests.iter().any(is_failing) {
            return Ok(());
        }
        let forget = |record: &mut TenantImports| {
            let requests = record.requests.iter_mut().filter(|request| request.path == *path);
            requests.for_each(|request| request.failing_since = None);
        };
        self.update_record(forget).await
    }

    async fn handle_request(&mut self, definitions: &Arc<Definitions>, request: &RequestedImport) -> Result<(), Stop> {
        let path = &request.path;
        let drop = match self.open(path).await.map_err(|error| Stop::cannot_read(path, error))? {
            Ok(drop) => drop,
            Err(why) => {
                self.note_rejected_request(None, path, why.to_string());
                return Ok(());
            }
        };
        let mut imports = self.imports().await?;
        let (mut is_reached, mut is_missed, mut errors) = (false, false, Vec::new());
        let own_path = path.to_string();
        // The person may have asked after midnight, for a cycle that ended then.
        for due in definitions.due_cycles(clock::now().date()) {
            let import = imports.remove(&(due.program.name.clone(), due.cycle.name.clone()));
            // A failed import does not keep a person from importing another drop.
            let has_failed = |import: &CycleImport| import.state == ImportState::Failed && import.drop.path != own_path;
            let is_repeated = import.as_ref().is_some_and(|import| request.again || has_failed(import));
            let is_handled = match &import {
                Some(import) if request.again => import.run >= request.number && import.is_over(),
                Some(_) => !is_repeated,
                None => false,
            };
            if !is_requested(request, &due) {
                continue;
            }
            if is_handled {
                is_reached = true;
                continue;
            }
            // If the record of the cycle was deleted, only the number of the request makes new ids.
            let run = match &import {
                Some(import) if is_repeated => import.run.max(request.number),
                None if request.again => request.number,
                _ => 0,
            };
            match self.import(definitions, &due, &drop, run, import.as_ref()).await? {
                Ok(()) => is_reached = true,
                // Without the name of a cycle, only those that the drop reaches are meant.
                Err(NoImport::NotReached) if request.cycle.is_none() => is_missed = true,
                // That is so for every cycle.
                Err(why @ NoImport::Unreadable { .. }) => {
                    self.note_rejected_request(None, path, why.to_string());
                    return Ok(());
                }
                Err(why) => {
                    errors.push((Some((due.program.name.clone(), due.cycle.name.clone())), why.to_string()));
                }
            }
        }
        if is_missed && !is_reached && errors.is_empty() {
            errors.push((None, "the drop has no rows of the last week of a cycle that is imported".to_owned()));
        }
        for (cycle, why) in errors {
            self.note_rejected_request(cycle, path, why);
        }
        Ok(())
    }

    /// Notes why nothing is imported that a person has asked for. Receivers keep what they have.
    fn note_rejected_request(&mut self, cycle: Option<(String, String)>, path: &DropPath, why: String) {
        let name = cycle.as_ref().map(|(program, cycle)| format!("`{program}` `{cycle}` ")).unwrap_or_default();
        warn!(drop.path = %path, "cannot import {name}from `{path}`, as a person asked: {why}");
        self.imported.push(Imported { cycle, drop: path.to_string(), result: Err(why) });
    }
}

fn is_requested(request: &RequestedImport, due: &DueCycle<'_>) -> bool {
    request.program.as_ref().is_none_or(|name| *name == due.program.name)
        && request.cycle.as_ref().is_none_or(|name| *name == due.cycle.name)
}
