//! Lets connections in, as many at a time as there are files for, and requests as many as can be worked on; the others wait.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Requests at a time where files are no limit: as many as a region of Lambda's runs functions, unless asked for more.
const REQUESTS_MAX: usize = 1000;
/// Connections at a time where files are no limit.
const CONNECTIONS_MAX: usize = 20_000;
/// What a request opens in this process: connections to the embedded services, each with both of its ends.
const FILES_OF_A_REQUEST: u64 = 16;
/// Files that are open anyway.
const FILES_ANYWAY: u64 = 128;
/// How long to wait after a connection could not be accepted: something has to be closed first.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// How many connections and requests there may be at a time, and are.
pub(super) struct Limits {
    connections: Arc<Semaphore>,
    /// From this many free places on connections are kept for further requests; below, they are wanted by others.
    spare: usize,
    requests: Semaphore,
    requests_max: usize,
}

impl Limits {
    /// Fits a process that may open this many files.
    pub(super) fn new(files: u64) -> Limits {
        // Half of them for work, a quarter for callers; the rest is for those who use S3.
        let free = files.saturating_sub(FILES_ANYWAY);
        let at_most =
            |files: u64, most: usize| usize::try_from(files).unwrap_or(most).clamp(4, most);
        let connections = at_most(free / 4, CONNECTIONS_MAX);
        let requests_max = at_most(free / 2 / FILES_OF_A_REQUEST, REQUESTS_MAX);
        Limits {
            connections: Arc::new(Semaphore::new(connections)),
            spare: connections / 4,
            requests: Semaphore::new(requests_max),
            requests_max,
        }
    }

    /// Waits for a request's turn; its place is free again when the permit is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.requests.acquire().await.ok()
    }

    /// Whether connections are wanted by others.
    pub(super) fn are_scarce(&self) -> bool {
        self.connections.available_permits() < self.spare
    }

    /// Requests that are worked on.
    pub(super) fn under_way(&self) -> usize {
        self.requests_max - self.requests.available_permits()
    }
}

/// The listeners of the API.
pub(super) struct Doors {
    listeners: Vec<TcpListener>,
    connections: Arc<Semaphore>,
}

impl Doors {
    pub(super) fn new(listeners: Vec<TcpListener>, limits: &Limits) -> Doors {
        Doors {
            listeners,
            connections: Arc::clone(&limits.connections),
        }
    }
}

impl Listener for Doors {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Those without a place wait in the listener's backlog, and take no file here.
        let place = Arc::clone(&self.connections).acquire_owned().await.ok();
        loop {
            let accepted = std::future::poll_fn(|context| {
                let mut accepted = self
                    .listeners
                    .iter()
                    .map(|listener| listener.poll_accept(context));
                accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
            });
            match accepted.await {
                Ok((stream, peer)) => {
                    // Small answers would otherwise wait for the acknowledgement of the previous ones.
                    let _ = stream.set_nodelay(true);
                    let connection = Connection {
                        stream,
                        _place: place,
                    };
                    return (connection, peer);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.listeners.first() {
            Some(listener) => listener.local_addr(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// A connection, and its place among those at a time.
pub(super) struct Connection {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Doors>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Doors>) -> Peer {
        Peer(*stream.remote_addr())
    }
}
