//! What the SDK's errors mean for a blob.
//!
//! They carry request URLs, and with a SAS those are secrets; some carry what the service said of a signature. Only a
//! status, the service's error code and the innermost cause come out of here.

use std::error::Error;

use azure_core::{error::ErrorKind, http::StatusCode};

use super::super::StoreError;
use crate::store::BlobPath;

/// Why the service gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Cause(pub(super) String);

pub(super) fn store_error(path: &BlobPath, error: &azure_core::Error) -> StoreError {
    let code = error_code(error).unwrap_or_default();
    match error.http_status() {
        Some(StatusCode::NotFound) => StoreError::Missing(path.clone()),
        // A lease that somebody holds, or that lapsed, answers 412 as well, and is no new version.
        Some(StatusCode::PreconditionFailed | StatusCode::Conflict) if code.starts_with("Lease") => {
            StoreError::NotHeld(path.clone())
        }
        Some(StatusCode::PreconditionFailed) => StoreError::Changed(path.clone()),
        Some(StatusCode::Conflict) if code == "BlobAlreadyExists" => StoreError::Changed(path.clone()),
        Some(StatusCode::Unauthorized | StatusCode::Forbidden) => StoreError::Denied(path.clone()),
        Some(status) => {
            let status = format!("HTTP {} {code}", u16::from(status));
            StoreError::unavailable(path, Cause(status.trim_end().to_owned()))
        }
        None => StoreError::unavailable(path, Cause(innermost(error))),
    }
}

/// Whether the service says that the container, and not the blob, is what is missing.
pub(super) fn lacks_container(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::NotFound) && error_code(error) == Some("ContainerNotFound")
}

/// Whether somebody else made the container meanwhile.
pub(super) fn container_is_there(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::Conflict) && error_code(error) == Some("ContainerAlreadyExists")
}

/// Whether the service says that a lease is on the blob, or is being broken.
pub(super) fn is_leased(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::Conflict) && error_code(error).is_some_and(|code| code.starts_with("Lease"))
}

/// What the service calls the failure, such as `ServerBusy`.
pub(crate) fn error_code(error: &azure_core::Error) -> Option<&str> {
    match error.kind() {
        ErrorKind::HttpResponse { error_code, .. } => error_code.as_deref(),
        _ => None,
    }
}

/// The innermost cause says it best (`Connection refused`), and is below the layer that adds URLs.
pub(crate) fn innermost(error: &azure_core::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    without_query(cause.to_string().lines().next().unwrap_or_default())
}

fn without_query(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((before, behind)) if before.contains("://") => format!("{before}{}", closing(behind)),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The punctuation behind a URL.
fn closing(text: &str) -> &str {
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
    fn an_answer_means_what_the_service_documents() {
        assert!(matches!(http(404, "BlobNotFound"), StoreError::Missing(_)));
        assert!(matches!(http(412, "ConditionNotMet"), StoreError::Changed(_)));
        assert!(matches!(http(409, "BlobAlreadyExists"), StoreError::Changed(_)));
        assert!(matches!(http(401, "NoAuthenticationInformation"), StoreError::Denied(_)));
        assert!(matches!(http(403, "AuthenticationFailed"), StoreError::Denied(_)));
        for (status, code) in [(412, "LeaseIdMissing"), (412, "LeaseLost"), (409, "LeaseIdMismatchWithLeaseOperation")]
        {
            assert!(matches!(http(status, code), StoreError::NotHeld(_)), "{code}");
        }
        for (status, code) in [(409, "ContainerBeingDeleted"), (503, "ServerBusy")] {
            let error = http(status, code);
            let source = error.source().unwrap().to_string();
            assert!(matches!(error, StoreError::Unavailable { .. }));
            assert_eq!(source, format!("HTTP {status} {code}"));
        }
    }

    #[test]
    fn the_innermost_cause_is_told_without_query_strings() {
        let refused = std::io::Error::other("error for url (https://h/c/b?sv=1&sig=s3cret): is it up?");
        let error = azure_core::Error::with_error(ErrorKind::Io, refused, "failed");
        assert_eq!(innermost(&error), "error for url (https://h/c/b): is it up?");
    }
}
