//! The HTTP server over real sockets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::routing::{get, post};
use futures::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tranche::metrics::ServerMetrics;
use tranche::server::{Peer, ServerConfig, serve, tls, with_problems};

const LONG: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Server {
    address: SocketAddr,
    metrics: ServerMetrics,
    task: JoinHandle<()>,
    shutdown: Option<oneshot::Sender<()>>,
    /// A request to `/slow` has begun.
    begun: Arc<Notify>,
    /// Lets it end.
    end: Arc<Notify>,
}

impl Server {
    async fn start(config: ServerConfig) -> Self {
        Self::start_with(config, None).await
    }

    async fn start_with(config: ServerConfig, tls: Option<TlsAcceptor>) -> Self {
        let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (begun, end) = (begun.clone(), end.clone());
            move || async move {
                begun.notify_one();
                end.notified().await;
                "done"
            }
        };
        let router = Router::new()
            .route(
                "/",
                get(|request: Request| async move { request.extensions().get::<Peer>().unwrap().0.ip().to_string() }),
            )
            .route("/slow", get(slow))
            .route("/drip", get(async || Body::from_stream(drops())))
            .route(
                "/flood",
                get(async || Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>("flood".repeat(10_000))))),
            )
            .route("/body", post(|body: Bytes| async move { body.len().to_string() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = ServerMetrics::default();
        let (shutdown, stop) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, with_problems(router), tls, config, metrics.clone(), async {
            let _ = stop.await;
        }));
        Self { address, metrics, task, shutdown: Some(shutdown), begun, end }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn stop(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }
}

/// A body in eight pieces, with a pause before each.
fn drops() -> impl Stream<Item = Result<&'static str, Infallible>> {
    stream::iter(0..8).then(|_| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok("drop")
    })
}

fn quick() -> ServerConfig {
    ServerConfig {
        header_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(800),
        ..ServerConfig::default()
    }
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut text)).await.expect("the server closes");
    String::from_utf8_lossy(&text).into_owned()
}

/// One response with a `content-length`.
async fn response(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    loop {
        let n = timeout(LONG, stream.read(&mut buffer)).await.expect("the server answers").unwrap();
        assert!(n > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            return text;
        }
    }
}

#[tokio::test]
async fn requests_over_one_connection_and_the_peer() {
    let server = Server::start(ServerConfig::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        let text = response(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("127.0.0.1"), "{text}");
    }
    stream.write_all(b"GET /none HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 404"));
    assert_eq!(server.metrics.open.get(), 1);
    assert_eq!(server.metrics.accepted.get(), 1);
}

