//! An HTTP server that says what a test wants, and remembers what it was asked.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tranche::api::image::ImageRef;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What is answered.
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
}

pub fn reply(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: Vec::new(), delay: Duration::ZERO }
}

impl Reply {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Say = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running one; ends with its test's runtime.
#[derive(Clone)]
pub struct Fake {
    /// `127.0.0.1:PORT`
    pub host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    /// The most requests that there were at once.
    peak: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
}

impl Fake {
    pub async fn start(say: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), None, say).await
    }

    /// With https, by a certificate and its key in PEM files.
    pub async fn start_tls(
        certificate: &Path,
        key: &Path,
        say: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let tls = tranche::server::tls::acceptor(certificate, key, None).unwrap();
        Self::start_at(Ipv4Addr::LOCALHOST.into(), Some(tls), say).await
    }

    pub async fn start_at(
        address: IpAddr,
        tls: Option<tokio_rustls::TlsAcceptor>,
        say: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let fake = Self {
            host: listener.local_addr().unwrap().to_string(),
            seen: Arc::default(),
            connections: Arc::default(),
            peak: Arc::default(),
            now: Arc::default(),
        };
        let (mine, say): (Self, Arc<Say>) = (fake.clone(), Arc::new(say));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                mine.connections.fetch_add(1, Ordering::SeqCst);
                let (mine, say, tls) = (mine.clone(), Arc::clone(&say), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => mine.serve(stream, say).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                mine.serve(stream, say).await;
                            }
                        }
                    }
                });
            }
        });
        fake
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, say: Arc<Say>) {
        let service = service_fn(move |request: Request<Incoming>| {
            let (fake, say) = (self.clone(), Arc::clone(&say));
            async move { Ok::<_, Infallible>(fake.answer(request, &*say).await) }
        });
        // A client that goes away in the middle is none of the server's business.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>, say: &Say) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let seen = Seen {
            method: parts.method,
            path: parts.uri.path().into(),
            query: parts.uri.query().unwrap_or_default().into(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        let at_once = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(at_once, Ordering::SeqCst);
        let reply = say(&seen);
        self.seen.lock().unwrap().push(seen);
        tokio::time::sleep(reply.delay).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        let mut response = Response::new(Full::from(reply.body));
        *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
        for (name, value) in reply.headers {
            let name: http::HeaderName = name.parse().unwrap();
            response.headers_mut().append(name, value.parse().unwrap());
        }
        response
    }

    /// `name:tag` here.
    pub fn image(&self, name: &str) -> ImageRef {
        format!("{}/{name}", self.host).parse().unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}
