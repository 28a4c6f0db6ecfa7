//! Server-sent events: a rollout as it changes, until it has ended.
//!
//! Follows the API server's own watch with the caller's token. Each event is the whole of what is shown, so that one that is
//! missed is made good by the next; `Last-Event-ID` spares whoever comes back the state that they know.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use kube::ResourceExt as _;
use kube::core::WatchEvent;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep};

use super::caller::Caller;
use super::door::Place;
use super::endpoint::{Call, Events};
use super::input::{NoBody, Nothing};
use super::problems::Refusal;
use super::rollouts::{self, BatchRow, Id};
use super::row::RolloutRow;
use super::{Rest, stream};
use crate::api::{GROUP, ImageRollout, VERSION};

/// Between two comments that keep a silent connection alive: proxies give up after a minute or so.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// For how long one watch of the API server goes on before the next.
const WATCH_SECONDS: u32 = 290;
/// After a watch that broke off.
const PAUSE: Duration = Duration::from_secs(1);
/// Failures in a row after which it is given up.
const MAX_FAILURES: u32 = 10;
/// Events that are written and not taken yet.
const AHEAD: usize = 4;

/// What an event tells.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    rollout: RolloutRow,
    batches: Vec<BatchRow>,
}

/// Why it ended.
enum End {
    /// The rollout has ended.
    Ended(&'static str),
    /// It was deleted.
    Deleted,
    /// It can't be followed any more.
    Refused(Refusal),
    /// Nobody listens, or the process stops.
    Gone,
}

pub(super) async fn follow(call: Call<Id, Nothing, NoBody>) -> Result<Events, Refusal> {
    let Call { rest, visitor, caller, path: Id { id }, headers, .. } = call;
    let place = rest.followers.take(visitor.token)?;
    let rollout = rollouts::find(&caller, &id).await?;
    let known = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let follower = Follower { name: rollout.name_any(), sender, _place: place, caller, rest, known };
    tokio::spawn(follower.run(rollout));
    Ok(Events(stream::body(receiver)))
}

struct Follower {
    name: String,
    sender: mpsc::Sender<Bytes>,
    _place: Place,
    caller: Caller,
    rest: Arc<Rest>,
    /// The resourceVersion that was told last.
    known: Option<String>,
}

impl Follower {
    async fn run(mut self, rollout: ImageRollout) {
        let shutdown = self.rest.shutdown.clone();
        let sender = self.sender.clone();
        let end = tokio::select! {
            end = self.follow(rollout) => end,
            () = heartbeats(sender) => End::Gone,
            () = shutdown.requested() => End::Gone,
        };
        let (event, data) = match end {
            End::Gone => return,
            End::Ended(phase) => ("end", serde_json::json!({ "rollout_id": self.name, "phase": phase })),
            End::Deleted => ("end", serde_json::json!({ "rollout_id": self.name, "deleted": true })),
            End::Refused(refusal) => ("error", serde_json::to_value(refusal.problem()).unwrap_or_default()),
        };
        // Whoever is gone needs no end.
        let _ = self.sender.send(format!("event: {event}\ndata: {data}\n\n").into()).await;
    }

    async fn follow(&mut self, rollout: ImageRollout) -> End {
        let mut revision = rollout.resource_version().unwrap_or_default();
        if let Err(end) = self.tell(&rollout).await {
            return end;
        }
        let mut failures = 0;
        loop {
            match self.watch(&mut revision).await {
                Ok(()) => failures = 0,
                Err(Broken::End(end)) => return end,
                Err(Broken::Failed(refusal)) => {
                    failures += 1;
                    let is_final = matches!(&refusal, Refusal::Server(status) if matches!(status.code, 401 | 403));
                    if is_final || failures > MAX_FAILURES {
                        return End::Refused(refusal);
                    }
                    sleep(PAUSE).await;
                    // What happened meanwhile is in the state as it is now.
                    match self.caller.api::<ImageRollout>().get_opt(&self.name).await {
                        Ok(None) => return End::Deleted,
                        Ok(Some(rollout)) => {
                            revision = rollout.resource_version().unwrap_or_default();
                            if let Err(end) = self.tell(&rollout).await {
                                return end;
                            }
                        }
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// One watch of the API server, from a revision on; ends well when the server ends it.
    async fn watch(&mut self, revision: &mut String) -> Result<(), Broken> {
        let request = self.request(revision).map_err(Broken::Failed)?;
        let events = self.caller.client().request_events::<ImageRollout>(request).await;
        let mut events = pin!(events.map_err(failed)?);
        while let Some(event) = events.try_next().await.map_err(failed)? {
            match event {
                WatchEvent::Added(rollout) | WatchEvent::Modified(rollout) => {
                    *revision = rollout.resource_version().unwrap_or_default();
                    self.tell(&rollout).await.map_err(Broken::End)?;
                }
                WatchEvent::Deleted(_) => return Err(Broken::End(End::Deleted)),
                WatchEvent::Bookmark(bookmark) => *revision = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(Broken::Failed(Refusal::Server(status))),
            }
        }
        Ok(())
    }

    fn request(&self, revision: &str) -> Result<http::Request<Vec<u8>>, Refusal> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("watch", "true").append_pair("allowWatchBookmarks", "true");
        query.append_pair("timeoutSeconds", &WATCH_SECONDS.to_string());
        query.append_pair("fieldSelector", &format!("metadata.name={}", self.name));
        query.append_pair("resourceVersion", revision);
        let namespace = self.caller.namespace();
        let path = format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/imagerollouts?{}", query.finish());
        http::Request::get(path).body(Vec::new()).map_err(|_| Refusal::Unreachable)
    }

    /// Tells the state, unless it is known; `Err` when there is nothing more to come.
    async fn tell(&mut self, rollout: &ImageRollout) -> Result<(), End> {
        let revision = rollout.resource_version();
        if revision != self.known {
            let row = rollouts::row(rollout).map_err(End::Refused)?;
            let told = Told { rollout: row, batches: rollouts::batches(rollout) };
            let data = serde_json::to_string(&told).unwrap_or_default();
            let id = revision.as_deref().unwrap_or_default();
            let event = format!("id: {id}\nevent: rollout\ndata: {data}\n\n");
            self.sender.send(event.into()).await.map_err(|_| End::Gone)?;
            self.known = revision;
        }
        match rollout.status.as_ref().map(|status| status.phase).filter(|phase| phase.is_terminal()) {
            Some(phase) if rollout.is_settled() => Err(End::Ended(phase.as_str())),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a watch broke off.
enum Broken {
    End(End),
    Failed(Refusal),
}

fn failed(error: kube::Error) -> Broken {
    Broken::Failed(error.into())
}

trait Settled {
    /// Whether its status is about its present spec: a cancelled rollout may yet be rolled back.
    fn is_settled(&self) -> bool;
}

impl Settled for ImageRollout {
    fn is_settled(&self) -> bool {
        self.status.as_ref().and_then(|status| status.observed_generation) == self.metadata.generation
    }
}

/// Comments, for as long as somebody listens.
async fn heartbeats(sender: mpsc::Sender<Bytes>) {
    let mut beats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            _ = beats.tick() => {
                if sender.send(Bytes::from_static(b": still here\n\n")).await.is_err() {
                    return;
                }
            }
        }
    }
}
