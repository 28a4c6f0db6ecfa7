//! The HTTP server: an accept loop in which every wait has an end.
//!
//! `axum::serve` installs no timers, so a connection that never says anything stays open for ever. Here each connection
//! has one watchdog that knows five states: waiting for the first byte, in the middle of a request's head, in a
//! request, in a body that is written as it is made, and idle between requests. It sleeps through all of them and looks
//! at the clock only when something may be over, so that a request pays a few atomic stores for it.
//!
//! Decides nothing about requests; bounds on bodies are the routes' own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use self::activity::Activity;
use self::client::ClientCertificate;
use self::io::Watched;
use crate::metrics::ServerMetrics;
use crate::problem::Problem;

mod activity;
pub mod client;
mod io;
pub mod limits;
pub mod source;
pub mod tls;

/// Connections at once. One costs about 20 KiB, so this is some 300 MiB at worst; a fleet of a million that polls each
/// minute over fresh connections needs a tenth of it.
const MAX_CONNECTIONS: usize = 16_384;
/// Descriptors that connections must leave: for the API server's connections, files, and other listeners.
const RESERVED_DESCRIPTORS: usize = 128;
/// After a failed accept, mostly for want of descriptors, which only time brings back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Streams of one HTTP/2 connection. A device needs one.
const MAX_STREAMS: u32 = 32;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Connections at once, at most; less where the process may not open so many files. Others wait to be accepted.
    pub max_connections: usize,
    /// From a connection's start, or a request's first byte, to the end of the request's head.
    pub header_timeout: Duration,
    /// Between two requests of one connection, and between two bytes that are taken of a streamed body.
    pub idle_timeout: Duration,
    /// From a request's head to the head of its response.
    pub request_timeout: Duration,
    /// TLS handshake.
    pub handshake_timeout: Duration,
    /// From shutdown to the end of the last request.
    pub drain_timeout: Duration,
    /// Size of a request's head; more is answered 431. At least 8 KiB.
    pub max_header_bytes: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            header_timeout: Duration::from_secs(10),
            // A little more than the poll interval of agents that keep their connection.
            idle_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(12),
            max_header_bytes: 16 << 10,
        }
    }
}

/// Address of the other side, in a request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The other side of a connection.
#[derive(Clone, Debug)]
struct Client {
    peer: Peer,
    certificate: Option<ClientCertificate>,
}

/// What all connections share.
struct Shared {
    router: Router,
    config: ServerConfig,
    builder: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    metrics: ServerMetrics,
    slots: Arc<Semaphore>,
    /// Fewer free slots than this: connections are closed after their request, to make room.
    crowded: usize,
    phase: watch::Receiver<Phase>,
}

/// Where the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Requests in flight are finished, nothing new begins.
    Draining,
    /// Time is up.
    Closed,
}

/// A connection's place. Gone once the socket is closed.
struct Place {
    metrics: ServerMetrics,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.open.dec();
    }
}

