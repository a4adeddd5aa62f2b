//! A drop in a local folder: its files, its keys and its rows.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use futures::{Stream, StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::timeout;

use super::{CliError, print_note, private_key::PrivateKeyArgument};
use crate::{
    app,
    config::{DecodeConfig, KeyServices, Settings},
    directory::{Directory, DirectoryBuilder, DirectoryKey, DirectoryRules, is_directory},
    drop::{
        DropPath, TenantId,
        discover::{self, DropContents},
        metadata::JobMetadata,
    },
    error_chain::error_chain,
    json,
    keys::{self, KeyError, Keys, WrappedKeys, details, unwrap::unwrap_keys},
    pipeline::{self, FileRules, RowsError},
    run::read_metadata,
    stage::{
        decode::{ExpectedColumn, Rows},
        detect::LayoutError,
    },
    store::{Blob, ByteStream, ReadWindow, Store, is_safe_segment, local::LocalStore, read},
};

/// The maximum number of bad rows that are listed individually.
const MAX_LISTED_BAD_ROWS: usize = 100;

/// How long a service may take to answer before the user is told that the command waits for it.
const SILENT_WAIT: Duration = Duration::from_secs(3);

/// A drop with the keys that decrypt it.
pub(super) struct LocalDrop {
    store: Arc<dyn Store>,
    /// The path of its folder on this machine.
    path: DropPath,
    pub(super) contents: DropContents,
    pub(super) metadata: JobMetadata,
    pub(super) keys: Keys,
}

impl LocalDrop {
    /// Opens the drop in `folder` and unwraps its keys with `private_key`. The wrapped keys come from
    /// `decryption_keys`, a saved response of `egressDecryptionKey`, or from the drop's metadata, or from the Viva
    /// Insights API if its settings are set.
    pub(super) async fn open(
        folder: &Path,
        private_key: &PrivateKeyArgument,
        decryption_keys: Option<&Path>,
        config: &DecodeConfig,
    ) -> Result<Self, CliError> {
        let private_keys = private_key.open()?;
        let (store, path) = open_folder(folder)?;
        let contents = discover::list_contents(&*store, &path, usize::MAX)
            .await
            .map_err(|error| CliError::of(error.verdict(), &error))?;
        let Some(contents) = contents else {
            return Err(CliError::Permanent(format!("`{}` contains no job metadata: not a drop", folder.display())));
        };
        let metadata = read_metadata(&*store, &contents.metadata)
            .await
            .map_err(|error| CliError::of(error.verdict(), &error))?
            .map_err(|error| CliError::of(error.verdict(), &error))?;
        if let Some(errors) = &metadata.errors {
            return Err(CliError::Permanent(format!(
                "the extraction failed, so there is no data; Microsoft reports: {errors}"
            )));
        }
        let path = DropPath::new("", folder.canonicalize().unwrap_or_default().to_string_lossy());
        let mut drop = Self { store, path, contents, metadata, keys: Keys::default() };
        if private_key.is_vault() && drop.metadata.tenant_id.is_none() {
            let text = "the job metadata has no TenantId, which names the key in the vault";
            return Err(CliError::Permanent(text.into()));
        }
        let wrapped = drop.wrapped_keys(decryption_keys, config).await?;
        if let Some(wrapped) = wrapped {
            // A PEM file is used for every tenant, so the job metadata need not name one.
            let tenant = drop.metadata.tenant_id.unwrap_or(TenantId(uuid::Uuid::nil()));
            let keys = unwrap_keys(&*private_keys, tenant, config.key_wrap, &wrapped);
            let keys = await_answer(&private_key.to_string(), keys).await;
            drop.keys = keys.map_err(|error| CliError::of(error.verdict(), &error))?;
        }
        Ok(drop)
    }

