//! What is mistyped or makes no sense is refused with words.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::runner::{Runner, refusal};

#[test]
fn what_is_mistyped_is_answered_with_the_nearest() {
    let cases = [
        (
            ["--ephemerl"].as_slice(),
            "local: unexpected argument '--ephemerl' found; a similar argument exists: '--ephemeral'\n",
        ),
        (
            &["dmo"],
            "local: unrecognized subcommand 'dmo'; a similar subcommand exists: 'demo'\n",
        ),
        (
            &["--listen", "example.com:80"],
            "local: invalid value 'example.com:80' for '--listen <ADDRESS>': expected an IP address or localhost, and a port: \
             localhost:8780, 0.0.0.0:8780 or [::]:8780\n",
        ),
    ];
    for (arguments, wanted) in cases {
        assert_eq!(refusal(arguments), (Some(2), wanted.to_owned()));
    }
}

#[test]
fn the_demo_takes_no_options() {
    let (status, text) = refusal(&["--json", "demo"]);
    assert_eq!(status, Some(2));
    assert!(
        text.contains("'--json'") && text.contains("'demo'"),
        "{text}"
    );
    let (status, text) = refusal(&["demo", "--json"]);
    assert_eq!(status, Some(2));
    assert!(text.contains("unexpected argument '--json'"), "{text}");
    assert!(!text.trim_end().contains('\n'), "{text}");
}

#[test]
fn a_taken_port_is_told() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let (status, text) = refusal(&["--ephemeral", "--listen", &address]);
    assert_eq!(status, Some(1));
    assert!(
        text.starts_with(&format!("local: cannot listen on {address}: ")),
        "{text}"
    );
}

#[test]
fn whoever_listens_for_others_is_warned() {
    let runner = Runner::start(&["--ephemeral", "--listen", "0.0.0.0:0"]);
    let warning = runner.says("warning");
    assert!(
        warning.contains("0.0.0.0:0 can be reached by others than this machine"),
        "{warning}"
    );
    runner.stop();
}

#[test]
fn localhost_is_answered_by_name_and_over_both_protocols() {
    let runner = Runner::start(&["--ephemeral", "--listen", "localhost:0"]);
    let port: u16 = runner
        .address()
        .rsplit_once(':')
        .expect("a port")
        .1
        .parse()
        .expect("a number");
    TcpStream::connect(("localhost", port)).expect("by name");
    TcpStream::connect(("127.0.0.1", port)).expect("IPv4");
    if TcpListener::bind(("::1", 0)).is_ok() {
        TcpStream::connect(("::1", port)).expect("IPv6");
    }
    runner.stop();
}
