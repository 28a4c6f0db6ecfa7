//! What kind of device each one is: most are healthy, some are what fleets have too.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// How a device behaves. "New image" is every image but the one that the fleet was started with, so a device that is
/// sent back recovers, however often the simulator was restarted in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Personality {
    /// Does as it is told.
    #[default]
    Healthy,
    /// Its uplink is thin: a pull takes [`SLOW_PULL_FACTOR`] times as long.
    SlowPull,
    /// Can't pull any new image: the old container is removed and nothing runs until the target goes back.
    Fails,
    /// Runs every new image, but not for long: running, exited, restarting, and again.
    Flaps,
    /// Never polls.
    Dead,
    /// Silent for a while now and then; comes back and goes on.
    Offline,
    /// Claims the newest version at once and keeps running the old image.
    Lies,
    /// Sends old reports again, without version, as an agent does that drains its queue.
    Replays,
    /// Its reports are larger than any server should take, every other one of them compressed to almost nothing.
    Oversize,
}

/// How many times longer a slow device pulls.
pub const SLOW_PULL_FACTOR: u32 = 20;

/// Every personality that a share can be given to, with its name on the command line.
const NAMED: [(Personality, &str); 8] = [
    (Personality::SlowPull, "slow-pull"),
    (Personality::Fails, "fails"),
    (Personality::Flaps, "flaps"),
    (Personality::Dead, "dead"),
    (Personality::Offline, "offline"),
    (Personality::Lies, "lies"),
    (Personality::Replays, "replays"),
    (Personality::Oversize, "oversize"),
];

/// Shares of the fleet, in whole per cent: `slow-pull=10%,dead=5%`. The rest is healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares(Vec<(Personality, u8)>);

/// Why a text gives no shares.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharesError {
    /// Not `name=N%`.
    #[error("{0:?} is not a share: write name=N%, such as slow-pull=10%")]
    Form(String),
    /// No such personality.
    #[error(
        "there is no personality {0:?}: use slow-pull, fails, flaps, dead, offline, lies, replays or oversize; the rest is healthy"
    )]
    Name(String),
    /// Named twice.
    #[error("{0} is given twice")]
    Twice(Personality),
    /// More than everything.
    #[error("the shares add up to {0}%, more than the whole fleet")]
    TooMany(u32),
}

// === impl Personality ===

impl fmt::Display for Personality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMED.iter().find(|(known, _)| known == self).map_or("healthy", |(_, name)| name))
    }
}

// === impl Shares ===

impl Shares {
    /// The personality of the device at `index`.
    ///
    /// Depends on seed and index alone, so that adding devices changes nobody. Each device takes the next point of
    /// the golden-ratio sequence rather than a throw of dice: those points spread so evenly that even a fleet of 20
    /// has its 10% within one device.
    #[must_use]
    pub fn personality(&self, seed: u64, index: u32) -> Personality {
        /// 2^64 divided by the golden ratio.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let digest: [u8; 32] = Sha256::digest(seed.to_be_bytes()).into();
        let start = digest[..8].iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let point = start.wrapping_add(u64::from(index).wrapping_mul(STEP));
        let mut below = 0_u128;
        for (personality, percent) in &self.0 {
            below += (u128::from(*percent) << 64) / 100;
            if u128::from(point) < below {
                return *personality;
            }
        }
        Personality::Healthy
    }
}

impl FromStr for Shares {
    type Err = SharesError;

    fn from_str(text: &str) -> Result<Self, SharesError> {
        let mut shares: Vec<(Personality, u8)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let form = || SharesError::Form(part.to_owned());
            let (name, share) = part.split_once('=').ok_or_else(form)?;
            let percent = share.strip_suffix('%').unwrap_or(share).parse::<u8>().map_err(|_| form())?;
            let name = name.trim();
            if name == "healthy" {
                // The rest is healthy anyway; writing it down is no mistake.
                continue;
            }
            let (personality, _) =
                NAMED.iter().find(|(_, known)| *known == name).ok_or_else(|| SharesError::Name(name.to_owned()))?;
            if shares.iter().any(|(known, _)| known == personality) {
                return Err(SharesError::Twice(*personality));
            }
            shares.push((*personality, percent));
        }
        let sum = shares.iter().map(|(_, percent)| u32::from(*percent)).sum();
        if sum > 100 {
            return Err(SharesError::TooMany(sum));
        }
        Ok(Self(shares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &str) -> Shares {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parses_what_people_write() {
        assert_eq!(shares(""), Shares::default());
        assert_eq!(
            shares("slow-pull=10%, dead=5,healthy=80%"),
            Shares(vec![(Personality::SlowPull, 10), (Personality::Dead, 5)])
        );
        for (bad, says) in [
            ("dead", "name=N%"),
            ("dead=x%", "name=N%"),
            ("dead=-1%", "name=N%"),
            ("ded=1%", "use slow-pull"),
            ("dead=1%,dead=2%", "dead is given twice"),
            ("dead=60%,lies=41%", "101%"),
        ] {
            let error = bad.parse::<Shares>().expect_err(bad).to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn even_small_fleets_have_their_shares() {
        let shares = shares("dead=10%,lies=25%");
        for seed in 0..200 {
            for (devices, slack) in [(20_u32, 1.0), (100, 2.0), (1000, 3.0)] {
                for (personality, share) in [(Personality::Dead, 0.10), (Personality::Lies, 0.25)] {
                    let count = (0..devices).filter(|i| shares.personality(seed, *i) == personality).count();
                    let wanted = share * f64::from(devices);
                    assert!((count as f64 - wanted).abs() <= slack, "{count} of {devices} are {personality}");
                }
            }
        }
    }

    #[test]
    fn whole_fleets_can_have_one_personality() {
        let all = shares("fails=100%");
        assert!((0..1000).all(|index| all.personality(3, index) == Personality::Fails));
        assert!((0..1000).all(|index| Shares::default().personality(3, index) == Personality::Healthy));
    }
}
