//! DynamoDB: dynoxide over SQLite, in memory or in a file.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use dynoxide::storage::Storage;
use dynoxide::storage_backend::Clock;
use dynoxide::{Database, DynoxideError};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Now;
use crate::door::{self, Credentials, Door};
use crate::files;
use crate::server;

/// What the real service takes at most, in one request.
const REQUEST_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A running DynamoDB. It stops when dropped.
pub struct Server {
    server: crate::Server,
    database: Database,
    file: Option<PathBuf>,
    now: Now,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.server.fmt(f)
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

/// Starts DynamoDB on `listen`, in memory, or in `file` (made when absent, readable by its owner only), for who signs
/// with `credentials`.
///
/// Times to live follow `now`.
///
/// # Errors
/// When the address cannot be bound or the file cannot be opened as a database.
pub fn start(
    listen: SocketAddr,
    credentials: &Credentials,
    file: Option<PathBuf>,
    now: Now,
) -> io::Result<Server> {
    let database = match &file {
        None => Database::memory_with_clock(Arc::new(VirtualClock(Arc::clone(&now))))
            .map_err(io::Error::other)?,
        Some(file) => {
            files::prepare_database(file)?;
            Database::new(path(file)?).map_err(|error| files::about(file, error))?
        }
    };
    let (listener, address) = server::bind(listen)?;
    let served = database.clone();
    let door = Door::new("dynamodb", REQUEST_MAX_BYTES, credentials);
    let serving = door::serve(listener, door, move |request| {
        std::future::ready(answer(&served, &request))
    });
    Ok(Server {
        server: crate::Server::spawn(address, serving),
        database,
        file,
        now,
    })
}

fn path(file: &std::path::Path) -> io::Result<&str> {
    file.to_str().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the database's path is not UTF-8",
        )
    })
}

impl Server {
    /// Where clients reach it.
    pub fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// Deletes the items whose time to live has passed, in every table, and says how many there were.
    /// The server does this at no time by itself.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sweep_expired(&self) -> io::Result<usize> {
        let database = self.database.clone();
        let file = self.file.clone();
        let now = Arc::clone(&self.now);
        tokio::task::spawn_blocking(move || match file {
            None => database.sweep_ttl().map_err(io::Error::other),
            // A database in a file has the clock of the machine, and there is no giving it another. A second connection
            // has the one it is given; both wait for each other's transactions.
            Some(file) => {
                let storage = Storage::new(path(&file)?)
                    .map_err(|error| files::about(&file, error))?
                    .with_clock(Arc::new(VirtualClock(now)));
                tokio::runtime::Handle::current()
                    .block_on(dynoxide::ttl::sweep_expired_items(&storage))
                    .map_err(|error| files::about(&file, error))
            }
        })
        .await
        .map_err(io::Error::other)?
    }
}

type Answer = Result<String, DynoxideError>;

/// Dynoxide's own server tells every page in a browser that it may read the answers; so its operations are called here.
macro_rules! operations {
    ($($name:literal => $method:ident,)*) => {
        fn perform(database: &Database, operation: &str, body: &[u8]) -> Option<Answer> {
            match operation {
                $($name => Some(read(body).and_then(|request| database.$method(request)).and_then(|done| written(&done))),)*
                _ => None,
            }
        }
    };
}

operations! {
    "BatchExecuteStatement" => batch_execute_statement,
    "BatchGetItem" => batch_get_item,
    "BatchWriteItem" => batch_write_item,
    "CreateTable" => create_table,
    "DeleteItem" => delete_item,
    "DeleteTable" => delete_table,
    "DescribeTable" => describe_table,
    "DescribeTimeToLive" => describe_time_to_live,
    "ExecuteStatement" => execute_statement,
    "ExecuteTransaction" => execute_transaction,
    "GetItem" => get_item,
    "ListTables" => list_tables,
    "ListTagsOfResource" => list_tags_of_resource,
    "PutItem" => put_item,
    "Query" => query,
    "Scan" => scan,
    "TagResource" => tag_resource,
    "TransactGetItems" => transact_get_items,
    "TransactWriteItems" => transact_write_items,
    "UntagResource" => untag_resource,
    "UpdateItem" => update_item,
    "UpdateTable" => update_table,
    "UpdateTimeToLive" => update_time_to_live,
}

fn answer(database: &Database, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let operation = request
        .headers()
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.strip_prefix("DynamoDB_20120810."))
        .unwrap_or_default();
    let (status, body) = match perform(database, operation, request.body()) {
        Some(Ok(body)) => (StatusCode::OK, body),
        Some(Err(error)) => {
            let status = StatusCode::from_u16(error.status_code());
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            // What the caller did wrong is the caller's to see.
            if status.is_server_error() {
                tracing::error!(operation, %error, "dynamodb failed");
            }
            (status, error.to_json())
        }
        None => (
            StatusCode::BAD_REQUEST,
            r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#.to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.0"),
    );
    response
}

/// The types say what is wrong with a value behind a word of their own, such as `VALIDATION:`.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, DynoxideError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let is_mark = |mark: &str| {
            !mark.is_empty()
                && mark
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        };
        let place = format!(" at line {} column {}", error.line(), error.column());
        let plain = text.strip_suffix(&place).unwrap_or(&text);
        match plain.split_once(':') {
            Some((mark, rest)) if is_mark(mark) && mark.starts_with("SERIALIZATION") => {
                DynoxideError::SerializationException(rest.trim().to_owned())
            }
            Some((mark, rest)) if is_mark(mark) => {
                DynoxideError::ValidationException(rest.trim().to_owned())
            }
            _ if plain.starts_with("missing field")
                || plain.starts_with("unknown variant")
                || plain.contains("AttributeValue") =>
            {
                DynoxideError::ValidationException(plain.to_owned())
            }
            _ => DynoxideError::SerializationException(text),
        }
    })
}

fn written(done: &impl Serialize) -> Answer {
    serde_json::to_string(done)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}
