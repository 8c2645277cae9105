//! Builds the functions' binaries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Error;

/// The functions' binaries, by name.
#[derive(Debug, Clone, Default)]
pub struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    /// A function's binary.
    #[must_use]
    pub fn get(&self, function: &str) -> Option<&Path> {
        self.0.get(function).map(PathBuf::as_path)
    }
}

/// What cargo tells of a thing it has built.
#[derive(Deserialize)]
struct Artifact {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds every function of this workspace with cargo, in the given profile, and finds its binaries. What cargo has to say is
/// shown on standard error.
///
/// # Errors
/// When cargo cannot be started, or fails.
pub fn build(profile: &str) -> Result<Binaries, Error> {
    let output = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // The whole workspace decides which features its dependencies are built with: they are not built twice.
        .args(["build", "--workspace", "--bins", "--quiet", "--locked"])
        .args(["--profile", profile])
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(Error::io("cannot start cargo"))?;
    if !output.status.success() {
        return Err(Error::service("cargo build", output.status));
    }
    let binaries = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| artifact.reason == "compiler-artifact")
        .filter_map(|artifact| Some((artifact.target?.name, artifact.executable?)))
        .collect();
    Ok(Binaries(binaries))
}
