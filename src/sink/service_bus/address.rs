//! The address of an entity, as `DELIVER_TO` gives it: `servicebus://<namespace>/<queue or topic>`.

use std::{fmt, str::FromStr};

use url::Url;

/// The suffix of namespaces in Azure's public cloud.
const PUBLIC_CLOUD: &str = ".servicebus.windows.net";

/// The maximum length of the path of a queue or topic.
/// <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas>
const LONGEST_ENTITY: usize = 260;

/// The version of the management interface, which the SDKs use too.
const MANAGEMENT_VERSION: &str = "2021-05";

/// A queue or topic of a Service Bus namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityAddress {
    /// The host of the namespace, in lower case, with a port if it is not 443.
    pub(super) host: String,
    /// The path of the queue or topic.
    pub(super) entity: String,
    /// Whether the session of a message is the tenant (`?session=tenant`).
    pub(super) tenant_sessions: bool,
}

/// Why an address is invalid. The text of the address is not repeated, because it may contain a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The namespace is neither a name nor a host name.
    #[error("expected the name of the namespace, or its host name, after servicebus://")]
    Namespace,
    /// The path is not that of an entity.
    #[error(
        "expected a queue or topic after the namespace: at most 260 letters, digits, periods, hyphens, underscores and slashes"
    )]
    Entity,
    /// The path is that of a subscription, which receives from its topic.
    #[error("expected the topic, not a subscription of it")]
    Subscription,
    /// The query is not `session=tenant`.
    #[error("expected nothing or ?session=tenant after the queue or topic")]
    Query,
}

impl EntityAddress {
    /// The resource that a shared access signature names.
    pub(super) fn resource(&self) -> String {
        format!("https://{}/{}", self.host, self.entity)
    }

    /// The URL that accepts messages.
    pub(super) fn messages_url(&self) -> Url {
        self.url("/messages")
    }

    /// The URL of the entity's properties.
    pub(super) fn management_url(&self) -> Url {
        self.url(&format!("?api-version={MANAGEMENT_VERSION}"))
    }

    fn url(&self, rest: &str) -> Url {
        format!("{}{rest}", self.resource()).parse().expect("the host and the path are validated")
    }
}

impl FromStr for EntityAddress {
    type Err = InvalidAddress;

    /// Parses `<namespace>/<queue or topic>[?session=tenant]`.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (path, tenant_sessions) = match text.split_once('?') {
            None => (text, false),
            Some((path, "session=tenant")) => (path, true),
            Some(_) => return Err(InvalidAddress::Query),
        };
        let (namespace, entity) = path.split_once('/').unwrap_or((path, ""));
        let host = host_of(namespace).ok_or(InvalidAddress::Namespace)?;
        if !is_entity(entity) {
            return Err(InvalidAddress::Entity);
        }
        if entity.to_ascii_lowercase().contains("/subscriptions/") {
            return Err(InvalidAddress::Subscription);
        }
        Ok(Self { host, entity: entity.to_owned(), tenant_sessions })
    }
}

impl fmt::Display for EntityAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` in {}", self.entity, self.host)
    }
}

/// The host of a namespace that is given by its name, or by its host name in any Azure cloud.
fn host_of(namespace: &str) -> Option<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
    if namespace.is_empty() || namespace.ends_with(':') || !namespace.bytes().all(is_allowed) {
        return None;
    }
    let host = if namespace.contains(['.', ':']) { namespace } else { &format!("{namespace}{PUBLIC_CLOUD}") };
    host_in_url(&format!("https://{host}"))
}

/// The host of `url`, with the port if it is not 443, in lower case; `None` unless the URL has nothing else.
pub(super) fn host_in_url(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if url.scheme() != "https" || !is_bare || has_credentials {
        return None;
    }
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Whether the text can be the path of a queue or topic.
fn is_entity(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_allowed);
    text.len() <= LONGEST_ENTITY && text.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EntityAddress, InvalidAddress> {
        text.parse()
    }

    #[test]
    fn a_namespace_is_a_name_or_a_host_name_in_any_cloud() {
        for (text, resource) in [
            ("contoso/rows", "https://contoso.servicebus.windows.net/rows"),
            ("Contoso-1/Rows", "https://contoso-1.servicebus.windows.net/Rows"),
            ("contoso.servicebus.chinacloudapi.cn/a/b_c.d-e", "https://contoso.servicebus.chinacloudapi.cn/a/b_c.d-e"),
            ("localhost:8443/rows", "https://localhost:8443/rows"),
            ("contoso.servicebus.windows.net:443/rows", "https://contoso.servicebus.windows.net/rows"),
        ] {
            assert_eq!(parse(text).unwrap().resource(), resource);
        }
        for text in
            ["", "/rows", "me@contoso/rows", "con toso/rows", "sb://contoso/rows", "contoso:port/rows", "ü/rows"]
        {
            assert_eq!(parse(text), Err(InvalidAddress::Namespace), "{text}");
        }
    }

    #[test]
    fn an_entity_is_a_path_of_a_queue_or_topic() {
        let longest = format!("contoso/{}", "a".repeat(260));
        assert!(parse(&longest).is_ok());
        let too_long = format!("{longest}a");
        for text in
            ["contoso", "contoso/", "contoso//rows", "contoso/rows/", "contoso/a/../b", "contoso/a%2fb", &too_long]
        {
            assert_eq!(parse(text), Err(InvalidAddress::Entity), "{text}");
        }
        assert_eq!(parse("contoso/topic/Subscriptions/all"), Err(InvalidAddress::Subscription));
    }

    #[test]
    fn the_only_option_is_a_session_per_tenant() {
        assert!(!parse("contoso/rows").unwrap().tenant_sessions);
        assert!(parse("contoso/rows?session=tenant").unwrap().tenant_sessions);
        for text in ["contoso/rows?", "contoso/rows?session=drop", "contoso/rows?session=tenant&a=b"] {
            assert_eq!(parse(text), Err(InvalidAddress::Query), "{text}");
        }
    }

    #[test]
    fn messages_and_properties_have_urls_below_the_entity() {
        let address = parse("contoso/a/b").unwrap();
        let (messages, properties) = (address.messages_url(), address.management_url());
        assert_eq!(messages.as_str(), "https://contoso.servicebus.windows.net/a/b/messages");
        assert_eq!(properties.as_str(), "https://contoso.servicebus.windows.net/a/b?api-version=2021-05");
        assert_eq!(address.to_string(), "`a/b` in contoso.servicebus.windows.net");
    }
}
