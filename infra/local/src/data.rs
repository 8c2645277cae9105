//! Where the local runner keeps its data, or that it keeps none.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use wharfage::domain::credential::hash;

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
        /// Holds the lock, and says whether the stack runs.
        lock: File,
    },
}

/// What a directory had at the end of a start. A later one makes none of it anew.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Inventory {
    /// The folders of clusters and of the usage bucket.
    stores: BTreeSet<String>,
    /// Which key secrets are encrypted with, by its hash.
    kms_key: Option<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Place::Kept { lock, .. } = self {
            // From here on, nothing that was written is missing without the log.
            let _ = lock.set_len(0);
            // Closing it would leave the lock with a child process that has been forked and has yet to begin its own program.
            let _ = lock.unlock();
        }
    }
}

/// The functions' environment, with the services' addresses and credentials of this start.
pub(crate) const ENVIRONMENT: &str = "services.env";
/// There from the beginning of the first start to its end: what else is there until then is worth nothing to anybody.
const BEGUN: &str = "first-start";
const LOCK: &str = "lock";
/// What the directory has, for the next start: see [`Inventory`].
const INVENTORY: &str = "inventory.json";
/// The log of the database, in which is what was written last. It goes when the database is closed.
const DATABASE_LOG: &str = "dynamodb.sqlite-wal";
/// What [`LOCK`] has in it as long as the stack runs.
const RUNNING: &[u8] = b"running\n";
/// What each cluster, and the usage bucket, has: metadata and bodies.
const STORE: [&str; 2] = ["metadata.sqlite", "blobs"];
/// What a data directory has from its first start on, and what it is for. None of it can be made anew.
const NEEDED: [(&str, &str); 4] = [
    ("api-keys.json", "it has the API keys of the first clients"),
    ("clock.json", "it says what time it is here"),
    (
        "dynamodb.sqlite",
        "it has all clients, accounts and invoices",
    ),
    ("kms.key", "without it no secret key can be read any more"),
];
/// What else there may be.
const OTHERS: [&str; 8] = [
    "clusters",
    "dynamodb.sqlite-shm",
    "dynamodb.sqlite-wal",
    "events.jsonl",
    INVENTORY,
    "logs",
    "s3",
    ENVIRONMENT,
];
/// What is on every file system of its own.
const LOST: &str = "lost+found";

