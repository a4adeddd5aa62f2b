//! Tokens for the API: a client secret or the app's managed identity.
//!
//! The credentials of `azure_identity` keep a token for each scope until five minutes before it lapses, and one call at a
//! time renews it, so nothing is kept here.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use azure_core::{
    credentials::{Secret, TokenCredential},
    error::ErrorKind,
    http::{ClientOptions, RetryOptions, headers},
};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId,
};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use url::Url;

use super::{
    NotUsable, Trouble,
    answer::{may_help_to_try_again, retry_after},
    is_loopback,
};
use crate::keys::KeyError;

/// The partner's own application: `PARTNER_TENANT_ID`, `PARTNER_APP_ID`, `PARTNER_APP_SECRET`.
#[derive(Debug, Clone)]
pub struct Partner {
    /// The partner's tenant, not a customer's.
    pub tenant_id: String,
    /// The application.
    pub app_id: String,
    /// Its client secret.
    pub app_secret: SecretString,
}

/// What proves who we are to the API at `api`: the `partner`'s secret, or else the app's managed identity (`client_id`
/// names a user-assigned one). Nothing, on loopback.
pub fn credential(
    api: &Url,
    partner: Option<&Partner>,
    client_id: Option<&str>,
) -> Result<Option<Arc<dyn TokenCredential>>, NotUsable> {
    if is_loopback(api) {
        return Ok(None);
    }
    // One loop of tries is enough, and it is ours.
    let client_options = ClientOptions { retry: RetryOptions::none(), ..ClientOptions::default() };
    let credential: Arc<dyn TokenCredential> = match partner {
        Some(partner) => ClientSecretCredential::new(
            &partner.tenant_id,
            partner.app_id.clone(),
            Secret::new(partner.app_secret.expose_secret().to_owned()),
            Some(ClientSecretCredentialOptions { client_options }),
        )
        .map_err(NotUsable::Credential)?,
        None => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
            user_assigned_id: client_id.map(|id| UserAssignedId::ClientId(id.to_owned())),
            client_options,
        }))
        .map_err(NotUsable::Credential)?,
    };
    Ok(Some(credential))
}

/// A credential and what it is asked for.
pub(super) struct Token {
    pub(super) credential: Arc<dyn TokenCredential>,
    pub(super) scope: String,
}

impl Token {
    /// The token, new or kept.
    pub(super) async fn get(&self, timeout: Duration) -> Result<Secret, Trouble> {
        let scopes = [self.scope.as_str()];
        match tokio::time::timeout(timeout, self.credential.get_token(&scopes, None)).await {
            Ok(Ok(token)) => Ok(token.token),
            Ok(Err(error)) => Err(trouble(&error)),
            Err(elapsed) => Err(unavailable(elapsed).into()),
        }
    }
}

fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> KeyError {
    KeyError::Unavailable { what: "the token service".to_owned(), source: source.into() }
}

/// What a failing credential means. Its own words are left out: they quote the token service's answer.
fn trouble(error: &azure_core::Error) -> Trouble {
    let Some(Answer { status, code, wait }) = answer_in(error) else {
        return unavailable(unanswered(error)).into();
    };
    let answered = match code {
        Some(code) => format!("HTTP {status}, AADSTS{code}"),
        None => format!("HTTP {status}"),
    };
    // The managed identity's endpoint says 404 and 410 while it starts.
    let error = if may_help_to_try_again(status) || matches!(status, 404 | 410) {
        unavailable(answered)
    } else {
        KeyError::Refused(format!(
            "the token service gives no token for the Viva Insights API ({answered}): check PARTNER_TENANT_ID, \
             PARTNER_APP_ID, PARTNER_APP_SECRET and VIVA_API_SCOPE, or without them the app's managed identity"
        ))
    };
    Trouble { error, wait }
}

/// What the token service answered.
struct Answer {
    status: u16,
    /// The number of Entra's error, by which its documentation lists it.
    code: Option<String>,
    wait: Option<Duration>,
}

