use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::plan::fixture::{Fixture, at, device, entry, policy, rollout};

#[test]
fn ranks_are_as_published() {
    // Pinned: another value would shuffle the batches of every rollout that runs during an upgrade.
    assert_eq!(rank("uid", "device"), 0x76b1_c502_94b0_4a50);
    assert_ne!(rank("uid-a", "device"), rank("uid-b", "device"));
}

#[test]
fn sizes_round_up() {
    assert_eq!([1, 3, 10, 11, 20].map(|total| Size::Percent(10).of(total)), [1, 1, 1, 2, 2]);
    assert_eq!(Size::Percent(100).of(7), 7);
    assert_eq!(Size::Count(5).of(3), 3);
}

fn fleet(count: usize, label: impl Fn(usize) -> Value) -> Vec<crate::api::Device> {
    (0..count)
        .map(|index| device(&format!("device-{index}"), &json!({ "metadata": { "labels": label(index) } })))
        .collect()
}

/// Devices by batch, and the boundaries, right after the start.
fn place(batches: &Value, devices: &[crate::api::Device]) -> (BTreeMap<usize, usize>, Vec<u64>) {
    let policy = policy(&json!({ "strategy": { "batches": batches } }));
    let fixture = Fixture::new(policy, rollout(&json!({})), devices, at(0));
    let boundaries: Vec<u64> =
        fixture.plan().status.batches.iter().map(|batch| u64::from_str_radix(&batch.boundary, 16).unwrap()).collect();
    let mut counts = BTreeMap::new();
    fixture.look(|observed| {
        for member in observed.members {
            *counts.entry(batch_of(member, &boundaries)).or_insert(0) += 1;
        }
    });
    (counts, boundaries)
}

#[test]
fn exact_at_the_start_for_any_number_of_devices() {
    let batches = json!([{ "size": "10%" }, { "size": "50%" }, { "size": "100%" }]);
    for total in 1..=200_usize {
        let (counts, _) = place(&batches, &fleet(total, |_| json!({})));
        let upto = |share: usize| (total * share).div_ceil(100);
        let count = |batch| counts.get(&batch).copied().unwrap_or(0);
        assert_eq!(count(1), upto(10), "{total}");
        assert_eq!(count(2), upto(50) - upto(10), "{total}");
        assert_eq!(count(3), total - upto(50), "{total}");
    }
}

#[test]
fn counts_are_cumulative_and_stop_at_what_is_there() {
    let batches = json!([{ "size": 1 }, { "size": 5 }, { "size": "50%" }, { "size": "100%" }]);
    for (total, expected) in [(1, [1, 0, 0, 0]), (4, [1, 3, 0, 0]), (8, [1, 4, 0, 3]), (20, [1, 4, 5, 10])] {
        let (counts, _) = place(&batches, &fleet(total, |_| json!({})));
        assert_eq!([1, 2, 3, 4].map(|batch| counts.get(&batch).copied().unwrap_or(0)), expected, "{total}");
    }
}

#[test]
fn selectors_choose_who_may_be_in_a_batch() {
    let batches = json!([
        { "size": "10%", "selector": { "matchLabels": { "canary": "yes" } } },
        { "size": "50%" },
        { "size": "100%" },
    ]);
    let canaries = |every: usize| {
        move |index: usize| if index.is_multiple_of(every) { json!({ "canary": "yes" }) } else { json!({}) }
    };
    // Enough canaries: exactly a tenth, all of them canaries.
    let (counts, _) = place(&batches, &fleet(100, canaries(2)));
    assert_eq!(counts, BTreeMap::from([(1, 10), (2, 40), (3, 50)]));
    // Too few: the next batch makes up for them, since sizes are cumulative.
    let (counts, _) = place(&batches, &fleet(100, canaries(25)));
    assert_eq!(counts, BTreeMap::from([(1, 4), (2, 46), (3, 50)]));
    // None: an empty batch, into which nobody falls later either.
    let (counts, boundaries) = place(&batches, &fleet(100, |_| json!({})));
    assert_eq!((counts, boundaries[0]), (BTreeMap::from([(2, 50), (3, 50)]), 0));
}

#[test]
fn latecomers_fall_into_place() {
    let batches = json!([{ "size": "10%" }, { "size": "50%" }, { "size": "100%" }]);
    let (_, boundaries) = place(&batches, &fleet(100, |_| json!({})));
    let spec = json!({ "strategy": { "batches": batches } });
    let late: Vec<_> = (0..2000).map(|index| device(&format!("late-{index}"), &json!({}))).collect();
    let fixture = Fixture::new(policy(&spec), rollout(&json!({})), &late, at(0));
    let mut counts = [0; 3];
    fixture.look(|observed| observed.members.iter().for_each(|member| counts[batch_of(member, &boundaries) - 1] += 1));
    // Ranks are even, so shares hold about as well as the boundaries of a hundred devices can say.
    assert!(counts[0] > 80 && counts[0] < 360, "{counts:?}");
    assert!(counts[1] > 500 && counts[1] < 1100, "{counts:?}");
}

#[test]
fn an_entry_says_the_batch() {
    let released = device("device-1", &json!({ "spec": { "images": [entry(&json!({ "batch": 2 }))] } }));
    let fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), &[released], at(0));
    fixture.look(|observed| {
        assert_eq!(batch_of(&observed.members[0], &[0, 0, u64::MAX]), 2);
        assert_eq!(batch_of(&observed.members[0], &[u64::MAX]), 1, "edited by hand: never past the last");
    });
}
