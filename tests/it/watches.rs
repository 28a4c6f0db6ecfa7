//! What the controller watches, and how often.

use std::collections::BTreeMap;

use super::support::live::World;

/// A second watch of a kind tells of changes that the cache of the first doesn't have yet. A pass that begins then sees
/// nothing to do, and nobody begins another.
#[tokio::test(start_paused = true)]
async fn each_kind_is_watched_once() {
    let world = World::healthy(1).await;
    let mut watches: BTreeMap<String, usize> = BTreeMap::new();
    for seen in world.api.requests() {
        if seen.actor == "controller" && seen.query.contains("watch=true") {
            *watches.entry(seen.path.rsplit('/').next().unwrap().to_owned()).or_default() += 1;
        }
    }
    let kinds = ["devicepresences", "devices", "imagerollouts", "imageupdatepolicies"];
    assert_eq!(watches, kinds.map(|kind| (kind.to_owned(), 1)).into());
}