impl Place {
    /// Opens the place. A directory is closed to other users of the machine, and locked. What a first start left that did
    /// not come to its end is removed; [`Place::is_ready`] tells the end.
    ///
    /// # Errors
    /// When the directory cannot be used, is somebody else's, or lacks what it had.
    pub(crate) fn open(data: &Data, progress: fn(&str)) -> Result<Place, Error> {
        match data {
            Data::Ephemeral => tempfile::Builder::new()
                .prefix("wharfage-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir()
                .map(Place::Temporary)
                .map_err(Error::io("cannot make a temporary directory")),
            Data::Dir(directory) => open(directory, progress),
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

    /// Everything is there that has to be: from now on, none of it is made anew.
    ///
    /// # Errors
    /// When that cannot be kept.
    pub(crate) fn is_ready(&self) -> Result<(), Error> {
        let Place::Kept { directory, lock } = self else {
            return Ok(());
        };
        write_inventory(directory)?;
        let finish = || {
            if directory.join(DATABASE_LOG).exists() {
                (&mut &*lock).write_all(RUNNING)?;
                lock.sync_all()?;
            }
            sync(directory)?;
            removed(&directory.join(BEGUN))?;
            sync(directory)
        };
        finish().map_err(Error::io(format!("cannot use {}", directory.display())))
    }
}

fn open(directory: &Path, progress: fn(&str)) -> Result<Place, Error> {
    let cannot = || Error::io(format!("cannot use {}", directory.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(cannot())?;
    let found = names(directory).map_err(cannot())?;
    // It is about to be closed to others, and may be emptied.
    if !found.is_empty()
        && !found
            .iter()
            .any(|name| is_data(name) || [LOCK, BEGUN].contains(&name.as_str()))
    {
        return Err(Error::Data {
            path: directory.to_owned(),
            problem:
                "has other files in it, and none of the local runner's: name another --data-dir"
                    .into(),
        });
    }
    if close(directory, 0o700).map_err(cannot())? {
        progress(&format!(
            "{} was open to other users of this machine; it is closed now",
            directory.display()
        ));
    }
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory.join(LOCK))
        .map_err(cannot())?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => return Err(cannot()(error)),
    }
    let was_running = lock.metadata().map_err(cannot())?.len() > 0;
    prepare(directory, was_running, progress)?;
    Ok(Place::Kept {
        directory: directory.to_owned(),
        lock,
    })
}

/// Finds out how far the directory is: new, half made, or in use.
fn prepare(directory: &Path, was_running: bool, progress: fn(&str)) -> Result<(), Error> {
    let cannot = || Error::io(format!("cannot use {}", directory.display()));
    let found = names(directory).map_err(cannot())?;
    if found.iter().any(|name| name == BEGUN) {
        let mut left = found
            .iter()
            .filter(|name| is_data(name) || is_draft(name))
            .peekable();
        if left.peek().is_some() {
            progress("the first start was broken off: beginning anew");
        }
        for name in left {
            removed(&directory.join(name)).map_err(cannot())?;
        }
        return Ok(());
    }
    if !found.iter().any(|name| is_data(name)) {
        let begin = || {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(directory.join(BEGUN))?
                .sync_all()?;
            sync(directory)?;
            sync(&directory.join(".."))
        };
        return begin().map_err(cannot());
    }
    for (name, what_for) in NEEDED {
        let path = directory.join(name);
        let problem = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > 0 => {
                close(&path, 0o600).map_err(Error::io(format!("cannot use {}", path.display())))?;
                continue;
            }
            Ok(_) => "is empty",
            Err(error) if error.kind() == ErrorKind::NotFound => "is missing",
            Err(error) => {
                return Err(Error::io(format!("cannot read {}", path.display()))(error));
            }
        };
        return Err(Error::Data {
            path,
            problem: format!(
                "{problem}, and the directory is in use: {what_for}. Put it back from a backup, or name another --data-dir"
            ),
        });
    }
    if was_running && !directory.join(DATABASE_LOG).exists() {
        return Err(Error::Data {
            path: directory.join(DATABASE_LOG),
            problem: "is missing, and the last run was cut off: what was written last is in it. Put it back, or name another --data-dir".into(),
        });
    }
    check_inventory(directory)?;
    for name in OTHERS {
        let path = directory.join(name);
        match std::fs::metadata(&path) {
            Ok(metadata) => close(&path, if metadata.is_dir() { 0o700 } else { 0o600 }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
        .map_err(Error::io(format!("cannot use {}", path.display())))?;
    }
    Ok(())
}

fn read_inventory(directory: &Path) -> Result<Option<Inventory>, Error> {
    let path = directory.join(INVENTORY);
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        // Of a release that wrote none.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("cannot read {}", path.display()))(error)),
    };
    match serde_json::from_slice(&json) {
        Ok(inventory) => Ok(Some(inventory)),
        Err(error) => Err(Error::Data {
            path,
            problem: format!("is damaged: {error}"),
        }),
    }
}

fn kms_key_hash(directory: &Path) -> Result<Option<String>, Error> {
    let path = directory.join("kms.key");
    match std::fs::read(&path) {
        Ok(key) => Ok(Some(hash(&format!("{key:02x?}")))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("cannot read {}", path.display()))(error)),
    }
}

/// Refuses a directory that lacks what it had.
fn check_inventory(directory: &Path) -> Result<(), Error> {
    let Some(inventory) = read_inventory(directory)? else {
        return Ok(());
    };
    let parts = inventory
        .stores
        .iter()
        .flat_map(|store| STORE.map(|part| directory.join(store).join(part)));
    for path in parts {
        let is_whole =
            std::fs::metadata(&path).is_ok_and(|found| found.is_dir() || found.len() > 0);
        if !is_whole {
            return Err(Error::Data {
                path,
                problem: "is missing or empty, and the directory is in use: objects were in it. Put it back from a backup, or name another --data-dir"
                    .into(),
            });
        }
    }
    if inventory.kms_key != kms_key_hash(directory)? {
        return Err(Error::Data {
            path: directory.join("kms.key"),
            problem: "is another key than the one that secret keys here are encrypted with. Put that one back, or name another --data-dir"
                .into(),
        });
    }
    Ok(())
}

/// Notes what there is now. A store that was noted stays so: the location may be another cluster's for a while.
fn write_inventory(directory: &Path) -> Result<(), Error> {
    let mut inventory = read_inventory(directory)?.unwrap_or_default();
    let clusters = directory.join("clusters");
    let codes = match clusters.exists() {
        true => {
            names(&clusters).map_err(Error::io(format!("cannot read {}", clusters.display())))?
        }
        false => Vec::new(),
    };
    let stores = codes.iter().map(|code| format!("clusters/{code}"));
    inventory.stores.extend(
        stores
            .chain(["s3".to_owned()])
            .filter(|store| directory.join(store).join(STORE[0]).exists()),
    );
    inventory.kms_key = kms_key_hash(directory)?;
    let json = serde_json::to_vec_pretty(&inventory).map_err(|error| Error::Data {
        path: directory.join(INVENTORY),
        problem: error.to_string(),
    })?;
    write_private(&directory.join(INVENTORY), &json)
}

fn is_data(name: &str) -> bool {
    NEEDED.iter().any(|(needed, _)| *needed == name) || OTHERS.contains(&name)
}

/// Whether it was to become one of the files.
fn is_draft(name: &str) -> bool {
    name.ends_with(".new") || name.starts_with("kms.key.")
}

/// What is in a directory, but for what belongs to the file system.
fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != LOST);
    Ok(names)
}

