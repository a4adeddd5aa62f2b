//! Lists the files below a folder as blobs, page by page.
//!
//! The walk uses no recursion. It holds one page of blobs, and the folders that it has found and not read yet. It skips
//! a file or folder whose name no blob can have, and logs a warning, so that such a name does not stop the listing.

use std::{
    fs::{self, DirEntry, ReadDir},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;

use super::{
    contained::{contained, is_outside},
    file::{MAX_SEGMENTS, OWN_PREFIX, blob_of, file_name, is_missing, is_too_long, store_error},
};
use crate::store::{Blob, BlobPath, StoreError};

/// How many blobs a page has at most.
pub(super) const PAGE_BLOBS: usize = 1_000;

/// A folder of the walk, linked to its ancestors.
struct Folder {
    /// The real path, without symbolic links.
    path: PathBuf,
    /// The prefix of the names of its blobs: empty, or with a slash at the end.
    name: String,
    /// The folder in which the walk found it.
    parent: Option<Arc<Self>>,
}

impl Folder {
    /// Whether `path` is the path of this folder or of an ancestor. A symbolic link to such a path is a loop.
    fn is_within(&self, path: &Path) -> bool {
        let mut folder = Some(self);
        while let Some(current) = folder {
            if current.path == path {
                return true;
            }
            folder = current.parent.as_deref();
        }
        false
    }
}

/// A folder that has been found, and not read yet.
struct Pending {
    parent: Arc<Folder>,
    file_name: String,
    is_link: bool,
}

/// A listing in progress: the blobs of a container whose names begin with a prefix, in depth-first order.
pub(super) struct Walk {
    root: PathBuf,
    prefix: BlobPath,
    pending: Vec<Pending>,
    /// The folder that is being read, and the number of folders that were pending when it was opened.
    current: Option<(Arc<Folder>, ReadDir, usize)>,
}

impl Walk {
    /// Starts in the innermost folder that `prefix` names completely. The listing is empty if there is no such folder.
    pub(super) fn new(root: &Path, prefix: &BlobPath) -> Result<Self, StoreError> {
        let (root, prefix) = (root.to_path_buf(), prefix.clone());
        let mut walk = Self { root, prefix, pending: Vec::new(), current: None };
        if let Some(folder) = walk.first_folder().map_err(|error| store_error(&walk.prefix, error))? {
            walk.open(folder)?;
        }
        Ok(walk)
    }

    /// The next blobs, in no particular order within their folder; an empty page is the end.
    pub(super) fn next_page(&mut self) -> Result<Vec<Blob>, StoreError> {
        let mut page = Vec::new();
        while page.len() < PAGE_BLOBS {
            let Some((folder, entries, before)) = &mut self.current else {
                let Some(pending) = self.pending.pop() else {
                    break;
                };
                if let Some(folder) = self.enter(&pending)? {
                    self.open(folder)?;
                }
                continue;
            };
            let Some(entry) = entries.next() else {
                // `pending` is a stack, so the folder that comes first by name must be the last element.
                self.pending[*before..].sort_unstable_by(|a, b| b.file_name.cmp(&a.file_name));
                self.current = None;
                continue;
            };
            let (folder, entry) = (Arc::clone(folder), entry.map_err(|error| store_error(&self.prefix, error))?);
            page.extend(self.look_at(&folder, &entry)?);
        }
        Ok(page)
    }

    /// The innermost folder that the prefix names completely.
    fn first_folder(&self) -> io::Result<Option<Arc<Folder>>> {
        let Some(container) = file_name(&self.prefix.container) else {
            return Ok(None);
        };
        let Some(path) = self.follow(&self.prefix.container, &self.root.join(container))? else {
            return Ok(None);
        };
        let mut folder = Arc::new(Folder { path, name: String::new(), parent: None });
        let Some(end) = self.prefix.name.rfind('/') else {
            return Ok(Some(folder));
        };
        if self.prefix.name.matches('/').count() >= MAX_SEGMENTS {
            return Ok(None);
        }
        for segment in self.prefix.name[..end].split('/') {
            let Some(segment) = file_name(segment) else {
                return Ok(None);
            };
            let name = format!("{}{segment}/", folder.name);
            let Some(path) = self.follow(&self.display(&name), &folder.path.join(segment))? else {
                return Ok(None);
            };
            folder = Arc::new(Folder { path, name, parent: Some(folder) });
        }
        Ok(Some(folder))
    }

    /// Opens `folder` for reading, unless it was deleted in the meantime.
    fn open(&mut self, folder: Arc<Folder>) -> Result<(), StoreError> {
        match fs::read_dir(&folder.path) {
            Err(error) if is_missing(&error) => {}
            Err(error) if is_too_long(&error) => self.skip(&folder.name, "its path is too long"),
            entries => {
                let entries = entries.map_err(|error| store_error(&self.prefix, error))?;
                self.current = Some((folder, entries, self.pending.len()));
            }
        }
        Ok(())
    }

    /// Resolves a folder that was found before; `None` if the walk skips it.
    fn enter(&self, pending: &Pending) -> Result<Option<Arc<Folder>>, StoreError> {
        let Pending { parent, file_name, is_link } = pending;
        let name = format!("{}{file_name}/", parent.name);
        if name.matches('/').count() >= MAX_SEGMENTS {
            self.skip(&name, &format!("a blob name has at most {MAX_SEGMENTS} segments"));
            return Ok(None);
        }
        let mut path = parent.path.join(file_name);
        if *is_link {
            let real = self.follow(&self.display(&name), &path).map_err(|error| store_error(&self.prefix, error))?;
            let Some(real) = real else {
                return Ok(None);
            };
            path = real;
        }
        if parent.is_within(&path) {
            return Ok(None);
        }
        Ok(Some(Arc::new(Folder { path, name, parent: Some(Arc::clone(parent)) })))
    }

    /// The blob at `entry`; `None` if `entry` is not a blob. Adds a folder to `pending`.
    fn look_at(&mut self, folder: &Arc<Folder>, entry: &DirEntry) -> Result<Option<Blob>, StoreError> {
        let file_name = entry.file_name();
        let text = file_name.to_string_lossy();
        let name = format!("{}{text}", folder.name);
        // The walk starts in the innermost folder of the prefix. Only in that folder can a name not match the prefix.
        if text.starts_with(OWN_PREFIX) || !name.starts_with(&self.prefix.name) {
            return Ok(None);
        }
        let Some(file_name) = file_name.to_str() else {
            self.skip(&name, "the name is not UTF-8: rename it");
            return Ok(None);
        };
        let is_link = match entry.file_type() {
            Err(error) if is_missing(&error) => return Ok(None),
            kind => kind.map_err(|error| store_error(&self.prefix, error))?.is_symlink(),
        };
        let mut path = folder.path.join(file_name);
        if is_link {
            let real = self.follow(&self.display(&name), &path).map_err(|error| store_error(&self.prefix, error))?;
            let Some(real) = real else {
                return Ok(None);
            };
            path = real;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let (parent, file_name) = (Arc::clone(folder), file_name.to_owned());
                self.pending.push(Pending { parent, file_name, is_link });
                Ok(None)
            }
            // It was deleted in the meantime.
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) if is_too_long(&error) => {
                self.skip(&name, "its path is too long");
                Ok(None)
            }
            metadata => blob_of(&BlobPath::new(&self.prefix.container, name), metadata),
        }
    }

    /// The real path of `path`; `None` if nothing is there, or if it leads out of the root. The warning quotes `name`.
    fn follow(&self, name: &str, path: &Path) -> io::Result<Option<PathBuf>> {
        match contained(&self.root, path) {
            Ok(real) => Ok(Some(real)),
            Err(error) if is_outside(&error) => {
                warn!("skipped `{name}` in a listing: {error}");
                Ok(None)
            }
            Err(error) if is_missing(&error) || is_too_long(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn skip(&self, name: &str, why: &str) {
        warn!("skipped `{}` in a listing: {why}", self.display(name));
    }

    fn display(&self, name: &str) -> String {
        format!("{}/{}", self.prefix.container, name.trim_end_matches('/'))
    }
}
