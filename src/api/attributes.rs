//! The definitions of attributes: reading and replacing them.

use std::{collections::BTreeSet, future::ready, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    Api,
    body::read_json_text,
    imports::{ImportStatus, imports},
    problem::{BodyProblems, ChangeProblems, FieldError, Problem},
    query::{Query, Segment},
};
use crate::{
    attributes::{Definitions, default_attributes},
    clock,
    definitions::{self, SaveError, TenantDefinitions},
    drop::TenantId,
    ledger::{ImportState, ImportsEntry, LedgerError},
    store::ETag,
};

/// The largest definitions, in bytes.
const MAX_DEFINITIONS: usize = 256 << 10;

/// How many tenants are read at the same time.
const CONCURRENT_READS: usize = 8;

/// All tenants with the number of their attributes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TenantsAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The tenants, sorted by id.
    tenants: Vec<TenantCounts>,
}

/// The number of definitions of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TenantCounts {
    /// The tenant.
    tenant_id: TenantId,
    /// The revision of its definitions; 0 if it never had any.
    revision: u64,
    /// Attributes.
    attributes: usize,
    /// Survey programs.
    programs: usize,
    /// Mistakes in definitions that were edited by hand, and records of the ledger that cannot be read.
    problems: usize,
    /// Whether imports fail and are retried.
    failing: bool,
    /// Cycles that cannot be imported.
    failed_imports: usize,
}

/// The attributes of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AttributesAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The tenant.
    tenant_id: TenantId,
    /// The revision of the definitions; 0 if the tenant never had any.
    revision: u64,
    /// The definitions in force; null if there are none.
    #[schema(value_type = Option<serde_json::Value>)]
    definitions: Option<Box<RawValue>>,
    /// Why the stored definitions are not in force, one sentence each.
    problems: Vec<String>,
    /// The default attributes.
    catalogue: Vec<CatalogueEntry>,
    /// The imports of survey cycles.
    imports: Vec<ImportStatus>,
    /// The last failure, if imports fail and are retried.
    failing: Option<ImportsFailure>,
}

/// The last failure of a tenant's imports, which are retried.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ImportsFailure {
    /// How often they have failed in a row.
    attempts: u64,
    /// When they failed first, after the last progress.
    #[serde(with = "time::serde::rfc3339::option")]
    since: Option<OffsetDateTime>,
    /// When they are tried again.
    #[serde(with = "time::serde::rfc3339::option")]
    next_try: Option<OffsetDateTime>,
    /// The failure, as text for people.
    error: Option<String>,
}

impl ImportsFailure {
    fn of(entry: ImportsEntry) -> Option<Self> {
        let ImportsEntry { attempts, since, not_before, error, .. } = entry;
        (attempts > 0).then_some(Self { attempts, since, next_try: not_before, error })
    }
}

/// A default attribute.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogueEntry {
    /// Its name.
    name: &'static str,
    /// The unit of the metric.
    unit: &'static str,
    /// The upper bounds of its first three ranges; null if there is no default.
    #[schema(value_type = Option<Vec<f64>>)]
    max: Option<Vec<serde_json::Number>>,
}

/// The result of saving definitions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SavedAnswer {
    /// When they were saved.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The revision: of the new definitions, or, for a dry run, of those that they would replace.
    revision: u64,
    /// The consequences of the change, one sentence each.
    consequences: Vec<String>,
}

