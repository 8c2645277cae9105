//! A proxy between a function's process and the services it calls, which can stop at any call: so that the process can be killed
//! just before it, or when the service has done it and the process does not know.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::tap::Moment;

/// Where processes' calls pass.
#[derive(Clone, Default)]
pub struct Proxy(Arc<State>);

#[derive(Default)]
struct State {
    stop: Mutex<Option<Stop>>,
    stopped: Notify,
}

/// Where the next call is held up.
struct Stop {
    calls_left: usize,
    moment: Moment,
}

impl Proxy {
    /// Leads all services in an environment through this proxy.
    pub fn lead_through(&self, environment: &mut BTreeMap<String, String>) {
        for (name, value) in environment.iter_mut() {
            if name.starts_with("AWS_ENDPOINT_URL_") {
                *value = self.before(value);
            } else if name == "LOCATIONS" {
                let mut locations: Value = serde_json::from_str(value).expect("locations");
                for location in locations.as_array_mut().expect("a list") {
                    for field in ["s3_endpoint", "admin_endpoint"] {
                        let endpoint = location[field].as_str().expect("an endpoint");
                        location[field] = self.before(endpoint).into();
                    }
                }
                *value = locations.to_string();
            }
        }
    }

    /// Holds up the call with this index, counted from now, at this moment; every later one is let pass.
    pub fn stop_at(&self, index: usize, moment: Moment) {
        *self.lock() = Some(Stop {
            calls_left: index,
            moment,
        });
    }

    /// Waits until a call is held up. It stays so until its connection ends.
    pub async fn stopped(&self) {
        self.0.stopped.notified().await;
    }

    /// Holds up nothing any more; whether something was still to be held up.
    pub fn let_pass(&self) -> bool {
        self.lock().take().is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Stop>> {
        self.0.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A listener that leads to an endpoint.
    fn before(&self, endpoint: &str) -> String {
        let uri: http::Uri = endpoint.parse().expect("an endpoint");
        let service: SocketAddr = uri
            .authority()
            .expect("host and port")
            .as_str()
            .parse()
            .expect("an address");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let proxy = self.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let proxy = proxy.clone();
                tokio::spawn(async move {
                    // The process that is killed, and the stack that stops, break connections.
                    let _ = proxy.pass(caller, service).await;
                });
            }
        });
        format!("http://{address}")
    }

    /// Passes a connection's bytes on. On one connection a call follows the answer to the one before, so what a caller sends after
    /// it got something is the next call.
    async fn pass(&self, caller: TcpStream, service: SocketAddr) -> io::Result<()> {
        let service = TcpStream::connect(service).await?;
        caller.set_nodelay(true)?;
        service.set_nodelay(true)?;
        let (mut from_caller, mut to_caller) = caller.into_split();
        let (mut from_service, mut to_service) = service.into_split();
        let mut asked = vec![0; 64 * 1024];
        let mut answered = vec![0; 64 * 1024];
        let mut is_answering = true;
        let mut is_held_after = false;
        loop {
            tokio::select! {
                read = from_caller.read(&mut asked) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    if is_answering {
                        is_answering = false;
                        match self.next_call() {
                            Some(Moment::Before) => return self.hold(from_caller).await,
                            Some(Moment::After) => is_held_after = true,
                            None => {}
                        }
                    }
                    to_service.write_all(&asked[..read]).await?;
                }
                read = from_service.read(&mut answered) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    if is_held_after {
                        return self.hold(from_caller).await;
                    }
                    is_answering = true;
                    to_caller.write_all(&answered[..read]).await?;
                }
            }
        }
    }

    fn next_call(&self) -> Option<Moment> {
        let mut stop = self.lock();
        let next = stop.as_mut()?;
        if next.calls_left > 0 {
            next.calls_left -= 1;
            return None;
        }
        stop.take().map(|stop| stop.moment)
    }

    /// Says that the call is held up, and keeps the connection until the caller is gone.
    async fn hold(&self, mut caller: tokio::net::tcp::OwnedReadHalf) -> io::Result<()> {
        self.0.stopped.notify_one();
        let mut rest = vec![0; 1024];
        while caller.read(&mut rest).await? > 0 {}
        Ok(())
    }
}
