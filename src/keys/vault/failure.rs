//! Classifies the vault's failures and explains how to fix them. Of the vault's own text only documented error codes
//! are repeated.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use azure_core::{error::ErrorKind, http::headers};

use super::Vault;
use crate::{
    drop::TenantId,
    http_response::{error_code, inner_error_code, is_transient},
    identity::{TokenError, network_cause},
    keys::KeyError,
    retry::{Attempt, retry_after},
};

/// Why one try has no result.
pub(super) enum Failure {
    /// The vault rejects the request, and would reject it again at once.
    Rejected(ErrorResponse),
    /// The vault did not answer, or reports a transient failure.
    Unavailable {
        /// The cause.
        why: String,
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The request was not sent, because there is no token.
    NoToken(TokenError),
    /// The server is not a vault, or requests a token for another domain.
    NotAVault,
}

impl Failure {
    /// Classifies an error of the SDK.
    pub(super) fn of(error: &azure_core::Error) -> Self {
        match error.kind() {
            ErrorKind::HttpResponse { status, raw_response, .. } => {
                let body = raw_response.as_deref().map(|response| response.body().as_ref());
                let response = ErrorResponse {
                    status: u16::from(*status),
                    code: body.and_then(error_code),
                    inner: body.and_then(inner_error_code),
                };
                if !is_transient(response.status) {
                    return Self::Rejected(response);
                }
                let headers = raw_response.as_deref().map(|response| response.headers());
                let header = headers.and_then(|headers| headers.get_optional_str(&headers::RETRY_AFTER));
                let retry_after = header.and_then(|value| retry_after(value, SystemTime::now()));
                Self::Unavailable { why: response.summary(), retry_after }
            }
            ErrorKind::Credential => Self::NoToken(TokenError::of(error)),
            ErrorKind::Io | ErrorKind::Connection => {
                Self::no_response(network_cause(error).unwrap_or_else(|| "the connection broke".to_owned()))
            }
            _ => Self::NotAVault,
        }
    }

    /// There was no response within the time limit, or the connection failed.
    pub(super) fn no_response(why: String) -> Self {
        Self::Unavailable { why, retry_after: None }
    }
}

/// How to fix a missing token for the vault.
const FIX_TOKEN: &str = "renew AZURE_CLIENT_SECRET if it has expired, and check AZURE_TENANT_ID and AZURE_CLIENT_ID; without \
                         them the app's managed identity requests tokens, or on your own machine the user of `az login`";

impl TokenError {
    /// Whether to retry a call for which there was no token.
    pub(super) fn attempt<T>(self, vault: &Vault) -> Attempt<T, KeyError> {
        match self {
            Self::Unavailable { why, retry_after } => {
                Attempt::Transient(KeyError::unavailable("the token service", why), retry_after)
            }
            Self::Rejected(_) | Self::NotSignedIn => {
                let (what, why) = (vault.to_string(), self.to_string());
                Attempt::Permanent(KeyError::NoToken { what, why, todo: FIX_TOKEN })
            }
        }
    }
}

/// Why one try to read a secret failed. The texts name the secret.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SecretFailure {
    /// The vault or the token service did not answer, or reports a transient failure.
    #[error("{why}")]
    Unavailable {
        /// The secret and the cause.
        why: String,
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The secret is missing, or access to it is denied, until a person fixes it.
    #[error("{0}")]
    Misconfigured(String),
}

impl SecretFailure {
    /// Classifies an error of the SDK. `secret` names the secret, such as ``the secret `x` ``.
    pub(crate) fn of(error: &azure_core::Error, secret: &dyn fmt::Display) -> Self {
        let unreadable = |why: &str| format!("{secret} cannot be read: {why}");
        match Failure::of(error) {
            Failure::Unavailable { why, retry_after } => Self::Unavailable { why: unreadable(&why), retry_after },
            Failure::NoToken(ref error @ TokenError::Unavailable { retry_after, .. }) => {
                Self::Unavailable { why: unreadable(&error.to_string()), retry_after }
            }
            Failure::NoToken(error) => Self::Misconfigured(unreadable(&format!("{error}: {FIX_TOKEN}"))),
            Failure::NotAVault => Self::Misconfigured(unreadable("the server is not a vault")),
            Failure::Rejected(response) => Self::Misconfigured(unreadable(&response.explain_secret())),
        }
    }
}

/// An operation on a vault's keys.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Decrypt,
    Read,
    Create,
    Disable,
    List,
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt with",
            Self::Read => "read",
            Self::Create => "create",
            Self::Disable => "disable",
            Self::List => "list",
        }
    }

    /// The built-in role with the fewest permissions that allows the operation.
    fn role(self) -> &'static str {
        match self {
            Self::Decrypt | Self::Read | Self::List => "Key Vault Crypto User",
            Self::Create | Self::Disable => "Key Vault Crypto Officer",
        }
    }
}

