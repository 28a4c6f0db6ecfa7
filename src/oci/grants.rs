//! What was granted by registries and may be used again: tokens, and that a registry takes passwords.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::access::Id;
use super::secret::Secret;

/// Grants that are kept. One takes some kilobytes at most; nobody has so many repositories.
const MAX_KEPT: usize = 4096;
/// For how long it is remembered that a registry takes passwords.
const PASSWORDS_FOR: Duration = Duration::from_secs(3600);

/// By what a request is authorized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// A token.
    Bearer(Secret),
    /// User and password, those of the access.
    Password,
}

/// A grant is good for one repository of one host, and for whoever got it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) host: String,
    pub(super) path: String,
    pub(super) who: Id,
}

/// Grants by what they are good for.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<HashMap<Key, (Grant, Instant)>>);

impl Grants {
    /// The grant, unless it has ended.
    pub(super) fn get(&self, key: &Key) -> Option<Grant> {
        let mut all = self.0.lock();
        match all.get(key) {
            Some((grant, until)) if *until > Instant::now() => Some(grant.clone()),
            Some(_) => {
                all.remove(key);
                None
            }
            None => None,
        }
    }

    /// Keeps a token until then.
    pub(super) fn put_token(&self, key: Key, token: Secret, until: Instant) {
        self.put(key, Grant::Bearer(token), until);
    }

    /// Remembers that a password is what is wanted.
    pub(super) fn put_password(&self, key: Key) {
        self.put(key, Grant::Password, Instant::now() + PASSWORDS_FOR);
    }

    fn put(&self, key: Key, grant: Grant, until: Instant) {
        let mut all = self.0.lock();
        if all.len() >= MAX_KEPT {
            let now = Instant::now();
            all.retain(|_, (_, until)| *until > now);
        }
        if all.len() < MAX_KEPT {
            all.insert(key, (grant, until));
        }
    }

    /// Forgets a grant that turned out to be none.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key { host: "r".into(), path: n.to_string(), who: [0; 32] }
    }

    #[tokio::test(start_paused = true)]
    async fn grants_end() {
        let grants = Grants::default();
        grants.put_token(key(1), Secret::new("t"), Instant::now() + Duration::from_secs(45));
        grants.put_password(key(2));
        assert_eq!(grants.get(&key(1)), Some(Grant::Bearer(Secret::new("t"))));
        assert_eq!(grants.get(&key(2)), Some(Grant::Password));
        assert_eq!(grants.get(&Key { who: [1; 32], ..key(1) }), None, "somebody else's");
        tokio::time::advance(Duration::from_secs(45)).await;
        assert_eq!(grants.get(&key(1)), None);
        grants.forget(&key(2));
        assert_eq!(grants.get(&key(2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let grants = Grants::default();
        for n in 0..2 * MAX_KEPT {
            grants.put_token(key(n), Secret::new("t"), Instant::now() + Duration::from_secs(45));
        }
        assert_eq!(grants.0.lock().len(), MAX_KEPT);
        tokio::time::advance(Duration::from_secs(60)).await;
        grants.put_password(key(0));
        assert_eq!(grants.0.lock().len(), 1);
    }
}
