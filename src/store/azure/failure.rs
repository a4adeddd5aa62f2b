//! Converts the SDK's errors to [`StoreError`]s.
//!
//! An SDK error contains the request URL, which is a secret if it has a SAS, and may quote the service's text about a
//! signature. Only the HTTP status, the service's error code and the innermost cause are passed on.

use std::error::Error;

use azure_core::{error::ErrorKind, http::StatusCode};

use crate::{
    identity::TokenError,
    store::{BlobPath, StoreError},
};

/// The cause of a failed request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Cause(pub(super) String);

/// Converts an SDK error about `path`.
pub(super) fn store_error(path: &BlobPath, error: &azure_core::Error) -> StoreError {
    let code = error_code(error).unwrap_or_default();
    match error.http_status() {
        Some(StatusCode::NotFound) => StoreError::Missing(path.clone()),
        // 412 also means that another lease is active, or that ours lapsed. The version is unchanged then.
        Some(StatusCode::PreconditionFailed | StatusCode::Conflict) if code.starts_with("Lease") => {
            StoreError::LeaseConflict(path.clone())
        }
        Some(StatusCode::PreconditionFailed) => StoreError::Changed(path.clone()),
        Some(StatusCode::Conflict) if code == "BlobAlreadyExists" => StoreError::Changed(path.clone()),
        Some(StatusCode::Unauthorized | StatusCode::Forbidden) => StoreError::Denied(path.clone()),
        Some(status) => {
            let status = format!("HTTP {} {code}", u16::from(status));
            StoreError::unavailable(path, Cause(status.trim_end().to_owned()))
        }
        None if *error.kind() == ErrorKind::Credential => {
            StoreError::unavailable(path, Cause(TokenError::of(error).to_string()))
        }
        None => StoreError::unavailable(path, Cause(innermost(error))),
    }
}

/// Whether the container is missing, and not the blob.
pub(super) fn is_container_missing(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::NotFound) && error_code(error) == Some("ContainerNotFound")
}

/// Whether the name of the requested container is invalid: no container can have its characters or its length.
pub(super) fn is_impossible_container(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::BadRequest)
        && error_code(error).is_some_and(|code| ["InvalidResourceName", "OutOfRangeInput"].contains(&code))
}

/// Whether the container already exists, for example because another request has just created it.
pub(super) fn is_container_present(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::Conflict) && error_code(error) == Some("ContainerAlreadyExists")
}

/// Whether the blob is leased, or its lease is being broken.
pub(super) fn is_leased(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::Conflict) && error_code(error).is_some_and(|code| code.starts_with("Lease"))
}

/// The error code of the service, such as `ServerBusy`.
pub(crate) fn error_code(error: &azure_core::Error) -> Option<&str> {
    match error.kind() {
        ErrorKind::HttpResponse { error_code, .. } => error_code.as_deref(),
        _ => None,
    }
}

/// The first line of the innermost cause, without query strings. The innermost cause is the most specific one
/// (`Connection refused`), and lies below the layer that adds URLs.
pub(crate) fn innermost(error: &azure_core::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    without_query(cause.to_string().lines().next().unwrap_or_default())
}

fn without_query(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((url, query)) if url.contains("://") => format!("{url}{}", closing_punctuation(query)),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The punctuation that follows a query string.
fn closing_punctuation(text: &str) -> &str {
    text.trim_start_matches(|c: char| !matches!(c, ')' | '"' | '`'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, code: &str) -> StoreError {
        let error =
            ErrorKind::HttpResponse { status: status.into(), error_code: Some(code.into()), raw_response: None };
        store_error(&BlobPath::new("datasets", "part-0"), &error.into_error())
    }

    #[test]
    fn status_and_error_code_determine_the_error() {
        assert!(matches!(http(404, "BlobNotFound"), StoreError::Missing(_)));
        assert!(matches!(http(412, "ConditionNotMet"), StoreError::Changed(_)));
        assert!(matches!(http(409, "BlobAlreadyExists"), StoreError::Changed(_)));
        assert!(matches!(http(401, "NoAuthenticationInformation"), StoreError::Denied(_)));
        assert!(matches!(http(403, "AuthenticationFailed"), StoreError::Denied(_)));
        for (status, code) in [(412, "LeaseIdMissing"), (412, "LeaseLost"), (409, "LeaseIdMismatchWithLeaseOperation")]
        {
            assert!(matches!(http(status, code), StoreError::LeaseConflict(_)), "{code}");
        }
        for (status, code) in [(409, "ContainerBeingDeleted"), (503, "ServerBusy")] {
            let error = http(status, code);
            let source = error.source().unwrap().to_string();
            assert!(matches!(error, StoreError::Unavailable { .. }));
            assert_eq!(source, format!("HTTP {status} {code}"));
        }
    }

    #[test]
    fn the_innermost_cause_is_shown_without_query_strings() {
        let refused = std::io::Error::other("error for url (https://h/c/b?sv=1&sig=s3cret): is it up?");
        let error = azure_core::Error::with_error(ErrorKind::Io, refused, "failed");
        assert_eq!(innermost(&error), "error for url (https://h/c/b): is it up?");
    }
}
