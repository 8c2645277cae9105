//! Where the local runner keeps its data, or that it keeps none.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

/// Where data is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Data {
    /// Nowhere: it is gone when the stack stops.
    #[default]
    Ephemeral,
    /// In this directory, made when absent; one stack at a time.
    Dir(PathBuf),
}

/// The place for a running stack's files.
pub(crate) enum Place {
    /// Removed in the end.
    Temporary(TempDir),
    /// Locked as long as the file is open.
    Kept {
        /// The directory.
        directory: PathBuf,
        /// Holds the lock.
        _lock: File,
    },
}

impl Place {
    pub(crate) fn open(data: &Data) -> Result<Place, Error> {
        match data {
            Data::Ephemeral => tempfile::Builder::new()
                .prefix("wharfage-")
                .tempdir()
                .map(Place::Temporary)
                .map_err(Error::io("cannot make a temporary directory")),
            Data::Dir(directory) => {
                let what = format!("cannot use {}", directory.display());
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)
                    .map_err(Error::io(what.clone()))?;
                let lock = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .mode(0o600)
                    .open(directory.join("lock"))
                    .map_err(Error::io(what.clone()))?;
                match lock.try_lock() {
                    Ok(()) => Ok(Place::Kept {
                        directory: directory.clone(),
                        _lock: lock,
                    }),
                    Err(TryLockError::WouldBlock) => Err(Error::Locked(directory.clone())),
                    Err(TryLockError::Error(error)) => Err(Error::io(what)(error)),
                }
            }
        }
    }

    /// The directory for files that have to be somewhere.
    pub(crate) fn directory(&self) -> &Path {
        match self {
            Place::Temporary(directory) => directory.path(),
            Place::Kept { directory, .. } => directory,
        }
    }

    /// Whether everything in it is thrown away in the end.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Place::Temporary(_))
    }

    /// The file of this name, when data is kept.
    pub(crate) fn kept(&self, name: &str) -> Option<PathBuf> {
        match self {
            Place::Temporary(_) => None,
            Place::Kept { directory, .. } => Some(directory.join(name)),
        }
    }
}

/// Replaces a file in one step, readable for its owner only.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> Result<(), Error> {
    let draft = file.with_extension("new");
    let write = || {
        let mut opened = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)?;
        opened.write_all(content)?;
        std::fs::rename(&draft, file)
    };
    write().map_err(Error::io(format!("cannot write {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_stack_at_a_time() {
        let directory = tempfile::tempdir().expect("directory");
        let data = Data::Dir(directory.path().join("data"));
        let first = Place::open(&data).expect("first");
        assert!(matches!(Place::open(&data), Err(Error::Locked(_))));
        drop(first);
        Place::open(&data).expect("after the first");
    }
}
