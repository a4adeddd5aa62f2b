//! The key in a connection string, and the tokens that it signs.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::address::{EntityAddress, host_in_url};

/// How long a token is valid. Clocks may differ by this much.
const VALID_FOR: Duration = Duration::from_secs(60 * 60);

/// The characters that are percent-encoded in a token: all but unreserved ones.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A shared access key that may send to one entity.
#[derive(Clone)]
pub struct SharedAccessKey {
    /// The resource of the tokens, percent-encoded.
    resource: String,
    /// The name of the key, percent-encoded.
    name: String,
    hmac: Hmac<Sha256>,
}

/// Why a connection string is unusable for an entity. Contains no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConnectionString {
    /// A part is not `name=value`, or appears twice.
    #[error("a part is not `name=value`, or appears twice")]
    Syntax,
    /// The part with this name is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// The endpoint is not `sb://` and a host.
    #[error("its Endpoint is not sb:// and the host name of a namespace")]
    Endpoint,
    /// The string is for the emulator.
    #[error("the emulator has no REST interface: expected a namespace in Azure")]
    Emulator,
    /// The string is for another namespace than `DELIVER_TO`.
    #[error("its Endpoint is not the namespace in DELIVER_TO")]
    OtherNamespace,
    /// The key is for another entity than `DELIVER_TO`.
    #[error("its EntityPath is not the queue or topic in DELIVER_TO")]
    OtherEntity,
}

/// The parts of a connection string.
struct Parts<'a> {
    host: String,
    key_name: &'a str,
    key: &'a str,
    entity: Option<&'a str>,
}

impl SharedAccessKey {
    /// The key of a connection string for the namespace of `address`, or for its entity alone.
    pub fn new(connection_string: &str, address: &EntityAddress) -> Result<Self, InvalidConnectionString> {
        let Parts { host, key_name, key, entity } = parse(connection_string)?;
        if host != address.host {
            return Err(InvalidConnectionString::OtherNamespace);
        }
        // Service Bus does not distinguish case in the paths of entities.
        if entity.is_some_and(|entity| !entity.eq_ignore_ascii_case(&address.entity)) {
            return Err(InvalidConnectionString::OtherEntity);
        }
        Ok(Self {
            resource: encode(&address.resource()),
            name: encode(key_name),
            // The text of the key signs, not the bytes that it encodes.
            hmac: Hmac::new_from_slice(key.as_bytes()).expect("HMAC accepts keys of any length"),
        })
    }

    /// Validates a connection string whose entity is not known.
    pub fn validate(connection_string: &str) -> Result<(), InvalidConnectionString> {
        parse(connection_string).map(drop)
    }

