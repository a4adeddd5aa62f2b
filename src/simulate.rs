//! Makes a drop as Microsoft would: rows of invented people, gzipped, encrypted, with the job metadata beside them.
//!
//! Rows are made and deflated on all cores, a block at a time, and joined, encrypted and written in order. So a drop of
//! any size takes a few MiB of memory a core, and no row is ever on the disk in the clear (unless the layout is
//! `plain`). [`people`] invents who did what, [`rows`] and [`numbers`] spell it, [`blocks`] spreads the work, [`gzip`],
//! [`encrypt`] and [`pack`] encode a file, [`secrets`] makes the keys, [`metadata`] is what a drop says of itself.

mod blocks;
mod encrypt;
mod gzip;
mod metadata;
mod numbers;
mod pack;
mod people;
mod rows;
mod secrets;

use std::{
    fs, io,
    num::NonZeroUsize,
    ops::Range,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::drop::TenantId;
use metadata::{JobMetadata, Period};
use pack::Packed;
use rows::Rows;
use secrets::{DropKeys, KeyDetails};

pub use crate::{
    keys::unwrap::Padding,
    stage::{decrypt::Cipher, layout::LayoutName},
};

/// What kind of drop to make. The default is 1,000 people for three months, the way that drops are expected to arrive.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// How many people there are. Each has one row a week.
    pub users: u64,
    /// How many weeks the drop covers.
    pub weeks: u32,
    /// Over how many files the rows are spread. There are never more files than rows.
    pub files: NonZeroUsize,
    /// Whose drop it is; random when not given.
    pub tenant: Option<TenantId>,
    /// The `CopyActivityId`, by which the keys are asked for; random when not given.
    pub copy_activity_id: Option<Uuid>,
    /// The order of gzip and AES.
    pub layout: LayoutName,
    /// How the files are encrypted.
    pub file_cipher: Cipher,
    /// How the `ObjectId` column is encrypted.
    pub column_cipher: Cipher,
    /// How the keys are encrypted with the tenant's RSA key.
    pub key_wrap: Padding,
    /// Whether the job metadata has the wrapped keys too, so that no API is needed.
    pub keys_in_metadata: bool,
    /// Whether metrics and `IsActive` are written as strings, as some drops have them.
    pub string_metrics: bool,
    /// Makes the same rows, for the same weeks, every time. Keys and ids are random all the same.
    pub seed: Option<u64>,
    /// The `TableName` of the job metadata, which later versions of it have.
    pub table_name: Option<String>,
    /// The tenant's RSA-2048 key, in PEM (PKCS#8 or PKCS#1). A new one is made when not given, which takes a moment.
    pub private_key: Option<PathBuf>,
}

impl Default for SimulateOptions {
    fn default() -> Self {
        Self {
            users: 1_000,
            weeks: 13,
            files: NonZeroUsize::MIN,
            tenant: None,
            copy_activity_id: None,
            layout: LayoutName::EncryptedGzip,
            file_cipher: Cipher::Ctr,
            column_cipher: Cipher::Ctr,
            key_wrap: Padding::Oaep,
            keys_in_metadata: false,
            string_metrics: false,
            seed: None,
            table_name: None,
            private_key: None,
        }
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// The drop: the folder with the data files and `metadata` in it.
    pub drop: PathBuf,
    /// The tenant's private key, readable by its owner alone.
    pub private_key: PathBuf,
    /// The keys, as `egressDecryptionKey` answers.
    pub decryption_keys: PathBuf,
    /// Whose drop it is.
    pub tenant: TenantId,
    /// The `CopyActivityId`.
    pub copy_activity_id: Uuid,
    /// How many data files there are.
    pub files: usize,
    /// How many rows are in them.
    pub rows: u64,
    /// The size of the rows' text, in bytes.
    pub text_bytes: u64,
    /// The size of the data files, in bytes.
    pub file_bytes: u64,
}

/// Why there is no drop. What was written before is left where it is, without job metadata: it is no drop.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The folder has something in it, and nothing is overwritten.
    #[error("`{0}` is not empty: name a new folder")]
    NotEmpty(PathBuf),
    /// So many people and weeks cannot be counted, or begin before the year 1.
    #[error("{users} users for {weeks} weeks are too many")]
    TooMany {
        /// How many people were asked for.
        users: u64,
        /// How many weeks were asked for.
        weeks: u32,
    },
    /// The file holds no private key that drops are encrypted for.
    #[error("`{0}` is no RSA-2048 private key in PEM (PKCS#8 or PKCS#1)")]
    NoPrivateKey(PathBuf),
    /// A key could not be made or wrapped.
    #[error("cannot make the keys")]
    Keys(#[source] rsa::Error),
    /// A file could not be read or written.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was tried: `read` or `write`.
        verb: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl SimulateError {
    fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb: "write", path: path.into(), source }
    }
}

