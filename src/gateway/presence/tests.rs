//! Shards, schedules, merging. Writing is tested through a client in `tests/it`.

use serde_json::json;

use super::*;

fn cache(devices: usize) -> Cache {
    let cache = Cache::new(Arc::default());
    for n in 0..devices {
        let device = json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "metadata": {"name": format!("d-{n}")}, "spec": {},
        });
        cache.apply(&serde_json::from_value(device).unwrap());
    }
    cache
}

#[test]
fn shard_counts() {
    for (devices, count) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (2001, 4), (10_000, 16), (1_000_000, 1024)] {
        assert_eq!(shard_count(devices), count, "{devices}");
    }
    assert_eq!(shard_name(16, 3), "presence-16-3");
}

#[test]
fn shards_partition_the_devices() {
    let cache = cache(700);
    for count in [1, 2, 16, 64, 256] {
        let mut total = 0;
        for shard in 0..count {
            for part in parts(count, shard) {
                cache.for_each_in(part, |record| total += usize::from(name_hash(&record.name) % count == shard));
            }
        }
        assert_eq!(total, 700, "{count} shards");
    }
}

#[test]
fn merging_keeps_the_later_time_and_drops_strangers() {
    let cache = cache(3);
    let see = |name: &str, at| cache.by_name(name).map(|record| record.shared.see(at));
    see("d-0", 100);
    see("d-1", 100);
    let now: Timestamp = "2026-01-01T00:00:00.7Z".parse().unwrap();
    let there: DevicePresence = serde_json::from_value(json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "DevicePresence",
        "metadata": {"name": "presence-1-0", "resourceVersion": "7"},
        "spec": {"asOf": "2025-12-31T23:59:00Z", "interval": "5s", "seen": {"d-1": 150, "d-0": 50, "d-2": 70, "gone": 90}},
    }))
    .unwrap();
    let merged = merged(&cache, 1, 0, Duration::from_secs(5), Some(there), now);
    assert_eq!(merged.metadata.resource_version.as_deref(), Some("7"));
    let seen: Vec<_> = merged.spec.seen.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    assert_eq!(seen, [("d-0", 100), ("d-1", 150), ("d-2", 70)]);
    assert_eq!(merged.spec.as_of.0.to_string(), "2026-01-01T00:00:00Z", "whole seconds");
    assert_eq!(cache.by_name("d-1").map(|record| record.shared.seen()), Some(150), "learnt from other replicas");
    let fresh = super::merged(&cache, 1, 0, Duration::from_secs(5), None, now);
    assert_eq!(fresh.metadata.name.as_deref(), Some("presence-1-0"));
    assert_eq!(fresh.metadata.resource_version, None);
}

#[test]
fn a_device_that_turns_up_is_told_of_early() {
    let cache = cache(1);
    let record = cache.by_name("d-0").unwrap();
    let presence = Presence::new(None);
    let see = |second: i64| {
        presence.see(&record, Timestamp::from_second(1_000_000 + second).unwrap());
        std::mem::take(&mut *presence.early.lock()).len()
    };
    assert_eq!(see(0), 1, "never seen before");
    assert_eq!(see(3), 0);
    assert_eq!(see(183), 0, "agents that poll once a minute don't turn up each time");
    assert_eq!(see(364), 1, "it was away");
    assert_eq!(see(360), 0, "clocks may step back");
}

#[tokio::test(start_paused = true)]
async fn early_writes_keep_their_distance() {
    let start = Instant::now();
    let mut schedule = Schedule::new(4, Duration::from_secs(5), start);
    assert_eq!(schedule.take_due(start), [0], "spread over the interval");
    schedule.written(0, true, start);
    schedule.hurry([0, 2, 99].into(), start);
    assert_eq!(schedule.next(start), start + COALESCE);
    assert_eq!(schedule.take_due(start + COALESCE), [0, 2]);
    schedule.hurry([0].into(), start + COALESCE / 2);
    assert_eq!(schedule.due[0], start + COALESCE, "others that turn up don't push it out");
    schedule.written(2, false, start);
    assert_eq!(schedule.due[2], start + RETRY);

    let mut large = Schedule::new(1024, Duration::from_secs(60), start);
    for shard in 0..1024 {
        large.written(shard, true, start);
    }
    large.hurry((0..1024).collect(), start);
    assert!(large.next(start) >= start + Duration::from_secs(20), "a whole fleet at once must not storm");
}
