//! Parsers for the text of single settings.

use std::{collections::BTreeSet, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};

use url::Url;
use uuid::Uuid;

use super::{DropContainer, KeyStoreLocation};
use crate::{
    directory::{DirectoryKey, DirectoryMode},
    keys::{unwrap::KeyWrap, vault::vault_url},
    loopback::is_loopback,
    sink::{
        queue::{InvalidQueueName, QueueName},
        service_bus::{EntityAddress, InvalidAddress},
    },
    stage::{decrypt::Cipher, layout::LayoutName},
    store::is_safe_segment,
};

/// A type that can be parsed from the text of a setting.
pub(super) trait FromSetting: Sized {
    /// The accepted values; error messages print it after `expected`.
    const EXPECTED: &'static str;

    /// Whether every valid value is a word of an enumeration, a number or a duration. An error message then quotes a
    /// rejected text that looks like one of these. No other text is quoted, because it may be a secret, even one that
    /// belongs to another setting.
    const IS_WORD: bool = false;

    /// Parses the text, which is trimmed and not empty.
    fn from_setting(text: &str) -> Result<Self, ParseError>;
}

/// Why the text of a setting cannot be parsed.
pub(super) enum ParseError {
    /// The text does not have the form [`FromSetting::EXPECTED`].
    Unexpected,
    /// As [`Self::Unexpected`], with the reason. The reason must not quote the text.
    Because(String),
}

/// Parses with [`FromStr`]; its error adds nothing to [`FromSetting::EXPECTED`].
fn parse<T: FromStr>(text: &str) -> Result<T, ParseError> {
    text.parse().map_err(|_| ParseError::Unexpected)
}

/// Parses `auto` as `None`, which means auto-detection, and any other text with [`FromStr`].
fn parse_or_auto<T: FromStr>(text: &str) -> Result<Option<T>, ParseError> {
    if text == "auto" { Ok(None) } else { parse(text).map(Some) }
}

impl FromSetting for NonZeroUsize {
    const EXPECTED: &'static str = "a number above 0";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

impl FromSetting for u64 {
    const EXPECTED: &'static str = "a number, 0 or above";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

impl FromSetting for bool {
    const EXPECTED: &'static str = "true or false";
    const IS_WORD: Self = true;

    /// Ignores case.
    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse(&text.to_ascii_lowercase())
    }
}

impl FromSetting for Duration {
    const EXPECTED: &'static str = "a duration above 0, such as 30s, 4m, 1h or 3d";
    const IS_WORD: bool = true;

    /// Parses a whole number with one of the units `ms`, `s`, `m`, `h` and `d`.
    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit_in_millis: u64 = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(ParseError::Unexpected),
        };
        let count: u64 = parse(digits)?;
        match count.checked_mul(unit_in_millis) {
            Some(millis) if millis > 0 => Ok(Self::from_millis(millis)),
            _ => Err(ParseError::Unexpected),
        }
    }
}

/// `FILE_LAYOUT`; `auto` is `None`.
impl FromSetting for Option<LayoutName> {
    const EXPECTED: &'static str = "auto, encrypted-gzip, gzip-encrypted, encrypted or plain";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse_or_auto(text)
    }
}

/// `FILE_CIPHER` and `COLUMN_CIPHER`; `auto` is `None`.
impl FromSetting for Option<Cipher> {
    const EXPECTED: &'static str = "auto, ctr or cbc";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse_or_auto(text)
    }
}

/// `ROW_VALUES`.
#[derive(PartialEq, Eq)]
pub(super) enum RowValues {
    /// Metrics that are strings become numbers.
    Typed,
    /// Strings stay strings.
    Verbatim,
}

impl FromSetting for RowValues {
    const EXPECTED: &'static str = "typed or verbatim";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        match text {
            "typed" => Ok(Self::Typed),
            "verbatim" => Ok(Self::Verbatim),
            _ => Err(ParseError::Unexpected),
        }
    }
}

/// A tenant id or application id of Microsoft Entra ID.
impl FromSetting for Uuid {
    const EXPECTED: &'static str = "a GUID such as 00000000-0000-4000-8000-000000000000";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

/// A comma-separated list of column names.
///
/// A name in double quotes may contain commas; some names of PersonReport_v1 do. A question mark after a name or after
/// its closing quote says that files may lack the column.
#[derive(Default)]
pub(super) struct ColumnNames {
    /// The names, in order.
    pub(super) names: Vec<String>,
    /// Those of them that a file may lack.
    pub(super) optional: BTreeSet<String>,
}

impl FromSetting for ColumnNames {
    const EXPECTED: &'static str =
        "a comma-separated list of column names; enclose a name that contains a comma in double quotes";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let misplaced_quote = || ParseError::Because("a double quote is missing, or is inside a name".into());
        let mut in_quotes = false;
        let parts: Vec<&str> = text
            .split(|c| {
                in_quotes ^= c == '"';
                c == ',' && !in_quotes
            })
            .collect();
        if in_quotes {
            return Err(misplaced_quote());
        }
        let mut list = Self::default();
        for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
            let (part, is_optional) = part.strip_suffix('?').map_or((part, false), |part| (part.trim_end(), true));
            let name = part.strip_prefix('"').and_then(|part| part.strip_suffix('"')).unwrap_or(part);
            if name.contains('"') {
                return Err(misplaced_quote());
            }
            if name == "*" {
                return Err(ParseError::Because(
                    "`*` is not the name of a column: only `ROW_COLUMNS=*` stands for all columns".into(),
                ));
            }
            list.names.push(name.to_owned());
            if is_optional {
                list.optional.insert(name.to_owned());
            }
        }
        Ok(list)
    }
}

