//! What the vault's failures mean. Its own words are left out, but for the codes that its documentation lists.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use azure_core::{error::ErrorKind, http::headers};

use super::Vault;
use crate::{
    drop::TenantId,
    identity::{NoToken, network_cause},
    keys::{
        KeyError,
        answer::{code_in, inner_code_in, may_help_to_try_again},
    },
    retry::{Attempt, retry_after},
};

/// What came of a try that gave no answer to use.
pub(super) enum Failure {
    /// The vault refuses: asking again cannot help.
    Refused(Refusal),
    /// It did not answer, or cannot now.
    Unavailable {
        /// What happened.
        why: String,
        /// How long it asks us to wait.
        wait: Option<Duration>,
    },
    /// It was not asked: there is no token.
    NoToken(NoToken),
    /// What answers is no vault, or asks for a token of another domain.
    Unreadable,
}

impl Failure {
    pub(super) fn of(error: &azure_core::Error) -> Self {
        match error.kind() {
            ErrorKind::HttpResponse { status, raw_response, .. } => {
                let body = raw_response.as_deref().map(|response| response.body().as_ref());
                let refusal = Refusal {
                    status: u16::from(*status),
                    code: body.and_then(code_in),
                    inner: body.and_then(inner_code_in),
                };
                if !may_help_to_try_again(refusal.status) {
                    return Self::Refused(refusal);
                }
                let headers = raw_response.as_deref().map(|response| response.headers());
                let asked = headers.and_then(|headers| headers.get_optional_str(&headers::RETRY_AFTER));
                let wait = asked.and_then(|value| retry_after(value, SystemTime::now()));
                Self::Unavailable { why: refusal.answered(), wait }
            }
            ErrorKind::Credential => Self::NoToken(NoToken::of(error)),
            ErrorKind::Io | ErrorKind::Connection => {
                Self::silent(network_cause(error).unwrap_or_else(|| "the connection broke".to_owned()))
            }
            _ => Self::Unreadable,
        }
    }

    /// It did not answer.
    pub(super) fn silent(why: String) -> Self {
        Self::Unavailable { why, wait: None }
    }
}

/// What to do where the vault cannot be asked for want of a token.
const TO_MEND: &str = "renew AZURE_CLIENT_SECRET if it has expired, and check AZURE_TENANT_ID and AZURE_CLIENT_ID; without them \
                       it is the app's managed identity, and on your own machine `az login`";

impl NoToken {
    /// What it means that the vault could not be asked.
    pub(super) fn attempt<T>(self, vault: &Vault) -> Attempt<T, KeyError> {
        match self {
            Self::Unavailable { why, wait } => {
                let what = "the token service".to_owned();
                Attempt::Transient(KeyError::Unavailable { what, source: why.into() }, wait)
            }
            Self::Refused(_) | Self::NobodySignedIn => {
                let (what, why) = (vault.to_string(), self.to_string());
                Attempt::Permanent(KeyError::NoToken { what, why, todo: TO_MEND })
            }
        }
    }
}

/// What it means that `secret`, which is something like ``the secret `x` ``, cannot be read.
pub(crate) fn of_secret<T>(error: &azure_core::Error, secret: &dyn fmt::Display) -> Attempt<T, String> {
    let told = |why: &str| format!("{secret} cannot be read: {why}");
    match Failure::of(error) {
        Failure::Unavailable { why, wait } => Attempt::Transient(told(&why), wait),
        Failure::NoToken(ref why @ NoToken::Unavailable { wait, .. }) => {
            Attempt::Transient(told(&why.to_string()), wait)
        }
        Failure::NoToken(why) => Attempt::Permanent(told(&format!("{why}: {TO_MEND}"))),
        Failure::Unreadable => Attempt::Permanent(told("what answers is no vault")),
        Failure::Refused(refusal) => {
            let answered = refusal.answered();
            Attempt::Permanent(told(&match (refusal.status, refusal.inner.as_deref()) {
                (404, _) => format!("there is none of that name and version ({answered})"),
                (403, Some("ForbiddenByFirewall" | "ForbiddenByConnection")) => {
                    format!(
                        "the vault's firewall does not let this machine in ({answered}): allow the app's network there"
                    )
                }
                (403, Some("SecretDisabled")) => format!("it is disabled ({answered}): enable it there"),
                (403, _) => format!("the app may not ({answered}): grant its identity the role Key Vault Secrets User"),
                _ => answered,
            }))
        }
    }
}

/// What is asked of the vault.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Decrypt,
    Read,
    Create,
    List,
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt with",
            Self::Read => "read",
            Self::Create => "make",
            Self::List => "list",
        }
    }

    /// The least of the built-in roles that may do it.
    fn role(self) -> &'static str {
        match self {
            Self::Decrypt | Self::Read | Self::List => "Key Vault Crypto User",
            Self::Create => "Key Vault Crypto Officer",
        }
    }
}

/// An answer that is no success, and stays none.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The code of the error, and the one inside it, which says why: `Forbidden`, `ForbiddenByRbac`.
    pub(super) code: Option<String>,
    pub(super) inner: Option<String>,
}

impl Refusal {
    fn answered(&self) -> String {
        match self.inner.as_ref().or(self.code.as_ref()) {
            Some(code) => format!("HTTP {}, {code}", self.status),
            None => format!("HTTP {}", self.status),
        }
    }

    /// What was refused, why as far as the codes tell, and what to do.
    pub(super) fn told(&self, vault: &Vault, operation: Operation, tenant: Option<TenantId>) -> String {
        let answered = self.answered();
        let (verb, role) = (operation.verb(), operation.role());
        let key = tenant.map_or_else(|| "the keys".to_owned(), |tenant| format!("the key `{tenant}`"));
        match (self.status, self.inner.as_deref()) {
            (404, _) => format!(
                "{vault} has no such key as `{}`, or not the version that the drop names ({answered}): \
                 `vivadrop onboard` makes a tenant's key",
                tenant.map_or_else(String::new, |tenant| tenant.to_string())
            ),
            (403, Some("ForbiddenByFirewall" | "ForbiddenByConnection")) => format!(
                "the firewall of {vault} does not let this machine in ({answered}): allow the app's network there, or give \
                 it a private endpoint"
            ),
            (403, Some("KeyDisabled")) => format!("{key} in {vault} is disabled ({answered}): enable it there"),
            (403, Some("KeyNotYetValid" | "KeyExpired")) => {
                format!("{key} in {vault} is outside its dates ({answered}): set its activation and expiry dates there")
            }
            (403, Some("KeyOperationForbidden")) => format!(
                "{key} in {vault} is not for that ({answered}): add decrypt and unwrapKey to its permitted operations"
            ),
            (401 | 403, _) => format!(
                "{vault} does not let us {verb} {key} ({answered}): give the identity of this app the role {role} on the \
                 vault"
            ),
            _ => format!("{vault} does not {verb} {key} ({answered}): check PRIVATE_KEYS"),
        }
    }
}
