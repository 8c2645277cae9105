//! Builds the binary of all functions.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Error;

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

/// What cargo tells a program that it runs about its package. Build scripts that look at it, as ring's does, would run again, and all
/// that depends on them would be built again: here, and then by whoever calls cargo without it.
const TOLD_BY_CARGO: [&str; 7] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
];

/// The binary, as functions/Cargo.toml calls it.
const NAME: &str = "wharfage";

/// Builds the functions of this workspace with cargo, in the given profile, and finds their binary. What cargo has to say is shown on
/// standard error.
///
/// # Errors
/// When cargo cannot be started, or fails.
pub fn build(profile: &str) -> Result<PathBuf, Error> {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    for name in TOLD_BY_CARGO {
        cargo.env_remove(name);
    }
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // The whole workspace decides which features its dependencies are built with: they are not built twice.
        .args(["build", "--workspace", "--quiet", "--locked"])
        .args(["--bin", NAME, "--profile", profile])
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(Error::io("cannot start cargo"))?;
    if !output.status.success() {
        return Err(Error::service("cargo build", output.status));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| artifact.reason == "compiler-artifact")
        .filter(|artifact| {
            artifact
                .target
                .as_ref()
                .is_some_and(|target| target.name == NAME)
        })
        .find_map(|artifact| artifact.executable)
        .ok_or_else(|| Error::service("cargo build", "it made no binary of the functions"))
}
