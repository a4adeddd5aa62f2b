//! What the words of a setting mean. Each type says what it expects, for the complaint.

use std::{num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};

use url::Url;

use super::{DropContainer, PrivateKeysIn};
use crate::{
    keys::{unwrap::KeyWrap, vault::vault_url},
    loopback::is_loopback,
    sink::queue::{BadQueueName, QueueName},
    stage::{decrypt::Cipher, layout::LayoutName},
    store::is_safe_segment,
};

/// What a setting's text can be read as.
pub(super) trait Word: Sized {
    /// What would do, for the complaint: `expected …`.
    const EXPECTED: &'static str;

    /// Reads the text; the error says more than [`Self::EXPECTED`], if there is more to say.
    fn read(text: &str) -> Result<Self, Option<String>>;
}

/// Reads by `FromStr`, with nothing more to say.
fn plainly<T: FromStr>(text: &str) -> Result<T, Option<String>> {
    text.parse().map_err(|_| None)
}

impl Word for NonZeroUsize {
    const EXPECTED: &'static str = "a number above 0";

    fn read(text: &str) -> Result<Self, Option<String>> {
        plainly(text)
    }
}

impl Word for u64 {
    const EXPECTED: &'static str = "a number";

    fn read(text: &str) -> Result<Self, Option<String>> {
        plainly(text)
    }
}

/// `true` or `false`.
pub(super) struct Switch(pub bool);

impl Word for Switch {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &str) -> Result<Self, Option<String>> {
        plainly(&text.to_ascii_lowercase()).map(Self)
    }
}

/// A length of time: `30s`, `4m`, `1h`, `500ms`.
pub(super) struct Span(pub Duration);

impl Word for Span {
    const EXPECTED: &'static str = "a length of time above 0, such as 30s, 4m or 1h";

    fn read(text: &str) -> Result<Self, Option<String>> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let millis: u64 = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(None),
        };
        let count: u64 = plainly(digits)?;
        let length = count.checked_mul(millis).filter(|length| *length > 0).ok_or(None)?;
        Ok(Self(Duration::from_millis(length)))
    }
}

/// One of several, or `auto`.
pub(super) struct Choice<T>(pub Option<T>);

impl Word for Choice<LayoutName> {
    const EXPECTED: &'static str = "auto, encrypted-gzip, gzip-encrypted, encrypted or plain";

    fn read(text: &str) -> Result<Self, Option<String>> {
        if text == "auto" { Ok(Self(None)) } else { plainly(text).map(|name| Self(Some(name))) }
    }
}

impl Word for Choice<Cipher> {
    const EXPECTED: &'static str = "auto, ctr or cbc";

    fn read(text: &str) -> Result<Self, Option<String>> {
        if text == "auto" { Ok(Self(None)) } else { plainly(text).map(|cipher| Self(Some(cipher))) }
    }
}

/// `ROW_VALUES`.
pub(super) enum RowValues {
    Typed,
    Verbatim,
}

impl Word for RowValues {
    const EXPECTED: &'static str = "typed or verbatim";

    fn read(text: &str) -> Result<Self, Option<String>> {
        match text {
            "typed" => Ok(Self::Typed),
            "verbatim" => Ok(Self::Verbatim),
            _ => Err(None),
        }
    }
}

/// An id of Microsoft Entra ID.
pub(super) struct Guid(pub uuid::Uuid);

impl Word for Guid {
    const EXPECTED: &'static str = "a GUID such as 00000000-0000-4000-8000-000000000000";

    fn read(text: &str) -> Result<Self, Option<String>> {
        plainly(text).map(Self)
    }
}

/// A comma list of names. One in double quotes may hold commas, as some of PersonReport_v1 do.
pub(super) struct Names(pub Vec<String>);

impl Word for Names {
    const EXPECTED: &'static str = "a comma list of column names, those with commas in double quotes";

