//! Who may come in, as far as it is not the API server's to say: how often one source, and how many places one caller.
//!
//! Any text can stand as a token until the API server has looked at it. So a source that keeps sending ones that are none
//! is held back, before each costs the API server a look; a token that was good lately is not, whoever else sends from
//! there. Nothing here remembers a token, only a hash of it with a key of this process.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use axum::extract::Request;
use http::header;
use parking_lot::Mutex;

use super::problems::Refusal;
use crate::server::Peer;
use crate::server::limits::SourceLimits;
use crate::server::source::{Source, TrustedProxies, UnheardProxy};

/// Tokens that are remembered to have been good.
const MAX_KNOWN: usize = 4096;

/// The door of the REST API.
pub(super) struct Door {
    limits: SourceLimits,
    proxies: TrustedProxies,
    hasher: RandomState,
    known: Mutex<HashSet<u64>>,
    unheard: UnheardProxy,
}

/// Who has come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor {
    source: Source,
    /// Tells one token from another in this process.
    pub(super) token: u64,
}

impl Door {
    pub(super) fn new(proxies: TrustedProxies) -> Self {
        Self {
            limits: SourceLimits::default(),
            proxies,
            hasher: RandomState::new(),
            known: Mutex::default(),
            unheard: UnheardProxy::default(),
        }
    }

    /// Lets a request in, or not.
    pub(super) fn enter(&self, request: &Request) -> Result<Visitor, Refusal> {
        let peer = request.extensions().get::<Peer>().map(|Peer(address)| address.ip());
        self.unheard.notice(&self.proxies, peer, request.headers(), "callers of the REST API");
        let source = self.proxies.source(peer, request.headers());
        self.limits.request(source).map_err(Refusal::RateLimited)?;
        // Whoever shows nothing guesses nothing, and costs nothing.
        let shown = request.headers().get(header::AUTHORIZATION).ok_or(Refusal::NoToken)?;
        let token = self.hasher.hash_one(shown);
        if !self.known.lock().contains(&token) {
            self.limits.attempt(source).map_err(Refusal::RateLimited)?;
        }
        Ok(Visitor { source, token })
    }

    fn know(&self, visitor: Visitor) {
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(visitor.token);
    }

    /// How it ended. Whoever is told that they may not is known all the same.
    pub(super) fn answered<T>(&self, visitor: Visitor, answer: &Result<T, Refusal>) {
        match answer {
            Ok(_) => self.know(visitor),
            Err(refusal) if refusal.is_forbidden() => self.know(visitor),
            Err(refusal) if refusal.is_unauthenticated() => {
                self.known.lock().remove(&visitor.token);
                self.limits.failed(visitor.source);
            }
            Err(_) => {}
        }
    }
}

/// Places for what takes long, of which one caller gets a share.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    each: usize,
    taken: Mutex<HashMap<u64, usize>>,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    token: u64,
}

impl Places {
    /// So many, and so many for one token.
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, each, taken: Mutex::default() })
    }

    /// Takes one.
    pub(super) fn take(self: &Arc<Self>, token: u64) -> Result<Place, Refusal> {
        let mut taken = self.taken.lock();
        let mine = taken.get(&token).copied().unwrap_or_default();
        if mine >= self.each || taken.values().sum::<usize>() >= self.all {
            return Err(Refusal::Busy);
        }
        taken.insert(token, mine + 1);
        Ok(Place { places: Arc::clone(self), token })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        match taken.get_mut(&self.token) {
            Some(mine) if *mine > 1 => *mine -= 1,
            Some(_) | None => {
                taken.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(token: &str) -> Request {
        Request::builder().header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap()
    }

    #[test]
    fn whoever_guesses_is_held_back_and_whoever_is_known_is_not() {
        let door = Door::new(TrustedProxies::default());
        let good = door.enter(&request("good")).unwrap();
        door.answered(good, &Ok(()));
        let refused = |number: u32| {
            let visitor = door.enter(&request(&format!("guess-{number}")));
            visitor.map(|visitor| door.answered::<()>(visitor, &Err(Refusal::NoToken)))
        };
        let first = (0..1000).find(|number| refused(*number).is_err()).expect("guessing comes to an end");
        assert!(first >= 20, "a mistake or two cost nothing");
        assert!(matches!(door.enter(&request("guess")), Err(Refusal::RateLimited(_))));
        assert!(door.enter(&request("good")).is_ok());
        // Until it isn't good any more.
        door.answered::<()>(good, &Err(Refusal::NoToken));
        assert!(door.enter(&request("good")).is_err());
    }

    #[test]
    fn nobody_takes_all_places() {
        let places = Places::new(3, 2);
        let mine = [places.take(1).unwrap(), places.take(1).unwrap()];
        assert!(places.take(1).is_err(), "a share of them");
        let other = places.take(2).unwrap();
        assert!(places.take(3).is_err(), "all are taken");
        drop(mine);
        assert!(places.take(3).is_ok() && places.take(1).is_ok());
        drop(other);
        assert!(places.taken.lock().is_empty());
    }
}
