//! `vivadrop decode`: prints the rows of a drop in a local folder on stdout.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{CliError, FileFlags};
use crate::{
    config::DecodeConfig,
    drop::{
        DropPath, TenantId,
        discover::{self, DropContents},
        metadata::JobMetadata,
    },
    json,
    keys::{self, Keys, details, pem::PemFile, unwrap::unwrap_keys},
    pipeline,
    run::read_metadata,
    store::{Blob, ReadWindow, Store, is_safe_segment, local::LocalStore, read},
};

/// The maximum number of bad rows that are listed individually.
const MAX_LISTED_BAD_ROWS: usize = 100;

#[derive(Debug, Args)]
pub(super) struct DecodeArguments {
    /// Folder of the drop, which contains metadata/JobMetadata
    drop: PathBuf,
    /// The tenant's RSA-2048 private key (PKCS#8 or PKCS#1)
    #[arg(long, value_name = "PEM")]
    private_key: PathBuf,
    /// Saved response of egressDecryptionKey [default: the key details in the drop's metadata]
    #[arg(long, value_name = "JSON")]
    decryption_keys: Option<PathBuf>,
    /// Decode only this file, a path relative to the drop, and do not check the row count [default: all files]
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    flags: FileFlags,
}

/// Decodes the files of a drop and prints their rows.
pub(super) async fn decode(arguments: &DecodeArguments) -> Result<(), CliError> {
    let config = DecodeConfig::read(&arguments.flags.over_environment())?;
    let pem = &arguments.private_key;
    std::fs::File::open(pem).map_err(|error| CliError::Usage(format!("cannot read `{}`: {error}", pem.display())))?;
    let started = Instant::now();
    let (store, path) = open_drop(&arguments.drop)?;
    let contents =
        discover::list_contents(&*store, &path).await.map_err(|error| CliError::of(error.verdict(), &error))?;
    let Some(contents) = contents else {
        let folder = arguments.drop.display();
        return Err(CliError::Permanent(format!("`{folder}` contains no job metadata: not a drop")));
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
    let keys = unwrapped_keys(arguments, &config, &*store, &contents, &metadata).await?;
    let files = match &arguments.file {
        None => contents.files.clone(),
        Some(name) => vec![find_file(&*store, &contents, name).await?],
    };

    let mut printer = Printer::new(store, &config, keys, files.iter().map(|file| file.size).sum());
    for file in &files {
        printer.print_rows(contents.relative(file), file).await?;
    }
    if arguments.file.is_none() {
        printer.check_row_count(metadata.rows_extracted)?;
    }
    printer.print_summary(files.len(), started);
    Ok(())
}

/// Opens the parent folder as a store, in which the folder of the drop is a container.
fn open_drop(folder: &Path) -> Result<(Arc<dyn Store>, DropPath), CliError> {
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

/// Unwraps the keys of the drop with the private key; no keys if the drop has none, as in plaintext drops.
async fn unwrapped_keys(
    arguments: &DecodeArguments,
    config: &DecodeConfig,
    store: &dyn Store,
    contents: &DropContents,
    metadata: &JobMetadata,
) -> Result<Keys, CliError> {
    let wrapped = match &arguments.decryption_keys {
        Some(file) => {
            let name = file.display();
            let bytes =
                std::fs::read(file).map_err(|error| CliError::Usage(format!("cannot read `{name}`: {error}")))?;
            let response =
                json::first_object(&bytes).map_err(|error| CliError::Permanent(format!("`{name}`: {error}")))?;
            details::wrapped_keys(&response.into()).map(Some)
        }
        None => keys::wrapped_in_drop(store, contents, metadata).await,
    };
    let Some(wrapped) = wrapped.map_err(|error| CliError::of(error.verdict(), &error))? else {
        return Ok(Keys::default());
    };
    // `PemFile` ignores the tenant: it is one key for all tenants.
    let tenant = metadata.tenant_id.unwrap_or(TenantId(uuid::Uuid::nil()));
    let private_key = PemFile::new(&arguments.private_key);
    unwrap_keys(&private_key, tenant, config.key_wrap, &wrapped)
        .await
        .map_err(|error| CliError::of(error.verdict(), &error))
}

/// Finds a file below the drop by its relative path.
async fn find_file(store: &dyn Store, contents: &DropContents, name: &str) -> Result<Blob, CliError> {
    let no_such_file = || CliError::Usage(format!("the drop contains no file `{name}`"));
    if !name.split('/').all(is_safe_segment) {
        return Err(no_such_file());
    }
    let blob = store.find(&contents.path.blob(name)).await.map_err(|error| CliError::of(error.verdict(), &error))?;
    blob.ok_or_else(no_such_file)
}

/// Prints the rows of files and counts them.
struct Printer<'a> {
    store: Arc<dyn Store>,
    config: &'a DecodeConfig,
    keys: Keys,
    progress: ProgressBar,
    /// The number of rows so far, including bad rows.
    row_count: u64,
    bad_row_count: u64,
    /// The descriptions of the first [`MAX_LISTED_BAD_ROWS`] bad rows.
    bad_rows: Vec<String>,
}

impl<'a> Printer<'a> {
    fn new(store: Arc<dyn Store>, config: &'a DecodeConfig, keys: Keys, bytes: u64) -> Self {
        let progress = if std::io::stderr().is_terminal() && !std::io::stdout().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {bytes_per_sec} {eta}");
            ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
                .with_style(style.expect("the template is valid"))
        } else {
            ProgressBar::hidden()
        };
        Self { store, config, keys, progress, row_count: 0, bad_row_count: 0, bad_rows: Vec::new() }
    }

    /// Prints the rows of `file`, whose path relative to the drop is `name`.
    async fn print_rows(&mut self, name: &str, file: &Blob) -> Result<(), CliError> {
        let progress = self.progress.clone();
        let bytes = read(Arc::clone(&self.store), file.clone(), ReadWindow::default())
            .inspect_ok(move |chunk| progress.inc(chunk.len() as u64))
            .boxed();
        let mut blocks = pipeline::rows(bytes, 0, &self.keys, &self.config.rules, self.config.decoders);
        let mut stdout = std::io::stdout().lock();
        let (mut first_row, mut bad_rows_in_file) = (0, 0);
        while let Some(rows) = blocks.next().await {
            let rows = rows.map_err(|error| CliError::of(error.verdict(), &InFile { name, error: &error }))?;
            stdout
                .write_all(&rows.text)
                .map_err(|error| CliError::Transient(format!("cannot write the rows: {error}")))?;
            for (row, reason) in &rows.bad {
                let description = format!("row {} of `{name}` {reason}", first_row + row);
                bad_rows_in_file += 1;
                let allowed = self.config.bad_rows_allowed;
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
    fn check_row_count(&self, expected: Option<u64>) -> Result<(), CliError> {
        match expected {
            Some(expected) if expected != self.row_count => Err(CliError::Permanent(format!(
                "the files contain {} rows, but `NumberOfRowsExtracted` is {expected}",
                self.row_count
            ))),
            _ => Ok(()),
        }
    }

    fn print_summary(&self, files: usize, started: Instant) {
        self.progress.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let printed = self.row_count - self.bad_row_count;
        let rate = HumanCount((printed as f64 / seconds.max(0.001)) as u64);
        eprintln!("{} rows of {files} files in {seconds:.2} s ({rate} rows/s)", HumanCount(printed));
        for description in &self.bad_rows {
            eprintln!("bad row: {description}");
        }
        let unlisted = self.bad_row_count - self.bad_rows.len() as u64;
        if unlisted > 0 {
            eprintln!("bad rows: {unlisted} more");
        }
    }
}

/// An error with the name of its file.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` {error}")]
struct InFile<'a> {
    name: &'a str,
    error: &'a pipeline::RowsError,
}
