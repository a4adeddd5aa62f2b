//! Credentials of the SDK that need no token service.

use std::time::Duration;

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::ErrorKind,
};
use time::OffsetDateTime;

use super::entra::Tokens;

/// Always has a valid token for the resource of the requested scope; without `Tokens`, never has one.
#[derive(Clone)]
pub(crate) struct Credential(pub(crate) Option<Tokens>);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let no_token = || azure_core::Error::with_message(ErrorKind::Credential, "hidden");
        let tokens = self.0.as_ref().ok_or_else(no_token)?;
        let [scope] = scopes else { panic!("one scope: {scopes:?}") };
        let resource = scope.strip_suffix("/.default").unwrap();
        Ok(AccessToken::new(tokens.issue(resource), OffsetDateTime::now_utc() + Duration::from_secs(3600)))
    }
}
