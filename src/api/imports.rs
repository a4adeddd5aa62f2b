//! The imports of survey cycles: reads where they stand, and records requests for imports.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    Api,
    body::read_json,
    problem::{BodyProblems, FieldError, Problem},
};
use crate::{
    attributes::RANGES,
    clock,
    drop::{DropPath, TenantId},
    import::{ImportRequest, RequestError},
    ledger::{CycleImport, ImportState, LedgerError, RequestedImport},
    status::remedy_of_failed_import,
};

/// Where the import of a survey cycle stands. Unknown values are null.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImportStatus {
    /// The survey program.
    program: String,
    /// The cycle.
    cycle: String,
    /// The path of the drop that the attributes are computed from.
    path: String,
    /// Where it stands.
    state: ImportProgress,
    /// The revision of the definitions.
    revision: Option<u64>,
    /// The days whose rows count.
    window: Option<ImportWindow>,
    /// The number of people.
    people: Option<u64>,
    /// The number of people in each range, by attribute; a withheld number is null.
    counts: BTreeMap<String, [Option<u64>; RANGES]>,
    /// The names of the ranges, by attribute.
    labels: BTreeMap<String, [String; RANGES]>,
    /// Why the cycle cannot be imported, as a code.
    reason: Option<String>,
    /// Why the cycle cannot be imported, or the last failure, as text for people.
    message: Option<String>,
    /// What to do if the cycle cannot be imported, in one sentence.
    remedy: Option<&'static str>,
    /// When this was recorded.
    #[serde(with = "time::serde::rfc3339::option")]
    updated: Option<OffsetDateTime>,
}

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ImportProgress {
    /// A person has requested the import, and it has not begun yet.
    Waiting,
    /// The attributes are being computed, or people are being sent.
    Running,
    /// All people were sent.
    Completed,
    /// The cycle cannot be imported.
    Failed,
}

/// The days whose rows count for a cycle.
#[derive(Debug, Serialize, ToSchema)]
struct ImportWindow {
    /// The first day.
    start: String,
    /// The day after the last one.
    end: String,
    /// How many dates in the window have rows.
    weeks: u64,
}

impl From<CycleImport> for ImportStatus {
    fn from(import: CycleImport) -> Self {
        let attributes = import.attributes.iter();
        Self {
            program: import.program,
            cycle: import.cycle,
            path: import.drop.path,
            state: match import.state {
                ImportState::Running => ImportProgress::Running,
                ImportState::Completed => ImportProgress::Completed,
                ImportState::Failed => ImportProgress::Failed,
            },
            revision: Some(import.revision),
            window: import.window.map(|window| ImportWindow {
                start: window.start,
                end: window.end,
                weeks: window.weeks,
            }),
            people: import.people,
            counts: attributes.clone().map(|attribute| (attribute.name.clone(), attribute.counts)).collect(),
            labels: attributes.map(|attribute| (attribute.name.clone(), attribute.labels.clone())).collect(),
            remedy: import.reason.as_deref().map(remedy_of_failed_import),
            reason: import.reason,
            message: import.message,
            updated: Some(import.updated),
        }
    }
}

/// The imports of a tenant. A cycle whose import a person has requested is waiting.
pub(super) async fn imports(api: &Api, tenant: TenantId) -> Result<Vec<ImportStatus>, LedgerError> {
    let record = api.ledger.tenant_imports(tenant).await?;
    let mut imports: Vec<_> = api.ledger.cycle_imports(tenant).await?.into_iter().map(ImportStatus::from).collect();
    for RequestedImport { path, program, cycle, .. } in record.requests {
        let (Some(program), Some(cycle)) = (program, cycle) else { continue };
        let existing = imports.iter_mut().find(|import| import.program == program && import.cycle == cycle);
        match existing {
            Some(import) if import.state != ImportProgress::Running => {
                import.state = ImportProgress::Waiting;
                (import.reason, import.message, import.remedy, import.updated) = (None, None, None, None);
            }
            Some(_) => {}
            None => imports.push(ImportStatus {
                program,
                cycle,
                path: path.to_string(),
                state: ImportProgress::Waiting,
                revision: None,
                window: None,
                people: None,
                counts: BTreeMap::new(),
                labels: BTreeMap::new(),
                reason: None,
                message: None,
                remedy: None,
                updated: None,
            }),
        }
    }
    Ok(imports)
}

/// The import that a person requests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportBody {
    /// The path of the drop: container/folder.
    path: String,
    /// Only this survey program.
    program: Option<String>,
    /// Only this cycle of the program.
    cycle: Option<String>,
    /// Whether to import cycles again that were imported before.
    #[serde(default)]
    again: bool,
}

/// An import was recorded.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImportAnswer {
    /// When it was recorded.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The tenant that the drop belongs to.
    tenant_id: TenantId,
}

/// Requests the import of the cycles that a drop reaches.
#[utoipa::path(
    post, path = "/api/manage/v1/imports", tag = "manage",
    request_body = ImportBody,
    responses(
        (status = 202, description = "The import is recorded", body = ImportAnswer),
        (status = 404, description = "There is no such drop", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The tenant has no such cycle, or too many imports wait", body = Problem, content_type = "application/problem+json"),
        (status = 501, description = "This server lacks the settings of a run", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
pub(super) async fn request_import(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ImportAnswer>), Problem> {
    let ImportBody { path, program, cycle, again } = read_json(&headers, body).await?;
    let mut errors = Vec::new();
    let path = path.parse::<DropPath>().map_err(|error| errors.push(FieldError::new("/path", error))).ok();
    if cycle.is_some() && program.is_none() {
        errors.push(FieldError::new("/program", "expected the program of the cycle"));
    }
    let (Some(path), true) = (path, errors.is_empty()) else {
        return Err(Problem::invalid(errors));
    };
    let Some(runner) = &api.runner else {
        let detail = "start `vivadrop page` with all settings of a run, such as DELIVER_TO, to ask for imports";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, detail));
    };
    let request = ImportRequest { path, program, cycle, again };
    let tenant_id = runner.request_import(&request).await.map_err(|error| match error {
        RequestError::NoDrop(_) | RequestError::Refused(_) => Problem::new(StatusCode::NOT_FOUND, error),
        RequestError::NoDefinitions(_) | RequestError::NoCycle { .. } | RequestError::TooMany => {
            Problem::new(StatusCode::CONFLICT, error)
        }
        RequestError::Store(error) => error.into(),
        RequestError::Ledger(error) => error.into(),
    })?;
    Ok((StatusCode::ACCEPTED, Json(ImportAnswer { as_of: clock::whole_seconds(clock::now()), tenant_id })))
}
