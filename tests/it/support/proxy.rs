//! Between a process and the API server: passes everything on, counts the writes, and cuts the process off at one of them.
//!
//! Towards the process it is plain HTTP without a password; towards the API server it is whoever its client is.

use std::fmt;
use std::future::pending;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::Client;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A write, by what it is about. Things that happen side by side come in another order each time, so the fifth write
/// of a story may be another one; the second write of some device's status is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub method: Method,
    /// What comes after the namespace: `devices/a/status`.
    pub path: String,
    /// The how manyth of this method and path, from 1.
    pub nth: usize,
}

/// Where the process is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The API server never hears of the write.
    Before,
    /// The write is answered, and the process never hears of it.
    After,
}

/// What becomes of a request.
enum Fate {
    Passes,
    /// Passes, and is the last thing that does.
    PassesLast,
    /// Nobody is there to hear an answer.
    Lost,
}

pub struct Proxy {
    passing: Arc<Passing>,
    folder: TempDir,
    server: JoinHandle<()>,
}

struct Passing {
    client: Client,
    fault: Option<(Write, When)>,
    writes: Mutex<Writes>,
    cut: watch::Sender<bool>,
}

struct Writes {
    seen: Vec<Write>,
    last: Instant,
    /// The fault has had its turn.
    struck: bool,
}

impl Proxy {
    /// One that cuts off at `fault`, once.
    pub async fn start(client: Client, fault: Option<(Write, When)>) -> Self {
        let writes = Mutex::new(Writes { seen: Vec::new(), last: Instant::now(), struck: false });
        let passing = Arc::new(Passing { client, fault, writes, cut: watch::Sender::new(false) });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(Arc::clone(&passing));
        #[expect(clippy::disallowed_methods, reason = "a test's server needs no header timeout")]
        let serving = axum::serve(listener, router);
        let server = tokio::spawn(async move { serving.await.unwrap() });
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": url}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        });
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        Self { passing, folder, server }
    }

    /// The file by which a process comes here.
    pub fn kubeconfig(&self) -> PathBuf {
        Path::join(self.folder.path(), "kubeconfig")
    }

    /// Returns once the process is cut off: nothing of it comes through any more. Now it is to be killed.
    pub async fn until_cut(&self) {
        self.passing.cut.subscribe().wait_for(|cut| *cut).await.expect("the sender is here");
    }

    /// Lets the next process through.
    pub fn mend(&self) {
        self.passing.cut.send_replace(false);
    }

    /// Every write that was asked for so far, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.passing.writes.lock().seen.clone()
    }

    /// When the last one was.
    pub fn last_write(&self) -> Instant {
        self.passing.writes.lock().last
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Passing {
    /// Notes a request and decides over it.
    fn fate(&self, method: &Method, path: &str) -> Fate {
        let mut writes = self.writes.lock();
        if *self.cut.borrow() {
            return Fate::Lost;
        }
        if method == Method::GET {
            return Fate::Passes;
        }
        let path =
            path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/')).map_or(path, |(_, it)| it);
        let nth = writes.seen.iter().filter(|write| write.method == method && write.path == path).count() + 1;
        let write = Write { method: method.clone(), path: path.to_owned(), nth };
        writes.seen.push(write.clone());
        writes.last = Instant::now();
        match &self.fault {
            Some((at, when)) if *at == write && !writes.struck => {
                writes.struck = true;
                match when {
                    When::Before => {
                        self.cut.send_replace(true);
                        Fate::Lost
                    }
                    When::After => Fate::PassesLast,
                }
            }
            Some(_) | None => Fate::Passes,
        }
    }
}

async fn pass(State(passing): State<Arc<Passing>>, request: Request) -> Response {
    let fate = passing.fate(request.method(), request.uri().path());
    if matches!(fate, Fate::Lost) {
        // Until the connection breaks, which ends this.
        return pending().await;
    }
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::HOST);
    let Ok(body) = body.collect().await else { return StatusCode::BAD_REQUEST.into_response() };
    let request = http::Request::from_parts(head, kube::client::Body::from(body.to_bytes()));
    let answer = match passing.client.send(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    match fate {
        Fate::PassesLast => {
            let _ = answer.into_body().collect().await;
            passing.cut.send_replace(true);
            pending().await
        }
        Fate::Passes | Fate::Lost => answer,
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, nth } = self;
        write!(f, "{method} {path} #{nth}")
    }
}
