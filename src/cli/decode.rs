//! `vivadrop decode`: prints the rows of a drop in a local folder on stdout.

use std::{io::Write, path::PathBuf, sync::Arc, time::Instant};

use clap::Args;
use indicatif::HumanCount;

use super::{
    CliError, FileFlags,
    local_drop::{DirectoryFlags, LocalDrop, RowReader},
    print_note,
    private_key::PrivateKeyArgument,
};
use crate::{
    config::{DecodeConfig, Settings},
    stage::decode::Rows,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vivadrop decode drop --private-key tenant.pem --decryption-keys response.json > rows.ndjson
  vivadrop decode drop --private-key https://contoso.vault.azure.net --env-file production.env --file part-0.json.gz
  vivadrop decode drop --private-key tenant.pem --directory users --directory-columns mail,department > rows.ndjson")]
pub(super) struct DecodeArguments {
    /// Folder of the drop, which contains metadata/JobMetadata
    drop: PathBuf,
    /// The tenant's RSA-2048 private key: a PEM file (PKCS#8 or PKCS#1), or a vault: https://{vault}.vault.azure.net
    #[arg(long, value_name = "PEM")]
    private_key: PrivateKeyArgument,
    /// Saved response of egressDecryptionKey [default: the keys in the drop, or those of the API if PARTNER_… or
    /// VIVA_API_URL is set]
    #[arg(long, value_name = "JSON")]
    decryption_keys: Option<PathBuf>,
    /// Decode only this file, a path relative to the drop, and do not check the row count [default: all files]
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    directory: DirectoryFlags,
    #[command(flatten)]
    flags: FileFlags,
    /// Columns to print: a comma-separated list, or * for all; `name?` is optional [default: $ROW_COLUMNS or *]
    #[arg(long, value_name = "NAMES", alias = "columns")]
    row_columns: Option<String>,
    /// Conversion of metrics that are strings: typed (to numbers) or verbatim [default: $ROW_VALUES or typed]
    #[arg(long, value_name = "MODE")]
    row_values: Option<String>,
}

impl DecodeArguments {
    /// The settings of the environment, overridden by the flags.
    fn settings(&self) -> Settings {
        let mut settings = self.flags.over_environment();
        for (name, flag) in [("ROW_COLUMNS", &self.row_columns), ("ROW_VALUES", &self.row_values)] {
            if let Some(value) = flag {
                settings.set(name, value);
            }
        }
        settings
    }
}

/// Decodes the files of a drop and prints their rows.
pub(super) async fn decode(arguments: &DecodeArguments) -> Result<(), CliError> {
    let config = DecodeConfig::read(&arguments.settings())?;
    config.log_warnings();
    let started = Instant::now();
    let decryption_keys = arguments.decryption_keys.as_deref();
    let drop = LocalDrop::open(&arguments.drop, &arguments.private_key, decryption_keys, &config).await?;
    let directory = arguments.directory.load(&arguments.private_key, &config).await?;
    let files = match &arguments.file {
        None => drop.contents.files.clone(),
        Some(name) => vec![drop.find_file(name).await?],
    };

    let mut rules = config.rules.clone();
    if drop.is_directory() {
        rules = rules.for_directory_export(true);
    } else {
        rules.rows.checks.expected.extend(arguments.directory.expected_column());
    }
    let mut reader = drop.reader(&config, &rules, files.iter().map(|file| file.size).sum());
    let mut stdout = std::io::stdout().lock();
    let mut print = |rows: &Rows| stdout.write_all(&rows.text).map_err(|error| CliError::of_output("the rows", &error));
    for file in &files {
        reader.read(file, directory.as_ref().map(Arc::clone), &mut print).await?;
    }
    if arguments.file.is_none() {
        reader.check_row_count()?;
    }
    print_summary(&reader, files.len(), started);
    Ok(())
}

fn print_summary(reader: &RowReader<'_>, files: usize, started: Instant) {
    reader.progress.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let printed = reader.row_count - reader.bad_row_count;
    let rate = HumanCount((printed as f64 / seconds.max(0.001)) as u64);
    print_note(&format!("{} rows of {files} files in {seconds:.2} s ({rate} rows/s)", HumanCount(printed)));
    for description in &reader.bad_rows {
        print_note(&format!("bad row: {description}"));
    }
    let unlisted = reader.bad_row_count - reader.bad_rows.len() as u64;
    if unlisted > 0 {
        print_note(&format!("bad rows: {unlisted} more"));
    }
}
