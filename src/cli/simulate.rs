//! `vivadrop simulate`: an encrypted drop of believable rows, and its way into the configured store.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::CliError;
use crate::{
    app,
    config::{DropContainer, Settings, UploadConfig},
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    simulate::{self, Cipher, LayoutName, Padding, SimulateError, SimulateOptions, Simulated},
    store::WriteIf,
};

#[derive(Debug, Args)]
pub(super) struct SimulateArguments {
    /// How many users there are
    #[arg(long, value_name = "N")]
    users: u64,
    /// The folder to make: DIR/drop, DIR/private-key.pem, DIR/decryption-keys.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many weeks the drop covers; each user has a row a week
    #[arg(long, value_name = "N", default_value_t = 13)]
    weeks: u32,
    /// Over how many files the rows are spread
    #[arg(long, value_name = "N", default_value = "1")]
    files: NonZeroUsize,
    /// The tenant whose drop it is; random if not given
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// The tenant's RSA-2048 key; a new one is made if not given
    #[arg(long, value_name = "PEM")]
    private_key: Option<PathBuf>,
    /// Put the wrapped keys into the drop's metadata as well, so that no Viva Insights API is needed
    #[arg(long)]
    keys_in_drop: bool,
    /// How files are laid out: encrypted-gzip, gzip-encrypted, encrypted or plain
    #[arg(long, value_name = "LAYOUT", default_value = "encrypted-gzip")]
    file_layout: LayoutName,
    /// How files are encrypted: ctr or cbc
    #[arg(long, value_name = "CIPHER", default_value = "ctr")]
    file_cipher: Cipher,
    /// How columns are encrypted: ctr or cbc
    #[arg(long, value_name = "CIPHER", default_value = "ctr")]
    column_cipher: Cipher,
    /// How keys are wrapped: RSA-OAEP, RSA-OAEP-256 or RSA1_5
    #[arg(long, value_name = "PADDING", default_value = "RSA-OAEP")]
    key_wrap: Padding,
    /// Write metrics as strings, as some drops have them
    #[arg(long)]
    string_metrics: bool,
    /// Make the same rows every time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Upload the drop to DropStorage, and say where it lies
    #[arg(long)]
    upload: bool,
}

pub(super) async fn simulate(arguments: &SimulateArguments) -> Result<(), CliError> {
    let upload = arguments.upload.then(|| UploadConfig::read(&Settings::from_env())).transpose()?;
    let made = tokio::task::block_in_place(|| make(arguments)).map_err(|error| {
        let said = error_chain(&error);
        if matches!(error, SimulateError::Io { .. } | SimulateError::Keys(_)) {
            CliError::Transient(said)
        } else {
            CliError::Usage(said)
        }
    })?;
    eprintln!(
        "{} rows of tenant {}, {} of text in {} of ciphertext: `{}`",
        HumanCount(made.rows),
        made.tenant,
        HumanBytes(made.text_bytes),
        HumanBytes(made.file_bytes),
        made.drop.display()
    );
    if let Some(config) = upload {
        let path = self::upload(&config, &made).await.map_err(CliError::Transient)?;
        eprintln!("uploaded to `{path}`");
    }
    Ok(())
}

fn make(arguments: &SimulateArguments) -> Result<Simulated, SimulateError> {
    let options = SimulateOptions {
        users: arguments.users,
        weeks: arguments.weeks,
        files: arguments.files,
        tenant: arguments.tenant,
        layout: arguments.file_layout,
        file_cipher: arguments.file_cipher,
        column_cipher: arguments.column_cipher,
        key_wrap: arguments.key_wrap,
        keys_in_metadata: arguments.keys_in_drop,
        string_metrics: arguments.string_metrics,
        seed: arguments.seed,
        private_key: arguments.private_key.clone(),
        ..SimulateOptions::default()
    };
    let rows = arguments.users.saturating_mul(arguments.weeks.into());
    let progress = ProgressBar::new(rows);
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} rows, {per_sec}");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let made = simulate::simulate(&options, &arguments.out, &|rows| progress.set_position(rows));
    progress.finish_and_clear();
    made
}

/// Copies the drop to where a customer's pipeline would put it, the job metadata last.
async fn upload(config: &UploadConfig, made: &Simulated) -> Result<DropPath, String> {
    let store = app::store(&config.drop_storage).map_err(|error| error_chain(&error))?;
    let container = match &config.drop_container {
        DropContainer::Named(name) => name.clone(),
        DropContainer::PerTenant => made.tenant.to_string(),
    };
    let path = DropPath::new(container, format!("{}/VivaInsights/{}", made.copy_activity_id, made.tenant));
    let mut names =
        files_below(&made.drop).map_err(|error| format!("cannot list `{}`: {error}", made.drop.display()))?;
    names.sort_by_key(|name| name.starts_with("metadata/"));
    for name in names {
        let file = made.drop.join(&name);
        let bytes =
            tokio::fs::read(&file).await.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
        let blob = path.blob(&name);
        store.write(&blob, Bytes::from(bytes), WriteIf::Always).await.map_err(|error| error_chain(&error))?;
    }
    Ok(path)
}

/// The files below `folder`, by their names with `/`.
fn files_below(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in folder.read_dir()? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                names.push(name);
            }
        }
    }
    Ok(names)
}