    /// The wrapped keys of the drop. Returns none if it has none, as a plaintext drop.
    async fn wrapped_keys(
        &self,
        decryption_keys: Option<&Path>,
        config: &DecodeConfig,
    ) -> Result<Option<WrappedKeys>, CliError> {
        let wrapped = match decryption_keys {
            Some(file) => {
                let name = file.display();
                let bytes =
                    std::fs::read(file).map_err(|error| CliError::Usage(format!("cannot read `{name}`: {error}")))?;
                let response =
                    json::first_object(&bytes).map_err(|error| CliError::Permanent(format!("`{name}`: {error}")))?;
                details::wrapped_keys(&response).map(Some)
            }
            None => match keys::wrapped_in_drop(&*self.store, &self.contents, &self.metadata).await {
                Ok(None) => self.requested_keys(config).await?,
                in_drop => in_drop,
            },
        };
        wrapped.map_err(|error| CliError::of(error.verdict(), &error))
    }

    /// Requests the wrapped keys from the Viva Insights API. `None` if its settings are not set, or if the job metadata
    /// lacks an id that the API needs. The inner error is that of the API.
    async fn requested_keys(&self, config: &DecodeConfig) -> Result<Result<Option<WrappedKeys>, KeyError>, CliError> {
        let JobMetadata { copy_activity_id: Some(request), tenant_id: Some(tenant), .. } = &self.metadata else {
            return Ok(Ok(None));
        };
        let KeyServices { identity, viva_api } = KeyServices::read(&Settings::from_env())?;
        let Some(viva_api) = viva_api else { return Ok(Ok(None)) };
        let api = app::viva_api(&viva_api, &identity).map_err(|error| CliError::Transient(error_chain(&error)))?;
        Ok(match await_answer(&api.to_string(), api.egress_decryption_key(request, *tenant)).await {
            Err(KeyError::NoKey(_)) if config.rules.layout.allow_plaintext => Ok(None),
            requested => requested.map(Some),
        })
    }

    /// Finds a file below the drop by its relative path.
    pub(super) async fn find_file(&self, name: &str) -> Result<Blob, CliError> {
        let no_such_file = || CliError::Usage(format!("the drop contains no file `{name}`"));
        if !name.split('/').all(is_safe_segment) {
            return Err(no_such_file());
        }
        let path = self.contents.path.blob(name);
        let blob = self.store.find(&path).await.map_err(|error| CliError::of(error.verdict(), &error))?;
        blob.ok_or_else(no_such_file)
    }

    /// Whether the drop is a directory export.
    pub(super) fn is_directory(&self) -> bool {
        is_directory(&self.path, self.metadata.table_name.as_deref())
    }

    /// A reader of files of `bytes` bytes in all. Shows a progress bar if stderr is a terminal and stdout is not.
    pub(super) fn reader<'a>(&'a self, config: &'a DecodeConfig, rules: &'a FileRules, bytes: u64) -> RowReader<'a> {
        let progress = if std::io::stderr().is_terminal() && !std::io::stdout().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {bytes_per_sec} {eta}");
            ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
                .with_style(style.expect("the template is valid"))
        } else {
            ProgressBar::hidden()
        };
        RowReader { drop: self, config, rules, progress, row_count: 0, bad_row_count: 0, bad_rows: Vec::new() }
    }

    /// Reads the rows of all files, in file path order, and checks their number. Passes the result of `parse` for each
    /// block of rows to `each`; `parse` runs on several threads.
    pub(super) async fn read_all<T: Send + 'static>(
        &self,
        config: &DecodeConfig,
        rules: &FileRules,
        parse: impl Fn(&Rows) -> T + Clone + Send + Sync + 'static,
        mut each: impl FnMut(&Rows, T) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut reader = self.reader(config, rules, self.contents.files.iter().map(|file| file.size).sum());
        for file in &self.contents.files {
            reader.read_parsed(file, parse.clone(), &mut each).await?;
        }
        reader.progress.finish_and_clear();
        reader.check_row_count()
    }
}

/// Awaits `answer`. If it takes long, says so on stderr, because the requests are retried without a sign.
async fn await_answer<T>(service: &str, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    match timeout(SILENT_WAIT, &mut answer).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            let line = format!("waiting for {service}: it has not answered yet; requests are retried for 2 minutes");
            print_note(&line);
            answer.await
        }
    }
}

