//! Where two policies of a namespace are for one image and one device: the one with the more specific pattern has it.
//!
//! More specific is whose pattern has more characters that aren't wildcards, first in the name, then in the tag. A rollout
//! leaves the devices of such a rival alone, and the policy says in its conditions whose they are. A suspended policy keeps
//! its devices: that is what suspending it is for. Between equals nobody can say; whoever writes to a device first has it,
//! and the other's rollout reports a conflict.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use crate::api::{ImageRef, ImageUpdatePolicy};
use crate::registry::pattern::Pattern;

use super::observed::DeviceView;
use super::selector::Labels;
use super::validated::{claim, claims};

/// Another policy, as far as it can be somebody's rival.
#[derive(Clone, Debug)]
pub struct Rival {
    /// Its name.
    pub policy: String,
    pattern: Pattern,
    selector: Labels,
    names: BTreeSet<String>,
}

impl Rival {
    /// Of a policy; `None` when it claims nothing that can be understood, or is on its way out.
    #[must_use]
    pub fn of(policy: &ImageUpdatePolicy) -> Option<Self> {
        if policy.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let pattern = Pattern::parse(&policy.spec.image.pattern).ok()?;
        let (selector, names) = claim(&policy.spec.devices).ok()?;
        Some(Self { policy: policy.name_any(), pattern, selector, names })
    }

    /// Whether it goes before a policy with that pattern.
    fn goes_before(&self, pattern: &Pattern) -> bool {
        self.pattern.specificity() > pattern.specificity()
    }

    /// Whether it claims a device, apart from what that runs.
    #[must_use]
    pub fn claims(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        claims(&self.selector, &self.names, name, labels)
    }
}

/// Those of `others` that go before a policy for an image.
#[must_use]
pub fn rivals<'a>(
    policy: &str,
    pattern: &Pattern,
    image: &ImageRef,
    others: impl IntoIterator<Item = &'a ImageUpdatePolicy>,
) -> Vec<Rival> {
    others
        .into_iter()
        .filter(|other| other.name_any() != policy)
        .filter_map(Rival::of)
        .filter(|rival| rival.pattern.matches(&image.repository, image.tag.as_deref()) && rival.goes_before(pattern))
        .collect()
}

/// How many devices of a policy belong to which more specific one, by what the devices declare. Only the policies that
/// have some.
#[must_use]
pub fn overlaps<'a>(
    policy: &str,
    own: &Rival,
    others: impl IntoIterator<Item = &'a ImageUpdatePolicy>,
    devices: impl IntoIterator<Item = &'a DeviceView>,
) -> BTreeMap<String, usize> {
    let before: Vec<Rival> = others
        .into_iter()
        .filter(|other| other.name_any() != policy)
        .filter_map(Rival::of)
        .filter(|rival| rival.goes_before(&own.pattern))
        .collect();
    let mut counts = BTreeMap::new();
    if before.is_empty() {
        return counts;
    }
    // Devices of a fleet declare the same few repositories, and patterns are slower than a look into a map.
    let mut known: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for device in devices {
        if device.deleting || !own.claims(&device.name, &device.labels) {
            continue;
        }
        let candidates = device.services.iter().flat_map(|service| {
            let repository = service.image.repository.as_str();
            known
                .entry(repository)
                .or_insert_with(|| {
                    let shared = |rival: &Rival| rival.pattern.matches_repository(repository);
                    if !own.pattern.matches_repository(repository) {
                        return Vec::new();
                    }
                    before.iter().enumerate().filter(|(_, rival)| shared(rival)).map(|(index, _)| index).collect()
                })
                .clone()
        });
        let owner = candidates.map(|index| &before[index]).find(|rival| rival.claims(&device.name, &device.labels));
        if let Some(rival) = owner {
            *counts.entry(rival.policy.clone()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{device, policy};
    use super::*;

    fn named(name: &str, pattern: &str, fleet: &str) -> ImageUpdatePolicy {
        let mut policy = policy(&json!({
            "image": {"pattern": pattern}, "devices": {"selector": {"matchLabels": {"fleet": fleet}}},
        }));
        policy.metadata.name = Some(name.into());
        policy
    }

    fn before(policy: &ImageUpdatePolicy, image: &str, others: &[ImageUpdatePolicy]) -> Vec<String> {
        let pattern = Pattern::parse(&policy.spec.image.pattern).unwrap();
        let image = image.parse().unwrap();
        rivals(&policy.name_any(), &pattern, &image, others).into_iter().map(|rival| rival.policy).collect()
    }

    #[test]
    fn the_more_specific_pattern_goes_before() {
        let all = [
            named("any", "*", "a"),
            named("acme", "acme/*", "a"),
            named("web", "acme/web:*", "a"),
            named("web-1", "acme/web:1*", "a"),
            named("web-too", "acme/web:*", "a"),
        ];
        assert_eq!(before(&all[0], "acme/web:1.0", &all), ["acme", "web", "web-1", "web-too"]);
        assert_eq!(before(&all[0], "acme/db:1.0", &all), ["acme"]);
        assert_eq!(before(&all[1], "acme/web:2.0", &all), ["web", "web-too"]);
        assert_eq!(before(&all[2], "acme/web:1.0", &all), ["web-1"]);
        assert!(before(&all[4], "acme/web:2.0", &all).is_empty(), "equals");
        assert!(before(&all[3], "acme/web:1.0", &all).is_empty());
    }

    #[test]
    fn devices_are_counted_where_both_claim_them() {
        let all = [named("acme", "acme/*", "a"), named("web", "acme/web:*", "a"), named("b", "acme/web:*", "b")];
        let devices: Vec<DeviceView> = [
            device("one", &json!({})),
            device("two", &json!({})),
            device("elsewhere", &json!({"metadata": {"labels": {"fleet": "b"}}})),
            device("other", &json!({"spec": {"apps": {"1": {"services": [{"imageName": "acme/db:1"}]}}}})),
        ]
        .iter()
        .map(DeviceView::new)
        .collect();
        let of = |index: usize| overlaps(&all[index].name_any(), &Rival::of(&all[index]).unwrap(), &all, &devices);
        assert_eq!(of(0), [("web".to_owned(), 2)].into());
        assert_eq!(of(1), BTreeMap::new());
        assert_eq!(of(2), BTreeMap::new(), "no device is in both fleets");
        let elsewhere = [named("elsewhere", "other/*", "a"), all[1].clone()];
        let own = Rival::of(&elsewhere[0]).unwrap();
        assert_eq!(overlaps("elsewhere", &own, &elsewhere, &devices), BTreeMap::new(), "no image of its own");
        let leaving = DeviceView { deleting: true, ..devices[0].clone() };
        let own = Rival::of(&all[0]).unwrap();
        assert_eq!(overlaps("acme", &own, &all, [&leaving, &devices[1]]), [("web".to_owned(), 1)].into());
    }
}
