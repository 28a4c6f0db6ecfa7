//! Chance that depends on what is asked and on nothing else, so that one seed is one story in whatever order things happen.

use std::hash::{DefaultHasher, Hash, Hasher as _};

/// A number for these words under that seed.
pub fn roll(seed: u64, words: impl Hash) -> u64 {
    // Its keys are fixed, unlike those of the maps.
    let mut hasher = DefaultHasher::new();
    (seed, words).hash(&mut hasher);
    hasher.finish()
}

/// Whether it happens this time, at so many in a thousand.
pub fn happens(seed: u64, words: impl Hash, in_a_thousand: u64) -> bool {
    roll(seed, words) % 1000 < in_a_thousand
}