/// Takes away what a mode allows beyond `mode`; says whether it was anything.
fn close(path: &Path, mode: u32) -> std::io::Result<bool> {
    let found = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if found & !mode & 0o777 == 0 {
        return Ok(false);
    }
    std::fs::set_permissions(path, Permissions::from_mode(found & mode))?;
    Ok(true)
}

/// Removes a file or directory, if it is there.
fn removed(path: &Path) -> std::io::Result<()> {
    let done = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Has the disk remember which files are in a directory.
fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Replaces a file in one step, readable for its owner only, and has the disk remember it.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> Result<(), Error> {
    replace(file, content, true)
}

/// The same without waiting for the disk: for what is written often, and is nearly right as it was before.
pub(crate) fn write_private_soon(file: &Path, content: &[u8]) -> Result<(), Error> {
    replace(file, content, false)
}

fn replace(file: &Path, content: &[u8], is_synced: bool) -> Result<(), Error> {
    let draft = file.with_extension("new");
    let write = || {
        // One that was left has the mode it was made with.
        removed(&draft)?;
        let mut opened = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&draft)?;
        opened.write_all(content)?;
        if is_synced {
            opened.sync_all()?;
        }
        std::fs::rename(&draft, file)?;
        match file.parent().filter(|parent| is_synced && parent.is_dir()) {
            Some(parent) => sync(parent),
            None => Ok(()),
        }
    };
    write().map_err(Error::io(format!("cannot write {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    }

    fn opened(directory: &Path) -> Result<Place, Error> {
        Place::open(&Data::Dir(directory.to_owned()), |_| {})
    }

    fn refused(directory: &Path) -> String {
        match opened(directory) {
            Ok(_) => panic!("{} was opened", directory.display()),
            Err(error) => error.to_string(),
        }
    }

    /// A directory as a first start leaves it.
    fn used(directory: &Path) {
        let place = opened(directory).expect("a new one");
        for (name, _) in NEEDED {
            write_private(&directory.join(name), b"something").expect("written");
        }
        place.is_ready().expect("ready");
    }

    #[test]
    fn a_directory_belongs_to_one_stack_at_a_time() {
        let directory = tempfile::tempdir().expect("directory");
        let data = directory.path().join("data");
        let first = opened(&data).expect("first");
        assert!(matches!(opened(&data), Err(Error::Locked(_))));
        drop(first);
        opened(&data).expect("after the first");
    }

    #[test]
    fn what_a_first_start_left_half_made_is_made_anew() {
        let directory = tempfile::tempdir().expect("directory");
        let data = directory.path().join("data");
        let place = opened(&data).expect("a new one");
        assert_eq!(mode(&data), 0o700);
        std::fs::write(data.join("dynamodb.sqlite"), "half").expect("written");
        std::fs::create_dir_all(data.join("clusters/NL/blobs")).expect("made");
        drop(place);
        let place = opened(&data).expect("again");
        let mut left = names(&data).expect("names");
        left.sort();
        assert_eq!(left, [BEGUN, LOCK]);
        place.is_ready().expect("ready");
        let mut ready = names(&data).expect("names");
        ready.sort();
        assert_eq!(ready, [INVENTORY, LOCK]);
    }

    #[test]
    fn a_store_that_is_gone_and_another_key_are_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let data = directory.path().join("data");
        let place = opened(&data).expect("a new one");
        for (name, _) in NEEDED {
            write_private(&data.join(name), b"something").expect("written");
        }
        for store in ["clusters/NL", "s3"] {
            std::fs::create_dir_all(data.join(store).join("blobs")).expect("made");
            std::fs::write(data.join(store).join("metadata.sqlite"), "something").expect("written");
        }
        place.is_ready().expect("ready");
        drop(place);
        drop(opened(&data).expect("whole"));
        for part in [
            "clusters/NL/metadata.sqlite",
            "clusters/NL/blobs",
            "s3",
            "clusters",
        ] {
            let (path, aside) = (data.join(part), directory.path().join("aside"));
            std::fs::rename(&path, &aside).expect("moved away");
            let error = refused(&data);
            assert!(
                error.contains(part) && error.contains("is missing"),
                "{error}"
            );
            std::fs::rename(&aside, &path).expect("moved back");
        }
        drop(opened(&data).expect("whole again"));
        write_private(&data.join("kms.key"), b"something else").expect("written");
        assert!(refused(&data).contains("is another key"));
    }

    #[test]
    fn a_log_that_is_gone_after_a_kill_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let data = directory.path().join("data");
        let place = opened(&data).expect("a new one");
        for (name, _) in NEEDED {
            write_private(&data.join(name), b"something").expect("written");
        }
        std::fs::write(data.join(DATABASE_LOG), "what was written last").expect("written");
        place.is_ready().expect("ready");
        // Killed: nothing runs any more.
        let Place::Kept { lock, .. } = &place else {
            panic!("it is kept");
        };
        lock.unlock().expect("unlocked");
        std::mem::forget(place);
        std::fs::remove_file(data.join(DATABASE_LOG)).expect("removed");
        assert!(refused(&data).contains("dynamodb.sqlite-wal"));
        std::fs::write(data.join(DATABASE_LOG), "put back").expect("written");
        let place = opened(&data).expect("whole");
        drop(place);
        // Stopped in order, and the database closed.
        std::fs::remove_file(data.join(DATABASE_LOG)).expect("removed");
        opened(&data).expect("nothing is missing");
    }

    #[test]
    fn a_directory_in_use_lacks_nothing_or_says_what() {
        for (name, what_for) in NEEDED {
            for is_empty in [false, true] {
                let directory = tempfile::tempdir().expect("directory");
                let data = directory.path().join("data");
                used(&data);
                drop(opened(&data).expect("in use"));
                std::fs::remove_file(data.join(name)).expect("removed");
                if is_empty {
                    std::fs::write(data.join(name), "").expect("written");
                }
                let error = refused(&data);
                let path = data.join(name).display().to_string();
                let problem = if is_empty { "is empty" } else { "is missing" };
                assert!(error.starts_with(&format!("{path}: {problem}")), "{error}");
                assert!(error.contains(what_for), "{error}");
                assert_eq!(data.join(name).exists(), is_empty, "none was made");
            }
        }
    }

    #[test]
    fn a_directory_that_was_open_to_others_is_closed() {
        let directory = tempfile::tempdir().expect("directory");
        let data = directory.path().join("data");
        used(&data);
        std::fs::create_dir(data.join("clusters")).expect("made");
        let open = |name: &str, mode: u32| {
            std::fs::set_permissions(data.join(name), Permissions::from_mode(mode)).expect("set");
        };
        open("kms.key", 0o644);
        open("dynamodb.sqlite", 0o664);
        open("clusters", 0o755);
        open(".", 0o755);
        opened(&data).expect("opened");
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("kms.key")), 0o600);
        assert_eq!(mode(&data.join("dynamodb.sqlite")), 0o600);
        assert_eq!(mode(&data.join("clusters")), 0o700);
    }

    #[test]
    fn somebody_else_s_directory_is_left_as_it_is() {
        let directory = tempfile::tempdir().expect("directory");
        let home = directory.path().join("home");
        std::fs::create_dir(&home).expect("made");
        std::fs::set_permissions(&home, Permissions::from_mode(0o755)).expect("set");
        std::fs::write(home.join("letter.txt"), "dear").expect("written");
        let error = refused(&home);
        assert!(error.contains("none of the local runner's"), "{error}");
        assert_eq!(mode(&home), 0o755);
        assert_eq!(names(&home).expect("names"), ["letter.txt"]);
        // A file system of its own.
        std::fs::remove_file(home.join("letter.txt")).expect("removed");
        std::fs::create_dir(home.join(LOST)).expect("made");
        opened(&home).expect("an empty one");
        assert_eq!(mode(&home), 0o700);
    }

    #[test]
    fn a_private_file_is_private_whatever_was_left_before() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("a.json");
        let draft = directory.path().join("a.new");
        for path in [&file, &draft] {
            std::fs::write(path, "old").expect("written");
            std::fs::set_permissions(path, Permissions::from_mode(0o644)).expect("set");
        }
        write_private(&file, b"new").expect("written");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(std::fs::read(&file).expect("read"), b"new");
        assert!(!draft.exists());
    }
}
