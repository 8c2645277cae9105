//! An S3 cluster for many accounts, with the admin access a hosting company needs: S3 with
//! signatures, by path or by host, on one listener, and a JSON API under `/_admin/v1/` for accounts, keys, quotas,
//! buckets, purges and usage.
//!
//! Where implementations of S3 differ, this one decides so:
//! - A bucket name is unique in the cluster. Making one's own bucket again is `BucketAlreadyOwnedByYou` (409);
//!   over the admin API it is 200.
//! - A bucket with unfinished uploads can be deleted over S3, and they go with it. One with old versions
//!   cannot; over the admin API neither can, without a purge.
//! - The quota counts everything stored: old versions and unfinished uploads too. A write is refused when it
//!   leaves the account above its quota, unless it leaves it with less than before.
//! - Usage counts bodies as they cross the wire (the framing of signed chunks included), from the moment the
//!   caller is known to own the bucket: what strangers try is not the owner's traffic. Bytes belong to the
//!   hour in which they moved.
//! - Every content has a checksum: the one the client asks for, or CRC64NVME. Completing an upload again is
//!   answered the same for a day.
//! - Any region may be signed with. Nothing may be added to a signed request that begins with `x-amz-`.
//! - Encryption headers, object locks and ACLs that are not private are refused rather than ignored.
//! - A page's question whether it may (a CORS preflight) is nobody's traffic: nobody signs it.
//!
//! Every accepted write outlives the process, however it ends. A loss of power may take the latest ones:
//! nothing is forced to the disk.

mod access;
mod acl;
mod admin;
mod answers;
mod body;
mod buckets;
mod checksums;
mod cors;
mod deletions;
mod fault;
mod forms;
mod front;
mod gateway;
mod hosts;
mod listing;
mod multipart;
mod objects;
mod purge;
mod records;
mod signing;
mod store;
mod usage;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use s3s::service::S3ServiceBuilder;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Now;
use crate::door::Credentials;
use crate::server::{self, Server};
use access::{Keys, Owners};
use admin::Admin;
use deletions::Deletions;
use front::Front;
use gateway::Gateway;
use hosts::Hosts;
use store::Store;
use usage::Usage;

/// How to run a cluster.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where everything is kept: made when absent, closed to other users of the machine. For one process at a time.
    pub data_dir: PathBuf,
    /// The region it answers with. Signatures are accepted for any.
    pub region: String,
    /// What the admin API asks for, as a bearer token.
    pub admin_token: String,
    /// The clock of dates and usage hours.
    pub now: Now,
    /// Whether the data is thrown away after use, as in tests: spares the disk.
    pub ephemeral: bool,
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("listen", &self.listen)
            .field("data_dir", &self.data_dir)
            .field("region", &self.region)
            .field("ephemeral", &self.ephemeral)
            .finish_non_exhaustive()
    }
}

/// A running cluster. It stops when dropped; starting another on the same folder continues it.
pub struct Cluster {
    server: Server,
    stop: CancellationToken,
    store: Arc<Store>,
    usage: Arc<Usage>,
    keeper: JoinHandle<()>,
}

impl Cluster {
    /// Starts a cluster on its folder, new or used.
    ///
    /// # Errors
    /// When the address cannot be bound, or the folder not be used.
    pub fn start(options: ClusterOptions) -> io::Result<Self> {
        let ClusterOptions {
            listen,
            data_dir,
            region,
            admin_token,
            now,
            ephemeral,
        } = options;
        if admin_token.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the admin token is empty",
            ));
        }
        let store = Arc::new(Store::open(&data_dir, !ephemeral)?);
        let usage = Arc::new(Usage::new(Arc::clone(&now)));
        let front = Front {
            store: Arc::clone(&store),
            now: Arc::clone(&now),
            region,
        };
        let mut s3 = S3ServiceBuilder::new(front.clone());
        let front = Arc::new(front);
        s3.set_host(Hosts);
        s3.set_route(Deletions(Arc::clone(&front)));
        s3.set_auth(Keys(Arc::clone(&store)));
        s3.set_access(Owners(Arc::clone(&store)));
        let gateway = Gateway {
            s3: s3.build(),
            front,
            admin: Arc::new(Admin {
                store: Arc::clone(&store),
                usage: Arc::clone(&usage),
                now,
                token_digest: admin::digest(admin_token.as_bytes()),
            }),
            usage: Arc::clone(&usage),
        };
        let (listener, address) = server::bind(listen)?;
        let keeper = tokio::spawn(keep(Arc::clone(&store), Arc::clone(&usage)));
        let stop = CancellationToken::new();
        let serving = server::serve_until(listener, gateway, stop.clone());
        Ok(Self {
            server: Server::spawn(address, serving),
            stop,
            store,
            usage,
            keeper,
        })
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where clients reach it, S3 and the admin API alike.
    pub fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// Stops it once the requests under way have ended; no others are taken meanwhile.
    pub async fn finish(mut self) {
        self.stop.cancel();
        self.server.ended().await;
    }

    /// Makes sure that a user is there, who signs with these credentials and no others from now on.
    ///
    /// # Errors
    /// When the key is another user's, or the database cannot be used.
    pub async fn set_user(&self, uid: &str, credentials: &Credentials) -> io::Result<()> {
        let Credentials {
            access_key_id,
            secret_access_key,
        } = credentials;
        admin::set_user(&self.store, uid, access_key_id, secret_access_key)
            .await
            .map_err(|fault| io::Error::other(s3s::S3Error::from(fault)))
    }

    /// Deletes files that a crash left without metadata, and says how many there were. Every start does it too.
    ///
    /// # Errors
    /// When the folder or the database cannot be read.
    pub async fn sweep(&self) -> io::Result<usize> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.sweep())
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.abort();
        if let Err(error) = self.store.write_now(|w| self.usage.flush(w)) {
            tracing::error!(%error, "the last usage was not written");
        }
    }
}

/// Sweeps what the last run left, and writes the usage of requests that have ended.
async fn keep(store: Arc<Store>, usage: Arc<Usage>) {
    let sweeper = Arc::clone(&store);
    match tokio::task::spawn_blocking(move || sweeper.sweep()).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(files)) => tracing::info!(files, "files without metadata were deleted"),
        Ok(Err(error)) => tracing::error!(%error, "files without metadata were not deleted"),
    }
    loop {
        usage.request_ended.notified().await;
        let usage = Arc::clone(&usage);
        if let Err(error) = store.write(move |w| usage.flush(w)).await {
            // The next request that ends writes it too.
            tracing::warn!(%error, "usage was not written yet");
        }
    }
}