    /// The value of `Authorization` for a request at `now`.
    /// <https://learn.microsoft.com/rest/api/eventhub/generate-sas-token>
    pub(super) fn authorization(&self, now: SystemTime) -> String {
        let expires = (now + VALID_FOR).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut hmac = self.hmac.clone();
        hmac.update(format!("{}\n{expires}", self.resource).as_bytes());
        let signature = encode(&BASE64_STANDARD.encode(hmac.finalize().into_bytes()));
        let Self { resource, name, .. } = self;
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn={name}")
    }
}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedAccessKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Parses `Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…[;EntityPath=…]`. Other parts are ignored.
fn parse(text: &str) -> Result<Parts<'_>, InvalidConnectionString> {
    let (mut endpoint, mut key_name, mut key, mut entity, mut emulator) = (None, None, None, None, None);
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or(InvalidConnectionString::Syntax)?;
        let field = match name.trim().to_ascii_lowercase().as_str() {
            "endpoint" => &mut endpoint,
            "sharedaccesskeyname" => &mut key_name,
            "sharedaccesskey" => &mut key,
            "entitypath" => &mut entity,
            "usedevelopmentemulator" => &mut emulator,
            _ => continue,
        };
        if field.replace(value.trim()).is_some() {
            return Err(InvalidConnectionString::Syntax);
        }
    }
    if emulator.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(InvalidConnectionString::Emulator);
    }
    let missing = InvalidConnectionString::Missing;
    let present = |value: Option<_>, name| value.filter(|value: &&str| !value.is_empty()).ok_or(missing(name));
    let endpoint = present(endpoint, "Endpoint")?.strip_prefix("sb://").ok_or(InvalidConnectionString::Endpoint)?;
    let host = host_in_url(&format!("https://{endpoint}")).ok_or(InvalidConnectionString::Endpoint)?;
    let (key_name, key) = (present(key_name, "SharedAccessKeyName")?, present(key, "SharedAccessKey")?);
    Ok(Parts { host, key_name, key, entity })
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "SharedAccessKeyName=send;SharedAccessKey=hidden+/=";

    fn key(text: &str) -> Result<SharedAccessKey, InvalidConnectionString> {
        SharedAccessKey::new(text, &"contoso/a/rows".parse().unwrap())
    }

    #[test]
    fn a_token_is_signed_with_the_text_of_the_key() {
        let key = key(&format!("Endpoint=sb://contoso.servicebus.windows.net/;{KEY}")).unwrap();
        // Computed with Python: hmac.new(b"hidden+/=", f"{quote(resource, safe='')}\n1900003600".encode(), "sha256").
        let expected = "SharedAccessSignature sr=https%3A%2F%2Fcontoso.servicebus.windows.net%2Fa%2Frows\
                        &sig=jxKKFyGA07jRDy7rbxA9M4SV55qL8afx5eBEqNyoomQ%3D&se=1900003600&skn=send";
        assert_eq!(key.authorization(UNIX_EPOCH + Duration::from_secs(1_900_000_000)), expected);
    }

    #[test]
    fn the_scope_of_the_namespace_or_of_the_entity_is_enough() {
        for endpoint in ["sb://contoso.servicebus.windows.net", "sb://CONTOSO.servicebus.windows.net:443/"] {
            for entity in ["", ";EntityPath=a/rows", ";EntityPath=A/Rows;TransportType=Amqp"] {
                assert!(key(&format!("endpoint={endpoint};{KEY}{entity}")).is_ok());
            }
        }
    }

    #[test]
    fn a_connection_string_for_something_else_is_invalid() {
        use InvalidConnectionString::{Emulator, Endpoint, Missing, OtherEntity, OtherNamespace, Syntax};
        let endpoint = "Endpoint=sb://contoso.servicebus.windows.net/";
        for (text, error) in [
            ("hidden".to_owned(), Syntax),
            (format!("{endpoint};{endpoint};{KEY}"), Syntax),
            (KEY.to_owned(), Missing("Endpoint")),
            (format!("{endpoint};SharedAccessKey=hidden"), Missing("SharedAccessKeyName")),
            (format!("{endpoint};SharedAccessKeyName=send;SharedAccessKey="), Missing("SharedAccessKey")),
            (format!("Endpoint=https://contoso.servicebus.windows.net/;{KEY}"), Endpoint),
            (format!("Endpoint=sb://contoso.servicebus.windows.net/rows;{KEY}"), Endpoint),
            (format!("Endpoint=sb://localhost;{KEY};UseDevelopmentEmulator=true"), Emulator),
            (format!("Endpoint=sb://fabrikam.servicebus.windows.net/;{KEY}"), OtherNamespace),
            (format!("{endpoint};{KEY};EntityPath=a/other"), OtherEntity),
        ] {
            let found = key(&text).unwrap_err();
            assert_eq!(found, error);
            assert!(!format!("{found} {found:?}").contains("hidden"));
        }
    }

    #[test]
    fn debug_output_has_no_key() {
        let key = key(&format!("Endpoint=sb://contoso.servicebus.windows.net/;{KEY}")).unwrap();
        assert_eq!(format!("{key:?}"), r#"SharedAccessKey { name: "send", .. }"#);
    }
}
