//! Tests access to the API without requesting keys.

use serde::Serialize;

use super::{RequestError, VivaApi};
use crate::{http_response::is_transient, keys::KeyError};

/// A request for the keys of no drop and no tenant. The API documents 400 as the response, and changes nothing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DummyRequest {
    request_id: &'static str,
    scope_id: uuid::Uuid,
}

impl VivaApi {
    /// Requests a token. Returns `false` if the API needs none.
    pub async fn try_token(&self) -> Result<bool, KeyError> {
        let Some(token) = &self.token else {
            return Ok(false);
        };
        token.get(self.limits.try_timeout).await.map(|_| true).map_err(|failed| failed.error)
    }

    /// Sends a dummy request. The response 400 shows that the API is reachable and accepts our token.
    pub async fn probe(&self) -> Result<(), KeyError> {
        let request = DummyRequest { request_id: "", scope_id: uuid::Uuid::nil() };
        let endpoint = self.endpoint("egressDecryptionKey");
        let response = self.post(endpoint, &request).await.map_err(|RequestError { error, .. }| error)?;
        let status = response.status();
        match status.as_u16() {
            400 => Ok(()),
            401 | 403 => Err(KeyError::Misconfigured(format!(
                "{self} rejects the token (HTTP {status}): check PARTNER_TENANT_ID, PARTNER_APP_ID, PARTNER_APP_SECRET \
                 and VIVA_API_SCOPE, and that the app is registered as a Viva Insights partner"
            ))),
            code if is_transient(code) => Err(KeyError::unavailable(self.to_string(), format!("HTTP {status}"))),
            _ => {
                Err(KeyError::Misconfigured(format!("{self} answered HTTP {status}, expected 400: check VIVA_API_URL")))
            }
        }
    }
}