/// `router`, answering unknown routes and wrong methods with a problem. To be called last, after merging.
pub fn with_problems(router: Router) -> Router {
    router
        .fallback(|uri: Uri| async move {
            Problem::new(StatusCode::NOT_FOUND, "no-route", "Not found", format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(|method: Method| async move {
            let detail = format!("{method} is not possible here; the Allow header says what is");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed", detail)
        })
}

/// Serves until `shutdown` completes, then drains.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    config: ServerConfig,
    metrics: ServerMetrics,
    shutdown: impl Future<Output = ()>,
) {
    let (phase, receiver) = watch::channel(Phase::Serving);
    let limit = connection_limit(config.max_connections);
    let slots = Arc::new(Semaphore::new(limit));
    let shared = Arc::new(Shared {
        builder: builder(&config),
        crowded: limit / 10,
        slots: slots.clone(),
        phase: receiver,
        router,
        config,
        tls,
        metrics,
    });
    tokio::select! {
        () = accept(&listener, &shared) => {}
        () = shutdown => {}
    }
    drop(listener);
    phase.send_replace(Phase::Draining);
    let drained = timeout(shared.config.drain_timeout, all(&slots, limit)).await;
    phase.send_replace(Phase::Closed);
    if drained.is_err() {
        tracing::warn!("some requests were cut off: they outlasted the drain");
        // They are only waiting to be told.
        let _ = timeout(Duration::from_secs(1), all(&slots, limit)).await;
    }
}

async fn all(slots: &Semaphore, limit: usize) {
    // The limit is far below 2^32, and the semaphore is never closed.
    let _ = slots.acquire_many(u32::try_from(limit).unwrap_or(u32::MAX)).await;
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        // First a place, then the connection: beyond the limit, the others wait in the kernel's queue.
        let Ok(slot) = shared.slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let metrics = shared.metrics.clone();
                metrics.accepted.inc();
                metrics.open.inc();
                tokio::spawn(connection(stream, Peer(peer), shared.clone(), Place { metrics, _slot: slot }));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, shared: Arc<Shared>, place: Place) {
    // Only a matter of latency.
    let _ = stream.set_nodelay(true);
    match shared.tls.clone() {
        None => drive(stream, Client { peer, certificate: None }, shared, place).await,
        Some(acceptor) => match timeout(shared.config.handshake_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let certificate = shown.and_then(ClientCertificate::read);
                drive(stream, Client { peer, certificate }, shared, place).await;
            }
            Ok(Err(error)) => tracing::debug!(peer = %peer.0, %error, "the TLS handshake failed"),
            Err(_) => {
                shared.metrics.timed_out.inc();
            }
        },
    }
}

async fn drive<S>(stream: S, client: Client, shared: Arc<Shared>, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Watched::new(stream, activity.clone(), place));
    let service = {
        let (client, shared, activity) = (client.clone(), shared.clone(), activity.clone());
        hyper::service::service_fn(move |request| respond(request, client.clone(), shared.clone(), activity.clone()))
    };
    let connection = shared.builder.serve_connection(io, service);
    tokio::pin!(connection);
    let mut phase = shared.phase.clone();
    let mut draining = false;
    let wake_at = activity.deadline(&shared.config, Instant::now());
    let watchdog = sleep_until(wake_at);
    tokio::pin!(watchdog);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %client.peer.0, error = &*error, "the connection broke off");
                }
                return;
            }
            () = &mut watchdog => {
                let now = Instant::now();
                let deadline = activity.deadline(&shared.config, now);
                if deadline <= now {
                    activity.abandon();
                    shared.metrics.timed_out.inc();
                    return;
                }
                watchdog.as_mut().reset(deadline);
            }
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow_and_update() == Phase::Closed {
                    activity.abandon();
                    return;
                }
                if !draining {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

async fn respond(
    mut request: Request<Incoming>,
    client: Client,
    shared: Arc<Shared>,
    activity: Arc<Activity>,
) -> Result<Response, std::convert::Infallible> {
    let version = request.version();
    let in_request = activity.enter(version == Version::HTTP_2);
    request.extensions_mut().insert(client.peer);
    if let Some(certificate) = client.certificate {
        request.extensions_mut().insert(certificate);
    }
    let answer = shared.router.clone().call(request.map(Body::new));
    let mut response = match timeout(shared.config.request_timeout, answer).await {
        Ok(Ok(response)) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "Timeout", "this took too long; try again")
            .retry_after(5)
            .into_response(),
    };
    if version < Version::HTTP_2 && shared.slots.available_permits() < shared.crowded {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if response.body().size_hint().exact().is_some() {
        return Ok(response);
    }
    // It may last as long as it is read: hyper drops it at its end, and the guard with it.
    let streaming = in_request.stream();
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            streaming.goes_on();
            frame
        }))
    }))
}

fn builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_list = u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX);
    // No timer is set: the watchdog covers what hyper's own would, for both versions and from the first byte on.
    builder.http1().header_read_timeout(None).max_buf_size(config.max_header_bytes.max(8 << 10));
    builder.http2().max_concurrent_streams(MAX_STREAMS).max_header_list_size(header_list);
    builder
}

/// `wanted`, or what the limit on open files leaves, where that is known.
fn connection_limit(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(files) => wanted.min(files.saturating_sub(RESERVED_DESCRIPTORS)).max(1),
        None => wanted.max(1),
    }
}

/// The soft limit on open files in the text of `/proc/self/limits`.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_descriptors() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(text), Some(1024));
        assert_eq!(open_files("Max open files  unlimited unlimited files"), None);
        assert_eq!(open_files(""), None);
        assert_eq!(connection_limit(3), 3);
        assert_eq!(connection_limit(0), 1);
    }
}
