//! The queue of `queue://<name>`: whose account it is in.

use super::{Storage, reader::Reader};
use crate::{
    sink::queue::{QueueConfig, QueueName},
    store::azure::Account,
};

const NAME: &str = "SinkStorage";

impl Reader<'_> {
    /// The queue called `name`, in `SinkStorage` or else in the account of the drops.
    pub(super) fn queue(&self, name: QueueName, drop_storage: Option<&Storage>) -> Option<QueueConfig> {
        let own = [NAME, "SinkStorage__blobServiceUri", "SinkStorage__queueServiceUri"];
        let (setting, storage) = match own.iter().any(|setting| self.get(setting).is_some()) {
            true => (NAME, self.sink_storage()?),
            false => ("DropStorage", drop_storage?.clone()),
        };
        let Storage::Azure(account) = storage else {
            let state = if setting == NAME { "is a folder" } else { "is not set, and DropStorage is a folder" };
            self.complain(format!("{NAME} {state}: expected an account, since folders have no queues"));
            return None;
        };
        let config = QueueConfig::new(&account, name);
        if config.is_none() {
            self.complain(format!(
                "{setting} does not say where the queues are: expected QueueEndpoint=… in the connection string, or \
                 {setting}__queueServiceUri beside {setting}__blobServiceUri"
            ));
        }
        config
    }

    fn sink_storage(&self) -> Option<Storage> {
        let [blob_uri, queue_uri] =
            ["blobServiceUri", "queueServiceUri"].map(|what| self.get(&format!("{NAME}__{what}")));
        match (self.get(NAME), blob_uri, queue_uri) {
            (Some(_), None, Some(_)) => {
                self.complain(format!("{NAME} and {NAME}__queueServiceUri are both set: expected one of them"));
                None
            }
            (None, None, Some(uri)) => {
                let identity = self.identity_at("SinkStorage__clientId")?;
                self.account(NAME, Account::queues_with_identity(uri, &identity))
            }
            _ => self.storage(NAME),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, DeliverTo, Settings};

    const BY_NAME: &str = "AccountName=acct;AccountKey=c2VjcmV0";
    const WITHOUT_QUEUES: &str = "BlobEndpoint=https://blobs.contoso.com;SharedAccessSignature=sv=1&sig=hidden";

    fn read(changes: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let mut settings: Settings = [
            ("DropStorage", "UseDevelopmentStorage=true"),
            ("TENANTS", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10"),
            ("PRIVATE_KEYS", "file:///keys"),
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
    fn a_queue_is_in_the_account_of_the_drops_or_in_one_of_its_own() {
        let at = |changes: &[(&str, &str)]| read(changes).unwrap();
        assert_eq!(at(&[]), "http://127.0.0.1:10001/devstoreaccount1/rows");
        assert_eq!(at(&[("SinkStorage", BY_NAME)]), "https://acct.queue.core.windows.net/rows");
        assert_eq!(at(&[("SinkStorage", BY_NAME), ("DropStorage", "file:///drops")]), at(&[("SinkStorage", BY_NAME)]));

        let by_blob_uri = ("SinkStorage__blobServiceUri", "https://one.blob.core.windows.net");
        let by_queue_uri = ("SinkStorage__queueServiceUri", "https://two.queue.core.windows.net");
        assert_eq!(at(&[by_blob_uri]), "https://one.queue.core.windows.net/rows");
        assert_eq!(at(&[by_queue_uri]), "https://two.queue.core.windows.net/rows");
        assert_eq!(at(&[by_blob_uri, by_queue_uri]), "https://two.queue.core.windows.net/rows");
    }

    #[test]
    fn an_account_without_queues_is_complained_about_by_the_setting_that_names_it() {
        for (changes, complaint) in [
            (
                vec![("DropStorage", "file:///drops")],
                "SinkStorage is not set, and DropStorage is a folder: expected an account",
            ),
            (vec![("SinkStorage", "file:///sink")], "SinkStorage is a folder: expected an account"),
            (
                vec![("DropStorage", WITHOUT_QUEUES)],
                "DropStorage does not say where the queues are: expected QueueEndpoint=…",
            ),
            (
                vec![("SinkStorage", WITHOUT_QUEUES)],
                "SinkStorage does not say where the queues are: expected QueueEndpoint=…",
            ),
            (vec![("SinkStorage", "rows")], "SinkStorage is not usable: expected a connection string"),
            (
                vec![("SinkStorage__queueServiceUri", "http://two.queue.core.windows.net")],
                "SinkStorage is not usable: queueServiceUri",
            ),
            (
                vec![("SinkStorage", BY_NAME), ("SinkStorage__blobServiceUri", "https://a.blob.core.windows.net")],
                "SinkStorage and SinkStorage__blobServiceUri are both set",
            ),
            (
                vec![("DELIVER_TO", "queue://Rows")],
                "DELIVER_TO is not usable: a queue's name has 3 to 63 small letters",
            ),
            (vec![("DELIVER_TO", "queue://")], "DELIVER_TO is not usable: a queue's name"),
        ] {
            let complaints = read(&changes).unwrap_err();
            assert_eq!(complaints.len(), 1, "{complaints:?}");
            assert!(complaints[0].starts_with(complaint), "{complaints:?}");
            assert!(!complaints[0].contains("hidden"), "{complaints:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_drops_is_not_said_again_of_their_queue() {
        let complaints = read(&[("DropStorage", "nothing"), ("DELIVERY_PATIENCE", "long")]).unwrap_err();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }
}
