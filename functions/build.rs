//! How the functions' binary is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At fixed addresses: else the loader puts the real ones into a hundred pages of every process it starts, a fifth of the start.
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
