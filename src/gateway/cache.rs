//! Every device, by name and by key.
//!
//! Holds no truth: it is what the watch last showed. Split into parts, each with its own lock, so that a poll, the
//! watch and the presence rounds hardly ever meet. Only the watch writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::record::Record;
use super::rollouts::Rollouts;
use super::shared::Interner;
use crate::api::Device;
use crate::enrol::hash::KeyHash;

/// How many parts. A power of two, at least the number of cores of any machine this runs on.
pub const PARTS: usize = 64;

/// Every device, by name and by key.
#[derive(Debug)]
pub struct Cache {
    names: Vec<RwLock<HashMap<Arc<str>, Arc<Record>>>>,
    keys: Vec<RwLock<HashMap<KeyHash, Arc<Record>>>>,
    /// Devices whose key is another, older device's. They can't come in: a copied object must not take over.
    shadowed: Mutex<HashMap<Arc<str>, Arc<Record>>>,
    /// Held while anything is written: names and keys must tell the same story.
    writing: Mutex<()>,
    len: AtomicUsize,
    interner: Interner,
    rollouts: Arc<Rollouts>,
}

impl Cache {
    /// An empty one, whose devices refer to these rollouts.
    #[must_use]
    pub fn new(rollouts: Arc<Rollouts>) -> Self {
        Self {
            names: std::iter::repeat_with(RwLock::default).take(PARTS).collect(),
            keys: std::iter::repeat_with(RwLock::default).take(PARTS).collect(),
            shadowed: Mutex::default(),
            writing: Mutex::default(),
            len: AtomicUsize::new(0),
            interner: Interner::default(),
            rollouts,
        }
    }

    /// The rollouts its devices refer to.
    #[must_use]
    pub fn rollouts(&self) -> &Rollouts {
        &self.rollouts
    }

    /// The one copy of a text that many devices share.
    #[must_use]
    pub fn intern(&self, text: &str) -> Arc<str> {
        self.interner.intern(text)
    }

    /// How many devices there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device whose key has that hash, or whose previous key. Whether it counts is [`super::identity`]'s to say.
    #[must_use]
    pub fn by_key(&self, hash: &KeyHash) -> Option<Arc<Record>> {
        self.keys[key_part(hash)].read().get(hash).cloned()
    }

    /// The device of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Arc<Record>> {
        self.names[name_part(name)].read().get(name).cloned()
    }

    /// An object as it is now.
    pub fn apply(&self, device: &Device) {
        let _writing = self.writing.lock();
        let record = Arc::new(self.project(device));
        let before = self.names[name_part(&record.name)].write().insert(record.name.clone(), record.clone());
        match before {
            Some(before) if before.access.hashes().eq(record.access.hashes()) => {}
            Some(before) => self.unkey(&before),
            None => {
                self.len.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.key(&record);
    }

    /// What an object looks like in the cache, whether it enters it or not.
    #[must_use]
    pub fn project(&self, device: &Device) -> Record {
        let before = device.metadata.name.as_deref().and_then(|name| self.by_name(name));
        Record::project(device, before.as_deref(), &self.interner, &self.rollouts)
    }

    /// The object is gone.
    pub fn remove(&self, name: &str) {
        let _writing = self.writing.lock();
        let before = self.names[name_part(name)].write().remove(name);
        if let Some(before) = before {
            self.len.fetch_sub(1, Ordering::Relaxed);
            self.unkey(&before);
        }
    }

    /// A full list was read: these are all the devices there are.
    pub fn replace(&self, records: Vec<Arc<Record>>) {
        let _writing = self.writing.lock();
        let mut names: Vec<HashMap<_, _>> = std::iter::repeat_with(HashMap::new).take(PARTS).collect();
        for record in records {
            names[name_part(&record.name)].insert(record.name.clone(), record);
        }
        let mut keys: Vec<HashMap<KeyHash, Arc<Record>>> = std::iter::repeat_with(HashMap::new).take(PARTS).collect();
        let mut shadowed = HashMap::new();
        for record in names.iter().flat_map(HashMap::values) {
            for hash in record.access.hashes() {
                if let Some(loser) = claim(&mut keys[key_part(hash)], *hash, record.clone()) {
                    shadowed.insert(loser.name.clone(), loser);
                }
            }
        }
        self.len.store(names.iter().map(HashMap::len).sum(), Ordering::Relaxed);
        *self.shadowed.lock() = shadowed;
        for (part, new) in self.keys.iter().zip(keys) {
            *part.write() = new;
        }
        for (part, new) in self.names.iter().zip(names) {
            *part.write() = new;
        }
    }

    /// Goes through the devices of one part, 0 to [`PARTS`].
    pub fn for_each_in(&self, part: usize, mut f: impl FnMut(&Arc<Record>)) {
        self.names[part % PARTS].read().values().for_each(&mut f);
    }

    fn key(&self, record: &Arc<Record>) {
        let mut shadowed = self.shadowed.lock();
        shadowed.remove(&record.name);
        for hash in record.access.hashes() {
            if let Some(loser) = claim(&mut self.keys[key_part(hash)].write(), *hash, Arc::clone(record)) {
                tracing::warn!(device = %loser.name, "this device's key is another device's: it can't come in");
                shadowed.insert(loser.name.clone(), loser);
            }
        }
    }

    fn unkey(&self, record: &Record) {
        let mut shadowed = self.shadowed.lock();
        shadowed.remove(&record.name);
        for hash in record.access.hashes() {
            let mut keys = self.keys[key_part(hash)].write();
            if keys.get(hash).is_some_and(|owner| owner.name == record.name) {
                keys.remove(hash);
                // It stays among the shadowed: its other key may be another's still.
                let heir = shadowed
                    .values()
                    .filter(|other| other.access.hashes().any(|other| other == hash))
                    .min_by_key(|other| (other.created, other.name.clone()));
                if let Some(heir) = heir {
                    keys.insert(*hash, heir.clone());
                }
            }
        }
    }
}

/// Gives the key to the older of the two that claim it; answers with the other, if it is another device.
fn claim(keys: &mut HashMap<KeyHash, Arc<Record>>, hash: KeyHash, record: Arc<Record>) -> Option<Arc<Record>> {
    match keys.get(&hash) {
        Some(owner) if owner.name != record.name && (owner.created, &owner.name) < (record.created, &record.name) => {
            Some(record)
        }
        Some(_) | None => {
            let name = record.name.clone();
            keys.insert(hash, record).filter(|before| before.name != name)
        }
    }
}

fn key_part(hash: &KeyHash) -> usize {
    usize::from(hash[0]) % PARTS
}

/// The part that a name is in.
#[must_use]
pub fn name_part(name: &str) -> usize {
    // The remainder is below PARTS.
    (name_hash(name) % PARTS as u64) as usize
}

/// FNV-1a with a final mix: the same on every replica and in every version, since presence shards go by it.
#[must_use]
pub fn name_hash(name: &str) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
