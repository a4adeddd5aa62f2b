//! The entity `servicebus://<namespace>/<queue or topic>` and the key for it.

use super::reader::Reader;
use crate::sink::service_bus::{EntityAddress, InvalidConnectionString, ServiceBusConfig, SharedAccessKey};

/// The setting with the connection string.
pub(super) const SERVICE_BUS: &str = "ServiceBus";

impl Reader<'_> {
    /// The entity at `address`, with the key in `ServiceBus` if that is set.
    pub(super) fn service_bus(&self, address: EntityAddress) -> Option<ServiceBusConfig> {
        let key = match self.service_bus_connection_string()? {
            None => None,
            Some(text) => Some(self.usable(SharedAccessKey::new(text, &address))?),
        };
        Some(ServiceBusConfig::new(address, key))
    }

    /// Validates `ServiceBus`, if it is set, although the sink is not Service Bus, or its address is unusable.
    pub(super) fn check_service_bus(&self) {
        if let Some(Some(text)) = self.service_bus_connection_string() {
            self.usable(SharedAccessKey::validate(text));
        }
    }

    /// The text of `ServiceBus`; `Some(None)` if it is not set.
    fn service_bus_connection_string(&self) -> Option<Option<&str>> {
        let text = self.get(SERVICE_BUS);
        if !self.require_resolved(SERVICE_BUS) {
            return None;
        }
        Some(text)
    }

    fn usable<T>(&self, key: Result<T, InvalidConnectionString>) -> Option<T> {
        match key {
            Ok(key) => Some(key),
            Err(error) => {
                self.add_problem(format!(
                    "{SERVICE_BUS} is not usable: {error} (expected \
                     Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…, with an optional EntityPath)"
                ));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, DeliverTo, Settings};

    const KEY: &str = "SharedAccessKeyName=send;SharedAccessKey=hidden";
    const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

    fn config(changes: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let mut settings: Settings = [
            ("DropStorage", "UseDevelopmentStorage=true"),
            ("TENANTS", TENANT),
            ("PRIVATE_KEYS", "file:///tmp"),
            ("DELIVER_TO", "servicebus://contoso/rows"),
        ]
        .into_iter()
        .collect();
        for (name, value) in changes {
            settings.set(name, *value);
        }
        Config::read(&settings).map_err(|error| error.0)
    }

    /// The entity, and whether there is a key.
    fn entity(deliver_to: &DeliverTo) -> (String, bool) {
        match deliver_to {
            DeliverTo::ServiceBus(config) => (config.address.to_string(), config.key.is_some()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_entity_is_accessed_with_the_identity_or_with_a_key() {
        let of = |changes: &[(&str, &str)]| entity(&config(changes).unwrap().common.deliver_to);
        let name = "`rows` in contoso.servicebus.windows.net".to_owned();
        assert_eq!(of(&[]), (name.clone(), false));
        let text = format!("Endpoint=sb://contoso.servicebus.windows.net/;{KEY};EntityPath=rows");
        assert_eq!(of(&[("ServiceBus", &text)]), (name, true));
    }

    #[test]
    fn an_unusable_setting_is_reported_without_its_value() {
        let endpoint = "Endpoint=sb://contoso.servicebus.windows.net/";
        let other = format!("{endpoint};{KEY};EntityPath=other");
        for (changes, problem) in [
            (vec![("ServiceBus", "hidden")], "ServiceBus is not usable: a part is not `name=value`"),
            (vec![("ServiceBus", &*other)], "ServiceBus is not usable: its EntityPath is not the queue or topic"),
            (
                vec![("ServiceBus", "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hidden)")],
                "ServiceBus is a Key Vault reference that the platform did not resolve",
            ),
            (
                vec![("DELIVER_TO", "servicebus://contoso")],
                "DELIVER_TO is not usable: expected a queue or topic after the namespace",
            ),
            (
                vec![("DELIVER_TO", "servicebus://contoso/rows?session=hidden")],
                "DELIVER_TO is not usable: expected nothing or ?session=tenant",
            ),
        ] {
            let problems = config(&changes).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(problem), "{problems:?}");
            assert!(!problems[0].contains("hidden"), "{problems:?}");
        }
        let both = config(&[("DELIVER_TO", "servicebus://contoso"), ("ServiceBus", "hidden")]).unwrap_err();
        assert_eq!(both.len(), 2, "{both:?}");
    }

    #[test]
    fn batches_are_smaller_by_default() {
        let bytes = |changes: &[(&str, &str)]| config(changes).unwrap().common.limits.batch.bytes.get();
        assert_eq!(bytes(&[]), 200 << 10);
        assert_eq!(bytes(&[("BATCH_BYTES", "5000")]), 5000);
        assert_eq!(bytes(&[("DELIVER_TO", "stdout:")]), 1 << 20);
    }

    #[test]
    fn a_tenant_with_a_sink_of_its_own_does_not_use_the_key_of_the_app() {
        let key = format!("Endpoint=sb://contoso.servicebus.windows.net/;{KEY}");
        let tenants = format!(r#"{{"{TENANT}": {{"DELIVER_TO": "servicebus://fabrikam/rows"}}}}"#);
        let config = config(&[("ServiceBus", &key), ("TENANTS", &tenants)]).unwrap();
        assert_eq!(entity(&config.common.deliver_to), ("`rows` in contoso.servicebus.windows.net".into(), true));
        let own = config.tenant_overrides.values().next().unwrap();
        let expected = ("`rows` in fabrikam.servicebus.windows.net".into(), false);
        assert_eq!(entity(own.deliver_to.as_ref().unwrap()), expected);
        assert_eq!(own.limits.batch.bytes.get(), 200 << 10);
    }
}
