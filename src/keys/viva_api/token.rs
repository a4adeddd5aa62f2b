//! Tokens for the API: the partner's client secret, or who the app is anyway.

use std::{fmt, sync::Arc, time::Duration};

use azure_core::{
    credentials::{Secret, TokenCredential},
    http::{ClientOptions, RetryOptions},
};
use url::Url;

use super::{ApiError, NotUsable};
/// The partner's own application: `PARTNER_TENANT_ID`, `PARTNER_APP_ID`, `PARTNER_APP_SECRET`.
pub use crate::identity::Application as Partner;
use crate::loopback::is_loopback;
use crate::{
    identity::{Identity, NoToken},
    keys::KeyError,
};

/// What proves who we are to the API at `api`: the `partner`'s secret, or else the app's own `identity`. Nothing, on
/// loopback.
pub fn credential(
    api: &Url,
    partner: Option<&Partner>,
    identity: &Identity,
) -> Result<Option<Arc<dyn TokenCredential>>, NotUsable> {
    if is_loopback(api) {
        return Ok(None);
    }
    // One loop of tries is enough, and it is ours.
    let options = ClientOptions { retry: RetryOptions::none(), ..ClientOptions::default() };
    let credential = match partner {
        Some(partner) => partner.credential(options),
        None => identity.credential(options),
    };
    credential.map(Some).map_err(NotUsable::Credential)
}

/// A credential and what it is asked for.
pub(super) struct Token {
    pub(super) credential: Arc<dyn TokenCredential>,
    pub(super) scope: String,
}

impl Token {
    /// The token, new or kept.
    pub(super) async fn get(&self, timeout: Duration) -> Result<Secret, ApiError> {
        let scopes = [self.scope.as_str()];
        match tokio::time::timeout(timeout, self.credential.get_token(&scopes, None)).await {
            Ok(Ok(token)) => Ok(token.token),
            Ok(Err(error)) => Err(trouble(NoToken::of(&error))),
            Err(elapsed) => Err(trouble(NoToken::Unavailable { why: elapsed.to_string(), wait: None })),
        }
    }
}

/// What to do where the API cannot be asked for want of a token.
const TO_MEND: &str = "renew PARTNER_APP_SECRET if it has expired, and check PARTNER_TENANT_ID, PARTNER_APP_ID and \
                       VIVA_API_SCOPE; without a secret it is the app's own identity, and on your own machine `az login`";

fn trouble(no_token: NoToken) -> ApiError {
    match no_token {
        NoToken::Unavailable { why, wait } => {
            ApiError { error: KeyError::Unavailable { what: "the token service".to_owned(), source: why.into() }, wait }
        }
        NoToken::Refused(_) | NoToken::NobodySignedIn => {
            let (what, why) = ("the Viva Insights API".to_owned(), no_token.to_string());
            KeyError::NoToken { what, why, todo: TO_MEND }.into()
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn a_refusal_names_the_settings_to_look_at() {
        let ApiError { error, .. } = trouble(NoToken::Refused("HTTP 401, AADSTS7000215".into()));
        assert_eq!(error.verdict(), Verdict::Retry, "the drop can do nothing for it");
        let text = error.to_string();
        assert!(text.contains("answered HTTP 401, AADSTS7000215): renew PARTNER_APP_SECRET"), "{text}");
    }

    #[test]
    fn a_token_service_that_cannot_now_is_asked_again_when_it_says() {
        let wait = Some(Duration::from_secs(7));
        let trouble = trouble(NoToken::Unavailable { why: "HTTP 503".into(), wait });
        assert!(matches!(trouble.error, KeyError::Unavailable { .. }), "{:?}", trouble.error);
        assert_eq!(trouble.wait, wait);
    }

    #[test]
    fn no_token_is_asked_for_on_loopback() {
        let partner =
            Partner { tenant_id: "partner.example".to_owned(), app_id: "app".to_owned(), app_secret: "hunter2".into() };
        let loopback = "http://127.0.0.1:1".parse().unwrap();
        let elsewhere = "https://api.example".parse().unwrap();
        assert!(credential(&loopback, Some(&partner), &Identity::Developer).unwrap().is_none());
        assert!(credential(&elsewhere, Some(&partner), &Identity::Developer).unwrap().is_some());
        assert!(credential(&elsewhere, None, &Identity::Managed(None)).unwrap().is_some());
        assert!(!format!("{partner:?}").contains("hunter2"));
    }
}
