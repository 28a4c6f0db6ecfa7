//! Who the simulated devices are: names and keys, derived from the seed alone.
//!
//! Nothing is stored. A simulator that is started again with the same seed and fleet is the same fleet, so it goes on
//! with the `Device` objects that it created before. The price: whoever knows the seed knows the keys, so such a
//! device proves nothing. This is a fleet for trials and tests, never one to keep.

use std::fmt;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sha2::{Digest as _, Sha256};

/// One simulated device.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Position in the fleet, from 0.
    pub index: u32,
    /// Name of its `Device`: a version 4 UUID in form, lower case.
    pub uuid: Arc<str>,
    /// What it proves itself with.
    pub key: DeviceKey,
}

/// A device key, `v2_<8 hex>_<64 hex>`. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct DeviceKey(Arc<str>);

// === impl Identity ===

impl Identity {
    /// The device at `index` of the fleet. Adding devices changes no other device.
    #[must_use]
    pub fn derive(seed: u64, fleet: &str, index: u32) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest("uuid", seed, fleet, index)[..16]);
        // RFC 9562: version 4, variant 10. Agents make such names themselves.
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let name = hex(&bytes);
        let uuid = format!("{}-{}-{}-{}-{}", &name[..8], &name[8..12], &name[12..16], &name[16..20], &name[20..]);
        let id = hex(&digest("key id", seed, fleet, index)[..4]);
        let secret = hex(&digest("key", seed, fleet, index));
        Self { index, uuid: uuid.into(), key: DeviceKey(format!("v2_{id}_{secret}").into()) }
    }

    /// The device's own stream of chance: what one device draws never moves another's draws.
    #[must_use]
    pub fn rng(seed: u64, index: u32) -> StdRng {
        StdRng::from_seed(digest("rng", seed, "", index))
    }
}

// === impl DeviceKey ===

impl DeviceKey {
    /// The key itself. Send it, never print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What `spec.auth.keyHash` holds: `sha256:` and the SHA-256 of the key.
    #[must_use]
    pub fn hash(&self) -> String {
        format!("sha256:{}", hex(&Sha256::digest(self.0.as_bytes())))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

/// Every part has its own domain, and a separator that no part contains keeps `("a", "b")` from meeting `("ab", "")`.
fn digest(domain: &str, seed: u64, fleet: &str, index: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [b"tranche/simulate".as_slice(), domain.as_bytes(), fleet.as_bytes()] {
        hash.update(part);
        hash.update([0xff]);
    }
    hash.update(seed.to_be_bytes());
    hash.update(index.to_be_bytes());
    hash.finalize().into()
}

/// Lower-case hexadecimal.
#[must_use]
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_fleet() {
        let (a, b) = (Identity::derive(7, "demo", 3), Identity::derive(7, "demo", 3));
        assert_eq!((a.uuid, a.key.expose()), (b.uuid, b.key.expose()));
        let other = Identity::derive(7, "demo", 3);
        for different in [Identity::derive(8, "demo", 3), Identity::derive(7, "dem", 3), Identity::derive(7, "demo", 4)]
        {
            assert_ne!(other.uuid, different.uuid);
            assert_ne!(other.key.expose(), different.key.expose());
        }
    }

    #[test]
    fn names_and_keys_have_the_agents_form() {
        for index in 0..50 {
            let id = Identity::derive(1, "demo", index);
            let parts: Vec<&str> = id.uuid.split('-').collect();
            assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{}", id.uuid);
            let key: Vec<&str> = id.key.expose().split('_').collect();
            assert_eq!((key[0], key[1].len(), key[2].len()), ("v2", 8, 64));
            assert_eq!(id.key.hash().len(), "sha256:".len() + 64);
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let id = Identity::derive(1, "demo", 0);
        let shown = format!("{id:?}");
        assert!(!shown.contains(&id.key.expose()[12..]), "{shown}");
    }
}
