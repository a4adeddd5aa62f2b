//! Notes about tenants, beside the states of their drops: what expires, is late, is invalid or fails.

use std::{collections::BTreeSet, future::ready};

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use time::OffsetDateTime;

use super::{Customer, RETRIED_LONG, failed_cycles::failed_cycles, remedy_of_failed_import};
use crate::{
    definitions,
    drop::{TenantId, tenant::Tenants},
    error_chain::error_chain,
    ledger::{CONCURRENT_READS, CycleImport, ImportsEntry, Ledger, LedgerError},
};

/// How many cycles of a tenant that cannot be imported have a note each. If there are more, one note counts them.
const MAX_CYCLES: usize = 3;

/// A note about a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The tenant.
    pub tenant_id: TenantId,
    /// What the note is about.
    pub about: NoteSubject,
    /// The fact, and its remedy if there is one.
    pub text: String,
    /// Whether a person has to do something.
    pub needs_person: bool,
}

/// What a [`Note`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoteSubject {
    /// The customer's key, registration or SAS URL.
    Customer,
    /// The customer's next drop, which is late.
    Drops,
    /// The definitions of attributes, or their imports.
    Attributes,
}

/// The problems of customers, the mistakes in definitions of attributes, the cycles that cannot be imported, and the
/// imports that fail and are retried. Costs two listings, two reads for each tenant with definitions, and one read for
/// each cycle that is imported.
pub(super) async fn notes(
    ledger: &Ledger,
    tenants: Option<&Tenants>,
    customers: &[Customer],
    as_of: OffsetDateTime,
) -> Result<Vec<Note>, LedgerError> {
    let ids: Option<BTreeSet<_>> = tenants.map(|tenants| tenants.ids().into_iter().collect());
    let is_ours = |id: &TenantId| ids.as_ref().is_none_or(|ids| ids.contains(id));
    let mut notes: Vec<_> = customers.iter().flat_map(problems_of).collect();

    let defined = ledger.defined_tenants().await?.into_iter().filter(is_ours);
    let is_paused = |id| tenants.is_some_and(|tenants| tenants.is_paused(id));
    let problems = defined.map(async |id| {
        let loaded = definitions::load_for_list(ledger, id).await?;
        let mut problems = loaded.problems;
        if let Some(definitions) = loaded.definitions.filter(|_| !is_paused(id)) {
            match failed_cycles(ledger, id, &definitions, as_of.date()).await {
                Ok(failed) => problems.extend(failures_of(&failed)),
                Err(error @ (LedgerError::Invalid { .. } | LedgerError::NewerVersion { .. })) => {
                    problems.push(error_chain(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((id, problems))
    });
    let mut problems = stream::iter(problems.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
    while let Some((tenant_id, problems)) = problems.try_next().await? {
        let note = |text| Note { tenant_id, about: NoteSubject::Attributes, text, needs_person: true };
        notes.extend(problems.into_iter().map(note));
    }

    let is_failing = |entry: &ImportsEntry| entry.attempts > 0 && is_ours(&entry.tenant) && !is_paused(entry.tenant);
    let mut failing = ledger.imports_entries().try_filter(|entry| ready(is_failing(entry)));
    while let Some(entry) = failing.try_next().await? {
        notes.push(failure_of(&entry, as_of));
    }
    Ok(notes)
}

/// The problems of a customer.
fn problems_of(customer: &Customer) -> impl Iterator<Item = Note> {
    let note = |text: &String| {
        let about = if customer.late.as_ref() == Some(text) { NoteSubject::Drops } else { NoteSubject::Customer };
        Note { tenant_id: customer.tenant_id, about, text: text.clone(), needs_person: true }
    };
    customer.problems.iter().map(note)
}

/// What a person has to do about the cycles of a tenant that cannot be imported.
fn failures_of(failed: &[CycleImport]) -> Vec<String> {
    // Nobody can do anything about a group that is too small.
    let failed = failed.iter().filter(|import| import.reason.as_deref() != Some("too-few-people"));
    let text = |import: &CycleImport| {
        let reason = import.reason.as_deref().unwrap_or_default();
        let remedy = remedy_of_failed_import(reason);
        format!("cannot import `{}` `{}` ({reason}): {remedy}", import.program, import.cycle)
    };
    let texts: Vec<_> = failed.map(text).collect();
    match &texts[..] {
        [first, ..] if texts.len() > MAX_CYCLES => {
            vec![format!("{} survey cycles failed, the first of them: {first}", texts.len())]
        }
        _ => texts,
    }
}

/// The note about imports that fail. After [`RETRIED_LONG`] they need a person.
fn failure_of(entry: &ImportsEntry, as_of: OffsetDateTime) -> Note {
    let ImportsEntry { tenant, attempts, since, error, .. } = entry;
    let error = error.as_deref().unwrap_or("the cause is not known");
    Note {
        tenant_id: *tenant,
        about: NoteSubject::Attributes,
        text: format!("imports of attributes have failed (attempt {attempts}) and are retried: {error}"),
        needs_person: since.is_some_and(|since| as_of - since > RETRIED_LONG),
    }
}
