//! Who is in which batch.
//!
//! `rank = first 8 bytes, big-endian, of SHA-256(rolloutUID ‖ device name)`. When a rollout starts, each batch's
//! boundary is fixed as the rank of its last device. From then on a device's batch is the first whose boundary is not
//! below its rank and whose selector it matches. Membership is therefore the same on every replica and after every
//! restart, exact at the start, different for each rollout, and devices that come later fall into place.

use sha2::{Digest as _, Sha256};

use super::observed::Member;

/// A batch never has more than this many siblings; the bound of the CRD, and what fits a selector mask.
pub const MAX_BATCHES: usize = 20;

/// Rank of a device in a rollout.
#[must_use]
pub fn rank(rollout_uid: &str, device: &str) -> u64 {
    let digest = Sha256::new().chain_update(rollout_uid.as_bytes()).chain_update(device.as_bytes()).finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(head)
}

/// How large a batch is meant to be, counted together with all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 1 to 100, in hundredths of the cohort, rounded up so that the first batch is never empty.
    Percent(u8),
    /// So many devices.
    Count(u32),
}

impl Size {
    /// How many of `total` devices.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Percent(percent) => (total * usize::from(percent)).div_ceil(100),
            Self::Count(count) => (count as usize).min(total),
        }
    }
}

/// Boundaries of the batches, one a size. Linear in the number of members, apart from the (small) number of batches.
#[must_use]
pub fn boundaries(members: &[Member<'_>], sizes: &[Size]) -> Vec<u64> {
    let mut unplaced: Vec<(u64, u32)> = members.iter().map(|member| (member.rank, member.selected)).collect();
    let mut placed = 0;
    let last = sizes.len().saturating_sub(1);
    sizes
        .iter()
        .enumerate()
        .map(|(index, size)| {
            if index == last {
                return u64::MAX;
            }
            let wanted = size.of(members.len()).saturating_sub(placed);
            let mut eligible: Vec<u64> =
                unplaced.iter().filter(|(_, selected)| selected & (1 << index) != 0).map(|(rank, _)| *rank).collect();
            let taken = wanted.min(eligible.len());
            if taken == 0 {
                // Nobody at the start, and no place to fall into later.
                return 0;
            }
            let boundary = *eligible.select_nth_unstable(taken - 1).1;
            unplaced.retain(|(rank, selected)| !(selected & (1 << index) != 0 && *rank <= boundary));
            placed += taken;
            boundary
        })
        .collect()
}

/// The batch of a device, from 1. An entry that the device already carries says it; else rank and selectors do.
#[must_use]
pub fn batch_of(member: &Member<'_>, boundaries: &[u64]) -> usize {
    if member.batch != 0 {
        return usize::from(member.batch).min(boundaries.len());
    }
    boundaries
        .iter()
        .enumerate()
        .position(|(index, boundary)| member.rank <= *boundary && member.selected & (1 << index) != 0)
        .map_or(boundaries.len(), |index| index + 1)
}

#[cfg(test)]
mod tests;
