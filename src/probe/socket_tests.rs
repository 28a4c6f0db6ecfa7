//! Looks at real sockets on loopback, which the rules of these tests allow: what devices and services answer, what they
//! don't, and what is never connected to.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::fixture::values;
use super::http::HttpSpec;
use super::tls::TlsSpec;
use super::webhook::WebhookSpec;
use super::*;
use crate::oci::Secret;

#[path = "prometheus_tests.rs"]
mod prometheus;

const CERTIFICATE: &[u8] = include_bytes!("../../tests/data/tls/certificate.pem");
const KEY: &[u8] = include_bytes!("../../tests/data/tls/key.pem");
/// Ample for loopback on a busy machine; no look of these tests takes it but one that is broken.
const AMPLE: Duration = Duration::from_secs(20);
/// For looks that must run out of time.
const SHORT: Duration = Duration::from_millis(300);

/// What a server does with the path of a request: the bytes of its answer, and whether the connection then stays open.
type Say = dyn Fn(&str) -> (Vec<u8>, bool) + Send + Sync;

struct Server {
    address: SocketAddr,
    /// Heads and bodies of requests.
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

fn answer(status: &str, headers: &str, body: &str) -> (Vec<u8>, bool) {
    let length = body.len();
    (format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes(), false)
}

impl Server {
    async fn start(say: impl Fn(&str) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), None, say).await
    }

    async fn start_tls(say: impl Fn(&str) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        let certificates = vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .expect("a good pair");
        Self::start_at(Ipv4Addr::LOCALHOST.into(), Some(Arc::new(config).into()), say).await
    }

    async fn start_at(
        address: IpAddr,
        tls: Option<TlsAcceptor>,
        say: impl Fn(&str) -> (Vec<u8>, bool) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, connections, say) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default(), Arc::new(say));
        let server = Self { address, seen: Arc::clone(&seen), connections: Arc::clone(&connections) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (seen, say, tls) = (Arc::clone(&seen), Arc::clone(&say), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen, &*say).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &seen, &*say).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{{device_ip}}:{}{path}", self.address.port())
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, seen: &Mutex<Vec<String>>, say: &Say) {
    let mut text = Vec::new();
    let complete = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        (body.len() >= length.unwrap_or(0usize)).then(|| text.clone())
    };
    let request = loop {
        if let Some(request) = complete(&text) {
            break request;
        }
        // A client that speaks TLS: servers say no to it at once.
        if text.first() == Some(&0x16) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
        match stream.read_buf(&mut text).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().push(request);
    let (answer, stays) = say(&path);
    let _ = stream.write_all(&answer).await;
    if stays {
        // Until the client has had enough.
        let _ = stream.read(&mut [0]).await;
    }
    let _ = stream.shutdown().await;
}

fn network(rules: &str) -> Network {
    Network { guard: Guard::new(rules.parse().expect(rules), Names::system()), jobs: None }
}

fn rollout() -> Arc<Rollout> {
    Arc::new(Rollout { name: "app-1".into(), uid: "5c1f".into() })
}

fn job(kind: Kind, timeout: Duration, ip: &str) -> Job {
    let schedule = Schedule::new(Duration::ZERO, Duration::ZERO, timeout, 0, 1).expect("a good one");
    let check = Arc::new(Check { name: "web".into(), kind, schedule, allowed: Vec::new() });
    Job { check, subject: Subject::Device { values: values(ip), since: 0 }, rollout: rollout() }
}

fn http(spec: &HttpSpec) -> Kind {
    Kind::Http(Box::new(http::HttpCheck::parse(spec).expect("a good check")))
}

fn tcp(port: u16) -> Kind {
    Kind::Tcp(TcpCheck::parse("{device_ip}", port.into()).expect("a good check"))
}

async fn look(spec: &HttpSpec) -> Outcome {
    network("127.0.0.0/8").look(&job(http(spec), AMPLE, "127.0.0.1"), 1).await
}

fn assert_is(outcome: &Outcome, expected: &str) {
    assert!(outcome.to_string().starts_with(expected), "{outcome}, expected {expected}");
}

/// A port at which nobody listens, and nobody else will while this lives: it is bound, without listening.
fn nobody(address: Ipv4Addr) -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((address, 0).into()).expect("a free port");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