    fn read(text: &str) -> Result<Self, Option<String>> {
        let mut is_quoted = false;
        let names = text.split(|c| {
            is_quoted ^= c == '"';
            c == ',' && !is_quoted
        });
        let names: Vec<_> = names.map(str::trim).filter(|name| !name.is_empty()).map(unquoted).collect();
        if is_quoted || names.iter().any(Option::is_none) {
            return Err(Some("a double quote is missing or stands within a name".into()));
        }
        Ok(Self(names.into_iter().flatten().collect()))
    }
}

/// The name in quotes, or without any.
fn unquoted(name: &str) -> Option<String> {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    (!inner.contains('"')).then(|| inner.to_owned())
}

/// `COLUMNS`: some, or all of them.
pub(super) struct Columns(pub Option<Vec<String>>);

impl Word for Columns {
    const EXPECTED: &'static str = "`*`, or a comma list of column names, those with commas in double quotes";

    fn read(text: &str) -> Result<Self, Option<String>> {
        // A shell that exports how wide its terminal is does so by this name.
        let is_width = text.bytes().all(|byte| byte.is_ascii_digit());
        if text == "*" || is_width {
            return Ok(Self(None));
        }
        let Names(names) = Names::read(text)?;
        if names.is_empty() { Err(None) } else { Ok(Self(Some(names))) }
    }
}

impl Word for KeyWrap {
    const EXPECTED: &'static str = "auto, RSA-OAEP, RSA-OAEP-256 or RSA1_5";

    fn read(text: &str) -> Result<Self, Option<String>> {
        plainly(text)
    }
}

/// A container's name.
pub(super) struct ContainerName(pub String);

impl Word for ContainerName {
    const EXPECTED: &'static str = "a container's name: small letters, digits and hyphens";

    fn read(text: &str) -> Result<Self, Option<String>> {
        let is_name = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'$'));
        if is_name && is_safe_segment(text) { Ok(Self(text.to_owned())) } else { Err(None) }
    }
}

impl Word for DropContainer {
    const EXPECTED: &'static str = "a container's name (small letters, digits and hyphens), or `*`";

    fn read(text: &str) -> Result<Self, Option<String>> {
        if text == "*" {
            return Ok(Self::OfTenants);
        }
        ContainerName::read(text).map(|ContainerName(name)| Self::Named(name))
    }
}

impl Word for PrivateKeysIn {
    const EXPECTED: &'static str =
        "https://{vault}.vault.azure.net, or file:///dir, a folder with a {tenantId}.pem for each tenant";

    fn read(text: &str) -> Result<Self, Option<String>> {
        vault_url(text).map(Self::Vault).or_else(|| folder(text).map(Self::Folder)).ok_or(None)
    }
}

/// The folder that a `file:///` URL names.
pub(super) fn folder(text: &str) -> Option<PathBuf> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "file")?;
    url.to_file_path().ok()
}

/// `VIVA_API_URL`: https, or http on loopback.
pub(super) struct ApiUrl(pub Url);

impl Word for ApiUrl {
    const EXPECTED: &'static str = "https://…, or http:// on loopback";

    fn read(text: &str) -> Result<Self, Option<String>> {
        let url: Url = plainly(text)?;
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            _ => Err(None),
        }
    }
}

/// `DELIVER_TO`.
pub(super) enum Destination {
    Webhook(Url),
    Queue(QueueName),
    Stdout,
}

impl Word for Destination {
    const EXPECTED: &'static str = "https://…, queue://<name> or stdout:";

    fn read(text: &str) -> Result<Self, Option<String>> {
        if text == "stdout:" {
            return Ok(Self::Stdout);
        }
        if let Some(name) = text.strip_prefix("queue://") {
            return name.parse().map(Self::Queue).map_err(|error: BadQueueName| Some(error.to_string()));
        }
        let url: Url = plainly(text)?;
        if matches!(url.scheme(), "https" | "http") { Ok(Self::Webhook(url)) } else { Err(None) }
    }
}
