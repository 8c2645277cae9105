//! Files that are made, or of which a part is. Tests compare them with what they should be, or write them: `UPDATE=1 cargo test -p tests made::`.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the workspace.
fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// What is in a file of the workspace now.
pub fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Whether files are to be written, not compared.
#[allow(
    clippy::disallowed_methods,
    reason = "UPDATE is for whoever runs the tests, not for the product"
)]
pub fn is_to_be_written() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// Writes a file where that is wanted. Otherwise what is wrong with it: nothing, or that it is out of date, with lines that it lacks.
pub fn whole(file: &str, made: &str) -> Option<String> {
    let written = fs::read_to_string(path(file)).unwrap_or_default();
    if written == made {
        return None;
    }
    if is_to_be_written() {
        fs::write(path(file), made).unwrap_or_else(|error| panic!("{file}: {error}"));
        return None;
    }
    let is_new = |line: &&str| !written.lines().any(|other| other == *line);
    let lacking: Vec<&str> = made.lines().filter(is_new).take(20).collect();
    Some(format!(
        "{file} lacks, among others:\n{}\n",
        lacking.join("\n")
    ))
}

/// The same for what stands between two marks, which is made of the rest.
pub fn between(
    file: &str,
    (begin, end): (&str, &str),
    make: impl FnOnce(&str) -> String,
) -> Option<String> {
    let text = read(file);
    let marks = text.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some((before, after))
    });
    let (before, after) = marks.unwrap_or_else(|| panic!("{file} has no {begin} … {end}"));
    let made = make(&format!("{before}{after}"));
    whole(file, &format!("{before}{begin}{made}{end}{after}"))
}