fn answer_in(error: &azure_core::Error) -> Option<Answer> {
    chain(error).find_map(|cause| match cause.downcast_ref::<azure_core::Error>()?.kind() {
        ErrorKind::HttpResponse { status, error_code, raw_response } => Some(Answer {
            status: u16::from(*status),
            code: error_code
                .as_deref()
                .and_then(|codes| codes.split(',').next())
                .filter(|code| matches!(code.len(), 1..=10) && code.bytes().all(|byte| byte.is_ascii_digit()))
                .map(str::to_owned),
            wait: raw_response
                .as_ref()
                .and_then(|response| response.headers().get_optional_str(&headers::RETRY_AFTER))
                .and_then(|value| retry_after(value, OffsetDateTime::now_utc())),
        }),
        _ => None,
    })
}

/// Why there was no answer: the innermost cause where that is the network's, such as `Connection refused`.
fn unanswered(error: &azure_core::Error) -> String {
    let is_network = |cause: &(dyn Error + 'static)| {
        cause
            .downcast_ref::<azure_core::Error>()
            .is_some_and(|error| matches!(error.kind(), ErrorKind::Io | ErrorKind::Connection))
    };
    match chain(error).last() {
        Some(cause) if chain(error).any(is_network) => cause.to_string(),
        _ => "its answer cannot be read".to_owned(),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use azure_core::{
        Bytes,
        http::{RawResponse, StatusCode, headers::Headers},
    };

    use super::*;

    /// As `azure_identity` hands on what the token service answered.
    fn answered(status: StatusCode, code: Option<&str>, retry_after: Option<&'static str>) -> azure_core::Error {
        let mut headers = Headers::new();
        if let Some(value) = retry_after {
            headers.insert(headers::RETRY_AFTER, value);
        }
        let kind = ErrorKind::HttpResponse {
            status,
            error_code: code.map(str::to_owned),
            raw_response: Some(Box::new(RawResponse::from_bytes(status, headers, Bytes::new()))),
        };
        let inner = azure_core::Error::new(kind, "Invalid client secret: hunter2");
        azure_core::Error::with_error(ErrorKind::Credential, inner, "authentication failed: hunter2")
    }

    #[test]
    fn a_wrong_secret_is_refused_by_the_number_of_its_error() {
        let Trouble { error, .. } = trouble(&answered(StatusCode::Unauthorized, Some("7000215,50000"), None));
        let KeyError::Refused(text) = error else { panic!("{error:?}") };
        assert!(text.contains("(HTTP 401, AADSTS7000215): check PARTNER_TENANT_ID"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_token_service_that_cannot_now_is_asked_again_when_it_says() {
        let Trouble { error, wait } = trouble(&answered(StatusCode::ServiceUnavailable, None, Some("7")));
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error:?}");
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_token_service_that_is_not_there_is_asked_again() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let inner = azure_core::Error::new(ErrorKind::Connection, refused);
        let Trouble { error, .. } = trouble(&azure_core::Error::with_error(ErrorKind::Credential, inner, "failed"));
        let KeyError::Unavailable { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.to_string(), "connection refused");
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_not_quoted() {
        let inner = azure_core::Error::with_message(ErrorKind::DataConversion, "invalid type: string \"hunter2\"");
        let Trouble { error, .. } = trouble(&inner);
        let KeyError::Unavailable { source, .. } = error else { panic!("{error:?}") };
        assert!(!source.to_string().contains("hunter2"), "{source}");
    }

    #[test]
    fn no_token_is_asked_for_on_loopback() {
        let partner =
            Partner { tenant_id: "partner.example".to_owned(), app_id: "app".to_owned(), app_secret: "hunter2".into() };
        let loopback = "http://127.0.0.1:1".parse().unwrap();
        let elsewhere = "https://api.example".parse().unwrap();
        assert!(credential(&loopback, Some(&partner), None).unwrap().is_none());
        assert!(credential(&elsewhere, Some(&partner), None).unwrap().is_some());
        assert!(!format!("{partner:?}").contains("hunter2"));
    }
}
