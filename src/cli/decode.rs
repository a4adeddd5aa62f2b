//! `vivadrop decode`: the rows of a drop in a local folder, on stdout.

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
        is_plain_segment,
        metadata::JobMetadata,
    },
    json,
    keys::{self, Keys, details, pem::PemFile, unwrap::unwrap_keys},
    pipeline,
    run::read_metadata,
    store::{Blob, ReadWindow, Store, local::LocalStore, read},
};

/// How many bad rows are listed one by one.
const BAD_ROWS_LISTED: usize = 100;

#[derive(Debug, Args)]
pub(super) struct DecodeArguments {
    /// The folder of the drop
    drop: PathBuf,
    /// The tenant's RSA key
    #[arg(long, value_name = "PEM")]
    private_key: PathBuf,
    /// A saved answer of egressDecryptionKey; without it the key details in the drop are used
    #[arg(long, value_name = "JSON")]
    decryption_keys: Option<PathBuf>,
    /// Decode this file of the drop alone, whatever the row count
    #[arg(long, value_name = "F")]
    file: Option<String>,
    #[command(flatten)]
    flags: FileFlags,
}

pub(super) async fn decode(arguments: &DecodeArguments) -> Result<(), CliError> {
    let config = DecodeConfig::read(&arguments.flags.over_environment())?;
    let pem = &arguments.private_key;
    std::fs::File::open(pem).map_err(|error| CliError::Usage(format!("cannot read `{}`: {error}", pem.display())))?;
    let begun = Instant::now();
    let (store, path) = open(&arguments.drop)?;
    let contents = discover::contents(&*store, &path)
        .await
        .map_err(|error| CliError::of(error.verdict(), &error))?
        .ok_or_else(|| CliError::Refused(format!("`{}` has no job metadata: not a drop", arguments.drop.display())))?;
    let metadata = read_metadata(&*store, &contents.metadata)
        .await
        .map_err(|error| CliError::of(error.verdict(), &error))?
        .map_err(|error| CliError::of(error.verdict(), &error))?;
    if let Some(errors) = &metadata.errors {
        return Err(CliError::Refused(format!("the extraction failed, there is no data; Microsoft says: {errors}")));
    }
    let keys = keys_of(arguments, &config, &*store, &contents, &metadata).await?;
    let files = match &arguments.file {
        None => contents.files.clone(),
        Some(name) => vec![named(&*store, &contents, name).await?],
    };

    let mut printer = Printer::new(store, &config, keys, files.iter().map(|file| file.size).sum());
    for file in &files {
        printer.print(contents.relative(file), file).await?;
    }
    if arguments.file.is_none() {
        printer.check_count(metadata.rows_extracted)?;
    }
    printer.summarize(files.len(), begun);
    Ok(())
}

/// The folder as a store with one container, which is the drop.
fn open(folder: &Path) -> Result<(Arc<dyn Store>, DropPath), CliError> {
    let no_folder = |why: &dyn std::fmt::Display| CliError::Usage(format!("cannot open `{}`: {why}", folder.display()));
    let folder = folder.canonicalize().map_err(|error| no_folder(&error))?;
    if !folder.is_dir() {
        return Err(no_folder(&"expected the folder of a drop"));
    }
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
        return Err(no_folder(&"expected a folder with a name"));
    };
    let store = LocalStore::new(parent).map_err(|error| no_folder(&error))?;
    Ok((Arc::new(store), DropPath::new(name, "")))
}

async fn keys_of(
    arguments: &DecodeArguments,
    config: &DecodeConfig,
    store: &dyn Store,
    contents: &DropContents,
    metadata: &JobMetadata,
) -> Result<Keys, CliError> {
    let wrapped = match &arguments.decryption_keys {
        Some(answer) => {
            let name = answer.display();
            let bytes =
                std::fs::read(answer).map_err(|error| CliError::Usage(format!("cannot read `{name}`: {error}")))?;
            let object = json::first_object(&bytes).map_err(|error| CliError::Refused(format!("`{name}`: {error}")))?;
            details::wrapped_keys(&object.into()).map(Some)
        }
        None => keys::wrapped_in_drop(store, contents, metadata).await,
    };
    let Some(wrapped) = wrapped.map_err(|error| CliError::of(error.verdict(), &error))? else {
        return Ok(Keys::default());
    };
    // The key is the one that was given, whoever the tenant is.
    let tenant = metadata.tenant_id.unwrap_or(TenantId(uuid::Uuid::nil()));
    let private_key = PemFile::new(&arguments.private_key);
    unwrap_keys(&private_key, tenant, config.key_wrap, &wrapped)
        .await
        .map_err(|error| CliError::of(error.verdict(), &error))
}

