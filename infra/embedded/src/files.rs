//! Files of the services: made for their owner only, and named when something is wrong with them.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

/// What every SQLite database begins with.
const SQLITE_HEADER: &[u8; 16] = b"SQLite format 3\0";

/// An error with the file it is about.
pub(crate) fn about(file: &Path, problem: impl Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {problem}", file.display()),
    )
}

/// Makes an absent database an empty file that nobody but its owner can read (SQLite would follow the umask; the files
/// beside it have its mode), and refuses one that is something else, or not whole.
pub(crate) fn prepare_database(file: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match made {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(about(file, error)),
    }
    let mut header = Vec::with_capacity(SQLITE_HEADER.len());
    File::open(file)
        .and_then(|opened| {
            opened
                .take(SQLITE_HEADER.len() as u64)
                .read_to_end(&mut header)
        })
        .map_err(|error| about(file, error))?;
    if header.is_empty() {
        return Ok(());
    }
    if header != SQLITE_HEADER {
        return Err(about(
            file,
            "is damaged: it does not begin as an SQLite database does",
        ));
    }
    // One that was cut short opens well, and fails when it comes to what is missing.
    let checked = Connection::open(file).and_then(|connection| {
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    });
    match checked {
        Ok(result) if result == "ok" => Ok(()),
        Ok(problem) => Err(about(file, damaged(&problem))),
        Err(error) => Err(about(file, damaged(&error.to_string()))),
    }
}

/// What SQLite found, in one line.
fn damaged(problem: &str) -> String {
    let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("is damaged: {problem}: put it back from a backup, with its -wal if there is one")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_database_is_its_owner_s_and_another_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.sqlite");
        prepare_database(&file).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        prepare_database(&file).unwrap();
        std::fs::write(&file, "SQLite format 3").unwrap();
        let error = prepare_database(&file).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{}: is damaged: it does not begin as an SQLite database does",
                file.display()
            )
        );
    }
    #[test]
    fn a_database_that_was_cut_short_or_overwritten_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.sqlite");
        prepare_database(&file).unwrap();
        let connection = Connection::open(&file).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE things (id INTEGER PRIMARY KEY, text TEXT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                 INSERT INTO things SELECT i, hex(zeroblob(40)) FROM n;",
            )
            .unwrap();
        drop(connection);
        prepare_database(&file).unwrap();
        let whole = std::fs::read(&file).unwrap();
        let half = whole.len() / 2;
        let mut overwritten = whole.clone();
        overwritten[half..].fill(0xA5);
        for broken in [&whole[..half], &whole[..20], &overwritten] {
            std::fs::write(&file, broken).unwrap();
            let error = prepare_database(&file).unwrap_err().to_string();
            let begins = format!("{}: is damaged: ", file.display());
            assert!(error.starts_with(&begins), "{error}");
            assert!(!error.contains('\n'), "{error}");
            assert_eq!(std::fs::read(&file).unwrap(), *broken, "left as it was");
        }
        std::fs::write(&file, &whole).unwrap();
        prepare_database(&file).unwrap();
    }
}
