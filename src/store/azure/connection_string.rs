//! Parses connection strings of storage accounts: `Name=value;…`.

use super::account_error::AccountError;

/// The names that are read. Other names, such as `TableEndpoint`, belong to services that vivadrop does not use.
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

/// The values of a connection string, in the order of [`NAMES`].
pub(super) struct ConnectionString<'a>([Option<&'a str>; NAMES.len()]);

impl<'a> ConnectionString<'a> {
    /// Splits `text`. Names are matched in any case.
    pub(super) fn parse(text: &'a str) -> Result<Self, AccountError> {
        let mut values = [None; NAMES.len()];
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(AccountError::InvalidConnectionString)?;
            let Some(index) = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim())) else {
                continue;
            };
            if values[index].replace(value.trim()).is_some() {
                return Err(AccountError::Duplicate(NAMES[index]));
            }
        }
        if values.iter().all(Option::is_none) {
            return Err(AccountError::InvalidConnectionString);
        }
        Ok(Self(values))
    }

    /// The value of `name`; `None` if it is missing or blank.
    pub(super) fn get(&self, name: &'static str) -> Option<&'a str> {
        let index = NAMES.iter().position(|known| *known == name)?;
        self.0[index].filter(|value| !value.is_empty())
    }
}
