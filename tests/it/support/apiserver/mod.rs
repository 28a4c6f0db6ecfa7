//! An API server in the process, for `kube::Client::new`: no socket, no wall clock, every request on record.
//!
//! It keeps what Tranche leans on, as the real one does it, and panics at what it doesn't know rather than guess:
//!
//! | kept | where |
//! | --- | --- |
//! | lists by pages, watches from a revision, bookmarks, 410 | [`verbs`], [`watch`] |
//! | create (409), replace, merge patch, delete; preconditions; finalizers | [`verbs`], [`store`] |
//! | server-side apply: ownership by field, conflicts, removal of what is no longer named | [`managers`], [`fields`] |
//! | status apart from the rest; `generation` follows the rest alone | [`verbs`], [`store`] |
//! | no new revision where nothing changed | [`store`] |
//! | pruning, defaults, types and bounds of our CRDs, for what changes; no CEL | [`schema`] |
//!
//! `conformance.rs` says the same in tests, in a form that a real API server can be put through as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch as signal};
use tranche::clock::Clock;

mod answer;
pub mod faults;
mod fields;
mod kinds;
mod managers;
pub mod network;
mod requests;
mod schema;
pub mod store;
mod verbs;
mod watch;

use answer::{Refusal, respond};
use faults::{Fault, Hook, Seen};
use kinds::Kind;
use network::{Agenda, Network, Told};
use requests::Request;
use store::{Key, Revision, Store};

/// The namespace of clients that don't say.
pub const NAMESPACE: &str = "default";

pub struct ApiServer {
    kinds: &'static [Kind],
    store: Mutex<Store>,
    /// A revision was made, or the switches below were moved.
    changed: Notify,
    seen: Mutex<Vec<Seen>>,
    hook: Mutex<Option<Hook>>,
    /// Clients that died, counted.
    deaths: signal::Sender<usize>,
    /// Every request is refused with 503, and watches break off.
    down: AtomicBool,
    /// Requests are taken in and never answered, and watches fall silent.
    hangs: AtomicBool,
    /// Watches of an older epoch break off.
    epoch: signal::Sender<u64>,
    /// Decides how long messages take and what becomes of them; without it they arrive at once.
    network: Mutex<Option<Arc<dyn Network>>>,
    agenda: Agenda,
    told: Mutex<Vec<Told>>,
    /// Watches so far, by client and kind.
    watches: Mutex<std::collections::BTreeMap<(&'static str, String), u64>>,
}

impl ApiServer {
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            kinds: kinds::kinds(),
            store: Mutex::new(Store::new(clock)),
            changed: Notify::new(),
            seen: Mutex::default(),
            hook: Mutex::default(),
            deaths: signal::Sender::new(0),
            down: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            epoch: signal::Sender::new(0),
            network: Mutex::default(),
            agenda: Agenda::default(),
            told: Mutex::default(),
            watches: Mutex::default(),
        })
    }

    /// A client whose requests go on record under that name. Each call makes one that can die by itself.
    pub fn client(self: &Arc<Self>, actor: &'static str) -> Client {
        let api = self.clone();
        let dead = Arc::new(AtomicBool::new(false));
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (api, dead) = (api.clone(), dead.clone());
            async move { api.handle(actor, &dead, request).await }
        });
        Client::new(service, NAMESPACE)
    }

    async fn handle(
        self: Arc<Self>,
        actor: &'static str,
        dead: &AtomicBool,
        request: http::Request<kube::client::Body>,
    ) -> std::io::Result<Response<Body>> {
        if dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let request = Request::parse(&head.method, &head.uri, &head.headers);
        let seen = Seen {
            at: tokio::time::Instant::now(),
            actor,
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: body.clone(),
            manager: request.manager(),
            answer: None,
            refusal: String::new(),
        };
        let fault = self.hook.lock().as_mut().and_then(|hook| hook(&seen));
        let number = {
            let mut all = self.seen.lock();
            all.push(seen.clone());
            all.len() - 1
        };
        let network = self.network.lock().clone();
        if let Some(network) = network {
            return self.over_network(network, number, seen, request).await;
        }
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let result = match fault {
            Some(Fault::DieBefore) => self.die(dead).await,
            Some(Fault::Refuse(code)) => Err(Refusal::new(code, "on request")),
            _ if self.down.load(Ordering::SeqCst) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "down")),
            Some(Fault::CutBefore) => return Err(std::io::ErrorKind::ConnectionReset.into()),
            None | Some(Fault::DieAfter | Fault::LieAfter(_) | Fault::CutAfter) => {
                if request.flag("watch") {
                    return Ok(self.watch(actor, &request));
                }
                let result = self.carry_out(actor, &request, body);
                match fault {
                    Some(Fault::DieAfter) => self.die(dead).await,
                    Some(Fault::CutAfter) => return Err(std::io::ErrorKind::ConnectionReset.into()),
                    Some(Fault::LieAfter(code)) => Err(Refusal::new(code, "on request, though it was done")),
                    Some(Fault::DieBefore | Fault::CutBefore | Fault::Refuse(_)) | None => result,
                }
            }
        };
        let response = respond(&result);
        self.note_answer(number, response.status(), &result);
        Ok(response)
    }

    async fn die<T>(&self, dead: &AtomicBool) -> T {
        dead.store(true, Ordering::SeqCst);
        self.deaths.send_modify(|deaths| *deaths += 1);
        std::future::pending().await
    }

    fn kind(&self, api_version: &str, plural: &str) -> &Kind {
        let kind = self.kinds.iter().find(|kind| kind.plural == plural);
        kind.filter(|kind| kind.api_version == api_version).unwrap_or_else(|| panic!("no kind {api_version} {plural}"))
    }
}