#[tokio::test]
async fn what_is_asked_and_answered() {
    let server = Server::start(|path| match path {
        "/health/line%203?tag=v2" => answer("200 OK", "", "all is ok"),
        "/204" => answer("204 No Content", "", ""),
        _ => answer("500 Oh", "", "ok"),
    })
    .await;
    let spec = |path: &str| HttpSpec { url: server.url(path), ..HttpSpec::default() };
    let secret = HeaderText::Secret(Secret::new("hunter2"));
    let good = HttpSpec {
        headers: vec![("Authorization".into(), secret), ("Host".into(), HeaderText::Plain("line.example".into()))],
        body_contains: Some("ok".into()),
        ..spec("/health/{device_name}?tag={tag}")
    };
    assert_is(&look(&good).await, "passed");
    let request = server.seen().remove(0);
    let lower = request.to_ascii_lowercase();
    assert!(request.starts_with("GET /health/line%203?tag=v2 HTTP/1.1\r\n"), "{request}");
    for header in ["\r\nhost: line.example\r\n", "\r\nauthorization: hunter2\r\n", "\r\nconnection: close\r\n"] {
        assert!(lower.contains(header), "{header}: {request}");
    }
    assert_eq!(lower.matches("\r\nhost:").count(), 1);
    assert_is(&look(&spec("/500")).await, "failed (Status): status 500, expected 200");
    assert_is(&look(&HttpSpec { expected_status: vec!["200-299".into()], ..spec("/204") }).await, "passed");
    let outcome =
        look(&HttpSpec { body_matches: Some("^bad$".into()), ..spec("/health/{device_name}?tag={tag}") }).await;
    assert_is(&outcome, "failed (Body)");
    let posted = HttpSpec { method: "POST".into(), expected_status: vec!["500".into()], ..spec("/") };
    assert_is(&look(&posted).await, "passed");
    assert!(server.seen().last().expect("one").starts_with("POST / "));
}

#[tokio::test]
async fn bodies_without_end() {
    let huge = |begin: &str| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{begin}").into_bytes();
        answer.resize(answer.len() + (256 << 10), b'x');
        (answer, true)
    };
    let server = Server::start(move |path| huge(if path == "/ok" { "ok" } else { "" })).await;
    let spec = |path: &str| HttpSpec { url: server.url(path), body_contains: Some("ok".into()), ..HttpSpec::default() };
    assert_is(&look(&spec("/ok")).await, "passed");
    assert_is(&look(&spec("/")).await, "failed (Body): the body doesn't contain what it must in its first 64 KiB");
    assert_is(&look(&HttpSpec { body_contains: None, ..spec("/") }).await, "passed");
}

#[tokio::test]
async fn answers_that_are_none() {
    let server = Server::start(|path| match path {
        "/slow" => (Vec::new(), true),
        "/slow-body" => (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec(), true),
        "/half" => (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec(), false),
        "/close" => (Vec::new(), false),
        "/head" => (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(), true),
        _ => (b"220 smtp.example ESMTP\r\n\r\n".to_vec(), false),
    })
    .await;
    for (path, timeout, expected) in [
        ("/slow", SHORT, "failed (Timeout)"),
        ("/slow-body", SHORT, "failed (Timeout)"),
        ("/half", AMPLE, "failed (Broken)"),
        ("/close", AMPLE, "failed (Broken)"),
        ("/head", AMPLE, "failed (NotHttp)"),
        ("/smtp", AMPLE, "failed (NotHttp)"),
    ] {
        let spec = HttpSpec { url: server.url(path), body_contains: Some("x".into()), ..HttpSpec::default() };
        let outcome = network("127.0.0.0/8").look(&job(http(&spec), timeout, "127.0.0.1"), 1).await;
        assert!(outcome.to_string().starts_with(expected), "{path}: {outcome}");
    }
}

