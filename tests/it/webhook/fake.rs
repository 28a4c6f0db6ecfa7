//! An API server of two kinds, in memory: policies to list and watch, rollouts to create and get. It can be down, hang,
//! or refuse, and counts what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

const GROUP: &str = "/apis/tranche.dev/v1alpha1";

type Key = (String, String);

/// How creation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Up,
    /// 503 at once.
    Down,
    /// No answer, ever.
    Hanging,
    /// 422.
    Refusing,
}

#[derive(Default)]
struct Objects {
    policies: BTreeMap<Key, Value>,
    rollouts: BTreeMap<Key, Value>,
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<Bytes>>,
}

/// Handle on the fake; clones are the same server.
#[derive(Clone)]
pub struct FakeApi {
    objects: Arc<Mutex<Objects>>,
    mood: Arc<watch::Sender<Mood>>,
    /// Creations asked for so far.
    creates: Arc<watch::Sender<usize>>,
}

impl FakeApi {
    pub fn new(policies: &[Value]) -> Self {
        let api = Self {
            objects: Arc::default(),
            mood: Arc::new(watch::Sender::new(Mood::Up)),
            creates: Arc::new(watch::Sender::new(0)),
        };
        for policy in policies {
            api.apply(policy.clone());
        }
        api
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        Client::new(
            tower::service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.answer(request).await) }
            }),
            "plant",
        )
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Creates or changes a policy, and tells the watchers.
    pub fn apply(&self, mut policy: Value) {
        let mut objects = self.objects.lock();
        objects.version += 1;
        policy["metadata"]["resourceVersion"] = json!(objects.version.to_string());
        tell(&mut objects, "MODIFIED", &policy);
        objects.policies.insert(key(&policy), policy);
    }

    /// Deletes a policy, and tells the watchers.
    pub fn delete(&self, name: &str) {
        let mut objects = self.objects.lock();
        let policy = objects.policies.remove(&("plant".to_owned(), name.to_owned())).expect("the policy");
        tell(&mut objects, "DELETED", &policy);
    }

    /// Puts a rollout there, as it is.
    pub fn put_rollout(&self, rollout: Value) {
        self.objects.lock().rollouts.insert(key(&rollout), rollout);
    }

    pub fn rollouts(&self) -> Vec<Value> {
        self.objects.lock().rollouts.values().cloned().collect()
    }

    /// How many creations were asked for.
    pub fn creates(&self) -> usize {
        *self.creates.borrow()
    }

    /// Waits until so many creations were asked for.
    pub async fn wait_for_creates(&self, count: usize) {
        self.creates.subscribe().wait_for(|creates| *creates >= count).await.expect("the sender lives");
    }

    async fn answer(&self, request: Request<Body>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().strip_prefix(GROUP).expect("our group").to_owned();
        let watch = head.uri.query().unwrap_or_default().split('&').any(|pair| pair == "watch=true");
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match (&head.method, &parts[..]) {
            (&Method::GET, ["imageupdatepolicies"] | ["namespaces", _, "imageupdatepolicies"]) if watch => self.watch(),
            (&Method::GET, ["imageupdatepolicies"]) => self.list(None),
            (&Method::GET, ["namespaces", namespace, "imageupdatepolicies"]) => self.list(Some(namespace)),
            (&Method::POST, ["namespaces", namespace, "imagerollouts"]) => {
                let bytes = body.collect().await.expect("a body").to_bytes();
                self.create(namespace, serde_json::from_slice(&bytes).expect("JSON")).await
            }
            (&Method::GET, ["namespaces", namespace, "imagerollouts", name]) => self.get(namespace, name),
            other => panic!("the webhook has no business with {other:?}"),
        }
    }

    fn list(&self, namespace: Option<&str>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let objects = self.objects.lock();
        let wanted = |policy: &&Value| namespace.is_none_or(|namespace| policy["metadata"]["namespace"] == namespace);
        let items: Vec<_> = objects.policies.values().filter(wanted).collect();
        respond(
            StatusCode::OK,
            &json!({
                "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicyList",
                "metadata": {"resourceVersion": objects.version.to_string()}, "items": items,
            }),
        )
    }

    fn watch(&self) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.objects.lock().watchers.push(sender);
        let frames = stream::unfold(receiver, |mut receiver| async move {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    async fn create(&self, namespace: &str, rollout: Value) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        self.creates.send_modify(|creates| *creates += 1);
        let mood = *self.mood.borrow();
        match mood {
            Mood::Up => {}
            Mood::Down => return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "etcd is gone"),
            Mood::Refusing => return status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "spec.image is odd"),
            Mood::Hanging => std::future::pending().await,
        }
        assert_eq!(rollout["metadata"]["namespace"], namespace);
        let mut objects = self.objects.lock();
        let key = key(&rollout);
        if objects.rollouts.contains_key(&key) {
            return status(StatusCode::CONFLICT, "AlreadyExists", "it is there");
        }
        objects.rollouts.insert(key, rollout.clone());
        respond(StatusCode::CREATED, &rollout)
    }

    fn get(&self, namespace: &str, name: &str) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        match self.objects.lock().rollouts.get(&(namespace.to_owned(), name.to_owned())) {
            Some(rollout) => respond(StatusCode::OK, rollout),
            None => status(StatusCode::NOT_FOUND, "NotFound", "it is not there"),
        }
    }
}

fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().expect(field).to_owned();
    (text("namespace"), text("name"))
}

fn tell(objects: &mut Objects, type_: &str, object: &Value) {
    let line = Bytes::from(format!("{}\n", json!({"type": type_, "object": object})));
    objects.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
}

fn respond(status: StatusCode, body: &Value) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    respond(
        code,
        &json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure",
            "code": code.as_u16(), "reason": reason, "message": message,
        }),
    )
}
