use std::sync::Arc;

use super::*;
use crate::store::{BlobPath, Store, WriteIf, local::LocalStore};

const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

const EMAIL: &str = r#"{"attributes":[{"name":"Email hours"}]}"#;
const EMAIL_AND_CALLS: &str = r#"{"attributes":[{"name":"Email hours"},{"name":"Call hours"}]}"#;
const EMAIL_WITH_ROLES: &str = r#"{"attributes":[{"name":"Email hours","roles":{"Manager":["report-filters"]}}]}"#;

struct Storage {
    _folder: tempfile::TempDir,
    store: Arc<LocalStore>,
    ledger: Ledger,
}

impl Storage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::new(folder.path()).unwrap());
        let ledger = Ledger::new(Arc::clone(&store) as Arc<dyn Store>, "state");
        Self { _folder: folder, store, ledger }
    }

    async fn save(&self, json: &str) -> Saved {
        let etag = load(&self.ledger, tenant()).await.unwrap().etag;
        save(&self.ledger, tenant(), json.as_bytes(), etag.as_ref()).await.unwrap()
    }

    async fn edit_by_hand(&self, json: &str) {
        let path = BlobPath::new("state", format!("attributes/{TENANT}.json"));
        self.store.write(&path, json.to_owned().into(), WriteIf::Always).await.unwrap();
    }

    async fn loaded(&self) -> TenantDefinitions {
        load(&self.ledger, tenant()).await.unwrap()
    }
}

fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

fn names(loaded: &TenantDefinitions) -> Vec<&str> {
    let attributes = loaded.definitions.iter().flat_map(|definitions| &definitions.attributes);
    attributes.map(|attribute| attribute.name.as_str()).collect()
}

#[tokio::test]
async fn every_change_except_of_roles_raises_the_revision() {
    let storage = Storage::new();
    assert_eq!(storage.loaded().await.revision, 0);
    for (json, revision) in [(EMAIL, 1), (EMAIL_AND_CALLS, 2), (EMAIL, 3), (EMAIL_WITH_ROLES, 3), (EMAIL_WITH_ROLES, 3)]
    {
        assert_eq!(storage.save(json).await.revision, revision, "{json}");
        assert_eq!(storage.loaded().await.revision, revision, "{json}");
    }
    let record = storage.ledger.tenant_imports(tenant()).await.unwrap();
    assert_eq!(record.deletions, [Deletion { attribute: "Call hours".into(), sequence: 1 }]);
    assert_eq!(record.definitions.unwrap().number, 4);
}

#[tokio::test]
async fn definitions_that_somebody_else_has_changed_are_not_overwritten() {
    let storage = Storage::new();
    let first = storage.save(EMAIL).await;
    for outdated in [None, Some(ETag("other".into()))] {
        let result = save(&storage.ledger, tenant(), EMAIL_AND_CALLS.as_bytes(), outdated.as_ref()).await;
        assert!(matches!(result, Err(SaveError::Changed)), "{result:?}");
    }
    assert_eq!(storage.loaded().await.etag, Some(first.etag));
}

#[tokio::test]
async fn invalid_definitions_are_not_stored() {
    let storage = Storage::new();
    storage.save(EMAIL).await;
    let etag = storage.loaded().await.etag;
    let result = save(&storage.ledger, tenant(), b"{\"attributes\":[{\"name\":\"Steps\"}]}", etag.as_ref()).await;
    assert!(matches!(result, Err(SaveError::Invalid(_))), "{result:?}");
    assert_eq!(storage.loaded().await.etag, etag);
}

#[tokio::test]
async fn an_invalid_edit_by_hand_keeps_the_last_valid_version_in_force() {
    let storage = Storage::new();
    storage.edit_by_hand(EMAIL).await;
    let loaded = storage.loaded().await;
    assert_eq!((names(&loaded), loaded.revision), (vec!["Email hours"], 1));
    let (accepted, _) = accept(&storage.ledger, tenant()).await.unwrap();
    assert_eq!(accepted, loaded);

    storage.edit_by_hand(r#"{"attributes":[{"name":"Steps"},{"name":"Collaboration hours"}]}"#).await;
    let loaded = storage.loaded().await;
    assert_eq!((names(&loaded), loaded.revision), (vec!["Email hours"], 1));
    assert_eq!(loaded.problems.len(), 2, "{:?}", loaded.problems);

    let saved = storage.save(EMAIL_AND_CALLS).await;
    let loaded = storage.loaded().await;
    assert_eq!(
        (names(&loaded), loaded.revision, loaded.etag.clone()),
        (vec!["Email hours", "Call hours"], 2, Some(saved.etag))
    );
    assert_eq!(loaded.problems, [""; 0]);
}

#[tokio::test]
async fn deleted_definitions_are_not_in_force() {
    let storage = Storage::new();
    storage.save(EMAIL).await;
    storage.store.delete(&BlobPath::new("state", format!("attributes/{TENANT}.json")), None).await.unwrap();
    let loaded = storage.loaded().await;
    assert_eq!((names(&loaded), loaded.etag.clone(), loaded.problems.len()), (vec![], None, 1));
}
