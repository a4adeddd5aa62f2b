//! Errors of the API: problem details (RFC 9457).

use std::fmt;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::{error_chain::error_chain, ledger::LedgerError, one_line::one_line, store::StoreError};

/// The longest detail, in characters.
const MAX_DETAIL: usize = 500;

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of the problem: always `about:blank`, so `status` says what it is.
    r#type: &'static str,
    /// The meaning of the status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The problem and its remedy, for people.
    detail: String,
    /// The parameters or members that are not usable, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// A parameter or member that is not usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The parameter, or the JSON pointer of the member.
    pub field: String,
    /// The problem of this parameter or member.
    pub detail: String,
}

/// In the OpenAPI document: the problems of requests with parameters.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only describes answers")]
pub(super) enum QueryProblems {
    /// A parameter is not usable
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
}

/// In the OpenAPI document: the problems of requests with a JSON body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only describes answers")]
pub(super) enum BodyProblems {
    /// The body is not usable: `errors` has all mistakes
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not JSON
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(Problem),
}

/// In the OpenAPI document: the problems of requests that change an existing resource.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only describes answers")]
pub(super) enum ChangeProblems {
    /// Somebody else has changed the resource
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(Problem),
    /// If-Match is missing
    #[response(status = 428, content_type = "application/problem+json")]
    NoVersion(Problem),
}

impl FieldError {
    /// The error of `field`.
    pub(super) fn new(field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self { field: field.into(), detail: one_line(&detail.to_string(), MAX_DETAIL) }
    }
}

impl Problem {
    /// A problem with this status.
    pub(crate) fn new(status: StatusCode, detail: impl fmt::Display) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: one_line(&detail.to_string(), MAX_DETAIL),
            errors: Vec::new(),
        }
    }

    /// The problem of a request whose parameters or members are not usable.
    pub(super) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = "the request is not valid: `errors` says why";
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error_chain(&error))
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error_chain(&error))
    }
}