/// An error response that is not transient.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    pub(super) status: u16,
    /// The error code, such as `Forbidden`.
    pub(super) code: Option<String>,
    /// The code of the inner error, which is more precise, such as `ForbiddenByRbac`.
    pub(super) inner: Option<String>,
}

impl ErrorResponse {
    /// Whether the vault says that the key or the version does not exist (`KeyNotFound`). A 404 without such a code
    /// comes from another server: the address is wrong, and no key is missing.
    pub(super) fn is_key_missing(&self) -> bool {
        self.status == 404 && self.code.as_deref().is_some_and(|code| code.ends_with("NotFound"))
    }

    /// Whether the vault has this version of the key, but does not decrypt with it. Other versions may be usable.
    pub(super) fn is_unusable_version(&self) -> bool {
        const INNER_CODES: [&str; 4] = ["KeyDisabled", "KeyNotYetValid", "KeyExpired", "KeyOperationForbidden"];
        self.status == 403 && self.inner.as_deref().is_some_and(|inner| INNER_CODES.contains(&inner))
    }

    /// The status and the most precise code.
    fn summary(&self) -> String {
        match self.inner.as_ref().or(self.code.as_ref()) {
            Some(code) => format!("HTTP {}, {code}", self.status),
            None => format!("HTTP {}", self.status),
        }
    }

    /// The reason why a secret cannot be read, as far as the codes tell, and how to fix it.
    fn explain_secret(&self) -> String {
        let answered = self.summary();
        match (self.status, self.inner.as_deref()) {
            (404, _) => format!("there is no secret of that name and version ({answered})"),
            (403, Some("ForbiddenByFirewall" | "ForbiddenByConnection")) => {
                format!(
                    "the vault's firewall denies access to this machine ({answered}): allow the app's network there"
                )
            }
            (403, Some("SecretDisabled")) => format!("it is disabled ({answered}): enable it in the vault"),
            (403, _) => {
                format!("permission denied ({answered}): grant the app's identity the role Key Vault Secrets User")
            }
            _ => answered,
        }
    }

    /// The rejected operation, the reason as far as the codes tell, and how to fix it.
    pub(super) fn explain(&self, vault: &Vault, operation: Operation, tenant: Option<TenantId>) -> String {
        let answered = self.summary();
        let (verb, role) = (operation.verb(), operation.role());
        let key = tenant.map_or_else(|| "the keys".to_owned(), |tenant| format!("the key `{tenant}`"));
        match (self.status, self.inner.as_deref()) {
            (404, _) if self.is_key_missing() => format!(
                "{vault} has no key `{}`, or not this version of it ({answered}): `vivadrop onboard` creates \
                 a tenant's key",
                tenant.map_or_else(String::new, |tenant| tenant.to_string())
            ),
            (403, Some("ForbiddenByFirewall" | "ForbiddenByConnection")) => format!(
                "the firewall of {vault} denies access to this machine ({answered}): allow the app's network there, or \
                 give the vault a private endpoint"
            ),
            (403, Some("KeyDisabled")) => format!("{key} in {vault} is disabled ({answered}): enable it in the vault"),
            (403, Some("KeyNotYetValid" | "KeyExpired")) => format!(
                "{key} in {vault} is outside its dates ({answered}): set its activation and expiry dates in the vault"
            ),
            (403, Some("KeyOperationForbidden")) => format!(
                "{key} in {vault} does not permit this operation ({answered}): add decrypt and unwrapKey to its permitted \
                 operations"
            ),
            (401 | 403, _) => format!(
                "{vault} denies permission to {verb} {key} ({answered}): grant the app's identity the role {role} on the \
                 vault"
            ),
            _ => format!("{vault} does not {verb} {key} ({answered}): check PRIVATE_KEYS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, code: Option<&str>) -> ErrorResponse {
        ErrorResponse { status, code: code.map(str::to_owned), inner: None }
    }

    #[test]
    fn a_key_is_missing_only_if_the_vault_says_so() {
        assert!(response(404, Some("KeyNotFound")).is_key_missing());
        for (status, code) in [(404, None), (404, Some("InternalServerError")), (403, Some("KeyNotFound")), (410, None)]
        {
            assert!(!response(status, code).is_key_missing(), "{status} {code:?}");
        }
    }
}
