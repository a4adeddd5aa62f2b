//! `egressPartnerKey`: registers a tenant's public key, with which Microsoft then wraps the keys of the tenant's drops.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, MapAccess},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{ErrorResponse, KeyError, RequestError, StatusCode, VivaApi};
use crate::{
    drop::TenantId,
    json::{Members, Text, deserialize_members},
    keys::key_store::PublicKey,
};

/// The partner's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartnerApp {
    /// `PARTNER_APP_ID`: the application's id.
    pub app_id: Uuid,
    /// `PARTNER_TENANT_ID`: the tenant in which it is registered.
    pub tenant_id: Uuid,
}

/// The request body.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartnerKeyRequest {
    partner_app_id: Uuid,
    tenant_id: Uuid,
    rsa_key: RsaKey,
    encryption_algorithm: &'static str,
    scope_id: TenantId,
}

#[derive(Serialize)]
struct RsaKey {
    kty: &'static str,
    e: String,
    n: String,
}

/// The response to a registration. The API documents these members but does not guarantee them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartnerKeyResponse {
    /// `createdDate`.
    pub created: Option<OffsetDateTime>,
    /// `expirationDate`.
    pub expires: Option<OffsetDateTime>,
}

impl VivaApi {
    /// Registers the public key of `tenant`, with retries.
    pub async fn egress_partner_key(
        &self,
        partner: PartnerApp,
        tenant: TenantId,
        key: &PublicKey,
    ) -> Result<PartnerKeyResponse, KeyError> {
        let [e, n] = [&key.exponent, &key.modulus].map(|bytes| BASE64_STANDARD.encode(bytes));
        let request = PartnerKeyRequest {
            partner_app_id: partner.app_id,
            tenant_id: partner.tenant_id,
            rsa_key: RsaKey { kty: "RSA", e, n },
            encryption_algorithm: "RSA2048",
            scope_id: tenant,
        };
        self.with_retries(|| self.register(&request)).await
    }

    async fn register(&self, request: &PartnerKeyRequest) -> Result<PartnerKeyResponse, RequestError> {
        let response = self.post(self.endpoint("egressPartnerKey"), request).await?;
        match self.read(response).await? {
            Ok(response) => Ok(response),
            Err(response) => Err(self.registration_rejected(&response, request.scope_id).into()),
        }
    }

    fn registration_rejected(&self, response: &ErrorResponse, tenant: TenantId) -> KeyError {
        let ErrorResponse { status, summary } = response;
        match *status {
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT => KeyError::NoKey(format!(
                "{self} rejects the key of tenant {tenant} ({summary}): check PARTNER_APP_ID, PARTNER_TENANT_ID and the \
                 tenant's id; a key that is registered for another customer is also rejected, and `--rotate` creates a \
                 new one"
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => KeyError::Misconfigured(format!(
                "{self} denies permission to register keys ({summary}): check PARTNER_TENANT_ID, PARTNER_APP_ID, \
                 PARTNER_APP_SECRET and VIVA_API_SCOPE, and that the app is registered as a Viva Insights partner"
            )),
            _ => KeyError::Misconfigured(format!("{self} answered {summary}: check VIVA_API_URL")),
        }
    }
}

impl Members for PartnerKeyResponse {
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, values: &mut A) -> Result<bool, A::Error> {
        let date = match name.to_ascii_lowercase().as_str() {
            "createddate" => &mut self.created,
            "expirationdate" => &mut self.expires,
            _ => return Ok(false),
        };
        let text = Text::read(values)?;
        let text = text.as_ref().and_then(Text::as_str);
        *date = date.or_else(|| OffsetDateTime::parse(text?, &Rfc3339).ok());
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for PartnerKeyResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_members(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_dates_of_the_documented_response_are_parsed() {
        let response = json!({"scopeId": {"id": "2b13482-357g-dh58-6j34-d2832fee24b8"},
            "createdDate": "2022-04-25T17:44:10.1935639Z", "encryptionAlgorithm": "RSA2048",
            "expirationDate": "2023-04-25T17:44:10.1935639Z"});
        let parsed: PartnerKeyResponse = serde_json::from_value(response).unwrap();
        assert_eq!(parsed.expires, Some(datetime!(2023-04-25 17:44:10.193_563_9 UTC)));
        let none: PartnerKeyResponse = serde_json::from_value(json!({"createdDate": 7})).unwrap();
        assert_eq!(none, PartnerKeyResponse { created: None, expires: None });
    }
}
