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
use super::requests::Request;

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
}

impl ApiServer {
    pub(super) fn watch(self: Arc<Self>, request: &Request) -> Response<Body> {
        let seconds = request.number("timeoutSeconds").unwrap_or(290);
        let version = self.store.lock().version();
        let epoch = *self.epoch.borrow();
        let watch = Watch {
            plural: request.plural.clone(),
            namespace: request.namespace.clone(),
            from: Some(request.number("resourceVersion").filter(|from| *from > 0).unwrap_or(version)),
            until: Instant::now() + Duration::from_secs(seconds),
            bookmark: request.flag("allowWatchBookmarks").then(|| Instant::now() + BOOKMARKS),
            epoch,
            api: self,
        };
        let lines = stream::unfold(watch, |mut watch| async move {
            let event = watch.next().await?;
            Some((Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n"))), watch))
        });
        Response::new(Body::from_stream(lines))
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Value> {
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
            if let Some(event) = self.event()? {
                return Some(event);
            }
            let next = self.bookmark.map_or(self.until, |bookmark| bookmark.min(self.until));
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

    /// What there is to show now; `None` when it has ended.
    #[expect(clippy::option_option, reason = "ended, nothing yet, something")]
    fn event(&mut self) -> Option<Option<Value>> {
        let from = self.from?;
        let store = self.api.store.lock();
        let version = store.version();
        if store.is_forgotten(from) {
            self.from = None;
            let refusal = Refusal::new(StatusCode::GONE, "too old resource version");
            return Some(Some(json!({"type": "ERROR", "object": refusal.json()})));
        }
        if let Some(revision) = store.next(&self.plural, self.namespace.as_deref(), from) {
            self.from = Some(revision.version);
            return Some(Some(json!({"type": revision.type_, "object": *revision.object})));
        }
        // Never looked at again, or a quiet watch would go through the whole past at each change of anything.
        self.from = Some(version);
        if self.bookmark.is_some_and(|at| Instant::now() >= at) {
            self.bookmark = Some(Instant::now() + BOOKMARKS);
            let kind = self.api.kinds.iter().find(|kind| kind.plural == self.plural)?;
            return Some(Some(json!({
                "type": "BOOKMARK",
                "object": {
                    "apiVersion": kind.api_version, "kind": kind.name,
                    "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
                },
            })));
        }
        Some(None)
    }
}
