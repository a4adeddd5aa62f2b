//! `egressPartnerKey`: tells Microsoft with which public key the decryption keys of a tenant are to be wrapped.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{ApiError, KeyError, Refusal, StatusCode, VivaApi, may_help_to_try_again};
use crate::{drop::TenantId, keys::custody::PublicKey};

/// The partner, as the API knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartnerApp {
    /// `PARTNER_APP_ID`: the application.
    pub app_id: Uuid,
    /// `PARTNER_TENANT_ID`: the tenant it is registered in.
    pub tenant_id: Uuid,
}

/// What is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartnerKey {
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

/// What the API says of a registration. The members that its page documents; none of them is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// `createdDate`.
    pub created: Option<OffsetDateTime>,
    /// `expirationDate`.
    pub expires: Option<OffsetDateTime>,
}

impl VivaApi {
    /// Registers the public half of the key of `tenant`. Tries again by itself while that may help.
    pub async fn egress_partner_key(
        &self,
        partner: PartnerApp,
        tenant: TenantId,
        key: &PublicKey,
    ) -> Result<Acknowledged, KeyError> {
        let [e, n] = [&key.exponent, &key.modulus].map(|bytes| BASE64_STANDARD.encode(bytes));
        let body = PartnerKey {
            partner_app_id: partner.app_id,
            tenant_id: partner.tenant_id,
            rsa_key: RsaKey { kty: "RSA", e, n },
            encryption_algorithm: "RSA2048",
            scope_id: tenant,
        };
        self.until_answered(|| self.register(&body)).await
    }

    async fn register(&self, body: &PartnerKey) -> Result<Acknowledged, ApiError> {
        let answer = self.exchange(self.endpoint("egressPartnerKey"), body).await?;
        match self.content(answer).await? {
            Ok(answer) => Ok(acknowledged(&answer)),
            Err(refusal) => Err(self.not_registered(body.scope_id, &refusal)),
        }
    }

    fn not_registered(&self, tenant: TenantId, refusal: &Refusal) -> ApiError {
        let Refusal { status, answered, wait } = refusal;
        let error = match *status {
            status if may_help_to_try_again(status.as_u16()) => {
                KeyError::Unavailable { what: self.to_string(), source: answered.clone().into() }
            }
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT => KeyError::Refused(format!(
                "{self} does not register the key of tenant {tenant} ({answered}): check PARTNER_APP_ID, PARTNER_TENANT_ID \
                 and the tenant's id; a key that is another customer's is refused as well, and `--rotate` makes a new one"
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => KeyError::Refused(format!(
                "{self} does not let us register keys ({answered}): check PARTNER_TENANT_ID, PARTNER_APP_ID, \
                 PARTNER_APP_SECRET and VIVA_API_SCOPE, and that the app is registered as a Viva Insights partner"
            )),
            _ => KeyError::Refused(format!("{self} answered with {answered}: check VIVA_API_URL")),
        };
        ApiError { error, wait: *wait }
    }
}

fn acknowledged(answer: &Map<String, Value>) -> Acknowledged {
    let date = |name: &str| {
        let (_, value) = answer.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
    };
    Acknowledged { created: date("createdDate"), expires: date("expirationDate") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_dates_of_the_documented_answer_are_read() {
        let answer = json!({"scopeId": {"id": "2b13482-357g-dh58-6j34-d2832fee24b8"},
            "createdDate": "2022-04-25T17:44:10.1935639Z", "encryptionAlgorithm": "RSA2048",
            "expirationDate": "2023-04-25T17:44:10.1935639Z"});
        let read = acknowledged(answer.as_object().unwrap());
        assert_eq!(read.expires, Some(datetime!(2023-04-25 17:44:10.193_563_9 UTC)));
        let none = acknowledged(json!({"createdDate": 7}).as_object().unwrap());
        assert_eq!(none, Acknowledged { created: None, expires: None });
    }
}
