//! The way between clients and the server, in virtual time: how long each message takes, and what becomes of it.
//!
//! Where a network is set, everything that comes in goes on an agenda by the time of its arrival, and is carried out by one
//! task in that order. What arrives at one moment is ordered by what it says, and no two answers reach one client in the
//! same moment. So it does not matter in which order a client's tasks happen to run, and a run is the same each time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::answer::{Refusal, respond};
use super::faults::{Fault, Seen};
use super::requests::Request;
use super::store::Revision;
use super::{ApiServer, verbs};

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Until it arrives; at least a millisecond.
    pub there: Duration,
    /// From then until the answer does.
    pub back: Duration,
    pub fault: Option<Fault>,
    /// What orders it among those that arrive in the same moment.
    pub key: u64,
}

/// What becomes of one event of a watch.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// From the change until it is told.
    pub after: Duration,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Once,
    Twice,
    /// After the next one, if that is of another object.
    Swapped,
    /// With the connection: whoever watches has to come again.
    Lost,
}

/// Decides on every message.
pub trait Network: Send + Sync {
    fn request(&self, seen: &Seen) -> Way;
    /// `watch`: the how-manieth watch of that client and kind.
    fn event(&self, actor: &'static str, watch: u64, revision: &Revision) -> Passage;
}

/// What a client was told of the objects of a kind.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: Instant,
    pub actor: &'static str,
    pub plural: String,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// All of them, as of that revision.
    List(u64),
    /// That revision.
    Event(u64),
}

type Job = Box<dyn FnOnce(&Arc<ApiServer>) + Send>;
type Outcome = io::Result<Response<Body>>;

/// What is due when.
#[derive(Default)]
pub struct Agenda {
    jobs: Mutex<BTreeMap<(Instant, u64, u64), Job>>,
    changed: Notify,
    /// When answers reach each client.
    taken: Mutex<BTreeMap<&'static str, BTreeSet<Instant>>>,
}

impl Agenda {
    fn add(&self, at: Instant, key: u64, job: Job) {
        let mut jobs = self.jobs.lock();
        let same = jobs.range((at, key, 0)..=(at, key, u64::MAX)).count() as u64;
        jobs.insert((at, key, same), job);
        self.changed.notify_one();
    }

    fn take_due(&self) -> Result<Job, Option<Instant>> {
        let mut jobs = self.jobs.lock();
        let first = jobs.first_key_value().map(|(key, _)| key.0);
        match first {
            Some(at) if at <= Instant::now() => Ok(jobs.pop_first().unwrap().1),
            at => Err(at),
        }
    }

    /// The first free moment from then on.
    fn slot(&self, actor: &'static str, mut at: Instant) -> Instant {
        let mut taken = self.taken.lock();
        let taken = taken.entry(actor).or_default();
        *taken = taken.split_off(&Instant::now());
        while !taken.insert(at) {
            at += Duration::from_millis(1);
        }
        at
    }
}

impl ApiServer {
    /// Sets what decides on messages from now on, and carries the agenda out for ever.
    pub fn set_network(self: &Arc<Self>, network: Arc<dyn Network>) -> tokio::task::JoinHandle<()> {
        *self.network.lock() = Some(network);
        let api = self.clone();
        tokio::spawn(async move {
            loop {
                match api.agenda.take_due() {
                    Ok(job) => job(&api),
                    Err(None) => api.agenda.changed.notified().await,
                    Err(Some(at)) => {
                        tokio::select! {
                            biased;
                            () = api.agenda.changed.notified() => {}
                            () = sleep_until(at) => {}
                        }
                    }
                }
            }
        })
    }

    pub(super) async fn over_network(
        self: Arc<Self>,
        network: Arc<dyn Network>,
        number: usize,
        seen: Seen,
        request: Request,
    ) -> Outcome {
        let Way { there, back, fault, key } = network.request(&seen);
        let (answer, answered) = oneshot::channel::<Outcome>();
        let actor = seen.actor;
        let job = move |api: &Arc<Self>| {
            let outcome = api.arrive(number, &seen, &request, fault);
            let lists = request.method == http::Method::GET && request.name.is_none() && !request.flag("watch");
            let version = lists.then(|| api.store.lock().version());
            let at = api.agenda.slot(actor, Instant::now() + back.max(Duration::from_millis(1)));
            let job = move |api: &Arc<Self>| {
                if let (Some(version), Ok(response)) = (version, &outcome)
                    && response.status().is_success()
                {
                    api.tell(actor, &request.plural, What::List(version));
                }
                // Whoever asked may be gone.
                let _ = answer.send(outcome);
            };
            api.agenda.add(at, key, Box::new(job));
        };
        self.agenda.add(Instant::now() + there.max(Duration::from_millis(1)), key, Box::new(job));
        match answered.await {
            Ok(outcome) => outcome,
            Err(_) => std::future::pending().await,
        }
    }

    fn arrive(self: &Arc<Self>, number: usize, seen: &Seen, request: &Request, fault: Option<Fault>) -> Outcome {
        let cut = || Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection broke, on request"));
        let down = self.down.load(std::sync::atomic::Ordering::SeqCst);
        let result: Result<(StatusCode, Value), Refusal> = match fault {
            Some(Fault::CutBefore | Fault::DieBefore) => return cut(),
            Some(Fault::Refuse(code)) => Err(Refusal::new(code, "on request")),
            _ if down => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "down")),
            None | Some(Fault::DieAfter | Fault::LieAfter(_) | Fault::CutAfter) => {
                if request.flag("watch") {
                    return Ok(self.clone().watch(seen.actor, request));
                }
                let result = self.carry_out(seen.actor, request, seen.body.clone());
                match fault {
                    Some(Fault::CutAfter | Fault::DieAfter) => return cut(),
                    Some(Fault::LieAfter(code)) => Err(Refusal::new(code, "on request, though it was done")),
                    Some(Fault::CutBefore | Fault::DieBefore | Fault::Refuse(_)) | None => result,
                }
            }
        };
        let response = respond(&result);
        self.note_answer(number, response.status(), &result);
        Ok(response)
    }

    pub(super) fn carry_out(
        &self,
        actor: &'static str,
        request: &Request,
        body: Value,
    ) -> Result<(StatusCode, Value), Refusal> {
        let kind = self.kind(&request.api_version, &request.plural);
        let result = {
            let mut store = self.store.lock();
            store.writer = actor;
            let result = verbs::handle(&mut store, kind, request, body);
            store.writer = "person";
            result
        };
        self.changed.notify_waiters();
        result
    }

    pub(super) fn note_answer(&self, number: usize, status: StatusCode, result: &Result<(StatusCode, Value), Refusal>) {
        if let Some(seen) = self.seen.lock().get_mut(number) {
            seen.answer = Some(status);
            seen.refusal = result.as_ref().err().map(Refusal::to_string).unwrap_or_default();
        }
    }

    pub(super) fn tell(&self, actor: &'static str, plural: &str, what: What) {
        self.told.lock().push(Told { at: Instant::now(), actor, plural: plural.to_owned(), what });
    }

    /// What clients were told so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().clone()
    }
}