#[tokio::test]
async fn half_open_connections_are_closed() {
    let server = Server::start(quick()).await;
    let partial_heads: [&[u8]; 5] =
        [b"", b"P", b"PRI * HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\nhost:", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let closed = partial_heads.map(async |head| {
        let mut stream = server.connect().await;
        stream.write_all(head).await.unwrap();
        rest(&mut stream).await
    });
    for text in futures::future::join_all(closed).await {
        assert!(!text.contains(" 200 "), "{text}");
    }
    assert_eq!(server.metrics.timed_out.get(), 5);
    let mut idle = server.connect().await;
    idle.write_all(GET).await.unwrap();
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 200"), "idle connections are closed after their time");
}

#[tokio::test]
async fn a_head_that_drips_in_does_not_last() {
    let server = Server::start(quick()).await;
    let mut stream = server.connect().await;
    let (mut read, mut write) = stream.split();
    let drip = async {
        loop {
            if write.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut text = Vec::new();
    let closed = async {
        let _ = read.read_to_end(&mut text).await;
    };
    timeout(LONG, async {
        tokio::select! { () = drip => {} () = closed => {} }
    })
    .await
    .expect("it is closed");
}

#[tokio::test]
async fn ten_megabytes_of_headers() {
    let server = Server::start(ServerConfig::default()).await;
    let mut stream = server.connect().await;
    let mut head = b"GET / HTTP/1.1\r\nhost: x\r\nx-filler: ".to_vec();
    head.resize(10 << 20, b'a');
    head.extend_from_slice(b"\r\n\r\n");
    let (mut read, mut write) = stream.split();
    let mut text = Vec::new();
    let (sent, _) = timeout(LONG, async { tokio::join!(write.write_all(&head), read.read_to_end(&mut text)) })
        .await
        .expect("the server answers and closes");
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    assert!(sent.is_ok(), "the connection is not reset under the client: {sent:?}");
}

#[tokio::test]
async fn an_oversize_body_is_answered_not_reset() {
    let server = Server::start(ServerConfig::default()).await;
    let mut stream = server.connect().await;
    let length = 8 << 20;
    stream
        .write_all(format!("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let body = vec![b'x'; length];
    let (mut read, mut write) = stream.split();
    let mut text = Vec::new();
    let (sent, _) = timeout(LONG, async { tokio::join!(write.write_all(&body), read.read_to_end(&mut text)) })
        .await
        .expect("the server answers and closes");
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    assert!(sent.is_ok(), "{sent:?}");
}

#[tokio::test]
async fn a_request_that_takes_too_long() {
    let config = ServerConfig { request_timeout: Duration::from_millis(100), ..ServerConfig::default() };
    let server = Server::start(config).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let text = response(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("application/problem+json"), "{text}");
}

#[tokio::test]
async fn a_request_may_outlast_the_head_and_idle_timeouts() {
    let server = Server::start(quick()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.begun.notified().await;
    // The watchdog is what is being waited out here.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    server.end.notify_one();
    assert!(response(&mut stream).await.ends_with("done"));
}

#[tokio::test]
async fn a_body_may_outlast_the_idle_timeout_while_it_is_read() {
    let server = Server::start(quick()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /drip HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // Eight drops in twice the time that a connection may be idle.
    let mut text = Vec::new();
    while !text.ends_with(b"0\r\n\r\n") {
        let read = timeout(LONG, stream.read_buf(&mut text)).await.expect("it goes on").unwrap();
        assert!(read > 0, "cut off after {:?}", String::from_utf8_lossy(&text));
    }
    assert_eq!(String::from_utf8_lossy(&text).matches("drop").count(), 8);
    stream.write_all(GET).await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 200"), "the connection is as good as before");
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_given_up() {
    let server = Server::start(quick()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let given_up = async {
        while server.metrics.timed_out.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, given_up).await.expect("its place is given to somebody else");
}

#[tokio::test]
async fn beyond_the_limit_connections_wait() {
    let config = ServerConfig { max_connections: 1, ..ServerConfig::default() };
    let server = Server::start(config).await;
    let mut first = server.connect().await;
    first.write_all(GET).await.unwrap();
    response(&mut first).await;
    let mut second = server.connect().await;
    second.write_all(GET).await.unwrap();
    let mut byte = [0; 1];
    assert!(timeout(Duration::from_millis(100), second.read(&mut byte)).await.is_err(), "it has to wait");
    drop(first);
    assert!(response(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn drains() {
    let mut server = Server::start(ServerConfig::default()).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.begun.notified().await;
    let mut idle = server.connect().await;
    idle.write_all(GET).await.unwrap();
    response(&mut idle).await;
    server.stop();
    assert_eq!(rest(&mut idle).await, "", "idle connections are closed at once");
    assert!(!server.task.is_finished(), "a request is still being answered");
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, refused).await.expect("nobody new is let in");
    server.end.notify_one();
    let text = rest(&mut busy).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close") && text.ends_with("done"), "{text}");
    drop(busy);
    timeout(LONG, server.task).await.expect("it ends").unwrap();
    assert_eq!(server.metrics.open.get(), 0);
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let config = ServerConfig { drain_timeout: Duration::from_millis(100), ..ServerConfig::default() };
    let mut server = Server::start(config).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.begun.notified().await;
    server.stop();
    timeout(LONG, server.task).await.expect("it ends").unwrap();
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn speaks_http2_without_being_told() {
    let server = Server::start(ServerConfig::default()).await;
    let mut stream = server.connect().await;
    // The preface and an empty SETTINGS frame.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    timeout(LONG, stream.read_exact(&mut frame)).await.expect("the server answers").unwrap();
    assert_eq!(frame[3], 4, "SETTINGS");
}

const CERTIFICATE: &str = "tests/data/tls/certificate.pem";
const KEY: &str = "tests/data/tls/key.pem";

#[tokio::test]
async fn tls() {
    let acceptor = tls::acceptor(Path::new(CERTIFICATE), Path::new(KEY), None).unwrap();
    let config = ServerConfig { handshake_timeout: Duration::from_millis(200), ..ServerConfig::default() };
    let server = Server::start_with(config, Some(acceptor)).await;

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, server.connect().await).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(LONG, stream.read_to_string(&mut text)).await.expect("the server closes").unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");

    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "", "a handshake that never comes");
    assert_eq!(server.metrics.timed_out.get(), 1);
    let mut plain = server.connect().await;
    plain.write_all(GET).await.unwrap();
    assert!(!rest(&mut plain).await.contains("200"));
}

#[test]
fn tls_files_that_do_not_serve() {
    let (certificate, key, none) = (Path::new(CERTIFICATE), Path::new(KEY), Path::new("tests/data/none.pem"));
    assert!(matches!(tls::acceptor(none, key, None), Err(tls::TlsError::Certificate { .. })));
    assert!(matches!(tls::acceptor(key, key, None), Err(tls::TlsError::Certificate { .. })));
    assert!(matches!(tls::acceptor(certificate, none, None), Err(tls::TlsError::Key { .. })));
    assert!(matches!(tls::acceptor(certificate, certificate, None), Err(tls::TlsError::Key { .. })));
}
