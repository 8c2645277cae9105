//! The cluster's folder: metadata in SQLite, every body in a file of its own.
//!
//! Invariant: what the metadata names exists as a file. A body is written under `staging/`, and
//! renamed into `blobs/` inside the transaction that records it; a file is deleted after the
//! transaction that forgets it. A crash in between leaves a file nothing names, which
//! [`Store::sweep`] deletes: it looks under the database's write lock, so it never meets a file
//! between its rename and its commit. This holds against the death of the process; nothing is
//! forced to the disk, so it does not hold against a loss of power.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::fault::Fault;
use crate::files::{about, prepare_database};

const DATABASE: &str = "metadata.sqlite";
const SCHEMA_VERSION: i64 = 3;
/// Enough for every statement the cluster has.
const CACHED_STATEMENTS: usize = 128;
/// Each start of the cluster numbers its writes from a range of its own, 2^40 wide, so that no two
/// starts use the same number, whatever crashed in between.
const SEQUENCE_BITS: u32 = 40;
const SWEEP_BATCH: usize = 500;

pub(crate) struct Store {
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    folder: PathBuf,
    sequence: AtomicI64,
    durable: bool,
}

impl Store {
    pub(crate) fn open(folder: &Path, durable: bool) -> io::Result<Self> {
        let database = folder.join(DATABASE);
        check_present(folder, &database)?;
        for name in ["", "blobs", "staging"] {
            // Closed to others: the database holds secret keys.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder.join(name))?;
        }
        prepare_database(&database)?;
        let opened = connect(folder, durable).and_then(|mut writer| {
            let starts = prepare(&mut writer)?;
            Ok((writer, starts))
        });
        let (writer, starts) = opened.map_err(|error| match error {
            rusqlite::Error::InvalidQuery => about(&database, "was written by a later release"),
            error => about(&database, error),
        })?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
            folder: folder.to_owned(),
            sequence: AtomicI64::new(starts << SEQUENCE_BITS),
            durable,
        })
    }

    /// The next number in the order of writes; also names files.
    pub(crate) fn next_sequence(&self) -> i64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs `query` on a connection of its own, beside any writer.
    pub(crate) async fn read<T, F>(self: &Arc<Self>, query: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let store = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let pooled = lock(&store.readers).pop();
            let mut reader = match pooled {
                Some(reader) => reader,
                None => connect(&store.folder, store.durable)?,
            };
            // One snapshot for all the statements of a query.
            let snapshot = reader.transaction()?;
            let found = query(&snapshot);
            drop(snapshot);
            lock(&store.readers).push(reader);
            found
        })
        .await?
    }

    /// Runs `change` as one transaction, undone when it fails.
    pub(crate) async fn write<T, F>(self: &Arc<Self>, change: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writing<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let store = Arc::clone(self);
        // Once begun it runs to its end, also when the client has gone and the request's task with it.
        tokio::task::spawn_blocking(move || store.write_now(change)).await?
    }

    /// [`Store::write`] on the calling thread.
    pub(crate) fn write_now<T>(
        &self,
        change: impl FnOnce(&mut Writing<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (done, unneeded) = {
            let mut connection = lock(&self.writer);
            let mut writing = Writing {
                transaction: connection
                    .transaction_with_behavior(TransactionBehavior::Immediate)?,
                store: self,
                adopted: Vec::new(),
                discarded: Vec::new(),
            };
            let changed = change(&mut writing);
            let Writing {
                transaction,
                adopted,
                discarded,
                ..
            } = writing;
            let done = match changed {
                Ok(value) => transaction.commit().map(|()| value).map_err(Fault::from),
                Err(fault) => transaction.rollback().map_err(Fault::from).and(Err(fault)),
            };
            let unneeded = if done.is_ok() { discarded } else { adopted };
            (done, unneeded)
        };
        for blob in unneeded {
            if let Err(error) = fs::remove_file(self.blob_path(blob))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, blob, "a file stays behind until the next sweep");
            }
        }
        done
    }

    pub(crate) fn open_blob(&self, blob: i64) -> io::Result<File> {
        File::open(self.blob_path(blob))
    }

    /// A name for a body that is being received.
    pub(crate) fn staging_path(&self, blob: i64) -> PathBuf {
        self.folder.join("staging").join(format!("{blob:016x}"))
    }

    fn blob_path(&self, blob: i64) -> PathBuf {
        self.shard_path(blob).join(format!("{blob:016x}"))
    }

    /// 256 folders keep each of them small.
    fn shard_path(&self, blob: i64) -> PathBuf {
        self.folder
            .join("blobs")
            .join(format!("{:02x}", blob & 0xff))
    }

    /// Deletes the files that nothing names, and says how many there were.
    pub(crate) fn sweep(&self) -> Result<usize, Fault> {
        // What this start is receiving just now has a number from its own range.
        let oldest_own = self.sequence.load(Ordering::Relaxed) >> SEQUENCE_BITS << SEQUENCE_BITS;
        let mut swept = 0;
        for (blob, path) in files(&self.folder.join("staging"))? {
            if blob < oldest_own {
                swept += usize::from(removed(path)?);
            }
        }
        for shard in fs::read_dir(self.folder.join("blobs"))? {
            for batch in files(&shard?.path())?.chunks(SWEEP_BATCH) {
                swept += self.write_now(|w| {
                    let mut swept = 0;
                    for (blob, path) in batch {
                        if *blob < oldest_own && !is_named(w, *blob)? {
                            swept += usize::from(removed(path)?);
                        }
                    }
                    Ok(swept)
                })?;
            }
        }
        Ok(swept)
    }
}