#[tokio::test]
async fn redirects() {
    let other = Server::start_at([127, 0, 0, 2].into(), None, |_| answer("200 OK", "", "")).await;
    let sibling = Server::start(|_| answer("200 OK", "", "")).await;
    let (elsewhere, port) = (other.address, sibling.address.port());
    let server = Server::start(move |path| {
        let to = |location: &str| answer("302 Found", &format!("Location: {location}\r\n"), "");
        match path {
            "/a" => to("/b"),
            "/b" => to("/c"),
            "/c" => to("/d"),
            "/d" => answer("200 OK", "", ""),
            "/0" => to("/a"),
            "/port" => to(&format!("http://127.0.0.1:{port}/")),
            "/metadata" => to("http://169.254.169.254/latest/meta-data/"),
            "/ftp" => to("ftp://127.0.0.1/"),
            "/nowhere" => answer("302 Found", "", ""),
            _ => to(&format!("http://{elsewhere}/")),
        }
    })
    .await;
    let secret = ("X-Key".to_owned(), HeaderText::Secret(Secret::new("hunter2")));
    let plain = ("X-Line".to_owned(), HeaderText::Plain("3".into()));
    let spec = |path: &str| HttpSpec {
        url: server.url(path),
        headers: vec![secret.clone(), plain.clone()],
        ..HttpSpec::default()
    };
    assert_is(&look(&spec("/a")).await, "passed");
    assert_is(&look(&spec("/0")).await, "failed (Redirect): it redirects more than 3 times");
    assert_is(&look(&spec("/port")).await, "passed");
    let request = sibling.seen().remove(0).to_ascii_lowercase();
    assert!(request.contains("x-line: 3") && !request.contains("hunter2"), "{request}");
    for path in ["/elsewhere", "/metadata", "/ftp", "/nowhere"] {
        assert_is(&look(&spec(path)).await, "failed (Redirect): status 302, a redirect to ");
    }
    assert_eq!(other.connections(), 0);
    let before = server.connections();
    assert_is(&look(&HttpSpec { expected_status: vec!["302".into()], ..spec("/elsewhere") }).await, "passed");
    assert_is(&look(&HttpSpec { method: "POST".into(), ..spec("/a") }).await, "failed (Status): status 302");
    assert_eq!((server.connections() - before, other.connections()), (2, 0));
}

#[tokio::test]
async fn whose_certificate() {
    let server = Server::start_tls(|_| answer("200 OK", "", "")).await;
    let plain = Server::start(|_| answer("200 OK", "", "")).await;
    let https = |server: &Server, tls: TlsSpec| HttpSpec {
        url: server.url("/").replace("http://", "https://"),
        tls,
        ..HttpSpec::default()
    };
    let ours = || TlsSpec { ca_pem: Some(CERTIFICATE.to_vec()), ..TlsSpec::default() };
    let named = |name: &str| TlsSpec { server_name: Some(name.into()), ..ours() };
    for (what, spec, expected) in [
        ("trusted, by its name", https(&server, named("localhost")), "passed"),
        ("trusted, but it has no address", https(&server, ours()), "failed (Certificate)"),
        ("trusted, another name", https(&server, named("line-3.example")), "failed (Certificate)"),
        ("anybody", https(&server, TlsSpec { insecure_skip_verify: true, ..TlsSpec::default() }), "passed"),
        ("plain http at a port for https", HttpSpec { url: server.url("/"), ..HttpSpec::default() }, "failed ("),
        ("https at a port for http", https(&plain, named("localhost")), "failed (NotTls)"),
    ] {
        let outcome = look(&spec).await;
        assert!(outcome.to_string().starts_with(expected), "{what}: {outcome}");
    }
    // Whoever the system trusts, this isn't one of them; a system that trusts nobody at all is our own trouble.
    let outcome = look(&https(&server, TlsSpec { server_name: Some("localhost".into()), ..TlsSpec::default() })).await;
    assert!(["Certificate", "TlsSetup"].contains(&outcome.label()), "{outcome}");
}

#[tokio::test]
async fn connections() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let network = network("127.0.0.0/8,255.255.255.255");
    let (_socket, closed) = nobody(Ipv4Addr::LOCALHOST);
    let url = format!("http://{{device_ip}}:{}/", closed.port());
    for (kind, ip, expected) in [
        (tcp(server.address.port()), "127.0.0.1", "passed"),
        (tcp(closed.port()), "127.0.0.1", "failed (Refused)"),
        (http(&HttpSpec { url, ..HttpSpec::default() }), "127.0.0.1", "failed (Refused)"),
        (tcp(80), "", "unknown (NoAddress)"),
        (tcp(80), "localhost", "unknown (NoAddress)"),
        // The kernel has no way to it for TCP.
        #[cfg(target_os = "linux")]
        (tcp(80), "255.255.255.255", "unknown (NoRoute)"),
    ] {
        assert_is(&network.look(&job(kind, AMPLE, ip), 1).await, expected);
    }
}

