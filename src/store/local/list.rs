//! Lists the files below a folder as blobs.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::file::{OWN_PREFIX, blob_of, file_name, store_error};
use crate::store::{Blob, BlobPath, StoreError};

/// A folder that has yet to be read.
struct Folder {
    path: PathBuf,
    /// The name prefix of its blobs.
    name: String,
    /// The real paths of the folders around it. A symbolic link to one of them is a loop.
    ancestors: Vec<PathBuf>,
}

/// Lists the blobs of `prefix.container` whose names begin with `prefix.name`, sorted by name.
pub(super) fn list(root: &Path, prefix: &BlobPath) -> Result<Vec<Blob>, StoreError> {
    let mut blobs = Vec::new();
    let mut folders: Vec<Folder> = first_folder(root, prefix).into_iter().collect();
    while let Some(folder) = folders.pop() {
        let Some(folder) = enter(folder).map_err(|error| store_error(prefix, error))? else {
            continue;
        };
        let entries = match fs::read_dir(&folder.path) {
            Err(error) if is_missing(&error) => continue,
            entries => entries.map_err(|error| store_error(prefix, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| store_error(prefix, error))?;
            let Some(name) = matching_name(&folder, prefix, &entry)? else {
                continue;
            };
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => folders.push(Folder {
                    path: entry.path(),
                    name: format!("{name}/"),
                    ancestors: folder.ancestors.clone(),
                }),
                // A dangling link, or a file that was deleted in the meantime.
                Err(error) if is_missing(&error) => {}
                metadata => blobs.extend(blob_of(&BlobPath::new(&prefix.container, name), metadata)?),
            }
        }
    }
    blobs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(blobs)
}

/// The innermost folder that the prefix names completely; `None` if no folder can have that name.
fn first_folder(root: &Path, prefix: &BlobPath) -> Option<Folder> {
    let mut path = root.join(file_name(&prefix.container)?);
    let name = match prefix.name.rfind('/') {
        Some(end) => {
            for folder in prefix.name[..end].split('/') {
                path.push(file_name(folder)?);
            }
            &prefix.name[..=end]
        }
        None => "",
    };
    Some(Folder { path, name: name.to_owned(), ancestors: Vec::new() })
}

/// Adds the folder to its own `ancestors`; `None` if it is one of them already, or does not exist.
fn enter(mut folder: Folder) -> io::Result<Option<Folder>> {
    let real_path = match fs::canonicalize(&folder.path) {
        Err(error) if is_missing(&error) => return Ok(None),
        real_path => real_path?,
    };
    if folder.ancestors.contains(&real_path) {
        return Ok(None);
    }
    folder.ancestors.push(real_path);
    Ok(Some(folder))
}

/// The blob name of `entry`; `None` if it does not begin with the prefix, or is one of the store's own files.
///
/// The search starts in the innermost folder of the prefix, so a folder that matches contains only matching names.
fn matching_name(folder: &Folder, prefix: &BlobPath, entry: &DirEntry) -> Result<Option<String>, StoreError> {
    let file_name = entry.file_name();
    let Some(text) = file_name.to_str() else {
        return Err(not_utf8(prefix, &folder.path, &file_name));
    };
    let name = format!("{}{text}", folder.name);
    Ok((!text.starts_with(OWN_PREFIX) && name.starts_with(&prefix.name)).then_some(name))
}

fn not_utf8(prefix: &BlobPath, folder: &Path, name: &OsStr) -> StoreError {
    let text = format!("the name `{}` in `{}` is not UTF-8: rename it", name.to_string_lossy(), folder.display());
    StoreError::unavailable(prefix, text)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) || is_link_loop(error)
}

/// Whether the error is `ELOOP`: a symbolic link that leads to itself. `ErrorKind::FilesystemLoop` is not stable yet.
fn is_link_loop(error: &io::Error) -> bool {
    /// On Linux, and on macOS and the BSDs.
    const ELOOP: [i32; 2] = [40, 62];
    cfg!(unix) && error.raw_os_error().is_some_and(|code| ELOOP.contains(&code))
}