/// The file that was asked for by name: any file below the drop.
async fn named(store: &dyn Store, contents: &DropContents, name: &str) -> Result<Blob, CliError> {
    let no_file = || CliError::Usage(format!("there is no file `{name}` in the drop"));
    if !name.split('/').all(is_plain_segment) {
        return Err(no_file());
    }
    let found = store.find(&contents.path.blob(name)).await.map_err(|error| CliError::of(error.verdict(), &error))?;
    found.ok_or_else(no_file)
}

/// Prints the rows of files, and counts them.
struct Printer<'a> {
    store: Arc<dyn Store>,
    config: &'a DecodeConfig,
    keys: Keys,
    progress: ProgressBar,
    rows: u64,
    /// Bad rows, one line each; no more than are listed.
    bad_rows: Vec<String>,
    bad_count: u64,
}

impl<'a> Printer<'a> {
    fn new(store: Arc<dyn Store>, config: &'a DecodeConfig, keys: Keys, bytes: u64) -> Self {
        let progress = if std::io::stderr().is_terminal() && !std::io::stdout().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {bytes_per_sec} {eta}");
            ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        } else {
            ProgressBar::hidden()
        };
        Self { store, config, keys, progress, rows: 0, bad_rows: Vec::new(), bad_count: 0 }
    }

    async fn print(&mut self, name: &str, file: &Blob) -> Result<(), CliError> {
        let progress = self.progress.clone();
        let bytes = read(Arc::clone(&self.store), file.clone(), ReadWindow::default())
            .inspect_ok(move |chunk| progress.inc(chunk.len() as u64))
            .boxed();
        let mut blocks = pipeline::rows(bytes, 0, &self.keys, &self.config.rules, self.config.decoders);
        let mut stdout = std::io::stdout().lock();
        let (mut first_row, mut bad_before) = (0, 0);
        while let Some(rows) = blocks.next().await {
            let rows = rows.map_err(|error| CliError::of(error.verdict(), &InFile { name, error: &error }))?;
            stdout
                .write_all(&rows.text)
                .map_err(|error| CliError::TryAgain(format!("cannot write the rows: {error}")))?;
            for (row, reason) in &rows.bad {
                let line = format!("row {} of `{name}` {reason}", first_row + row);
                bad_before += 1;
                if bad_before > self.config.bad_rows_allowed {
                    let allowed = self.config.bad_rows_allowed;
                    return Err(CliError::Refused(format!(
                        "more than {allowed} bad rows (`BAD_ROWS_ALLOWED`): {line}"
                    )));
                }
                self.bad_count += 1;
                if self.bad_rows.len() < BAD_ROWS_LISTED {
                    self.bad_rows.push(line);
                }
            }
            first_row += rows.count();
        }
        self.rows += first_row;
        Ok(())
    }

    fn check_count(&self, expected: Option<u64>) -> Result<(), CliError> {
        match expected {
            Some(expected) if expected != self.rows => Err(CliError::Refused(format!(
                "the files hold {} rows, and `NumberOfRowsExtracted` is {expected}",
                self.rows
            ))),
            _ => Ok(()),
        }
    }

    fn summarize(&self, files: usize, begun: Instant) {
        self.progress.finish_and_clear();
        let seconds = begun.elapsed().as_secs_f64();
        let good = self.rows - self.bad_count;
        let rate = HumanCount((good as f64 / seconds.max(0.001)) as u64);
        eprintln!("{} rows of {files} files in {seconds:.2} s ({rate} rows/s)", HumanCount(good));
        for line in &self.bad_rows {
            eprintln!("bad row: {line}");
        }
        let unlisted = self.bad_count - self.bad_rows.len() as u64;
        if unlisted > 0 {
            eprintln!("bad rows: {unlisted} more");
        }
    }
}

/// An error with the file it happened in.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` {error}")]
struct InFile<'a> {
    name: &'a str,
    error: &'a pipeline::RowsError,
}