/// What a test does without a client, as somebody else would.
impl ApiServer {
    /// Creates or replaces an object as it is, past schema and endpoints: also one that should not be.
    pub fn put(&self, plural: &str, object: &Value) -> Arc<Value> {
        let kind = self.kinds.iter().find(|kind| kind.plural == plural).unwrap();
        let mut object = object.clone();
        object["apiVersion"] = kind.api_version.clone().into();
        object["kind"] = kind.name.clone().into();
        let key = key_of(plural, &object);
        let mut store = self.store.lock();
        let stored = if store.get(&key).is_some() {
            let metadata = &store.get(&key).unwrap()["metadata"];
            for field in ["namespace", "uid", "creationTimestamp", "managedFields"] {
                object["metadata"][field] = metadata[field].clone();
            }
            store.update(key, object)
        } else {
            store.create(key, object)
        };
        drop(store);
        self.changed.notify_waiters();
        stored
    }

    /// A person creates an object.
    pub async fn create(self: &Arc<Self>, plural: &str, object: &Value) -> Result<(), kube::Error> {
        let kind = self.kinds.iter().find(|kind| kind.plural == plural).unwrap();
        let uri = format!("/apis/{}/namespaces/{NAMESPACE}/{plural}?fieldManager=kubectl-create", kind.api_version);
        let request = http::Request::post(uri).body(object.to_string().into_bytes());
        self.client("person").request::<Value>(request.unwrap()).await.map(drop)
    }

    /// A merge patch by a person with kubectl.
    pub async fn edit(self: &Arc<Self>, plural: &str, name: &str, patch: &Value) -> Result<(), kube::Error> {
        let kind = self.kinds.iter().find(|kind| kind.plural == plural).unwrap();
        let uri =
            format!("/apis/{}/namespaces/{NAMESPACE}/{plural}/{name}?fieldManager=kubectl-edit", kind.api_version);
        let request = http::Request::patch(uri)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string().into_bytes());
        self.client("person").request::<Value>(request.unwrap()).await.map(drop)
    }

    /// Deletes an object as kubectl does.
    pub fn delete(&self, plural: &str, name: &str) {
        let key = (plural.to_owned(), NAMESPACE.to_owned(), name.to_owned());
        let mut store = self.store.lock();
        if store.get(&key).is_some() {
            store.delete(&key);
        }
        drop(store);
        self.changed.notify_waiters();
    }

    pub fn get(&self, plural: &str, name: &str) -> Option<Arc<Value>> {
        self.store.lock().get(&(plural.to_owned(), NAMESPACE.to_owned(), name.to_owned()))
    }

    pub fn list(&self, plural: &str) -> Vec<Arc<Value>> {
        self.store.lock().list(plural, None)
    }

    pub fn names(&self, plural: &str) -> Vec<String> {
        self.list(plural).iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Every revision so far.
    pub fn log(&self) -> Vec<Revision> {
        self.store.lock().log().to_vec()
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Requests that change something and came in since the last call.
    pub fn take_writes(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock()).into_iter().filter(Seen::is_write).collect()
    }

    /// Decides over requests from now on.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.hook.lock() = hook;
    }

    /// Waits until so many clients have died.
    pub async fn died(&self, deaths: usize) {
        // This server holds the sender.
        let _ = self.deaths.subscribe().wait_for(|count| *count >= deaths).await;
    }

    /// Breaks or mends it.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Mutes it, or gives it back its voice.
    pub fn set_hangs(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Breaks every watch off.
    pub fn drop_watches(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
        self.changed.notify_waiters();
    }

    /// Forgets the past, as after a long interruption: watches break off, are told 410 when they come back, and have to
    /// list again.
    pub fn compact(&self) {
        self.store.lock().compact();
        self.drop_watches();
    }
}

fn key_of(plural: &str, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    (plural.to_owned(), text("namespace").unwrap_or_else(|| NAMESPACE.into()), text("name").unwrap())
}
