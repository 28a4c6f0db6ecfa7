//! Names, keys, and who may come in.

use serde_json::json;

use super::*;

fn device(name: &str, key: u8, created: &str) -> Device {
    serde_json::from_value(json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "Device",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"auth": {"keyHash": format!("sha256:{}", format!("{key:02x}").repeat(32))}},
    }))
    .unwrap()
}

fn cache() -> Cache {
    Cache::new(Arc::default())
}

fn owner(cache: &Cache, key: u8) -> Option<String> {
    cache.by_key(&[key; 32]).map(|record| record.name.to_string())
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-02-01T00:00:00Z";

#[test]
fn comes_and_goes() {
    let cache = cache();
    cache.apply(&device("a", 1, OLD));
    cache.apply(&device("b", 2, OLD));
    assert_eq!(cache.len(), 2);
    assert_eq!(owner(&cache, 1).as_deref(), Some("a"));
    cache.apply(&device("a", 3, OLD));
    assert_eq!((owner(&cache, 1), owner(&cache, 3).as_deref()), (None, Some("a")), "a new key ends the old one");
    cache.remove("a");
    cache.remove("a");
    assert_eq!((owner(&cache, 3), cache.len()), (None, 1));
    assert!(cache.by_name("a").is_none());
}

#[test]
fn a_copied_key_opens_nothing() {
    let cache = cache();
    cache.apply(&device("copy", 1, NEW));
    assert_eq!(owner(&cache, 1).as_deref(), Some("copy"));
    cache.apply(&device("original", 1, OLD));
    assert_eq!(owner(&cache, 1).as_deref(), Some("original"));
    cache.apply(&device("copy", 1, NEW));
    cache.apply(&device("original", 1, OLD));
    assert_eq!(owner(&cache, 1).as_deref(), Some("original"), "whatever comes last");
    cache.remove("original");
    assert_eq!(owner(&cache, 1).as_deref(), Some("copy"), "the key is free again");
    cache.apply(&device("original", 1, OLD));
    cache.apply(&device("copy", 2, NEW));
    cache.remove("original");
    assert_eq!((owner(&cache, 1), owner(&cache, 2).as_deref()), (None, Some("copy")));
}

#[test]
fn a_full_list_replaces_everything() {
    let cache = cache();
    cache.apply(&device("a", 1, OLD));
    cache.apply(&device("b", 2, OLD));
    if let Some(record) = cache.by_name("a") {
        record.shared.see(9);
    }
    let list = [device("a", 1, OLD), device("c", 3, OLD), device("copy", 1, NEW)];
    cache.replace(list.iter().map(|device| Arc::new(cache.project(device))).collect());
    assert_eq!(cache.len(), 3);
    assert_eq!(owner(&cache, 1).as_deref(), Some("a"));
    assert_eq!((owner(&cache, 2), owner(&cache, 3).as_deref()), (None, Some("c")));
    assert_eq!(cache.by_name("a").map(|record| record.shared.seen()), Some(9), "what was seen stays known");
    cache.remove("a");
    assert_eq!(owner(&cache, 1).as_deref(), Some("copy"));
}

#[test]
fn every_device_is_in_exactly_one_part() {
    let cache = cache();
    for n in 0..500 {
        cache.apply(&device(&format!("d-{n}"), 0, OLD));
    }
    let mut names = std::collections::HashSet::new();
    for part in 0..PARTS {
        cache.for_each_in(part, |record| assert!(names.insert(record.name.clone())));
    }
    assert_eq!(names.len(), 500);
}

#[test]
fn the_hash_never_changes() {
    // Presence objects of running replicas go by it.
    assert_eq!(name_hash(""), 18_284_041_282_127_212_159);
}
