//! Simulates a drop: rows of people who do not exist, compressed, encrypted, and with job metadata, as Microsoft
//! delivers them.
//!
//! Rows are generated and compressed on all cores in blocks, then concatenated, encrypted and written in order. So a
//! drop of any size takes a few MiB of memory per core, and no row is written to the disk unencrypted (unless the
//! layout is `plain`). [`people`] generates metrics, [`rows`] and [`numbers`] format them, [`blocks`] distributes the
//! work, [`data_file`], [`gzip`] and [`encrypt`] encode a file, [`secrets`] generates keys, [`metadata`] and [`period`]
//! generate the job metadata, and [`directory`] generates the directory export of the same people.

mod blocks;
mod data_file;
mod directory;
mod encrypt;
mod gzip;
mod metadata;
mod numbers;
mod people;
mod period;
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
use data_file::DataFile;
use metadata::JobMetadata;
use period::Period;
use rows::Rows;
use secrets::{DropKeys, KeyDetails};

pub use crate::{
    keys::unwrap::Padding,
    stage::{decrypt::Cipher, layout::LayoutName},
};

/// The properties of the drop. The default is 1,000 people for 13 weeks, in the layout that real drops are expected to
/// have.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// The number of people. Each has one row per week.
    pub users: u64,
    /// The number of weeks.
    pub weeks: u32,
    /// The number of data files. Files without rows are not written.
    pub files: NonZeroUsize,
    /// The tenant of the drop; random by default.
    pub tenant: Option<TenantId>,
    /// The `CopyActivityId`, which identifies the keys at the API; random by default.
    pub copy_activity_id: Option<Uuid>,
    /// The order of gzip and AES.
    pub layout: LayoutName,
    /// The cipher mode of the files.
    pub file_cipher: Cipher,
    /// The cipher mode of the `ObjectId` column.
    pub column_cipher: Cipher,
    /// The RSA padding of the wrapped keys.
    pub key_wrap: Padding,
    /// Whether the job metadata contains the wrapped keys, so that no API is needed.
    pub keys_in_metadata: bool,
    /// Whether metrics and `IsActive` are written as strings, as in some real drops.
    pub string_metrics: bool,
    /// The seed of the people and their metrics: the same seed gives the same ones, and the same weeks. Keys and the
    /// ids of tenant and drop are random nevertheless.
    pub seed: Option<u64>,
    /// The `TableName` of the job metadata, a member of its later versions.
    pub table_name: Option<String>,
    /// Whether a directory export of the same people is written as well.
    pub directory: bool,
    /// The tenant's RSA-2048 key in PEM (PKCS#8 or PKCS#1). By default, a key is generated, which takes up to some
    /// seconds.
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
            directory: false,
            private_key: None,
        }
    }
}

/// A simulated drop on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// The folder of the drop, which contains the data files and `metadata`.
    pub drop: PathBuf,
    /// The folder of the directory export, a drop of its own, if there is one.
    pub directory: Option<PathBuf>,
    /// The tenant's private key in PEM, readable by the owner only.
    pub private_key: PathBuf,
    /// The wrapped keys, as a response of `egressDecryptionKey`.
    pub decryption_keys: PathBuf,
    /// The tenant.
    pub tenant: TenantId,
    /// The `CopyActivityId`.
    pub copy_activity_id: Uuid,
    /// The number of data files.
    pub files: usize,
    /// The number of rows.
    pub rows: u64,
    /// The size of the rows' text, in bytes.
    pub text_bytes: u64,
    /// The size of the data files, in bytes.
    pub file_bytes: u64,
}

/// Why no drop was simulated. Files that were written before the error are kept; without job metadata they are not a
/// drop.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The folder contains files, which are never overwritten.
    #[error("`{0}` is not empty: give a new or empty folder")]
    NotEmpty(PathBuf),
    /// The number of rows exceeds 64 bits, or the first week is before the year 1.
    #[error("{users} users for {weeks} weeks are too many")]
    TooMany {
        /// [`SimulateOptions::users`].
        users: u64,
        /// [`SimulateOptions::weeks`].
        weeks: u32,
    },
    /// The file is not an RSA-2048 private key.
    #[error("`{0}` is not an RSA-2048 private key in PEM (PKCS#8 or PKCS#1)")]
    InvalidPrivateKey(PathBuf),
    /// The file with the private key could not be read.
    #[error("cannot read `{path}`")]
    UnreadablePrivateKey {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A key could not be generated or wrapped.
    #[error("cannot generate or wrap the keys")]
    Keys(#[source] rsa::Error),
    /// A file could not be written.
    #[error("cannot write `{path}`")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl SimulateError {
    fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.into(), source }
    }
}

