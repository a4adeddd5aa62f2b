//! `vivadrop simulate`: writes an encrypted drop of realistic rows, and uploads it on request.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::{CliError, print_line, print_note};
use crate::{
    app,
    config::{DropContainer, Settings, UploadConfig},
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    simulate::{self, Cipher, LayoutName, Padding, SimulateError, SimulateOptions, Simulated},
    store::{Store, WriteIf},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vivadrop simulate --users 1000 --out sim
  vivadrop simulate --users 10 --tenant 00000000-0000-4000-8000-000000000001 --keys-in-drop --out sim --upload")]
pub(super) struct SimulateArguments {
    /// Number of users
    #[arg(long, value_name = "N")]
    users: u64,
    /// New or empty folder for DIR/drop, DIR/private-key.pem and DIR/decryption-keys.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of weeks; each user has one row per week
    #[arg(long, value_name = "N", default_value_t = 13)]
    weeks: u32,
    /// Number of data files
    #[arg(long, value_name = "N", default_value = "1")]
    files: NonZeroUsize,
    /// Tenant id of the drop; random if not given
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// The tenant's RSA-2048 private key; generated if not given
    #[arg(long, value_name = "PEM")]
    private_key: Option<PathBuf>,
    /// Write the wrapped keys into the job metadata as well, so that no Viva Insights API is needed
    #[arg(long)]
    keys_in_drop: bool,
    /// Layout of the data files: encrypted-gzip, gzip-encrypted, encrypted or plain
    #[arg(long, value_name = "LAYOUT", default_value = "encrypted-gzip")]
    file_layout: LayoutName,
    /// Cipher mode of the data files: ctr or cbc
    #[arg(long, value_name = "CIPHER", default_value = "ctr")]
    file_cipher: Cipher,
    /// Cipher mode of encrypted columns: ctr or cbc
    #[arg(long, value_name = "CIPHER", default_value = "ctr")]
    column_cipher: Cipher,
    /// Padding of the wrapped keys: RSA-OAEP, RSA-OAEP-256 or RSA1_5
    #[arg(long, value_name = "PADDING", default_value = "RSA-OAEP")]
    key_wrap: Padding,
    /// Write metrics as strings, as in some real drops
    #[arg(long)]
    string_metrics: bool,
    /// Seed of the people, weeks and metrics: the same N generates the same ones every time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write a directory export of the same people to DIR/directory as well, with its wrapped keys in its metadata
    #[arg(long)]
    directory: bool,
    /// Upload the drop to DropStorage, and print its path
    #[arg(long)]
    upload: bool,
}

pub(super) async fn simulate(arguments: &SimulateArguments) -> Result<(), CliError> {
    let upload = arguments.upload.then(|| UploadConfig::read(&Settings::from_env())).transpose()?;
    let simulated = tokio::task::block_in_place(|| run_simulation(arguments)).map_err(|error| {
        let message = error_chain(&error);
        if matches!(error, SimulateError::Io { .. } | SimulateError::Keys(_)) {
            CliError::Transient(message)
        } else {
            CliError::Usage(message)
        }
    })?;
    print_note(&format!(
        "simulated {} rows of tenant {}, {} of text, {} after compression and encryption, in `{}`",
        HumanCount(simulated.rows),
        simulated.tenant,
        HumanBytes(simulated.text_bytes),
        HumanBytes(simulated.file_bytes),
        simulated.drop.display()
    ));
    if let Some(directory) = &simulated.directory {
        print_note(&format!("simulated the directory export of the same people in `{}`", directory.display()));
    }
    if let Some(config) = upload {
        let path = self::upload(&config, &simulated).await.map_err(CliError::Transient)?;
        print_note("uploaded it to:");
        print_line(&path.to_string());
    }
    Ok(())
}

fn run_simulation(arguments: &SimulateArguments) -> Result<Simulated, SimulateError> {
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
        directory: arguments.directory,
        private_key: arguments.private_key.clone(),
        ..SimulateOptions::default()
    };
    let rows = arguments.users.saturating_mul(arguments.weeks.into());
    let progress = ProgressBar::new(rows);
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} rows, {per_sec}");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let simulated = simulate::simulate(&options, &arguments.out, &|rows| progress.set_position(rows));
    progress.finish_and_clear();
    simulated
}

/// Uploads the drop to the path that a customer's pipeline would use, the job metadata last.
async fn upload(config: &UploadConfig, simulated: &Simulated) -> Result<DropPath, String> {
    let store = app::store(&config.drop_storage).map_err(|error| error_chain(&error))?;
    let container = match &config.drop_container {
        DropContainer::Named(name) => name.clone(),
        DropContainer::PerTenant => simulated.tenant.to_string(),
    };
    let path = DropPath::new(container, format!("{}/VivaInsights/{}", simulated.copy_activity_id, simulated.tenant));
    if let Some(directory) = &simulated.directory {
        let folder = format!("{}/AADUser/{}", simulated.copy_activity_id, simulated.tenant);
        upload_folder(&*store, directory, &DropPath::new(&path.container, folder)).await?;
    }
    upload_folder(&*store, &simulated.drop, &path).await?;
    Ok(path)
}

/// Uploads a folder as the drop at `path`, the metadata last.
async fn upload_folder(store: &dyn Store, folder: &Path, path: &DropPath) -> Result<(), String> {
    let mut names = files_below(folder).map_err(|error| format!("cannot list `{}`: {error}", folder.display()))?;
    names.sort_by_key(|name| name.starts_with("metadata/"));
    for name in names {
        let file = folder.join(&name);
        let bytes =
            tokio::fs::read(&file).await.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
        let blob = path.blob(&name);
        store.write(&blob, Bytes::from(bytes), WriteIf::Always).await.map_err(|error| error_chain(&error))?;
    }
    Ok(())
}

/// The paths of all files below `folder`, relative to it and with `/` as separator.
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