/// A port whose queue of connections is full takes no more of them and says nothing.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn silence() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        held.push(connected.expect("a place in the queue"));
        assert!(held.len() < 100, "the queue has an end");
    }
    let outcome = network("127.0.0.0/8").look(&job(tcp(address.port()), SHORT, "127.0.0.1"), 1).await;
    assert_is(&outcome, "failed (Unanswered)");
}

#[tokio::test]
async fn webhooks() {
    let server = Server::start(|path| match path {
        "/good" => answer("200 OK", "", r#"{"healthy": true}"#),
        "/bad" => answer("200 OK", "", r#"{"healthy": false, "reason": "too hot"}"#),
        "/broken" => answer("503 Oh", "", r#"{"healthy": false}"#),
        "/nonsense" => answer("200 OK", "", "<html>"),
        "/slow" => (Vec::new(), true),
        "/huge" => answer("200 OK", "", &format!("{}{}", " ".repeat(100 << 10), r#"{"healthy": false}"#)),
        _ => answer("307 Temporary Redirect", "Location: /bad\r\n", ""),
    })
    .await;
    let (_socket, closed) = nobody(Ipv4Addr::LOCALHOST);
    let webhook = |url: String| {
        let spec = WebhookSpec { url, ..WebhookSpec::default() };
        Kind::Webhook(Box::new(WebhookCheck::parse(&spec).expect("a good check")))
    };
    for (path, timeout, expected) in [
        ("/good", AMPLE, "passed"),
        ("/bad", AMPLE, "failed (Judged): too hot"),
        ("/broken", AMPLE, "unknown (NotJudged)"),
        ("/nonsense", AMPLE, "unknown (NotJudged)"),
        ("/slow", SHORT, "unknown (NotJudged)"),
        ("/huge", AMPLE, "unknown (NotJudged)"),
        ("/redirect", AMPLE, "unknown (NotJudged)"),
    ] {
        let kind = webhook(format!("http://{}{path}", server.address));
        assert_is(&network("127.0.0.0/8").look(&job(kind, timeout, "10.1.2.3"), 1).await, expected);
    }
    assert_eq!(server.seen().len(), 7, "the redirect is not followed");
    let request = server.seen().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("POST /good ") && head.to_ascii_lowercase().contains("content-type: application/json"));
    let expected = serde_json::json!({
        "check": "web", "namespace": "plant-a", "rollout": "app-1", "image": "docker.io/acme/app:v2", "tag": "v2",
        "device": {"name": "line 3", "uuid": "0b9f", "address": "10.1.2.3"},
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON"), expected);
    let outcome = network("127.0.0.0/8").look(&job(webhook(format!("http://{closed}/")), AMPLE, ""), 1).await;
    assert_is(&outcome, "unknown (NotJudged)");
    let outcome = network("").look(&job(webhook(format!("http://{}/good", server.address)), AMPLE, ""), 1).await;
    assert_is(&outcome, "unknown (AddressRefused)");
    assert_eq!(server.connections(), 7);
}

/// Connections on loopback are in the listener's queue when `connect` returns: an empty queue is proof that there was none.
async fn assert_untouched(listener: &TcpListener, what: &str) {
    assert!(listener.accept().now_or_never().is_none(), "{what}: a connection was made");
}

#[tokio::test]
async fn never_connected_to() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let to = |host: &str| http(&HttpSpec { url: format!("http://{host}:{port}/"), ..HttpSpec::default() });
    let any = "0.0.0.0/0".parse().expect("all");
    for (what, rules, kind, ip, allowed) in [
        ("its own address is loopback", "", to("{device_ip}"), "127.0.0.1", false),
        ("its own address is loopback, wrapped", "", to("{device_ip}"), "::ffff:127.0.0.1", false),
        ("all networks are allowed", "", to("{device_ip}"), "127.0.0.1", true),
        ("another spelling", "", to("2130706433"), "10.0.0.1", true),
        ("by name", "", to("localhost"), "10.0.0.1", true),
        ("tcp", "", tcp(port), "127.0.0.1", true),
        ("not its own address", "127.0.0.0/8", to("127.0.0.1"), "127.0.0.2", false),
        ("not its own address, by name", "127.0.0.0/8", to("localhost"), "127.0.0.2", false),
        ("it has none", "127.0.0.0/8", to("127.0.0.1"), "", false),
        ("metadata", "", to("169.254.169.254"), "169.254.169.254", true),
        ("link-local", "", to("{device_ip}"), "169.254.7.7", true),
    ] {
        let mut job = job(kind, AMPLE, ip);
        let check = Arc::get_mut(&mut job.check).expect("not shared yet");
        check.allowed = if allowed { vec![any] } else { Vec::new() };
        let outcome = network(rules).look(&job, 1).await;
        assert!(outcome.to_string().starts_with("unknown (AddressRefused)"), "{what}: {outcome}");
        assert_untouched(&listener, what).await;
    }
    // It would have been possible.
    assert_is(&network("127.0.0.0/8").look(&job(tcp(port), AMPLE, "127.0.0.1"), 1).await, "passed");
    assert!(listener.accept().now_or_never().is_some(), "this one is seen");
}

#[tokio::test]
async fn names() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Names::by({
        let asked = Arc::clone(&asked);
        move |name| {
            let n = asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match name.as_str() {
                    "line-3.example" => Ok(vec![[127, 0, 0, 1].into()]),
                    "two.example" => Ok(vec![[127, 0, 0, 9].into(), [127, 0, 0, 1].into()]),
                    "none.example" => Ok(Vec::new()),
                    "slow.example" => std::future::pending().await,
                    _ => Err(std::io::Error::new(ErrorKind::NotFound, format!("no such name, look {n}"))),
                }
            })
        }
    });
    let network = Network { guard: Guard::new("127.0.0.0/8".parse().expect("rules"), names), jobs: None };
    for (host, ip, timeout, expected) in [
        ("line-3.example", "127.0.0.1", AMPLE, "passed"),
        ("line-3.example", "127.0.0.2", AMPLE, "unknown (AddressRefused)"),
        ("two.example", "127.0.0.1", AMPLE, "passed"),
        ("none.example", "127.0.0.1", AMPLE, "unknown (Dns)"),
        ("gone.example", "127.0.0.1", AMPLE, "unknown (Dns)"),
        ("slow.example", "127.0.0.1", SHORT, "unknown (Dns)"),
    ] {
        let spec = HttpSpec { url: format!("http://{host}:{}/", server.address.port()), ..HttpSpec::default() };
        let outcome = network.look(&job(http(&spec), timeout, ip), 1).await;
        assert!(outcome.to_string().starts_with(expected), "{host} {ip}: {outcome}");
    }
    assert_eq!(server.connections(), 2);
    assert!(asked.load(Ordering::SeqCst) <= 5, "one name was kept");
}

/// All together: many devices, each with an address of its own, some refused and some well.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_fleet() {
    let server = Server::start_at(Ipv4Addr::UNSPECIFIED.into(), None, |_| answer("200 OK", "", "ok")).await;
    let (_socket, closed) = nobody(Ipv4Addr::UNSPECIFIED);
    let settings = Settings { spread: Duration::ZERO, seed: 1, ..Settings::default() };
    let (engine, mut results) = Engine::start(network("127.0.0.0/8"), &settings, crate::shutdown::Shutdown::new());
    let schedule = Schedule::new(Duration::ZERO, Duration::from_millis(1), AMPLE, 1, 1).expect("a good one");
    let check = |name: &str, port: u16| {
        let url = format!("http://{{device_ip}}:{port}/");
        let kind = http(&HttpSpec { url, body_contains: Some("ok".into()), ..HttpSpec::default() });
        Arc::new(Check { name: name.into(), kind, schedule: schedule.clone(), allowed: Vec::new() })
    };
    let (well, ill) = (check("well", server.address.port()), check("ill", closed.port()));
    for n in 0..200_u8 {
        let check = Arc::clone(if n % 4 == 0 { &ill } else { &well });
        let subject = Subject::Device { values: values(&format!("127.1.0.{n}")), since: 0 };
        let job = Job { check, subject, rollout: rollout() };
        assert_eq!(engine.add(n, Arc::new(job)), Added::New);
    }
    for _ in 0..200 {
        let Report { key, outcome, facts } = results.recv().await.expect("a result");
        assert_eq!((outcome.label(), facts.attempts), if key % 4 == 0 { ("Refused", 2) } else { ("Passed", 1) });
    }
}
