//! Where the API listens: an address, or `localhost`, which is two of them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpListener;

use crate::error::Error;

/// Where the API listens; port 0 is any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    address: SocketAddr,
    /// At the loopback of IPv6, too: clients take `localhost` for either.
    both_loopbacks: bool,
}

impl Listen {
    /// At this address alone.
    #[must_use]
    pub fn at(address: SocketAddr) -> Listen {
        Listen {
            address,
            both_loopbacks: false,
        }
    }

    /// At the loopback addresses of IPv4 and, if there is one, IPv6.
    #[must_use]
    pub fn localhost(port: u16) -> Listen {
        Listen {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            both_loopbacks: true,
        }
    }

    /// The address, or the first of two.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether others than this machine can connect.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Listens, and says at which address (of IPv4, if there are two).
    pub(crate) async fn bind(&self) -> Result<(Vec<TcpListener>, SocketAddr), Error> {
        let listen = async |address: SocketAddr| {
            let failed = |source| Error::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            Ok((listener, address))
        };
        let (listener, address) = listen(self.address).await?;
        let mut listeners = vec![listener];
        if self.both_loopbacks {
            match listen((Ipv6Addr::LOCALHOST, address.port()).into()).await {
                Ok((listener, _)) => listeners.push(listener),
                // Whoever has it would get what is meant for `localhost`.
                Err(Error::Listen { address, source }) if source.kind() == ErrorKind::AddrInUse => {
                    return Err(Error::Listen { address, source });
                }
                // A machine without IPv6.
                Err(_) => {}
            }
        }
        Ok((listeners, address))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if let Ok(address) = text.parse() {
            return Ok(Listen::at(address));
        }
        let port = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok());
        port.map(Listen::localhost).ok_or_else(|| {
            "expected an IP address or localhost, and a port: localhost:8780, 0.0.0.0:8780 or [::]:8780".into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read() {
        let localhost: Listen = "localhost:8780".parse().expect("an address");
        assert_eq!(localhost, Listen::localhost(8780));
        assert!(!localhost.is_open());
        let alone: Listen = "127.0.0.1:0".parse().expect("an address");
        assert_eq!(alone, Listen::at(([127, 0, 0, 1], 0).into()));
        for (text, is_open) in [("0.0.0.0:1", true), ("[::]:1", true), ("[::1]:1", false)] {
            let listen: Listen = text.parse().expect(text);
            assert_eq!(listen.is_open(), is_open, "{text}");
        }
        for text in [
            "localhost",
            "localhost:",
            "localhost:70000",
            "example.com:80",
            "8780",
            ":1",
        ] {
            let problem = text.parse::<Listen>().expect_err(text);
            assert!(problem.contains("localhost:8780"), "{problem}");
        }
    }

    #[tokio::test]
    async fn localhost_is_both_loopbacks_and_a_taken_port_is_told() {
        let (listeners, address) = Listen::localhost(0).bind().await.expect("bound");
        assert!(address.is_ipv4());
        for listener in &listeners {
            assert_eq!(
                listener.local_addr().expect("address").port(),
                address.port()
            );
        }
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(listeners.len(), 1 + usize::from(has_ipv6));
        drop(listeners);

        let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let taken = other.local_addr().expect("address");
        let refused = Listen::localhost(taken.port()).bind().await;
        let refused = refused.expect_err("taken").to_string();
        assert!(
            refused.starts_with(&format!("cannot listen on {taken}: ")),
            "{refused}"
        );
    }
}