/// Opens the parent folder as a store, in which the folder of the drop is a container.
fn open_folder(folder: &Path) -> Result<(Arc<dyn Store>, DropPath), CliError> {
    let cannot_open =
        |reason: &dyn std::fmt::Display| CliError::Usage(format!("cannot open `{}`: {reason}", folder.display()));
    let folder = folder.canonicalize().map_err(|error| cannot_open(&error))?;
    if !folder.is_dir() {
        return Err(cannot_open(&"expected the folder of a drop"));
    }
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
        return Err(cannot_open(&"expected a folder with a Unicode name"));
    };
    let store = LocalStore::new(parent).map_err(|error| cannot_open(&error))?;
    Ok((Arc::new(store), DropPath::new(name, "")))
}

/// Reads the rows of files and counts them.
pub(super) struct RowReader<'a> {
    drop: &'a LocalDrop,
    config: &'a DecodeConfig,
    rules: &'a FileRules,
    pub(super) progress: ProgressBar,
    /// The number of rows so far, including bad rows.
    pub(super) row_count: u64,
    pub(super) bad_row_count: u64,
    /// The descriptions of the first [`MAX_LISTED_BAD_ROWS`] bad rows.
    pub(super) bad_rows: Vec<String>,
}

impl RowReader<'_> {
    /// Passes the rows of `file` to `each`, joined to `directory`. Fails if the file has more bad rows than allowed.
    pub(super) async fn read(
        &mut self,
        file: &Blob,
        directory: Option<Arc<Directory>>,
        mut each: impl FnMut(&Rows) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let (keys, decoders, allowed) = (&self.drop.keys, self.config.decoders, self.config.bad_rows_allowed);
        let rows = pipeline::rows(self.bytes(file), 0, keys, self.rules, directory, decoders, allowed);
        self.count(file, rows.map_ok(|rows| (rows, ())), |rows, ()| each(rows)).await
    }

    /// Passes each block of rows of `file`, with the result of `parse` for it, to `each`; `parse` runs on several
    /// threads. Fails if the file has more bad rows than allowed.
    async fn read_parsed<T: Send + 'static>(
        &mut self,
        file: &Blob,
        parse: impl Fn(&Rows) -> T + Send + Sync + 'static,
        each: impl FnMut(&Rows, T) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let (keys, decoders, allowed) = (&self.drop.keys, self.config.decoders, self.config.bad_rows_allowed);
        let blocks = pipeline::parsed_rows(self.bytes(file), keys, self.rules, decoders, allowed, parse);
        self.count(file, blocks, each).await
    }

    /// The bytes of a file; reading them moves the progress bar.
    fn bytes(&self, file: &Blob) -> ByteStream {
        let progress = self.progress.clone();
        read(Arc::clone(&self.drop.store), file.clone(), ReadWindow::default())
            .inspect_ok(move |chunk| progress.inc(chunk.len() as u64))
            .boxed()
    }

    /// Passes the blocks of `file` to `each` and counts their rows. Fails if the file has more bad rows than allowed.
    async fn count<T>(
        &mut self,
        file: &Blob,
        mut blocks: impl Stream<Item = Result<(Rows, T), RowsError>> + Unpin,
        mut each: impl FnMut(&Rows, T) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let name = self.drop.contents.relative(file);
        let allowed = self.config.bad_rows_allowed;
        let (mut first_row, mut bad_rows_in_file) = (0, 0);
        while let Some(block) = blocks.next().await {
            let (rows, parsed) = block.map_err(|error| file_error(name, &error))?;
            each(&rows, parsed)?;
            for (row, reason) in rows.bad.iter() {
                let description = format!("row {} of `{name}` {reason}", first_row + row);
                bad_rows_in_file += 1;
                if bad_rows_in_file > allowed {
                    return Err(CliError::Permanent(format!(
                        "more than {allowed} bad rows (`BAD_ROWS_ALLOWED`): {description}"
                    )));
                }
                if self.bad_rows.len() < MAX_LISTED_BAD_ROWS {
                    self.bad_rows.push(description);
                }
            }
            first_row += rows.count();
        }
        self.bad_row_count += bad_rows_in_file;
        self.row_count += first_row;
        Ok(())
    }

    /// Checks that the number of rows is `NumberOfRowsExtracted`, if the metadata has it.
    pub(super) fn check_row_count(&self) -> Result<(), CliError> {
        match self.drop.metadata.rows_extracted {
            Some(expected) if expected != self.row_count => Err(CliError::Permanent(format!(
                "the files contain {} rows, but `NumberOfRowsExtracted` is {expected}",
                self.row_count
            ))),
            _ => Ok(()),
        }
    }
}

