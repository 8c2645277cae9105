//! Access to `/_local/…`, which moves time and runs jobs: the user who runs the stack, from this machine, and no web page.
//!
//! A page of another origin is told by what browsers say of it, and by JSON, for which they ask first; one that has made its
//! own name lead to this machine, by the `Host`; another user of the machine, by the connection's owner in the kernel's table.

use std::fs::read_to_string;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

/// The kernel's tables of connections.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// Belongs to the user who started this process.
const SELF: &str = "/proc/self";
const ROOT: u32 = 0;

/// Why a request for `/_local/…` is refused, if it is; `listening` is where the stack listens.
pub(crate) fn check(request: &Parts, peer: SocketAddr, listening: SocketAddr) -> Checked {
    check_peer(peer, listening)?;
    check_head(&request.method, &request.headers, listening.ip())
}

/// Passed, or what the caller is told.
pub(crate) type Checked = Result<(), (StatusCode, &'static str)>;

fn check_peer(peer: SocketAddr, listening: SocketAddr) -> Checked {
    let ip = peer.ip().to_canonical();
    // Who calls an address of this machine from this machine has that address.
    if !ip.is_loopback() && ip != listening.ip().to_canonical() {
        return Err((
            StatusCode::FORBIDDEN,
            "/_local is for calls from this machine",
        ));
    }
    let tables: Vec<String> = TABLES
        .iter()
        .filter_map(|table| read_to_string(table).ok())
        .collect();
    let (false, Ok(own)) = (tables.is_empty(), std::fs::metadata(SELF)) else {
        // Only Linux tells whose a connection is.
        return Ok(());
    };
    let owner = tables
        .iter()
        .flat_map(|table| table.lines())
        .find_map(|line| owner(line, peer, listening.port()));
    match owner {
        Some(owner) if owner == own.uid() || owner == ROOT => Ok(()),
        _ => Err((
            StatusCode::FORBIDDEN,
            "/_local is for the user who started the local runner",
        )),
    }
}

/// Whose connection a line of the kernel's table is about, if it is the one from `peer` to our `port`.
fn owner(line: &str, peer: SocketAddr, port: u16) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, remote) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    if local.ip() != peer.ip().to_canonical()
        || local.port() != peer.port()
        || remote.port() != port
    {
        return None;
    }
    // One that its process has closed already is nobody's, which the table shows as root's.
    if *fields.get(9)? == "0" {
        return None;
    }
    fields.get(7)?.parse().ok()
}

/// `0100007F:224C` is 127.0.0.1:8780: words as they lie in memory.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(8 * at..8 * (at + 1))?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[4 * at..4 * (at + 1)].copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn check_head(method: &Method, headers: &HeaderMap, listening: IpAddr) -> Checked {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = text(HOST.as_str()).is_some_and(|host| {
        embedded::is_loopback(host)
            || host
                .parse::<SocketAddr>()
                .is_ok_and(|host| host.ip() == listening)
    });
    if !is_ours {
        return Err((
            StatusCode::FORBIDDEN,
            "the Host is not this machine's: call 127.0.0.1, [::1] or localhost",
        ));
    }
    let is_of_a_page = headers.contains_key(ORIGIN)
        || text("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin");
    if is_of_a_page {
        return Err((StatusCode::FORBIDDEN, "web pages cannot call /_local"));
    }
    // A job is run by a request that says nothing more.
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || text(CONTENT_LENGTH.as_str()).is_some_and(|length| length != "0");
    let kind = text(CONTENT_TYPE.as_str());
    let is_json = kind.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    match method == Method::POST && !is_json && (has_body || kind.is_some()) {
        true => Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send it as JSON: curl -H content-type:application/json …",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            })
            .collect()
    }

    fn status(method: &Method, pairs: &[(&'static str, &'static str)]) -> u16 {
        match check_head(method, &headers(pairs), IpAddr::from([192, 168, 1, 5])) {
            Ok(()) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    #[test]
    fn only_this_machine_s_names_are_answered() {
        for host in [
            "127.0.0.1:8780",
            "localhost:8780",
            "localhost",
            "[::1]:8780",
            "192.168.1.5:8780",
        ] {
            assert_eq!(status(&Method::GET, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example:8780",
            "127.0.0.1.nip.io:8780",
            "192.168.1.2:8780",
            "localhost.evil.example",
            "",
        ] {
            assert_eq!(status(&Method::GET, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&Method::GET, &[]), 403);
    }

    #[test]
    fn no_page_s_request_is_answered() {
        let host = ("host", "localhost:8780");
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(status(&Method::POST, &[host, json]), 200);
        for origin in ["https://evil.example", "http://localhost:3000", "null"] {
            let origin = ("origin", origin);
            assert_eq!(status(&Method::POST, &[host, json, origin]), 403);
            assert_eq!(status(&Method::GET, &[host, origin]), 403);
        }
        for (site, wanted) in [
            ("cross-site", 403),
            ("same-site", 403),
            ("none", 200),
            ("same-origin", 200),
        ] {
            let site = ("sec-fetch-site", site);
            assert_eq!(status(&Method::GET, &[host, site]), wanted, "{site:?}");
        }
        // What pages send without asking first.
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=a",
            "text/plain; application/json",
        ] {
            assert_eq!(
                status(&Method::POST, &[host, ("content-type", kind)]),
                415,
                "{kind}"
            );
        }
        for body in [("content-length", "2"), ("transfer-encoding", "chunked")] {
            assert_eq!(status(&Method::POST, &[host, body]), 415);
            assert_eq!(status(&Method::POST, &[host, body, json]), 200);
        }
        // Nothing is sent.
        assert_eq!(status(&Method::POST, &[host]), 200);
        assert_eq!(status(&Method::POST, &[host, ("content-length", "0")]), 200);
    }

    #[test]
    fn a_connection_is_known_by_its_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let listening = listener.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(listening).expect("connected");
        let peer = client.local_addr().expect("an address");
        assert_eq!(check_peer(peer, listening), Ok(()));
        // From elsewhere, and a connection that is not there.
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 5000));
        assert!(check_peer(elsewhere, listening).is_err());
        let unknown = SocketAddr::new(peer.ip(), listening.port());
        assert!(check_peer(unknown, listening).is_err());
        // Over IPv6, as a listener on all addresses sees it.
        let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), peer.port());
        assert_eq!(check_peer(mapped, listening), Ok(()));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernel_s_table_is_read_as_it_is_written() {
        let peer: SocketAddr = "127.0.0.1:40000".parse().expect("an address");
        let line = |local: &str, uid: &str, inode: &str| {
            format!(
                "   3: {local}:9C40 0100007F:224C 01 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0 20 4 30 10 -1"
            )
        };
        let own = line("0100007F", " 1000", "77");
        assert_eq!(owner(&own, peer, 8780), Some(1000));
        assert_eq!(owner(&own, peer, 8781), None);
        let mapped = line("0000000000000000FFFF00000100007F", " 1000", "77");
        assert_eq!(owner(&mapped, peer, 8780), Some(1000));
        let six: SocketAddr = "[::1]:40000".parse().expect("an address");
        let line_of_six = line("00000000000000000000000001000000", " 1001", "77");
        assert_eq!(owner(&line_of_six, six, 8780), Some(1001));
        // Whoever sends and closes at once does not pass for root.
        assert_eq!(owner(&line("0100007F", "    0", "0"), peer, 8780), None);
        assert_eq!(owner("sl local_address rem_address", peer, 8780), None);
    }
}
