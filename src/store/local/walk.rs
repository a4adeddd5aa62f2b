//! The files below a folder, as blobs.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{Blob, BlobPath, LocalStore, OWN, StoreError, failed, found, plain_component};

/// A folder that is still to be read: the names of its blobs begin with `name`.
struct Folder {
    path: PathBuf,
    name: String,
    /// The folders around it, by their real paths: a link to one of them is a loop.
    around: Vec<PathBuf>,
}

/// The blobs whose names begin with `place.name`, by name.
pub(super) fn list(store: &LocalStore, place: &BlobPath) -> Result<Vec<Blob>, StoreError> {
    let mut blobs = Vec::new();
    let mut folders: Vec<Folder> = start(store, place).into_iter().collect();
    while let Some(folder) = folders.pop() {
        let Some(folder) = entered(folder).map_err(|error| failed(place, error))? else {
            continue;
        };
        let entries = match fs::read_dir(&folder.path) {
            Err(error) if is_gone(&error) => continue,
            entries => entries.map_err(|error| failed(place, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed(place, error))?;
            let Some(name) = name_in(&folder, place, &entry)? else {
                continue;
            };
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => {
                    folders.push(Folder { path: entry.path(), name: format!("{name}/"), around: folder.around.clone() })
                }
                // A link to nothing, or a file that went away meanwhile.
                Err(error) if is_gone(&error) => {}
                metadata => blobs.extend(found(&BlobPath::new(&place.container, name), metadata)?),
            }
        }
    }
    blobs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(blobs)
}

/// The innermost folder that the prefix names in full.
fn start(store: &LocalStore, place: &BlobPath) -> Option<Folder> {
    let (folders, name) = match place.name.rfind('/') {
        Some(end) => (&place.name[..end], &place.name[..=end]),
        None => ("", ""),
    };
    let mut path = store.root.join(plain_component(&place.container)?);
    for folder in folders.split('/').filter(|_| !name.is_empty()) {
        path.push(plain_component(folder)?);
    }
    Some(Folder { path, name: name.to_owned(), around: Vec::new() })
}

/// The folder among those around it; `None` when it is one of those, or is not there.
fn entered(mut folder: Folder) -> io::Result<Option<Folder>> {
    let real = match fs::canonicalize(&folder.path) {
        Err(error) if is_gone(&error) => return Ok(None),
        real => real?,
    };
    if folder.around.contains(&real) {
        return Ok(None);
    }
    folder.around.push(real);
    Ok(Some(folder))
}

/// The blob name of `entry`, when it begins as asked, or may lead to one that does.
fn name_in(folder: &Folder, place: &BlobPath, entry: &DirEntry) -> Result<Option<String>, StoreError> {
    let file_name = entry.file_name();
    let Some(text) = file_name.to_str() else {
        return Err(not_utf8(place, &folder.path, &file_name));
    };
    let name = format!("{}{text}", folder.name);
    Ok((!text.starts_with(OWN) && name.starts_with(&place.name)).then_some(name))
}

fn not_utf8(place: &BlobPath, folder: &Path, name: &OsStr) -> StoreError {
    let text = format!("the name `{}` in `{}` is not UTF-8: rename it", name.to_string_lossy(), folder.display());
    StoreError::unavailable(place, text)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) || is_link_to_itself(error)
}

/// `ErrorKind::FilesystemLoop` is not stable yet.
fn is_link_to_itself(error: &io::Error) -> bool {
    const ELOOP: [i32; 2] = [40, 62];
    cfg!(unix) && error.raw_os_error().is_some_and(|code| ELOOP.contains(&code))
}
