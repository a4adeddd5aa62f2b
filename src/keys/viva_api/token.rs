//! Tokens for the API: of the partner's application, or else of the app's own identity.

use std::{fmt, sync::Arc, time::Duration};

use azure_core::credentials::{Secret, TokenCredential};
use url::Url;

use super::{InvalidVivaApi, RequestError};
/// The partner's application: `PARTNER_TENANT_ID`, `PARTNER_APP_ID`, `PARTNER_APP_SECRET`.
pub use crate::identity::Application as Partner;
use crate::{
    identity::{Identity, TokenError, without_retries},
    keys::KeyError,
    loopback::is_loopback,
};

/// The credential for the API at `api`: of the `partner` if it is given, otherwise of the app's `identity`. An API on
/// loopback needs no token.
pub fn credential(
    api: &Url,
    partner: Option<&Partner>,
    identity: &Identity,
) -> Result<Option<Arc<dyn TokenCredential>>, InvalidVivaApi> {
    if is_loopback(api) {
        return Ok(None);
    }
    let credential = match partner {
        Some(partner) => partner.credential(without_retries()),
        None => identity.credential(without_retries()),
    };
    credential.map(Some).map_err(InvalidVivaApi::Credential)
}

/// Provides tokens for one scope.
pub(super) struct TokenSource {
    pub(super) credential: Arc<dyn TokenCredential>,
    pub(super) scope: String,
}

impl TokenSource {
    /// A token that is new or cached.
    pub(super) async fn get(&self, timeout: Duration) -> Result<Secret, RequestError> {
        let scopes = [self.scope.as_str()];
        match tokio::time::timeout(timeout, self.credential.get_token(&scopes, None)).await {
            Ok(Ok(token)) => Ok(token.token),
            Ok(Err(error)) => Err(request_error(TokenError::of(&error))),
            Err(elapsed) => Err(request_error(TokenError::Unavailable { why: elapsed.to_string(), retry_after: None })),
        }
    }
}

/// How to fix a missing token for the API.
const FIX_TOKEN: &str = "renew PARTNER_APP_SECRET if it has expired, and check PARTNER_TENANT_ID, PARTNER_APP_ID and \
                         VIVA_API_SCOPE; without a secret the app's own identity requests tokens, or on your own machine \
                         the user of `az login`";

fn request_error(error: TokenError) -> RequestError {
    match error {
        TokenError::Unavailable { why, retry_after } => {
            RequestError { error: KeyError::unavailable("the token service", why), retry_after }
        }
        TokenError::Rejected(_) | TokenError::NotSignedIn => {
            let (what, why) = ("the Viva Insights API".to_owned(), error.to_string());
            KeyError::NoToken { what, why, todo: FIX_TOKEN }.into()
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn a_rejected_secret_names_the_settings_to_check() {
        let RequestError { error, .. } = request_error(TokenError::Rejected("HTTP 401, AADSTS7000215".into()));
        assert_eq!(error.verdict(), Verdict::Retry, "the drop is not at fault");
        let text = error.to_string();
        assert!(text.contains("answered HTTP 401, AADSTS7000215): renew PARTNER_APP_SECRET"), "{text}");
    }

    #[test]
    fn a_transient_failure_of_the_token_service_keeps_its_retry_after() {
        let retry_after = Some(Duration::from_secs(7));
        let failed = request_error(TokenError::Unavailable { why: "HTTP 503".into(), retry_after });
        assert!(matches!(failed.error, KeyError::Unavailable { .. }), "{:?}", failed.error);
        assert_eq!(failed.retry_after, retry_after);
    }

    #[test]
    fn an_api_on_loopback_needs_no_token() {
        let partner =
            Partner { tenant_id: "partner.example".to_owned(), app_id: "app".to_owned(), app_secret: "hunter2".into() };
        let loopback = "http://127.0.0.1:1".parse().unwrap();
        let remote = "https://api.example".parse().unwrap();
        assert!(credential(&loopback, Some(&partner), &Identity::Developer).unwrap().is_none());
        assert!(credential(&remote, Some(&partner), &Identity::Developer).unwrap().is_some());
        assert!(credential(&remote, None, &Identity::Managed(None)).unwrap().is_some());
        assert!(!format!("{partner:?}").contains("hunter2"));
    }
}
