//! Which columns of a directory are joined to rows, and how rows find their person.

use std::str::FromStr;

/// Which columns are joined, and how rows find their person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryRules {
    /// The directory columns to join, in the order of the joined member.
    pub columns: Vec<String>,
    /// How rows are matched.
    pub key: DirectoryKey,
    /// The bound of the table in bytes.
    pub memory: usize,
}

impl Default for DirectoryRules {
    fn default() -> Self {
        Self {
            columns: ["mail", "department", "jobTitle", "country"].map(String::from).to_vec(),
            key: DirectoryKey { column: "ObjectId".into(), field: KeyField::Id },
            memory: 256 << 20,
        }
    }
}

impl DirectoryRules {
    /// The directory columns that a table is built from: decoding may leave out all others.
    pub fn columns_to_read(&self) -> Vec<String> {
        let mut names = self.columns.clone();
        names.push(ID.into());
        if self.key.field == KeyField::Mail {
            names.extend([MAIL, USER_PRINCIPAL_NAME, PROXY_ADDRESSES].map(String::from));
        }
        names
    }
}

/// The column of a row and what it is compared with, such as `ObjectId=id` or `Email=mail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryKey {
    /// The column of the analytics row.
    pub column: String,
    /// The property that identifies a person in the directory.
    pub field: KeyField,
}

/// The property that identifies a person in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyField {
    /// `id`, the Entra object id, in any case.
    Id,
    /// An e-mail address in any case: `mail`, else `userPrincipalName`, else one of `proxyAddresses`. An address that
    /// two people have in the same column identifies nobody.
    Mail,
}

/// The text is not `column=id` or `column=mail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected COLUMN=id or COLUMN=mail, such as ObjectId=id or Email=mail")]
pub struct InvalidDirectoryKey;

impl FromStr for DirectoryKey {
    type Err = InvalidDirectoryKey;

    fn from_str(text: &str) -> Result<Self, InvalidDirectoryKey> {
        let (column, field) = text.rsplit_once('=').ok_or(InvalidDirectoryKey)?;
        let field = match field.trim() {
            "id" => KeyField::Id,
            "mail" => KeyField::Mail,
            _ => return Err(InvalidDirectoryKey),
        };
        let column = column.trim();
        if column.is_empty() { Err(InvalidDirectoryKey) } else { Ok(Self { column: column.into(), field }) }
    }
}

pub(super) const ID: &str = "id";
pub(super) const MAIL: &str = "mail";
pub(super) const USER_PRINCIPAL_NAME: &str = "userPrincipalName";
pub(super) const PROXY_ADDRESSES: &str = "proxyAddresses";
