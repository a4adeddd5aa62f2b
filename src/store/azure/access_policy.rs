//! Stored access policies of a customer's container: one for each SAS, so that each SAS can be revoked alone.
//!
//! The policy has the permissions and the expiry, and the SAS only names it. Deleting the policy revokes the SAS. A
//! container has at most five policies; they need the account key, because no SAS and no identity may change them.

use std::sync::Arc;

use azure_core::http::{RequestContent, XmlFormat};
use azure_storage_blob::{
    BlobContainerClient, BlobServiceClient, BlobServiceClientOptions,
    models::{AccessPolicy, SignedIdentifier, SignedIdentifiers},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    account::{Account, Credential},
    failure::{Cause, store_error},
    request::send,
    sas::SasError,
    signature::{AccountKey, CONTAINER_PERMISSIONS},
};
use crate::{
    date::date,
    store::{BlobPath, StoreError},
};

/// The maximum number of policies of a container: a limit of Azure.
const MAX_POLICIES: usize = 5;

/// The prefix of the names of the policies that vivadrop creates. Other policies of the container are kept.
const OWN_PREFIX: &str = "vivadrop-";

impl Account {
    /// Deletes the stored access policy `policy` of `container`, or, if `policy` is `None`, all policies that vivadrop
    /// created. Returns the names of the deleted policies. Azure denies each SAS that refers to one of them within 30
    /// seconds.
    ///
    /// Two commands that change the policies of the same container at the same time may overwrite each other's change.
    pub async fn revoke_container_sas(&self, container: &str, policy: Option<&str>) -> Result<Vec<String>, SasError> {
        let key = match &self.credential {
            Credential::AccountKey(key) => key,
            Credential::Identity(_) => return Err(SasError::NotRevocable),
            Credential::Sas(_) => return Err(SasError::AccountHasOnlySas),
        };
        let policies = Policies::of(self, key, container)?;
        let (revoked, kept): (Vec<_>, Vec<_>) = policies.read().await?.into_iter().partition(|stored| match policy {
            Some(policy) => name(stored) == policy,
            None => is_own(stored),
        });
        if let (Some(policy), true) = (policy, revoked.is_empty()) {
            return Err(SasError::UnknownPolicy { policy: policy.to_owned(), policies: names(&kept) });
        }
        if !revoked.is_empty() {
            policies.write(kept).await?;
        }
        Ok(revoked.iter().map(|stored| name(stored).to_owned()).collect())
    }

    /// Creates a stored access policy of `container` that permits creating and writing blobs until `expires`; returns
    /// its name. Deletes the expired policies that vivadrop created.
    pub(super) async fn create_policy(
        &self,
        key: &Arc<AccountKey>,
        container: &str,
        expires: OffsetDateTime,
    ) -> Result<String, SasError> {
        let now = OffsetDateTime::now_utc();
        let policies = Policies::of(self, key, container)?;
        let mut stored = policies.read().await?;
        stored.retain(|stored| !(is_own(stored) && has_expired(stored, now)));
        if stored.len() >= MAX_POLICIES {
            return Err(SasError::TooManyPolicies { policies: names(&stored) });
        }
        let name = format!("{OWN_PREFIX}{}-{:08x}", date(now), Uuid::new_v4().as_fields().0);
        let terms = AccessPolicy {
            expiry: Some(expires),
            permission: Some(CONTAINER_PERMISSIONS.to_owned()),
            ..AccessPolicy::default()
        };
        stored.push(SignedIdentifier { id: Some(name.clone()), access_policy: Some(terms) });
        policies.write(stored).await?;
        Ok(name)
    }
}

fn name(stored: &SignedIdentifier) -> &str {
    stored.id.as_deref().unwrap_or_default()
}

fn names(stored: &[SignedIdentifier]) -> Vec<String> {
    stored.iter().map(|stored| name(stored).to_owned()).collect()
}

fn is_own(stored: &SignedIdentifier) -> bool {
    name(stored).starts_with(OWN_PREFIX)
}

fn has_expired(stored: &SignedIdentifier, now: OffsetDateTime) -> bool {
    stored.access_policy.as_ref().and_then(|policy| policy.expiry).is_some_and(|expiry| expiry <= now)
}

/// The policies of one container.
struct Policies {
    client: BlobContainerClient,
    path: BlobPath,
}

impl Policies {
    fn of(account: &Account, key: &Arc<AccountKey>, container: &str) -> Result<Self, StoreError> {
        let path = BlobPath::new(container, "");
        let options = BlobServiceClientOptions {
            client_options: account.shared_key_options(key),
            ..BlobServiceClientOptions::default()
        };
        let service = BlobServiceClient::new(account.blob_endpoint().clone(), None, Some(options))
            .map_err(|error| store_error(&path, &error))?;
        Ok(Self { client: service.blob_container_client(container), path })
    }

    async fn read(&self) -> Result<Vec<SignedIdentifier>, StoreError> {
        let response = send(&self.path, self.client.get_access_policy(None)).await?;
        let policies = response.into_model().map_err(|_| self.not_xml())?;
        Ok(policies.items.unwrap_or_default())
    }

    /// Replaces all policies. Also ends public access to the container.
    async fn write(&self, policies: Vec<SignedIdentifier>) -> Result<(), StoreError> {
        let policies = SignedIdentifiers { items: Some(policies) };
        let body: RequestContent<SignedIdentifiers, XmlFormat> = policies.try_into().map_err(|_| self.not_xml())?;
        send(&self.path, self.client.set_access_policy(body, None)).await.map(drop)
    }

    fn not_xml(&self) -> StoreError {
        StoreError::unavailable(&self.path, Cause("the stored access policies cannot be parsed".into()))
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn only_a_policy_whose_expiry_is_past_has_expired() {
        let now = OffsetDateTime::now_utc();
        let stored = |expiry| SignedIdentifier {
            id: Some("vivadrop-1".into()),
            access_policy: Some(AccessPolicy { expiry, ..AccessPolicy::default() }),
        };
        assert!(has_expired(&stored(Some(now)), now));
        assert!(!has_expired(&stored(Some(now + Duration::SECOND)), now));
        assert!(!has_expired(&stored(None), now));
        assert!(is_own(&stored(None)));
        assert!(!is_own(&SignedIdentifier { id: Some("read".into()), access_policy: None }));
    }
}
