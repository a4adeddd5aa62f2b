//! Errors of reading the settings of a storage account.

/// Why a connection string or an identity does not describe a usable storage account. Never quotes the setting.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The text contains no known `Name=value` pair.
    #[error("expected a connection string, such as AccountName=…;AccountKey=… or UseDevelopmentStorage=true")]
    InvalidConnectionString,
    /// A required value is missing.
    #[error("the connection string has no {0}")]
    Missing(&'static str),
    /// A name occurs twice.
    #[error("the connection string has {0} twice")]
    Duplicate(&'static str),
    /// Two values exclude each other.
    #[error("the connection string has both {0} and {1}: keep one")]
    Conflict(&'static str, &'static str),
    /// A value does not have the expected form.
    #[error("{name} is not usable: expected {expected}")]
    InvalidValue {
        /// The name of the value.
        name: &'static str,
        /// The expected form.
        expected: &'static str,
    },
    /// The Azure identity library rejected the identity.
    #[error("the identity is not usable")]
    Identity(#[source] azure_core::Error),
    /// The HTTP client could not be created, for example because TLS could not be initialized.
    #[error("cannot set up HTTPS: are the system's CA certificates installed?")]
    Http(#[source] reqwest::Error),
}
