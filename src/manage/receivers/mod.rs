//! Receivers: every `RegistryWebhook` of the namespace, with its secret, ready to be found by the path of a delivery.
//!
//! Decides who is found by which path. The module `keep` keeps all of it up to date: the objects by a watch, their Secrets one by
//! one, their status by coarse writes. One object that can't be read hides no other.
//!
//! Receivers are found by the SHA-256 of the last part of the path, not by that part itself: how far a guess agrees with a
//! real one would show in the time that a comparison takes, how far two hashes agree says nothing.

mod keep;
mod secrets;
mod standing;
mod tally;
mod terms;
mod unreadable;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::secrets::Known;
use self::standing::Standing;
pub use self::tally::{Count, Tally};
pub use self::terms::Terms;
use crate::api::RegistryWebhook;
use crate::registry::signature::Secrets;
use crate::server::limits::Pace;

/// After a delivery failed, its receiver's Secret is read again at most this often.
const ON_DEMAND_PAUSE: Duration = Duration::from_secs(5);

/// What a delivery needs of the receiver that it came to.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its name, and what rollouts name as their trigger's receiver.
    pub name: String,
    /// Policies of this namespace are its business.
    pub namespace: String,
    /// What its spec says.
    pub terms: Terms,
    /// What deliveries prove to know.
    pub secrets: Secrets,
    /// What came in.
    pub tally: Arc<Tally>,
    /// How much may.
    pub pace: Arc<Pace>,
}

/// The receivers of one namespace. Cheap to clone; clones see the same.
#[derive(Clone)]
pub struct Receivers(Arc<Shared>);

struct Shared {
    client: Client,
    namespace: String,
    state: Mutex<State>,
    /// Something is to be done before the next round.
    stirred: Notify,
}

#[derive(Default)]
struct State {
    /// Whether the first list is complete.
    listed: bool,
    /// Whether everything was known once.
    started: bool,
    entries: BTreeMap<String, Entry>,
    unreadable: BTreeMap<String, Unreadable>,
    /// By the SHA-256 of the last part of the path.
    paths: HashMap<[u8; 32], Arc<Receiver>>,
}

/// An object that can't be read.
struct Unreadable {
    metadata: ObjectMeta,
    why: String,
    /// When it is to be told so; absent once it is.
    tell_at: Option<Instant>,
}

struct Entry {
    /// As last seen, or as last written by us.
    object: RegistryWebhook,
    terms: Result<Terms, String>,
    known: Known,
    /// Under which of [`State::paths`] it is found.
    paths: Vec<[u8; 32]>,
    /// When the Secret is to be read again.
    read_at: Instant,
    /// When it was last read because a delivery failed.
    asked: Option<Instant>,
    /// When the counts are to be written, if there are any.
    write_at: Instant,
    /// When the status may be written that says how it stands.
    tell_at: Instant,
    /// Held while the Secret is read because a delivery failed.
    gate: Arc<tokio::sync::Mutex<()>>,
    tally: Arc<Tally>,
    pace: Arc<Pace>,
}

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receivers")
    }
}

