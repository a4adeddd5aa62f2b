//! The account and the address of the queue `queue://<name>`.

use super::{Storage, reader::Reader};
use crate::{
    identity::Identity,
    sink::queue::{QueueConfig, QueueName},
    store::azure::Account,
};

impl Reader<'_> {
    /// The queue called `name` in the account of `SinkStorage`, or in that of `DropStorage` if no `SinkStorage…` is
    /// set.
    pub(super) fn queue(&self, name: QueueName, drop_storage: Option<&Storage>) -> Option<QueueConfig> {
        let has_sink_storage = self.has_sink_storage();
        let (setting, storage) = if has_sink_storage {
            ("SinkStorage", self.sink_storage()?)
        } else {
            ("DropStorage", drop_storage?.clone())
        };
        let Storage::Azure(account) = storage else {
            let state = if has_sink_storage { "is a folder" } else { "is not set, and DropStorage is a folder" };
            self.add_problem(format!(
                "SinkStorage {state}: expected a storage account, because folders have no queues"
            ));
            return None;
        };
        let config = QueueConfig::new(&account, name);
        if config.is_none() {
            self.add_problem(format!(
                "{setting} has no queue endpoint: expected QueueEndpoint=… in the connection string, or \
                 {setting}__queueServiceUri next to {setting}__blobServiceUri"
            ));
        }
        config
    }

    /// Validates `SinkStorage`, if it is set, although the sink is no queue, or its name is unusable.
    pub(super) fn check_sink_storage(&self) {
        if self.has_sink_storage() {
            self.sink_storage();
        }
    }

    fn has_sink_storage(&self) -> bool {
        let settings =
            ["", "__blobServiceUri", "__queueServiceUri", "__clientId"].map(|part| format!("SinkStorage{part}"));
        settings.iter().any(|setting| self.get(setting).is_some())
    }

    /// The account of `SinkStorage…`. Its queue endpoint alone is enough.
    fn sink_storage(&self) -> Option<Storage> {
        let connection_string = self.get("SinkStorage");
        let blob_uri = self.get("SinkStorage__blobServiceUri");
        let queue_uri = self.get("SinkStorage__queueServiceUri");
        match (connection_string, blob_uri, queue_uri) {
            (Some(_), None, Some(_)) => {
                self.add_problem(
                    "SinkStorage and SinkStorage__queueServiceUri are both set: expected one of them".to_owned(),
                );
                None
            }
            (None, None, Some(uri)) => {
                let identity = self.account_identity("SinkStorage__clientId");
                // The endpoint is validated even if the identity is unusable.
                let any = Identity::Managed(None);
                let account = Account::queues_with_identity(uri, identity.as_ref().unwrap_or(&any));
                self.account("SinkStorage", account).filter(|_| identity.is_some())
            }
            _ => self.storage("SinkStorage"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, DeliverTo, Settings};

    const WITH_ACCOUNT_NAME: &str = "AccountName=acct;AccountKey=c2VjcmV0";
    const WITHOUT_QUEUE_ENDPOINT: &str = "BlobEndpoint=https://blobs.contoso.com;SharedAccessSignature=sv=1&sig=hidden";

    /// The URL of the queue, or the problems.
    fn read(changes: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let mut settings: Settings = [
            ("DropStorage", "UseDevelopmentStorage=true"),
            ("TENANTS", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"),
            ("PRIVATE_KEYS", "file:///tmp"),
            ("DELIVER_TO", "queue://rows"),
        ]
        .into_iter()
        .collect();
        for (name, value) in changes {
            settings.set(name, *value);
        }
        match Config::read(&settings).map_err(|error| error.0)?.common.deliver_to {
            DeliverTo::Queue(queue) => Ok(queue.url().to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_queue_is_in_the_drop_account_unless_sink_storage_is_set() {
        let url = |changes: &[(&str, &str)]| read(changes).unwrap();
        assert_eq!(url(&[]), "http://127.0.0.1:10001/devstoreaccount1/rows");
        assert_eq!(url(&[("SinkStorage", WITH_ACCOUNT_NAME)]), "https://acct.queue.core.windows.net/rows");
        assert_eq!(
            url(&[("SinkStorage", WITH_ACCOUNT_NAME), ("DropStorage", "file:///tmp")]),
            url(&[("SinkStorage", WITH_ACCOUNT_NAME)])
        );

        let by_blob_uri = ("SinkStorage__blobServiceUri", "https://one.blob.core.windows.net");
        let by_queue_uri = ("SinkStorage__queueServiceUri", "https://two.queue.core.windows.net");
        assert_eq!(url(&[by_blob_uri]), "https://one.queue.core.windows.net/rows");
        assert_eq!(url(&[by_queue_uri]), "https://two.queue.core.windows.net/rows");
        assert_eq!(url(&[by_blob_uri, by_queue_uri]), "https://two.queue.core.windows.net/rows");
    }

    #[test]
    fn an_unusable_queue_account_is_reported_under_its_own_setting() {
        for (changes, problem) in [
            (
                vec![("DropStorage", "file:///tmp")],
                "SinkStorage is not set, and DropStorage is a folder: expected a storage account",
            ),
            (vec![("SinkStorage", "file:///sink")], "SinkStorage is a folder: expected a storage account"),
            (
                vec![("DropStorage", WITHOUT_QUEUE_ENDPOINT)],
                "DropStorage has no queue endpoint: expected QueueEndpoint=…",
            ),
            (
                vec![("SinkStorage", WITHOUT_QUEUE_ENDPOINT)],
                "SinkStorage has no queue endpoint: expected QueueEndpoint=…",
            ),
            (vec![("SinkStorage", "rows")], "SinkStorage is not usable: expected a connection string"),
            (vec![("SinkStorage__clientId", "7a1f0a52-6c5e-4f0e-9f43-5a3f3a2b1c0d")], "SinkStorage is not set"),
            (
                vec![("SinkStorage__queueServiceUri", "http://two.queue.core.windows.net")],
                "SinkStorage is not usable: queueServiceUri",
            ),
            (
                vec![
                    ("SinkStorage", WITH_ACCOUNT_NAME),
                    ("SinkStorage__blobServiceUri", "https://a.blob.core.windows.net"),
                ],
                "SinkStorage and SinkStorage__blobServiceUri are both set",
            ),
            (
                vec![("DELIVER_TO", "queue://Rows")],
                "DELIVER_TO is not usable: a queue name has 3 to 63 lowercase letters",
            ),
            (vec![("DELIVER_TO", "queue://")], "DELIVER_TO is not usable: a queue name"),
        ] {
            let problems = read(&changes).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(problem), "{problems:?}");
            assert!(!problems[0].contains("hidden"), "{problems:?}");
        }
    }

    #[test]
    fn a_problem_with_the_drop_account_is_not_repeated_for_its_queue() {
        let problems = read(&[("DropStorage", "nothing"), ("DELIVERY_PATIENCE", "long")]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
