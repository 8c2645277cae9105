//! Files of the services: made for their owner only, and named when something is wrong with them.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
/// beside it have its mode), and refuses one that is something else.
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
    match header.is_empty() || header == SQLITE_HEADER {
        true => Ok(()),
        false => Err(about(
            file,
            "is damaged: it does not begin as an SQLite database does",
        )),
    }
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
}
