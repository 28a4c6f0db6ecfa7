//! What all devices of a simulated fleet share: how fast things go, and which images are bad.

use std::str::FromStr;
use std::time::Duration;

use super::personality::Personality;
use crate::api::ImageRef;
use crate::api::image::ImageError;

/// How fast a fleet lives. Two measures give all others, so that a fleet can be sped up as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the answer of one poll to the next poll. Also the measure of backoff, silence and flapping.
    pub poll: Duration,
    /// What a pull takes on average. Also the measure of everything else that the device does by itself.
    pub pull: Duration,
}

/// Which images are good, bad and new.
#[derive(Clone, Debug)]
pub struct World {
    /// How fast it lives.
    pub pace: Pace,
    /// The image that the fleet was started with: the one that no personality spoils.
    pub base: ImageRef,
    /// Images that no device can pull.
    pub bad: Vec<BadImage>,
}

/// An image that can't be pulled: a tag of any repository, or one image. An image that devices are told by digest
/// alone has no tag to go by: name such a one by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadImage {
    /// `v2.1.0`
    Tag(String),
    /// `acme/app:v2.1.0`, `acme/app@sha256:…`
    Image(ImageRef),
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self { poll: Duration::from_secs(60), pull: Duration::from_secs(1) }
    }
}

impl Pace {
    /// The agent waits so long after a new target, in case more follows.
    #[must_use]
    pub fn debounce(&self) -> Duration {
        self.pull / 2
    }

    /// From the removal of the old container until the new one runs.
    #[must_use]
    pub fn start(&self) -> Duration {
        self.pull / 5
    }

    /// Before the second attempt of a pull; twice that before the third.
    #[must_use]
    pub fn pull_retry(&self) -> Duration {
        self.pull * 2
    }

    /// Between two reports that an agent has queued: ten a second at the usual pace.
    #[must_use]
    pub fn drain(&self) -> Duration {
        self.pull / 10
    }

    /// After `failures` in a row, without jitter: the agent's `15 s · 2^(n-1)` up to 15 minutes, with the poll
    /// interval for the 15 s (the fleet of a demo polls every second, and should not be gone for minutes).
    #[must_use]
    pub fn backoff(&self, failures: u32) -> Duration {
        /// 15 minutes at the agent's usual poll interval of 60 s.
        const LONGEST: u32 = 15;
        self.poll * 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(LONGEST).clamp(1, LONGEST)
    }

    /// From a report that was not delivered to the next one that is sent for its metrics and carries everything: 5
    /// minutes at the usual interval. Devices that have nothing to make up for send none: they would tell nothing.
    #[must_use]
    pub fn metrics(&self) -> Duration {
        self.poll * 5
    }
}

// === impl World ===

impl World {
    /// Whether a device of that personality fails to pull `image`.
    #[must_use]
    pub fn fails(&self, personality: Personality, image: &str) -> bool {
        self.bad.iter().any(|bad| bad.matches(image)) || (personality == Personality::Fails && self.is_new(image))
    }

    /// Whether it is another image than the one the fleet was started with.
    #[must_use]
    pub fn is_new(&self, image: &str) -> bool {
        image.parse::<ImageRef>().map_or(true, |image| !image.same_image(&self.base))
    }
}

// === impl BadImage ===

impl BadImage {
    fn matches(&self, image: &str) -> bool {
        // A reference that doesn't parse can't be pulled either.
        image.parse::<ImageRef>().map_or(true, |image| match self {
            Self::Tag(tag) => image.tag.as_ref() == Some(tag),
            Self::Image(bad) => image.same_image(bad),
        })
    }
}

impl FromStr for BadImage {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if text.contains([':', '/', '@']) {
            return text.parse().map(Self::Image);
        }
        // Any repository: only the tag is checked.
        ImageRef::new("any", Some(text), None).map(|_| Self::Tag(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(bad: &[&str]) -> World {
        World {
            pace: Pace::default(),
            base: "acme/app:v1".parse().expect("a reference"),
            bad: bad.iter().map(|bad| bad.parse().expect("a bad image")).collect(),
        }
    }

    #[test]
    fn bad_images() {
        let by_tag = world(&["v2.1.0"]);
        assert!(by_tag.fails(Personality::Healthy, "docker.io/acme/app:v2.1.0"));
        assert!(by_tag.fails(Personality::Healthy, "registry.local:5000/x:v2.1.0"));
        assert!(!by_tag.fails(Personality::Healthy, "acme/app:v2.1.1"));
        let by_image = world(&["acme/app:v3"]);
        assert!(by_image.fails(Personality::Healthy, "docker.io/acme/app:v3"));
        assert!(!by_image.fails(Personality::Healthy, "acme/other:v3"));
        assert!("no good".parse::<BadImage>().is_err());
    }

    #[test]
    fn the_first_image_is_never_spoiled() {
        let world = world(&[]);
        assert!(!world.fails(Personality::Fails, "docker.io/acme/app:v1"), "however it is spelled");
        assert!(world.fails(Personality::Fails, "acme/app:v2"));
    }

    #[test]
    fn backoff_doubles_up_to_a_bound() {
        let pace = Pace { poll: Duration::from_secs(1), ..Pace::default() };
        let seconds: Vec<u64> = (1..=7).map(|failures| pace.backoff(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(pace.backoff(u32::MAX).as_secs(), 15);
    }
}