impl Receivers {
    /// None yet: [`Self::keep`] is what brings them, and what has to be polled.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        let stirred = Notify::new();
        Self(Arc::new(Shared { client, namespace: namespace.to_owned(), state: Mutex::default(), stirred }))
    }

    /// Whether it is known of every path whether it is one: all are listed, and each Secret was asked for.
    #[must_use]
    pub fn knows_every_path(&self) -> bool {
        let mut state = self.0.state.lock();
        let unknown = |entry: &Entry| matches!(entry.known, Known::Nothing) && entry.terms.is_ok();
        let knows = state.listed && !state.entries.values().any(unknown);
        state.started |= knows;
        knows
    }

    /// Whether that was so once. A receiver that is being added doesn't make the others unready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let knows = self.knows_every_path();
        knows || self.0.state.lock().started
    }

    /// How many take deliveries, of how many.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        let ready =
            state.entries.values().filter(|entry| entry.terms.is_ok() && matches!(entry.known, Known::Secrets(_)));
        (ready.count(), state.entries.len())
    }

    /// The receiver with that path.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<Receiver>> {
        let key: [u8; 32] = Sha256::digest(token).into();
        self.0.state.lock().paths.get(&key).cloned()
    }

    /// The receiver with the secrets that its Secret has by now, if they are others than those that just failed.
    pub async fn again(&self, receiver: &Receiver) -> Option<Arc<Receiver>> {
        let gate = self.0.state.lock().entries.get(&receiver.name).map(|entry| Arc::clone(&entry.gate))?;
        // Deliveries that fail together wait for one read.
        let _one = gate.lock().await;
        let now = Instant::now();
        let due = {
            let mut state = self.0.state.lock();
            let entry = state.entries.get_mut(&receiver.name)?;
            let due = entry.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ON_DEMAND_PAUSE);
            if due {
                entry.asked = Some(now);
            }
            due
        };
        if due && let Some(known) = secrets::read(&self.0.client, &self.0.namespace, &receiver.terms.secret).await {
            self.learned(&receiver.name, &receiver.terms.secret, known);
        }
        let state = self.0.state.lock();
        let entry = state.entries.get(&receiver.name)?;
        entry.receiver().filter(|fresh| !fresh.secrets.same(&receiver.secrets)).map(Arc::new)
    }

    /// Takes in what a Secret was read to hold, unless the receiver names another one by now.
    fn learned(&self, name: &str, secret: &str, known: Known) {
        let mut state = self.0.state.lock();
        let Some(entry) = state.entries.get_mut(name) else { return };
        if entry.terms.as_ref().is_ok_and(|terms| terms.secret == secret) && !entry.known.same(&known) {
            entry.known = known;
            state.index(name);
            drop(state);
            self.0.stirred.notify_one();
        }
    }
}

impl State {
    /// Builds the paths of one receiver anew.
    fn index(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        for path in entry.paths.drain(..) {
            self.paths.remove(&path);
        }
        let Some(receiver) = entry.receiver().map(Arc::new) else { return };
        for secret in receiver.secrets.iter() {
            let token = secret.path_token(&receiver.namespace, &receiver.name);
            let path: [u8; 32] = Sha256::digest(token).into();
            entry.paths.push(path);
            self.paths.insert(path, Arc::clone(&receiver));
        }
    }

    /// Forgets a receiver.
    fn remove(&mut self, name: &str) {
        for path in self.entries.remove(name).into_iter().flat_map(|entry| entry.paths) {
            self.paths.remove(&path);
        }
    }
}

impl Entry {
    fn new(object: RegistryWebhook, now: Instant, write_at: Instant) -> Self {
        Self {
            terms: Terms::of(&object.spec),
            object,
            known: Known::Nothing,
            paths: Vec::new(),
            read_at: now,
            asked: None,
            write_at,
            tell_at: now,
            gate: Arc::default(),
            tally: Arc::default(),
            pace: Arc::default(),
        }
    }

    fn receiver(&self) -> Option<Receiver> {
        let (Ok(terms), Known::Secrets(secrets)) = (&self.terms, &self.known) else { return None };
        Some(Receiver {
            name: self.object.name_any(),
            namespace: self.object.namespace().unwrap_or_default(),
            terms: terms.clone(),
            secrets: secrets.clone(),
            tally: Arc::clone(&self.tally),
            pace: Arc::clone(&self.pace),
        })
    }

    fn standing(&self) -> Option<Standing> {
        let token = match &self.known {
            Known::Secrets(secrets) => {
                let namespace = self.object.namespace().unwrap_or_default();
                Some(secrets.current().path_token(&namespace, &self.object.name_any()))
            }
            Known::Nothing | Known::Fault(_) => None,
        };
        standing::judge(&self.terms, &self.known, token.as_deref())
    }
}
