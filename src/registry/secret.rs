//! Shared secrets: kept from view, compared in constant time, and what is computed with them.
//!
//! Decides whether something was made with a secret; which proof is enough is [`super::signature`]'s.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Shorter secrets might be guessed: the path can be tried by anyone who reaches the port. A `RegistryWebhook` refuses
/// them; for `DOCKER_WEBHOOK_SECRET`, which older set-ups bring along, they are worth a warning.
pub const SHORT_SECRET: usize = 16;
/// What the path of a `RegistryWebhook` is derived from, besides its name. Another version would be another text.
const PATH_CONTEXT: &str = "tranche webhook path v1\n";

/// A shared secret. Never shown.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret; `None` when there is nothing but white space. The line end that `kubectl create secret --from-file` and
    /// editors leave behind doesn't count.
    #[must_use]
    pub fn new(text: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = text.as_ref().trim_ascii();
        (!bytes.is_empty()).then(|| Self(bytes.into()))
    }

    /// Whether it is so short that it might be guessed.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.0.len() < SHORT_SECRET
    }

    /// Whether `given` is the secret. Compares digests, so that not even the length shows in the time it takes.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        Sha256::digest(given).ct_eq(&Sha256::digest(&self.0)).into()
    }

    /// Whether `mac` is the HMAC-SHA256 of exactly these bytes.
    pub(super) fn made_sha256(&self, mac: &[u8], body: &[u8]) -> bool {
        self.sha256(body).is_some_and(|expected| expected.verify_slice(mac).is_ok())
    }

    /// Whether `mac` is the HMAC-SHA1 of exactly these bytes.
    pub(super) fn made_sha1(&self, mac: &[u8], body: &[u8]) -> bool {
        // HMAC takes keys of every length.
        let Ok(mut expected) = Hmac::<Sha1>::new_from_slice(&self.0) else { return false };
        expected.update(body);
        expected.verify_slice(mac).is_ok()
    }

    /// HMAC-SHA256 over `body`, in hexadecimal.
    pub(super) fn sign(&self, body: &[u8]) -> String {
        self.sha256(body).map(|mac| hex(&mac.finalize().into_bytes())).unwrap_or_default()
    }

    /// The unguessable last part of a `RegistryWebhook`'s path. Whoever knows it learns nothing of the secret; two of them
    /// never share one, since namespace and name are in it, and neither can hold a slash.
    #[must_use]
    pub fn path_token(&self, namespace: &str, name: &str) -> String {
        self.sign(format!("{PATH_CONTEXT}{namespace}/{name}").as_bytes())
    }

    fn sha256(&self, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(body);
        Some(mac)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret, and the one before it while the two are being exchanged: the registry and the cluster can't be changed in
/// the same moment, and no delivery may be lost in between.
#[derive(Clone, Debug)]
pub struct Secrets {
    current: Secret,
    previous: Option<Secret>,
}

impl Secrets {
    /// A secret, and its predecessor where that still counts.
    #[must_use]
    pub fn new(current: Secret, previous: Option<Secret>) -> Self {
        Self { current, previous }
    }

    /// The one to be used from now on.
    #[must_use]
    pub fn current(&self) -> &Secret {
        &self.current
    }

    /// Both, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Whether `given` is either of them. Asks both whatever the first says: which one it was shows in no time.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        self.iter().fold(false, |any, secret| secret.is(given) | any)
    }

    /// Whether either of them says so.
    pub(super) fn any(&self, made: impl Fn(&Secret) -> bool) -> bool {
        self.iter().fold(false, |any, secret| made(secret) | any)
    }

    /// Whether these are the same two. For noticing a change; in constant time only for good measure.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let previous = match (&self.previous, &other.previous) {
            (Some(ours), Some(theirs)) => ours.is(&theirs.0),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.current.is(&other.current.0) && previous
    }
}

impl From<Secret> for Secrets {
    fn from(current: Secret) -> Self {
        Self { current, previous: None }
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `N` bytes from twice as many hexadecimal digits.
pub(super) fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text).expect("a secret")
    }

    #[test]
    fn never_shown() {
        let both = Secrets::new(secret("s3cret"), Some(secret("older")));
        assert_eq!(format!("{both:?}"), "Secrets { current: Secret(…), previous: Some(Secret(…)) }");
        assert!(Secret::new(" \n").is_none());
        assert!(Secret::new(b"\xff\xfe").is_some(), "a secret need not be text");
        assert!(secret("short").is_short());
        assert!(!secret("a secret of more than sixteen").is_short());
    }

    #[test]
    fn two_while_they_are_exchanged() {
        let both = Secrets::new(secret("new"), Some(secret("old")));
        for (given, expected) in [("new", true), ("old", true), ("ne", false), ("", false), ("new ", false)] {
            assert_eq!(both.is(given.as_bytes()), expected, "{given:?}");
        }
        let after = Secrets::from(secret("new"));
        assert!(!after.is(b"old"));
        assert!(both.same(&both.clone()) && !both.same(&after) && !after.same(&both));
        assert!(!after.same(&secret("old").into()));
    }

    #[test]
    fn paths() {
        let token = secret("s3cret").path_token("plant", "hub");
        // printf 'tranche webhook path v1\nplant/hub' | openssl dgst -sha256 -hmac s3cret
        assert_eq!(token, "4dd87e08a94c10ab28e77844fc95ece21378a61432204a0939bd2179ad43a235");
        let others = [("plant", "hub2", "s3cret"), ("plan", "hub", "s3cret"), ("plant", "hub", "other")];
        for (namespace, name, text) in others {
            assert_ne!(secret(text).path_token(namespace, name), token);
        }
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(unhex::<2>(b"0aF1"), Some([0x0a, 0xf1]));
        for text in ["", "0a", "0af", "0af10", "0ag1", "+1+1"] {
            assert_eq!(unhex::<2>(text.as_bytes()), None, "{text}");
        }
        assert_eq!(hex(&[0x0a, 0xf1]), "0af1");
    }
}
