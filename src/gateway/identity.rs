//! What lets a device in, as its object says: its key, the one before it for a while, or its name on a certificate.

use jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use crate::api::auth::DeviceAuth;
use crate::enrol::hash::{self, KeyHash};

/// What lets a device in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    key: Option<KeyHash>,
    previous: Option<Box<Previous>>,
    /// Nothing does.
    pub revoked: bool,
    /// It has registered, and not proven itself yet.
    pub incomplete: bool,
}

/// The key before the last rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Previous {
    key: KeyHash,
    until: Timestamp,
}

impl Access {
    /// What `spec.auth` says.
    #[must_use]
    pub fn of(auth: &DeviceAuth) -> Self {
        let DeviceAuth {
            key_hash,
            previous_key_hash,
            previous_key_expires,
            revoked,
            enrolment,
            public_key: _,
            reenrol: _,
        } = auth;
        let key = |text: &Option<String>| text.as_deref().and_then(hash::parse);
        let previous = key(previous_key_hash).zip(previous_key_expires.as_ref());
        Self {
            key: key(key_hash),
            previous: previous.map(|(key, until)| Box::new(Previous { key, until: until.0 })),
            revoked: *revoked,
            incomplete: enrolment.as_ref().is_some_and(|enrolment| !enrolment.completed),
        }
    }

    /// The hashes by which the device is found.
    pub fn hashes(&self) -> impl Iterator<Item = &KeyHash> {
        self.key.iter().chain(self.previous.as_deref().map(|previous| &previous.key))
    }

    /// Whether a key of that hash counts. `now` is asked only where it matters.
    ///
    /// Found by the hash of what was presented, which nobody can steer; the comparison that decides is made in constant
    /// time all the same.
    #[must_use]
    pub fn admits(&self, presented: &KeyHash, now: impl FnOnce() -> Timestamp) -> bool {
        let is = |key: &KeyHash| bool::from(key.ct_eq(presented));
        !self.revoked
            && (self.key.as_ref().is_some_and(is)
                || self.previous.as_deref().is_some_and(|previous| is(&previous.key) && now() < previous.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::auth::Enrolment;
    use crate::api::time::whole_seconds;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn which_keys_count() {
        let written = |key: &str| Some(hash::written(&hash::of(key)));
        let auth = DeviceAuth {
            key_hash: written("new"),
            previous_key_hash: written("old"),
            previous_key_expires: Some(whole_seconds(at(60))),
            ..DeviceAuth::default()
        };
        let access = Access::of(&auth);
        let admits = |access: &Access, key: &str, now: i64| access.admits(&hash::of(key), || at(now));
        assert!(admits(&access, "new", 1000));
        assert!(admits(&access, "old", 59) && !admits(&access, "old", 60));
        assert!(!admits(&access, "other", 0));
        assert_eq!(access.hashes().count(), 2);
        assert!(!access.revoked && !access.incomplete);
        let revoked = Access::of(&DeviceAuth { revoked: true, ..auth.clone() });
        assert!(!admits(&revoked, "new", 0) && !admits(&revoked, "old", 0));
        assert_eq!(revoked.hashes().count(), 2, "a copy must not take its keys over");
        let mut enrolment =
            Enrolment { challenge: "c".into(), expires: whole_seconds(at(0)), completed: false, since: None };
        assert!(Access::of(&DeviceAuth { enrolment: Some(enrolment.clone()), ..auth.clone() }).incomplete);
        enrolment.completed = true;
        assert!(!Access::of(&DeviceAuth { enrolment: Some(enrolment), ..auth }).incomplete);
    }
}