/// `ROW_COLUMNS`: the columns to deliver; `None` is all of them.
pub(super) struct ColumnFilter(pub Option<ColumnNames>);

impl FromSetting for ColumnFilter {
    const EXPECTED: &'static str =
        "`*`, or a comma-separated list of column names; enclose a name that contains a comma in double quotes";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        if text == "*" {
            return Ok(Self(None));
        }
        let list = ColumnNames::from_setting(text)?;
        if list.names.is_empty() { Err(ParseError::Unexpected) } else { Ok(Self(Some(list))) }
    }
}

/// `DIRECTORY_COLUMNS`: at least one name, and no name twice.
pub(super) struct DirectoryColumns(pub Vec<String>);

impl FromSetting for DirectoryColumns {
    const EXPECTED: &'static str = ColumnNames::EXPECTED;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let ColumnNames { names, optional } = ColumnNames::from_setting(text)?;
        if names.is_empty() || !optional.is_empty() {
            return Err(ParseError::Unexpected);
        }
        if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
            return Err(ParseError::Because("a name appears twice".into()));
        }
        Ok(Self(names))
    }
}

/// `DIRECTORY`.
impl FromSetting for DirectoryMode {
    const EXPECTED: &'static str = "deliver, join or both";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        match text {
            "deliver" => Ok(Self::Deliver),
            "join" => Ok(Self::Join),
            "both" => Ok(Self::Both),
            _ => Err(ParseError::Unexpected),
        }
    }
}

/// `DIRECTORY_KEY`.
impl FromSetting for DirectoryKey {
    const EXPECTED: &'static str = "COLUMN=id or COLUMN=mail, such as ObjectId=id or Email=mail";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

/// A size in bytes.
pub(super) struct ByteSize(pub usize);

impl FromSetting for ByteSize {
    const EXPECTED: &'static str = "a size above 0 with a unit, such as 64MiB or 1GiB";
    const IS_WORD: bool = true;

    /// Parses a whole number above 0 with one of the units `KiB`, `MiB` and `GiB`. A number alone is rejected: most
    /// people who write one mean MiB.
    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: usize = match &text[digits.len()..] {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(ParseError::Unexpected),
        };
        let count: usize = parse(digits)?;
        match count.checked_mul(unit) {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(ParseError::Unexpected),
        }
    }
}

impl FromSetting for KeyWrap {
    const EXPECTED: &'static str = "auto, RSA-OAEP, RSA-OAEP-256 or RSA1_5";
    const IS_WORD: bool = true;

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

/// The name of a container of a storage account.
pub(super) struct ContainerName(pub String);

impl FromSetting for ContainerName {
    const EXPECTED: &'static str = "a container name: lowercase letters, digits and hyphens";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'$');
        if text.bytes().all(is_allowed) && is_safe_segment(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseError::Unexpected)
        }
    }
}

impl FromSetting for DropContainer {
    const EXPECTED: &'static str = "a container name (lowercase letters, digits and hyphens), or `*`";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        if text == "*" {
            return Ok(Self::PerTenant);
        }
        let ContainerName(name) = ContainerName::from_setting(text)?;
        Ok(Self::Named(name))
    }
}

impl FromSetting for KeyStoreLocation {
    const EXPECTED: &'static str =
        "https://{vault}.vault.azure.net, or file:///dir, a folder with one {tenantId}.pem per tenant";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        if let Some(url) = vault_url(text) {
            return Ok(Self::Vault(url));
        }
        folder(text).map(Self::Folder).ok_or(ParseError::Unexpected)
    }
}

/// The path of a `file:///` URL; `None` for any other text.
pub(super) fn folder(text: &str) -> Option<PathBuf> {
    let url = Url::parse(text).ok()?;
    if url.scheme() == "file" { url.to_file_path().ok() } else { None }
}

/// `VIVA_API_URL`: an `https://` URL, or an `http://` URL on loopback.
pub(super) struct ApiUrl(pub Url);

impl FromSetting for ApiUrl {
    const EXPECTED: &'static str = "https://…, or http://… on loopback";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let url: Url = parse(text)?;
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            _ => Err(ParseError::Unexpected),
        }
    }
}

/// The beginning of `DELIVER_TO` for Service Bus.
pub(super) const SERVICE_BUS_SCHEME: &str = "servicebus://";

/// `DELIVER_TO`, before the settings that belong to it are read.
pub(super) enum Destination {
    Webhook(Url),
    Queue(QueueName),
    ServiceBus(EntityAddress),
    Stdout,
}

impl FromSetting for Destination {
    const EXPECTED: &'static str = "https://…, queue://<name>, servicebus://<namespace>/<queue or topic> or stdout:";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        if text == "stdout:" {
            return Ok(Self::Stdout);
        }
        if let Some(name) = text.strip_prefix("queue://") {
            let name = name.parse().map_err(|error: InvalidQueueName| ParseError::Because(error.to_string()))?;
            return Ok(Self::Queue(name));
        }
        if let Some(address) = text.strip_prefix(SERVICE_BUS_SCHEME) {
            let address = address.parse().map_err(|error: InvalidAddress| ParseError::Because(error.to_string()))?;
            return Ok(Self::ServiceBus(address));
        }
        let url: Url = parse(text)?;
        match url.scheme() {
            "https" | "http" => Ok(Self::Webhook(url)),
            _ => Err(ParseError::Unexpected),
        }
    }
}