/// The error of the file `name`. Says how to give keys that are missing.
fn file_error(name: &str, error: &RowsError) -> CliError {
    let in_file = InFile { name, error };
    match error {
        RowsError::Layout(LayoutError::NoKey) => CliError::Permanent(format!(
            "{in_file}: give its keys with --decryption-keys (of a directory: --directory-decryption-keys), or set \
             PARTNER_… or VIVA_API_URL to request them from the Viva Insights API"
        )),
        error => CliError::of(error.verdict(), &in_file),
    }
}

/// An error with the name of its file.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` {error}")]
struct InFile<'a> {
    name: &'a str,
    error: &'a RowsError,
}

/// A directory export that is joined to the rows.
#[derive(Debug, Args)]
pub(super) struct DirectoryFlags {
    /// Folder of a directory export (BasicDataSet_v0.User_v1) whose people are joined to the rows
    #[arg(long, value_name = "DROP")]
    directory: Option<PathBuf>,
    /// Saved response of egressDecryptionKey for the directory [default: the keys in the directory export, or those of
    /// the API if PARTNER_… or VIVA_API_URL is set]
    #[arg(long, value_name = "JSON", requires = "directory")]
    directory_decryption_keys: Option<PathBuf>,
    /// Directory columns to join: a comma-separated list
    #[arg(long, value_name = "NAMES", default_value = "mail,department,jobTitle,country", value_delimiter = ',')]
    directory_columns: Vec<String>,
    /// How a row finds its person: COLUMN=id compares object ids, COLUMN=mail e-mail addresses
    #[arg(long, value_name = "KEY", default_value = "ObjectId=id")]
    directory_key: DirectoryKey,
}

impl DirectoryFlags {
    /// The column that the rows must have for the join, if `--directory-key` is not the default.
    pub(super) fn expected_column(&self) -> Option<ExpectedColumn> {
        let is_named = self.directory.is_some() && self.directory_key != DirectoryRules::default().key;
        is_named.then(|| ExpectedColumn::new("--directory-key", &self.directory_key.column))
    }

    /// The names of the joined columns, if there is a directory.
    pub(super) fn columns(&self) -> Option<&[String]> {
        self.directory.is_some().then_some(self.directory_columns.as_slice())
    }

    /// Reads the directory, if there is one. Its keys are unwrapped with the same private key as those of the drop.
    pub(super) async fn load(
        &self,
        private_key: &PrivateKeyArgument,
        config: &DecodeConfig,
    ) -> Result<Option<Arc<Directory>>, CliError> {
        let Some(folder) = &self.directory else {
            return Ok(None);
        };
        let columns = self.directory_columns.iter().map(|name| name.trim().to_owned()).collect();
        let rules = DirectoryRules { columns, key: self.directory_key.clone(), ..DirectoryRules::default() };
        let file_rules = config.rules.of_directory(&rules);

        let in_directory = |error: CliError| error.context("directory export");
        let decryption_keys = self.directory_decryption_keys.as_deref();
        let drop = LocalDrop::open(folder, private_key, decryption_keys, config).await.map_err(in_directory)?;
        let mut builder = DirectoryBuilder::new(&rules);
        let add = |rows: &Rows, ()| builder.push(rows.good()).map_err(|error| CliError::Permanent(error.to_string()));
        drop.read_all(config, &file_rules, |_| (), add).await.map_err(in_directory)?;
        let directory = builder.finish();
        directory.unknown_columns().for_each(|warning| print_note(&warning));
        Ok(Some(Arc::new(directory)))
    }
}