/// Writes `out/drop`, `out/private-key.pem` and `out/decryption-keys.json`, and on request `out/directory`. Calls
/// `progress` with the number of rows so far.
///
/// `out` is created if it is missing, and must be empty. The job metadata is written last, so that an incomplete folder
/// is not a drop.
pub fn simulate(options: &SimulateOptions, out: &Path, progress: &dyn Fn(u64)) -> Result<Simulated, SimulateError> {
    let (total, period) = rows_and_period(options)?;
    let private_key = secrets::private_key(options.private_key.as_deref())?;
    let keys = DropKeys::random();
    let details = secrets::wrap(&keys, &private_key, options.key_wrap).map_err(SimulateError::Keys)?;

    create_folders(out)?;
    let mut simulated = Simulated {
        drop: out.join("drop"),
        directory: options.directory.then(|| out.join("directory")),
        private_key: out.join("private-key.pem"),
        decryption_keys: out.join("decryption-keys.json"),
        tenant: options.tenant.unwrap_or_else(|| TenantId(Uuid::new_v4())),
        copy_activity_id: options.copy_activity_id.unwrap_or_else(Uuid::new_v4),
        files: 0,
        rows: 0,
        text_bytes: 0,
        file_bytes: 0,
    };
    secrets::write_private_key(&private_key, &simulated.private_key)?;
    write_json(&simulated.decryption_keys, &secrets::Answer::new(&details))?;
    let rows = Rows::new(options, &period, &keys);
    write_files(options, &rows, &keys, total, &mut simulated, progress)?;
    if let Some(folder) = &simulated.directory {
        let keys = DropKeys::random();
        let details = secrets::wrap(&keys, &private_key, options.key_wrap).map_err(SimulateError::Keys)?;
        directory::write(options, &period, rows.seed(), (&keys, details), &simulated, folder)?;
    }
    write_metadata(options, &period, details, &simulated)?;
    Ok(simulated)
}

/// The number of rows, and their weeks.
fn rows_and_period(options: &SimulateOptions) -> Result<(u64, Period), SimulateError> {
    let rows = options.users.checked_mul(options.weeks.into());
    rows.zip(Period::of(options.weeks, options.seed.is_some()))
        .ok_or(SimulateError::TooMany { users: options.users, weeks: options.weeks })
}

/// Creates `out` and `out/drop`. Fails if `out` is not empty.
fn create_folders(out: &Path) -> Result<(), SimulateError> {
    fs::create_dir_all(out).map_err(SimulateError::writing(out))?;
    let mut entries = fs::read_dir(out).map_err(SimulateError::writing(out))?;
    if entries.next().is_some() {
        return Err(SimulateError::NotEmpty(out.into()));
    }
    fs::create_dir(out.join("drop")).map_err(SimulateError::writing(out))
}

fn write_files(
    options: &SimulateOptions,
    rows: &Rows,
    keys: &DropKeys,
    total: u64,
    simulated: &mut Simulated,
    progress: &dyn Fn(u64),
) -> Result<(), SimulateError> {
    progress(0);
    for (number, range) in rows_of_files(total, options.files).enumerate() {
        let path = simulated.drop.join(format!("part-{number}.{}", extension(options.layout)));
        let writing = || SimulateError::writing(&path);
        let mut file = DataFile::create(&path, options.layout, options.file_cipher, &keys.file).map_err(writing())?;
        let written = blocks::for_each_block(rows, range, options.layout, |block| {
            file.push(&block.piece?)?;
            simulated.rows += block.rows;
            simulated.text_bytes += block.text_bytes;
            progress(simulated.rows);
            Ok(())
        });
        simulated.file_bytes += written.and_then(|()| file.finish()).map_err(writing())?;
        simulated.files += 1;
    }
    Ok(())
}

/// The rows of each file, distributed as evenly as possible. No file is empty.
fn rows_of_files(total: u64, files: NonZeroUsize) -> impl Iterator<Item = Range<u64>> {
    let files = (files.get() as u64).min(total);
    (0..files).map(move |file| {
        let start = |file: u64| file * (total / files) + file.min(total % files);
        start(file)..start(file + 1)
    })
}

fn write_metadata(
    options: &SimulateOptions,
    period: &Period,
    details: Vec<KeyDetails>,
    simulated: &Simulated,
) -> Result<(), SimulateError> {
    let mut metadata = JobMetadata::new(simulated, period);
    metadata.table_name = options.table_name.as_deref();
    metadata.decryption_key_details = options.keys_in_metadata.then_some(details);
    write_metadata_of(&simulated.drop, &metadata)
}

/// Writes the job metadata of the drop in `folder`.
fn write_metadata_of(folder: &Path, metadata: &JobMetadata<'_>) -> Result<(), SimulateError> {
    let folder = folder.join("metadata/JobMetadata");
    fs::create_dir_all(&folder).map_err(SimulateError::writing(&folder))?;
    write_json(&folder.join("Metadata.json"), metadata)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), SimulateError> {
    let text = serde_json::to_vec(value).map_err(io::Error::from);
    text.and_then(|text| fs::write(path, text)).map_err(SimulateError::writing(path))
}

/// The file name extension of data files with this layout.
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
        rows_of_files(total, NonZeroUsize::new(files).unwrap()).collect()
    }

    #[test]
    fn rows_are_distributed_evenly_and_no_file_is_empty() {
        assert_eq!(split(10, 3), [0..4, 4..7, 7..10]);
        assert_eq!(split(2, 5), [0..1, 1..2]);
        assert_eq!(split(0, 5), []);
        assert_eq!(split(u64::MAX, 2).last().unwrap().end, u64::MAX);
    }
}
