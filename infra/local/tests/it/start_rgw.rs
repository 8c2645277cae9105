//! The script that starts a Ceph RGW, as far as it goes without one.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

#[test]
fn a_port_that_is_taken_is_refused_before_anything_is_made() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let port = taken.local_addr().expect("an address").port().to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/clusters/start-rgw"
    );
    let run = |port: &str| {
        let output = Command::new(script)
            .args(["--port", port, "--dir"])
            .arg(directory.path())
            .output()
            .expect("it runs");
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(output.stdout.is_empty());
        (output.status.code(), said)
    };
    let (status, said) = run(&port);
    assert_eq!(status, Some(1));
    assert!(
        said.contains(&format!("port {port} is taken by another process")),
        "{said}"
    );
    let (status, said) = run("70000");
    assert_eq!(status, Some(2));
    assert!(said.contains("--port 70000 is not a port"), "{said}");
    let made = directory.path().read_dir().expect("a directory").count();
    assert_eq!(made, 0);
}
