//! The definitions of attributes in storage: loading, validating and replacing them, and their revisions.
//!
//! Definitions are a blob that people may edit by hand. The ledger keeps the last valid version with its revision, so
//! an invalid edit changes nothing and is reported. Definitions come into force when they are *accepted*: the ledger
//! then raises the revision and records which attributes receivers have to delete. Saving accepts at once; an edit by
//! hand is accepted by the next import or sweep.

use std::mem;

use bytes::Bytes;

use crate::{
    attributes::{Definitions, InvalidDefinitions},
    clock,
    drop::TenantId,
    error_chain::error_chain,
    ledger::{AcceptedDefinitions, Deletion, Ledger, LedgerError, TenantImports},
    store::ETag,
};

/// The definitions of a tenant, as they are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDefinitions {
    /// The definitions: the stored ones, or the last valid ones if those are not valid. `None` if the tenant has none.
    pub definitions: Option<Definitions>,
    /// The version of the stored definitions, which [`save`] replaces; `None` if there are none.
    pub etag: Option<ETag>,
    /// The revision of `definitions`; 0 if the tenant never had any.
    pub revision: u64,
    /// Why the stored definitions are not in force, one sentence each.
    pub problems: Vec<String>,
}

/// Definitions that were saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Their revision.
    pub revision: u64,
    /// Their version in storage.
    pub etag: ETag,
    /// The consequences of the change, one sentence each.
    pub consequences: Vec<String>,
}

/// Why definitions were not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// They are not valid. Nothing was stored.
    #[error(transparent)]
    Invalid(#[from] InvalidDefinitions),
    /// The stored definitions have another version than the one that was to be replaced. Nothing was stored.
    #[error("somebody else has changed the definitions in the meantime: load them again")]
    Changed,
    /// The ledger cannot be read or written. The definitions may be stored nevertheless.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Loads the definitions of a tenant. Changes nothing.
pub async fn load(ledger: &Ledger, tenant: TenantId) -> Result<TenantDefinitions, LedgerError> {
    let mut record = ledger.tenant_imports(tenant).await?;
    let stored = ledger.stored_definitions(tenant).await?;
    let (loaded, _) = accept_into(&mut record, stored);
    Ok(loaded)
}

/// Loads the definitions of a tenant for a list of tenants. If the tenant's records cannot be read by this version,
/// that is the tenant's only problem, so that it does not hide the other tenants.
pub async fn load_for_list(ledger: &Ledger, tenant: TenantId) -> Result<TenantDefinitions, LedgerError> {
    match load(ledger, tenant).await {
        Err(error @ (LedgerError::Invalid { .. } | LedgerError::NewerVersion { .. })) => {
            Ok(TenantDefinitions { definitions: None, etag: None, revision: 0, problems: vec![error_chain(&error)] })
        }
        loaded => loaded,
    }
}

/// Loads the definitions of a tenant and brings an edit by hand into force. Returns the record of the tenant as well.
pub async fn accept(ledger: &Ledger, tenant: TenantId) -> Result<(TenantDefinitions, TenantImports), LedgerError> {
    loop {
        let mut record = ledger.tenant_imports(tenant).await?;
        let stored = ledger.stored_definitions(tenant).await?;
        let (loaded, is_changed) = accept_into(&mut record, stored);
        if !is_changed || ledger.write_tenant_imports(tenant, &mut record).await? {
            return Ok((loaded, record));
        }
    }
}

/// Validates definitions, stores them in place of version `replaces`, and brings them into force. `replaces` is the
/// `etag` of [`TenantDefinitions`].
pub async fn save(ledger: &Ledger, tenant: TenantId, json: &[u8], replaces: Option<&ETag>) -> Result<Saved, SaveError> {
    let new = Definitions::parse(json)?;
    let consequences = preview(ledger, tenant, &new).await?;
    let text = Bytes::copy_from_slice(json);
    let etag = ledger.store_definitions(tenant, text, replaces).await?.ok_or(SaveError::Changed)?;
    let (accepted, _) = accept(ledger, tenant).await?;
    Ok(Saved { revision: accepted.revision, etag, consequences })
}

/// The consequences of saving `new` definitions, one sentence each.
pub async fn preview(ledger: &Ledger, tenant: TenantId, new: &Definitions) -> Result<Vec<String>, LedgerError> {
    let TenantImports { definitions, lost, .. } = ledger.tenant_imports(tenant).await?;
    let old = definitions.map(|accepted| accepted.definitions);
    let lost = lost.attributes_missing_in(new).map(Definitions::deletion);
    Ok(lost.chain(Definitions::consequences(old.as_ref(), new, clock::now().date())).collect())
}

/// Accepts the stored definitions, if they are valid and not those of the record. Returns the definitions in force, and
/// whether the record has changed.
fn accept_into(record: &mut TenantImports, stored: Option<(ETag, Bytes)>) -> (TenantDefinitions, bool) {
    let Some((etag, json)) = stored else {
        let had_some = record.definitions.is_some();
        let problem = "the definitions were deleted: nothing is imported until there are definitions again";
        let problems = had_some.then(|| problem.to_owned()).into_iter().collect();
        return (TenantDefinitions { definitions: None, etag: None, revision: record.revision, problems }, false);
    };
    let mut is_changed = false;
    let mut problems = Vec::new();
    if record.definitions.as_ref().is_none_or(|accepted| accepted.etag != etag) {
        match Definitions::parse(&json) {
            Ok(new) => {
                replace(record, new, etag.clone());
                is_changed = true;
            }
            Err(InvalidDefinitions(mistakes)) => problems = mistakes,
        }
    }
    let definitions = record.definitions.as_ref().map(|accepted| accepted.definitions.clone());
    (TenantDefinitions { definitions, etag: Some(etag), revision: record.revision, problems }, is_changed)
}

/// Puts `new` definitions in the place of the old ones.
fn replace(record: &mut TenantImports, new: Definitions, etag: ETag) {
    let (old, lost) = (record.definitions.take(), mem::take(&mut record.lost));
    let old_definitions = old.as_ref().map(|old| &old.definitions);
    if old_definitions.is_none_or(|old| old.without_roles() != new.without_roles()) {
        record.revision += 1;
    }
    let missing = old_definitions.iter().flat_map(|old| old.attributes_missing_in(&new));
    for name in missing.chain(lost.attributes_missing_in(&new)) {
        record.sequence += 1;
        record.numbered = None;
        record.deletions.push(Deletion { attribute: name.to_owned(), sequence: record.sequence });
    }
    let is_same = old_definitions == Some(&new);
    let (number, was_announced) = old.map_or((lost.number, false), |old| (old.number, old.is_announced));
    record.definitions = Some(AcceptedDefinitions {
        definitions: new,
        etag,
        number: if is_same { number } else { number + 1 },
        is_announced: is_same && was_announced,
    });
}

#[cfg(test)]
mod tests;