/// Lists the tenants with the number of their attributes and programs.
#[utoipa::path(
    get, path = "/api/view/v1/attributes", tag = "view",
    responses(
        (status = 200, description = "The tenants", body = TenantsAnswer)
    )
)]
pub(super) async fn tenants(State(api): State<Arc<Api>>) -> Result<Json<TenantsAnswer>, Problem> {
    let as_of = clock::whole_seconds(clock::now());
    let defined = api.ledger.defined_tenants().await?.into_iter().collect::<BTreeSet<_>>();
    let all = api.tenants().map_or_else(|| defined.clone(), |tenants| tenants.ids().into_iter().collect());
    let entries = api.ledger.imports_entries().try_filter(|entry| ready(entry.attempts > 0));
    let failing: BTreeSet<_> = entries.map_ok(|entry| entry.tenant).try_collect().await?;
    let counts: Vec<_> = all
        .into_iter()
        .map(async |tenant| {
            let mut counts = TenantCounts { failing: failing.contains(&tenant), ..TenantCounts::new(tenant) };
            if defined.contains(&tenant) {
                counts.count(&definitions::load_for_list(&api.ledger, tenant).await?);
                match api.ledger.cycle_imports(tenant).await {
                    Ok(imports) => {
                        let failed = imports.iter().filter(|import| import.state == ImportState::Failed);
                        counts.failed_imports = failed.count();
                    }
                    Err(LedgerError::Invalid { .. }) => counts.problems += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok(counts)
        })
        .collect();
    let tenants = stream::iter(counts).buffered(CONCURRENT_READS).try_collect().await?;
    Ok(Json(TenantsAnswer { as_of, tenants }))
}

impl TenantCounts {
    /// The counts of a tenant that has nothing.
    fn new(tenant_id: TenantId) -> Self {
        Self { tenant_id, revision: 0, attributes: 0, programs: 0, problems: 0, failing: false, failed_imports: 0 }
    }

    fn count(&mut self, loaded: &TenantDefinitions) {
        self.revision = loaded.revision;
        self.problems = loaded.problems.len();
        if let Some(definitions) = &loaded.definitions {
            self.attributes = definitions.attributes.len();
            self.programs = definitions.programs.len();
        }
    }
}

/// Shows the definitions of a tenant. Without an ETag in the answer there are none.
#[utoipa::path(
    get, path = "/api/view/v1/attributes/{tenantId}", tag = "view",
    params(("tenantId" = String, Path, format = Uuid, description = "The tenant")),
    responses(
        (status = 200, description = "The attributes", body = AttributesAnswer, headers(("ETag" = String, description = "The version of the definitions"))),
        (status = 404, description = "There is no such tenant", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn tenant(State(api): State<Arc<Api>>, Segment(tenant): Segment) -> Result<Response, Problem> {
    let tenant_id = known_tenant(&api, &tenant)?;
    let as_of = clock::whole_seconds(clock::now());
    let loaded = definitions::load(&api.ledger, tenant_id).await?;
    let json = loaded.definitions.as_ref().map(Definitions::to_json);
    let answer = AttributesAnswer {
        as_of,
        tenant_id,
        revision: loaded.revision,
        definitions: json.map(|json| RawValue::from_string(json).expect("definitions are written as JSON")),
        problems: loaded.problems,
        catalogue: catalogue(),
        imports: imports(&api, tenant_id).await?,
        failing: api.ledger.imports_entry(tenant_id).await?.and_then(ImportsFailure::of),
    };
    Ok(with_etag(Json(answer).into_response(), loaded.etag.as_ref()))
}

fn catalogue() -> Vec<CatalogueEntry> {
    let number = |text: &str| text.parse().expect("default bounds are JSON numbers");
    let entry = |attribute: crate::attributes::DefaultAttribute| CatalogueEntry {
        name: attribute.name,
        unit: attribute.unit,
        max: attribute.bounds.map(|bounds| bounds.map(number).to_vec()),
    };
    default_attributes().map(entry).collect()
}

/// Replaces the definitions of a tenant, or says what that would cause.
#[utoipa::path(
    put, path = "/api/manage/v1/attributes/{tenantId}", tag = "manage",
    params(
        ("tenantId" = String, Path, format = Uuid, description = "The tenant"),
        ("dryRun" = Option<bool>, Query, description = "Whether to store nothing"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the definitions to replace"),
        ("If-None-Match" = Option<String>, Header, description = "`*` if there are no definitions yet")
    ),
    request_body(content = serde_json::Value, description = "The definitions", content_type = "application/json"),
    responses(
        (status = 200, description = "The result", body = SavedAnswer, headers(("ETag" = String, description = "The version of the definitions"))),
        (status = 404, description = "There is no such tenant", body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        ChangeProblems
    )
)]
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Segment(tenant): Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let tenant = known_tenant(&api, &tenant)?;
    let mut query = Query::of(&uri);
    let is_dry_run = query.take("dryRun", |text| text.parse::<bool>().map_err(|_| "expected true or false"));
    query.finish()?;
    let replaces = precondition(&headers)?;
    let json = read_json_text(&headers, body, MAX_DEFINITIONS).await?;
    let new = Definitions::parse(&json).map_err(|error| mistakes(error.0))?;
    let as_of = clock::whole_seconds(clock::now());
    if is_dry_run == Some(true) {
        let current = definitions::load(&api.ledger, tenant).await?;
        if current.etag != replaces {
            return Err(changed());
        }
        let mut consequences = definitions::preview(&api.ledger, tenant, &new).await?;
        if !current.problems.is_empty() && current.etag.is_some() {
            consequences.insert(0, "discards an edit of the stored definitions that is not valid".to_owned());
        }
        let answer = SavedAnswer { as_of, revision: current.revision, consequences };
        return Ok(with_etag(Json(answer).into_response(), current.etag.as_ref()));
    }
    let saved =
        definitions::save(&api.ledger, tenant, &json, replaces.as_ref()).await.map_err(|error| match error {
            SaveError::Invalid(error) => mistakes(error.0),
            SaveError::Changed => changed(),
            SaveError::Ledger(error) => error.into(),
        })?;
    let answer = SavedAnswer { as_of, revision: saved.revision, consequences: saved.consequences };
    Ok(with_etag(Json(answer).into_response(), Some(&saved.etag)))
}

/// The tenant with this id, if it is one of `TENANTS`.
fn known_tenant(api: &Api, text: &str) -> Result<TenantId, Problem> {
    let is_known = |tenant: &TenantId| api.tenants().is_none_or(|tenants| tenants.ids().contains(tenant));
    let tenant = text.parse().ok().filter(is_known);
    tenant.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such tenant"))
}

/// The version that the new definitions replace; `None` if there must be none.
fn precondition(headers: &HeaderMap) -> Result<Option<ETag>, Problem> {
    if headers.contains_key(header::IF_MATCH) {
        return super::body::if_match(headers).map(Some);
    }
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") {
        return Ok(None);
    }
    let detail = "expected the header If-Match with the ETag of the definitions, or If-None-Match: * if there are none";
    Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail))
}

fn changed() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "somebody else has changed the definitions: load them again")
}

fn mistakes(mistakes: Vec<String>) -> Problem {
    Problem::invalid(mistakes.into_iter().map(|mistake| FieldError::new("", mistake)).collect())
}

fn with_etag(mut response: Response, etag: Option<&ETag>) -> Response {
    if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(format!("\"{etag}\"")).ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
