//! `Name=value;…`, as the portal shows it: taken apart, never shown again.

use super::account::AccountError;

/// The names that matter here. Others, such as `TableEndpoint`, belong to services that are not used.
const NAMES: [&str; 9] = [
    "AccountKey",
    "AccountName",
    "BlobEndpoint",
    "DefaultEndpointsProtocol",
    "DevelopmentStorageProxyUri",
    "EndpointSuffix",
    "QueueEndpoint",
    "SharedAccessSignature",
    "UseDevelopmentStorage",
];

/// The values of a connection string, by name.
pub(super) struct ConnectionString<'a>([Option<&'a str>; NAMES.len()]);

impl<'a> ConnectionString<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, AccountError> {
        let mut values = [None; NAMES.len()];
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(AccountError::NoConnectionString)?;
            let Some(at) = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim())) else {
                continue;
            };
            if values[at].replace(value.trim()).is_some() {
                return Err(AccountError::Twice(NAMES[at]));
            }
        }
        if values.iter().all(Option::is_none) {
            return Err(AccountError::NoConnectionString);
        }
        Ok(Self(values))
    }

    /// The value of `name`, when it is there and not blank.
    pub(super) fn get(&self, name: &'static str) -> Option<&'a str> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.0[at].filter(|value| !value.is_empty())
    }
}
