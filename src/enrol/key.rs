//! The provisioning key as a person hands it out: `tpk_<name of its Secret>_<64 hexadecimal digits>`.
//!
//! The name in it says which Secret to read, so that nothing needs to list Secrets. It is no secret itself.

use super::hash::{self, KeyHash};

/// What every provisioning key begins with, so that a leaked one is recognised by whoever scans for such.
const PREFIX: &str = "tpk_";
/// Labels carry the name.
const MAX_NAME: usize = 63;
/// Hexadecimal digits of the secret part.
const DIGITS: usize = 64;

/// A provisioning key that somebody presents. Holds no secret: only what is needed to look it up and compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningKey {
    /// Name of its Secret.
    pub name: String,
    /// Hash of the whole key.
    pub hash: KeyHash,
}

impl ProvisioningKey {
    /// Reads a key. `None` where it can't be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_secret = secret.len() == DIGITS && secret.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_secret && is_name(name)).then(|| Self { name: name.to_owned(), hash: hash::of(text) })
    }
}

/// The key of a Secret of that name with this secret part.
#[must_use]
pub fn spell(name: &str, secret: &[u8; 32]) -> String {
    format!("{PREFIX}{name}_{}", hash::hex(secret))
}

/// Whether a Secret for a provisioning key may be named so: as Kubernetes has it, and at most 63 characters.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<u8>| byte.is_some_and(inner);
    name.len() <= MAX_NAME
        && name.split('.').all(|part| {
            let mut bytes = part.bytes();
            ends(part.bytes().next()) && ends(part.bytes().next_back()) && bytes.all(|byte| inner(byte) || byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_where_it_is_kept() {
        let text = spell("plant-a.2026", &[0xa5; 32]);
        assert_eq!(text, format!("tpk_plant-a.2026_{}", "a5".repeat(32)));
        let key = ProvisioningKey::parse(&text).expect("a key");
        assert_eq!((key.name.as_str(), key.hash), ("plant-a.2026", hash::of(&text)));
        assert!(!format!("{key:?}").contains("a5a5"));
    }

    #[test]
    fn what_is_no_key() {
        let digits = "a5".repeat(32);
        let long = "x".repeat(64);
        for name in ["", "-a", "a-", "A", "a/b", "a..b", ".a", "a_b", &long] {
            assert_eq!(ProvisioningKey::parse(&format!("tpk_{name}_{digits}")), None, "{name}");
        }
        for text in
            [&digits, &format!("tpk_a{digits}"), &format!("tpk_a_{digits}0"), &format!("tpk_a_{}", "A5".repeat(32))]
        {
            assert_eq!(ProvisioningKey::parse(text), None, "{text}");
        }
    }
}