/// A transaction, and the files that follow its outcome.
pub(crate) struct Writing<'a> {
    transaction: Transaction<'a>,
    store: &'a Store,
    adopted: Vec<i64>,
    discarded: Vec<i64>,
}

impl Deref for Writing<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl Writing<'_> {
    pub(crate) fn next_sequence(&self) -> i64 {
        self.store.next_sequence()
    }

    /// Moves a received body to where blobs are; it goes again when the transaction is undone.
    pub(crate) fn adopt(&mut self, blob: i64) -> Result<(), Fault> {
        let from = self.store.staging_path(blob);
        let to = self.store.blob_path(blob);
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.store.shard_path(blob))?;
                fs::rename(&from, &to)?;
            }
            renamed => renamed?,
        }
        self.adopted.push(blob);
        Ok(())
    }

    /// Has the file deleted once the transaction is committed.
    pub(crate) fn discard(&mut self, blob: i64) {
        self.discarded.push(blob);
    }
}

/// A panic elsewhere leaves a connection usable: its transaction was rolled back.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses a folder that has bodies and no database, or an empty one: a new one would forget them, and the sweep delete them.
fn check_present(folder: &Path, database: &Path) -> io::Result<()> {
    let is_there = match fs::metadata(database) {
        Ok(metadata) => metadata.len() > 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(about(database, error)),
    };
    if is_there {
        return Ok(());
    }
    let has_blobs = match fs::read_dir(folder.join("blobs")) {
        Ok(mut shards) => shards.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(about(&folder.join("blobs"), error)),
    };
    match has_blobs {
        true => Err(about(
            database,
            "is missing or empty, and the objects are still there: put it back from a backup",
        )),
        false => Ok(()),
    }
}

fn connect(folder: &Path, durable: bool) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        folder.join(DATABASE),
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if durable { "NORMAL" } else { "OFF" })?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Brings a new database to its schema, and counts this start.
fn prepare(writer: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        1 => {
            transaction.execute_batch(include_str!("schema-2.sql"))?;
            transaction.execute_batch(include_str!("schema-3.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        2 => {
            transaction.execute_batch(include_str!("schema-3.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        // Written by a later release; guessing at its tables would damage them.
        _ => return Err(rusqlite::Error::InvalidQuery),
    }
    transaction.execute_batch(include_str!("cors.sql"))?;
    let starts = transaction.query_row(
        "UPDATE settings SET value = value + 1 WHERE name = 'starts' RETURNING value",
        [],
        |row| row.get(0),
    )?;
    transaction.commit()?;
    Ok(starts)
}

/// Deletes a file, unless another sweep was quicker.
fn removed(path: impl AsRef<Path>) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The files of a folder that are named as blobs are.
fn files(folder: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(blob) = name
            .to_str()
            .and_then(|name| i64::from_str_radix(name, 16).ok())
        {
            found.push((blob, entry.path()));
        }
    }
    Ok(found)
}

fn is_named(connection: &Connection, blob: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM blobs WHERE id = ?1 UNION ALL SELECT 1 FROM parts WHERE blob_id = ?1 LIMIT 1",
        )?
        .query_row(params![blob], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}
