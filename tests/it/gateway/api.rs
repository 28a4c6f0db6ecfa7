//! A small API server in the process: objects, lists, watches, resourceVersions; and switches to break it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Value,
}

#[derive(Default)]
pub struct FakeApi {
    /// By plural and name.
    objects: Mutex<BTreeMap<(String, String), Value>>,
    /// resourceVersion, plural, watch event.
    events: Mutex<Vec<(u64, String, Value)>>,
    changed: Notify,
    version: AtomicU64,
    requests: Mutex<Vec<Seen>>,
    /// Every request is refused with 503, and watches break off.
    pub down: AtomicBool,
    /// Requests are taken in and never answered, and watches fall silent.
    pub hangs: AtomicBool,
}

impl FakeApi {
    pub fn new() -> Arc<Self> {
        let api = Self::default();
        api.version.store(1, Ordering::SeqCst);
        Arc::new(api)
    }

    pub fn client(self: &Arc<Self>) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, std::io::Error>(api.handle(request).await) }
        });
        Client::new(service, "default")
    }

    /// Creates or replaces an object, as anybody else would.
    pub fn put(&self, plural: &str, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let before = self.objects.lock().insert((plural.to_owned(), name), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.emit(version, plural, json!({"type": kind, "object": object}));
        object
    }

    pub fn delete(&self, plural: &str, name: &str) {
        let before = self.objects.lock().remove(&(plural.to_owned(), name.to_owned()));
        if let Some(mut object) = before {
            let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            self.emit(version, plural, json!({"type": "DELETED", "object": object}));
        }
    }

    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.objects.lock().get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    pub fn names(&self, plural: &str) -> Vec<String> {
        self.objects.lock().keys().filter(|(kind, _)| kind == plural).map(|(_, name)| name.clone()).collect()
    }

    /// Requests that change something and came in since the last call.
    pub fn take_writes(&self) -> Vec<Seen> {
        let requests = std::mem::take(&mut *self.requests.lock());
        requests.into_iter().filter(|seen| seen.method != Method::GET).collect()
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.requests.lock().clone()
    }

    /// Breaks or mends it.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn emit(&self, version: u64, plural: &str, event: Value) {
        self.events.lock().push((version, plural.to_owned(), event));
        self.changed.notify_waiters();
    }

    async fn handle(self: Arc<Self>, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let seen = Seen {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        };
        self.requests.lock().push(seen.clone());
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.down.load(Ordering::SeqCst) {
            return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        let mut path = seen.path.strip_prefix("/apis/tranche.dev/v1alpha1/namespaces/default/").unwrap().split('/');
        let plural = path.next().unwrap().to_owned();
        let name = path.next().map(str::to_owned);
        let pair = |key: &str| {
            seen.query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
        };
        match (seen.method.as_str(), name) {
            ("GET", None) if pair("watch").is_some() => {
                let from = pair("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
                let seconds = pair("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(290);
                self.watch(plural, from, Duration::from_secs(seconds))
            }
            ("GET", None) => {
                let items: Vec<_> = {
                    let objects = self.objects.lock();
                    objects.iter().filter(|((kind, _), _)| *kind == plural).map(|(_, object)| object.clone()).collect()
                };
                let version = self.version.load(Ordering::SeqCst).to_string();
                ok(&json!({
                    "apiVersion": "tranche.dev/v1alpha1", "kind": "List", "metadata": {"resourceVersion": version},
                    "items": items,
                }))
            }
            ("GET", Some(name)) => self.get(&plural, &name).map_or_else(missing, |object| ok(&object)),
            ("POST", None) => {
                let name = seen.body["metadata"]["name"].as_str().unwrap().to_owned();
                match self.get(&plural, &name) {
                    Some(_) => status(StatusCode::CONFLICT, "AlreadyExists"),
                    None => ok(&self.put(&plural, seen.body.clone())),
                }
            }
            ("PUT", Some(name)) => match self.get(&plural, &name) {
                None => missing(),
                Some(there) if there["metadata"]["resourceVersion"] != seen.body["metadata"]["resourceVersion"] => {
                    status(StatusCode::CONFLICT, "Conflict")
                }
                Some(_) => ok(&self.put(&plural, seen.body.clone())),
            },
            ("PATCH", Some(name)) => match self.get(&plural, &name) {
                None => missing(),
                Some(mut object) => {
                    // Only status is ever applied, by one manager: what it leaves out is gone.
                    object["status"] = seen.body["status"].clone();
                    ok(&self.put(&plural, object))
                }
            },
            ("DELETE", Some(name)) => {
                self.delete(&plural, &name);
                ok(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn watch(self: Arc<Self>, plural: String, from: u64, lasts: Duration) -> Response<Body> {
        let until = Instant::now() + lasts;
        let lines = stream::unfold((self, plural, from), move |(api, plural, from)| async move {
            let (version, event) = api.next_event(&plural, from, until).await?;
            let line = Bytes::from(format!("{event}\n"));
            Some((Ok::<_, std::io::Error>(line), (api, plural, version)))
        });
        Response::new(Body::from_stream(lines))
    }

    /// The first event after `from`; `None` when the watch ends.
    async fn next_event(&self, plural: &str, from: u64, until: Instant) -> Option<(u64, Value)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.hangs.load(Ordering::SeqCst) {
                // Silent, also when its time is up.
                changed.await;
                continue;
            }
            if self.down.load(Ordering::SeqCst) {
                return None;
            }
            let next = {
                let events = self.events.lock();
                events.iter().find(|(version, kind, _)| *version > from && *kind == plural).cloned()
            };
            if let Some((version, _, event)) = next {
                return Some((version, event));
            }
            tokio::select! {
                () = &mut changed => {}
                () = tokio::time::sleep_until(until) => {
                    if !self.hangs.load(Ordering::SeqCst) {
                        return None;
                    }
                }
            }
        }
    }
}

fn ok(object: &Value) -> Response<Body> {
    Response::new(Body::from(object.to_string()))
}

fn missing() -> Response<Body> {
    status(StatusCode::NOT_FOUND, "NotFound")
}

fn status(code: StatusCode, reason: &str) -> Response<Body> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason,
        "code": code.as_u16(),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code;
    response
}
