//! The second phase: a device that has registered proves itself, and its key counts from then on.

use jiff::Timestamp;

use super::device::is_key;
use super::hash::KeyHash;
use super::proof::PublicKey;
use crate::api::auth::{DeviceAuth, Enrolment};

/// What the device proves itself with, besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The hash of its key, again: agents of the first two generations.
    Key(KeyHash),
    /// A signature over `{uuid}:{challenge}`, with the UUID as the device spells it.
    Signature {
        /// Its spelling.
        uuid: String,
        /// In base64.
        signature: String,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The enrolment is complete now: to be written.
    Completes,
    /// It is complete already. The first answer may have been lost, so the device is told again.
    Complete,
}

/// Why the exchange is refused. For the log; outwardly they are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeRefusal {
    /// There is no such device, or it has another key.
    #[error("there is no such device, or it has another key")]
    Stranger,
    /// It is revoked.
    #[error("the device is revoked")]
    Revoked,
    /// Key in the head and key in the body are two.
    #[error("the key in the body is not the one in the head")]
    Differs,
    /// It has registered a public key, and doesn't sign.
    #[error("the device has registered a public key, so it must sign the challenge")]
    Unsigned,
    /// It signs, and has no public key.
    #[error("the device has registered no public key that could verify a signature")]
    NoPublicKey,
    /// There is no challenge, or its time is over.
    #[error("there is no challenge, or its time is over; POST …/challenge asks for another one")]
    NoChallenge,
    /// The signature is another's, or over something else.
    #[error("the signature is not this device's over the challenge")]
    BadSignature,
}

/// Judges an exchange by a device's `spec.auth`, and the key that the head presents.
///
/// # Errors
/// With why it is refused.
pub fn judge(auth: &DeviceAuth, key: &KeyHash, proof: &Proof, now: Timestamp) -> Result<Outcome, ExchangeRefusal> {
    if !is_key(auth.key_hash.as_deref(), key) {
        return Err(ExchangeRefusal::Stranger);
    }
    if auth.revoked {
        return Err(ExchangeRefusal::Revoked);
    }
    match (&auth.public_key, proof) {
        (Some(_), Proof::Key(_)) => return Err(ExchangeRefusal::Unsigned),
        (None, Proof::Signature { .. }) => return Err(ExchangeRefusal::NoPublicKey),
        (None, Proof::Key(again)) => {
            if again != key {
                return Err(ExchangeRefusal::Differs);
            }
        }
        (Some(pem), Proof::Signature { uuid, signature }) => {
            let public_key = PublicKey::from_pem(pem).ok_or(ExchangeRefusal::NoPublicKey)?;
            let Some(Enrolment { challenge, expires, completed: _, since: _ }) = &auth.enrolment else {
                return Err(ExchangeRefusal::NoChallenge);
            };
            if now >= expires.0 {
                return Err(ExchangeRefusal::NoChallenge);
            }
            if !public_key.verifies(&format!("{uuid}:{challenge}"), signature) {
                return Err(ExchangeRefusal::BadSignature);
            }
        }
    }
    // A challenge opens once. Afterwards its signature gets the same answer, and changes nothing.
    let is_complete = auth.enrolment.as_ref().is_none_or(|enrolment| enrolment.completed);
    Ok(if is_complete { Outcome::Complete } else { Outcome::Completes })
}

