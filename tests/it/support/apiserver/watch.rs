//! Watches: every revision after a given one, a bookmark now and then, and an end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ApiServer;
use super::answer::Refusal;
use super::network::{How, Network, Passage, What};
use super::requests::Request;
use super::store::Revision;

/// The real one sends them about once a minute.
const BOOKMARKS: Duration = Duration::from_secs(60);

struct Watch {
    api: Arc<ApiServer>,
    plural: String,
    namespace: Option<String>,
    /// What came up to here was shown; `None` once it has ended.
    from: Option<u64>,
    until: Instant,
    bookmark: Option<Instant>,
    epoch: u64,
    actor: &'static str,
    /// The how-manieth of its client and kind.
    number: u64,
    network: Option<Arc<dyn Network>>,
    /// When it last told of a change.
    told_at: Instant,
}

/// What a watch does next.
enum Step {
    Say(String),
    Wait(Option<Instant>),
    End,
}

impl ApiServer {
    pub(super) fn watch(self: Arc<Self>, actor: &'static str, request: &Request) -> Response<Body> {
        let seconds = request.number("timeoutSeconds").unwrap_or(290);
        let version = self.store.lock().version();
        let epoch = *self.epoch.borrow();
        let network = self.network.lock().clone();
        let watch = Watch {
            plural: request.plural.clone(),
            namespace: request.namespace.clone(),
            from: Some(request.number("resourceVersion").filter(|from| *from > 0).unwrap_or(version)),
            until: Instant::now() + Duration::from_secs(seconds),
            bookmark: request.flag("allowWatchBookmarks").then(|| Instant::now() + BOOKMARKS),
            epoch,
            actor,
            number: self.count_watch(actor, &request.plural),
            network,
            told_at: Instant::now(),
            api: self,
        };
        let lines = stream::unfold(watch, |mut watch| async move {
            let lines = watch.next().await?;
            Some((Ok::<_, std::io::Error>(Bytes::from(lines)), watch))
        });
        Response::new(Body::from_stream(lines))
    }

    fn count_watch(&self, actor: &'static str, plural: &str) -> u64 {
        let mut watches = self.watches.lock();
        let count = watches.entry((actor, plural.to_owned())).or_default();
        *count += 1;
        *count
    }
}

impl Watch {
    async fn next(&mut self) -> Option<String> {
        let api = self.api.clone();
        loop {
            let changed = api.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if api.hangs.load(Ordering::SeqCst) {
                // Silent, also when its time is up.
                changed.await;
                continue;
            }
            if api.down.load(Ordering::SeqCst) || *api.epoch.borrow() != self.epoch {
                return None;
            }
            let due = match self.step() {
                Step::Say(lines) => return Some(lines),
                Step::Wait(due) => due,
                Step::End => return None,
            };
            // While something is on its way there is no bookmark: it would say that nothing is.
            let next = due.or(self.bookmark).map_or(self.until, |next| next.min(self.until));
            tokio::select! {
                () = &mut changed => {}
                () = tokio::time::sleep_until(next) => {
                    if Instant::now() >= self.until && !api.hangs.load(Ordering::SeqCst) {
                        return None;
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        let Some(from) = self.from else { return Step::End };
        let api = self.api.clone();
        let store = api.store.lock();
        if store.is_forgotten(from) {
            self.from = None;
            let refusal = Refusal::new(StatusCode::GONE, "too old resource version");
            return Step::Say(line("ERROR", &refusal.json()));
        }
        if let Some(revision) = store.next(&self.plural, self.namespace.as_deref(), from) {
            let passage = self.network.as_ref().map(|network| network.event(self.actor, self.number, revision));
            let Some(Passage { after, how }) = passage else {
                self.from = Some(revision.version);
                return Step::Say(line(revision.type_, &revision.object));
            };
            let due = (revision.at + after).max(self.told_at + Duration::from_millis(1));
            if due > Instant::now() {
                return Step::Wait(Some(due));
            }
            self.told_at = Instant::now();
            let next = store.next(&self.plural, self.namespace.as_deref(), revision.version);
            let told = match (how, next) {
                (How::Lost, _) => return Step::End,
                (How::Twice, _) => vec![revision, revision],
                (How::Swapped, Some(next)) if next.key != revision.key => vec![next, revision],
                (How::Once | How::Swapped, _) => vec![revision],
            };
            self.from = told.iter().map(|revision| revision.version).max();
            let line_of = |revision: &&Revision| {
                api.tell(self.actor, &self.plural, What::Event(revision.version));
                line(revision.type_, &revision.object)
            };
            return Step::Say(told.iter().map(line_of).collect());
        }
        // Never looked at again, or a quiet watch would go through the whole past at each change of anything.
        let version = store.version();
        self.from = Some(version);
        if self.bookmark.is_some_and(|at| Instant::now() >= at) {
            self.bookmark = Some(Instant::now() + BOOKMARKS);
            let kind = api.kinds.iter().find(|kind| kind.plural == self.plural).unwrap();
            let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
            let object = json!({"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata});
            return Step::Say(line("BOOKMARK", &object));
        }
        Step::Wait(None)
    }
}

fn line(type_: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": type_, "object": object}))
}
