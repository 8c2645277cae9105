//! DynamoDB: dynoxide over SQLite, in memory or in a file.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dynoxide::Database;
use dynoxide::storage_backend::Clock;

use crate::Now;
use crate::server;

/// A running DynamoDB. It stops when dropped.
#[derive(Debug)]
pub struct Server {
    server: crate::Server,
    database: OpaqueDatabase,
}

struct OpaqueDatabase(Database);

impl std::fmt::Debug for OpaqueDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

struct VirtualClock(Now);

impl Clock for VirtualClock {
    fn now_unix_secs(&self) -> u64 {
        u64::try_from((self.0)().as_second()).unwrap_or_default()
    }

    fn now_unix_secs_f64(&self) -> f64 {
        (self.0)().as_duration().as_secs_f64()
    }
}

/// Starts DynamoDB on `listen`, in memory, or in `file` (made when absent).
///
/// In memory, TTL and stream timestamps follow `now`. In a file they follow real time: dynoxide
/// offers no way to give a file another clock, so items that expire in virtual time stay until
/// the same moment comes in real time. Whoever reads items with a TTL must check it in any case,
/// as with the real service, which deletes hours late.
///
/// # Errors
/// When the address cannot be bound or the file cannot be opened as a database.
pub fn start(listen: SocketAddr, file: Option<PathBuf>, now: Now) -> io::Result<Server> {
    let database = match file {
        None => Database::memory_with_clock(Arc::new(VirtualClock(now))),
        Some(path) => Database::new(path.to_str().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the database's path is not UTF-8",
            )
        })?),
    }
    .map_err(io::Error::other)?;
    let (listener, address) = server::bind(listen)?;
    let (running, stop) = tokio::sync::oneshot::channel::<()>();
    let served = database.clone();
    let server = crate::Server::spawn(address, async move {
        // dynoxide's connections are tasks of their own, which an abort of this one would leave
        // behind: they end when `running` is dropped, which the abort does.
        let serving = tokio::spawn(dynoxide::server::serve_with_shutdown(
            listener,
            served,
            async move {
                let _ = stop.await;
            },
        ));
        let _running = running;
        match serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error, "dynamodb stopped"),
            Err(error) => tracing::error!(%error, "dynamodb stopped"),
        }
    });
    Ok(Server {
        server,
        database: OpaqueDatabase(database),
    })
}

impl Server {
    /// Where clients reach it.
    pub fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// Deletes the items whose TTL has passed, in every table, and says how many there were.
    /// The server does this at no time by itself.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sweep_expired(&self) -> io::Result<usize> {
        let database = self.database.0.clone();
        tokio::task::spawn_blocking(move || database.sweep_ttl())
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }
}