/// Makes `out/drop`, `out/private-key.pem` and `out/decryption-keys.json`, calling `progress` with the rows so far.
///
/// `out` is made when missing, and must be empty. The job metadata is written last: until then there is no drop.
pub fn simulate(options: &SimulateOptions, out: &Path, progress: &dyn Fn(u64)) -> Result<Simulated, SimulateError> {
    let (total, period) = extent(options)?;
    let private_key = secrets::private_key(options.private_key.as_deref())?;
    let keys = DropKeys::random();
    let details = secrets::wrap(&keys, &private_key, options.key_wrap).map_err(SimulateError::Keys)?;

    claim(out)?;
    let mut made = Simulated {
        drop: out.join("drop"),
        private_key: out.join("private-key.pem"),
        decryption_keys: out.join("decryption-keys.json"),
        tenant: options.tenant.unwrap_or_else(|| TenantId(Uuid::new_v4())),
        copy_activity_id: options.copy_activity_id.unwrap_or_else(Uuid::new_v4),
        files: 0,
        rows: 0,
        text_bytes: 0,
        file_bytes: 0,
    };
    secrets::write_private_key(&private_key, &made.private_key)?;
    write_json(&made.decryption_keys, &secrets::Answer::new(&details))?;
    write_files(options, &Rows::new(options, &period, &keys), &keys, total, &mut made, progress)?;
    write_metadata(options, &period, details, &made)?;
    Ok(made)
}

/// How many rows there will be, and which weeks they are of.
fn extent(options: &SimulateOptions) -> Result<(u64, Period), SimulateError> {
    let rows = options.users.checked_mul(options.weeks.into());
    rows.zip(Period::of(options.weeks, options.seed.is_some()))
        .ok_or(SimulateError::TooMany { users: options.users, weeks: options.weeks })
}

/// Makes the folder, unless somebody else's files are in it.
fn claim(out: &Path) -> Result<(), SimulateError> {
    fs::create_dir_all(out).map_err(SimulateError::writing(out))?;
    let mut there = fs::read_dir(out).map_err(SimulateError::writing(out))?;
    if there.next().is_some() {
        return Err(SimulateError::NotEmpty(out.into()));
    }
    fs::create_dir(out.join("drop")).map_err(SimulateError::writing(out))
}

fn write_files(
    options: &SimulateOptions,
    rows: &Rows,
    keys: &DropKeys,
    total: u64,
    made: &mut Simulated,
    progress: &dyn Fn(u64),
) -> Result<(), SimulateError> {
    progress(0);
    for (number, range) in shares(total, options.files).enumerate() {
        let path = made.drop.join(format!("part-{number}.{}", extension(options.layout)));
        let writing = || SimulateError::writing(&path);
        let mut file = Packed::create(&path, options.layout, options.file_cipher, &keys.file).map_err(writing())?;
        let written = blocks::each(rows, range, options.layout, |block| {
            file.push(&block.piece?)?;
            made.rows += block.rows;
            made.text_bytes += block.text_bytes;
            progress(made.rows);
            Ok(())
        });
        made.file_bytes += written.and_then(|()| file.finish()).map_err(writing())?;
        made.files += 1;
    }
    Ok(())
}

/// Splits the rows over files, as evenly as possible. A file without rows would be encrypted nothing, so there is none.
fn shares(total: u64, files: NonZeroUsize) -> impl Iterator<Item = Range<u64>> {
    let files = (files.get() as u64).min(total);
    (0..files).map(move |file| {
        let begin = |file: u64| file * (total / files) + file.min(total % files);
        begin(file)..begin(file + 1)
    })
}

fn write_metadata(
    options: &SimulateOptions,
    period: &Period,
    details: Vec<KeyDetails>,
    made: &Simulated,
) -> Result<(), SimulateError> {
    let folder = made.drop.join("metadata/JobMetadata");
    fs::create_dir_all(&folder).map_err(SimulateError::writing(&folder))?;
    let mut metadata = JobMetadata::new(made, period);
    metadata.table_name = options.table_name.as_deref();
    metadata.decryption_key_details = options.keys_in_metadata.then_some(details);
    write_json(&folder.join("Metadata.json"), &metadata)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), SimulateError> {
    let text = serde_json::to_vec(value).map_err(io::Error::from);
    text.and_then(|text| fs::write(path, text)).map_err(SimulateError::writing(path))
}

/// What the names of data files of this layout end in.
fn extension(layout: LayoutName) -> &'static str {
    match layout {
        LayoutName::EncryptedGzip | LayoutName::GzipEncrypted => "json.gz",
        LayoutName::Encrypted | LayoutName::Plain => "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(total: u64, files: usize) -> Vec<Range<u64>> {
        shares(total, NonZeroUsize::new(files).unwrap()).collect()
    }

    #[test]
    fn rows_are_spread_evenly_and_no_file_is_empty() {
        assert_eq!(split(10, 3), [0..4, 4..7, 7..10]);
        assert_eq!(split(2, 5), [0..1, 1..2]);
        assert_eq!(split(0, 5), []);
        assert_eq!(split(u64::MAX, 2).last().unwrap().end, u64::MAX);
    }
}