/// Whether a device with this key may be given another challenge: it waits for one, and the last one's time is over.
///
/// # Errors
/// When it may never ask ([`ExchangeRefusal`]).
pub fn may_ask(auth: &DeviceAuth, key: &KeyHash, now: Timestamp) -> Result<bool, ExchangeRefusal> {
    if !is_key(auth.key_hash.as_deref(), key) {
        return Err(ExchangeRefusal::Stranger);
    }
    if auth.revoked {
        return Err(ExchangeRefusal::Revoked);
    }
    Ok(auth.enrolment.as_ref().is_some_and(|enrolment| !enrolment.completed && now >= enrolment.expires.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::time::whole_seconds;
    use crate::enrol::hash;

    const PEM: &str = include_str!("../../tests/data/enrolment/ed25519.pem");
    const SIGNATURE: &str = include_str!("../../tests/data/enrolment/ed25519.sig");

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn auth(pem: Option<&str>) -> DeviceAuth {
        let expires = whole_seconds(at(300));
        DeviceAuth {
            key_hash: Some(hash::written(&hash::of("k"))),
            public_key: pem.map(str::to_owned),
            enrolment: Some(Enrolment { challenge: "challenge".into(), expires, completed: false, since: None }),
            ..DeviceAuth::default()
        }
    }

    fn signed(uuid: &str, signature: &str) -> Proof {
        Proof::Signature { uuid: uuid.into(), signature: signature.into() }
    }

    fn completed(auth: &DeviceAuth) -> DeviceAuth {
        let enrolment = auth.enrolment.clone().map(|enrolment| Enrolment { completed: true, ..enrolment });
        DeviceAuth { enrolment, ..auth.clone() }
    }

    #[test]
    fn by_signature() {
        let (auth, k, good) = (auth(Some(PEM)), hash::of("k"), signed("7f0c", SIGNATURE));
        assert_eq!(judge(&auth, &k, &good, at(299)), Ok(Outcome::Completes));
        assert_eq!(judge(&completed(&auth), &k, &good, at(299)), Ok(Outcome::Complete), "the answer was lost");
        for (auth, key, proof, now, why) in [
            (auth.clone(), "j", good.clone(), 1, ExchangeRefusal::Stranger),
            (DeviceAuth::default(), "k", good.clone(), 1, ExchangeRefusal::Stranger),
            (DeviceAuth { revoked: true, ..auth.clone() }, "k", good.clone(), 1, ExchangeRefusal::Revoked),
            (auth.clone(), "k", Proof::Key(k), 1, ExchangeRefusal::Unsigned),
            (auth.clone(), "k", good.clone(), 300, ExchangeRefusal::NoChallenge),
            (completed(&auth), "k", good.clone(), 300, ExchangeRefusal::NoChallenge),
            (completed(&auth), "k", signed("7f0c", "AAAA"), 1, ExchangeRefusal::BadSignature),
            (DeviceAuth { enrolment: None, ..auth.clone() }, "k", good.clone(), 1, ExchangeRefusal::NoChallenge),
            (auth.clone(), "k", signed("7F0C", SIGNATURE), 1, ExchangeRefusal::BadSignature),
            (DeviceAuth { public_key: Some("?".into()), ..auth.clone() }, "k", good, 1, ExchangeRefusal::NoPublicKey),
        ] {
            assert_eq!(judge(&auth, &hash::of(key), &proof, at(now)), Err(why), "{proof:?} {now}");
        }
    }

    #[test]
    fn by_key() {
        let (auth, k) = (auth(None), hash::of("k"));
        assert_eq!(judge(&auth, &k, &Proof::Key(k), at(10_000)), Ok(Outcome::Completes), "no challenge, no end of it");
        assert_eq!(judge(&completed(&auth), &k, &Proof::Key(k), at(1)), Ok(Outcome::Complete));
        assert_eq!(judge(&auth, &k, &Proof::Key(hash::of("j")), at(1)), Err(ExchangeRefusal::Differs));
        assert_eq!(judge(&auth, &k, &signed("7f0c", SIGNATURE), at(1)), Err(ExchangeRefusal::NoPublicKey));
    }

    #[test]
    fn when_another_challenge_is_due() {
        let (auth, k) = (auth(Some(PEM)), hash::of("k"));
        assert_eq!(may_ask(&auth, &k, at(299)), Ok(false));
        assert_eq!(may_ask(&auth, &k, at(300)), Ok(true));
        assert_eq!(may_ask(&completed(&auth), &k, at(300)), Ok(false));
        assert_eq!(may_ask(&auth, &hash::of("j"), at(300)), Err(ExchangeRefusal::Stranger));
    }
}
