//! Whether the API lets us in, asked without asking for anything.

use serde::Serialize;

use super::{ApiError, VivaApi, may_help_to_try_again};
use crate::keys::KeyError;

/// What the API is asked: keys for no drop of no tenant. A request without a value makes no key and changes nothing; it is
/// documented to be answered with 400.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NoQuestion {
    request_id: &'static str,
    scope_id: uuid::Uuid,
}

impl VivaApi {
    /// Asks for a token, where one is needed; says whether it is.
    pub async fn try_token(&self) -> Result<bool, KeyError> {
        let Some(token) = &self.token else {
            return Ok(false);
        };
        token.get(self.try_timeout).await.map(|_| true).map_err(|trouble| trouble.error)
    }

    /// Asks for the keys of no drop. That being refused as a bad request shows that the API is there and lets us in.
    pub async fn knock(&self) -> Result<(), KeyError> {
        let question = NoQuestion { request_id: "", scope_id: uuid::Uuid::nil() };
        let endpoint = self.endpoint("egressDecryptionKey");
        let answer = self.exchange(endpoint, &question).await.map_err(|ApiError { error, .. }| error)?;
        let status = answer.status();
        match status.as_u16() {
            400 => Ok(()),
            401 | 403 => Err(KeyError::Refused(format!(
                "{self} does not let the token in (HTTP {status}): check PARTNER_TENANT_ID, PARTNER_APP_ID, \
                 PARTNER_APP_SECRET and VIVA_API_SCOPE, and that the app is registered as a Viva Insights partner"
            ))),
            code if may_help_to_try_again(code) => {
                Err(KeyError::Unavailable { what: self.to_string(), source: format!("HTTP {status}").into() })
            }
            _ => Err(KeyError::Refused(format!(
                "{self} answers HTTP {status} where 400 is documented: check VIVA_API_URL"
            ))),
        }
    }
}
