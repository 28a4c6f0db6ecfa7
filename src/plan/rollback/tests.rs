//! Who is back, who is not, and that it is said.

use serde_json::json;

use crate::api::Device;
use crate::api::condition::{DEVICES_NOT_BACK, find};
use crate::api::rollout::{ImageRolloutStatus, Phase};
use crate::api::time::whole_seconds;
use crate::plan::fixture::{Fixture, at, device, entry, failed, policy, reported, rollout};
use crate::plan::{Plan, ValidatedPolicy, explain};

/// A device that was sent back at second 700, and what it reports since.
fn sent_back(name: &str, image: &str, status: &str, has_failed: bool) -> Device {
    let back = json!({ "image": "docker.io/acme/web:v1", "rolledBack": true, "releaseTime": at(700).to_string() });
    let updates = if has_failed { failed() } else { json!([]) };
    let spec = json!({ "images": [entry(&back)] });
    device(name, &json!({ "spec": spec, "status": { "services": [reported(image, status)], "updates": updates } }))
}

/// A rollout that goes back, at this second; the deadline is ten minutes, and `away` was seen last at second 800.
fn going_back(devices: &[Device], now: i64) -> Fixture {
    let mut fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), devices, at(now));
    fixture.seen.insert("away".into(), at(800));
    let valid = ValidatedPolicy::new(fixture.policy.as_ref().expect("there")).expect("valid");
    let (plan, batches) = valid.resolve(at(0), devices.len(), &[u64::MAX / 4, u64::MAX / 2, u64::MAX]);
    fixture.rollout.status = Some(ImageRolloutStatus {
        phase: Phase::RollingBack,
        plan: Some(plan),
        batches,
        current_batch: 3,
        rollback_time: Some(whole_seconds(at(700))),
        ..Default::default()
    });
    fixture
}

fn not_back(plan: &Plan) -> Option<&str> {
    find(&plan.status.conditions, DEVICES_NOT_BACK).map(|condition| condition.message.as_str())
}

#[test]
fn a_way_back_is_watched_to_its_end() {
    let devices = [
        sent_back("here", "acme/web:v1", "running", false),
        sent_back("failed", "acme/web:v1", "running", true),
        sent_back("other", "acme/web:v2", "running", false),
        sent_back("down", "acme/web:v1", "exited", true),
        sent_back("away", "acme/web:v2", "running", false),
    ];
    let mut fixture = going_back(&devices, 850);
    let plan = fixture.plan();
    assert_eq!((plan.status.phase, not_back(&plan)), (Phase::RollingBack, None));
    assert_eq!(plan.status.message, "3 of 5 devices are not back on their previous image yet");
    assert_eq!(plan.requeue_at, Some(at(1300)), "when the deadline of those that are on the way is up");

    fixture.now = at(1300);
    fixture.knowledge.as_of = Some(fixture.now);
    for name in ["here", "failed", "other", "down"] {
        fixture.seen.insert(name.into(), fixture.now);
    }
    let plan = fixture.settle();
    assert_eq!(plan.status.phase, Phase::RolledBack);
    assert_eq!(
        plan.status.message,
        "2 of 5 devices are back on their previous image, 2 were sent back but are not seen running it, \
         1 are offline and go back when they turn up"
    );
    assert_eq!(
        not_back(&plan),
        Some(
            "of the devices that were sent back, 2 do not run their previous image (down: it reports the image, but its \
             container is not running), 1 are offline and go back when they turn up (away)"
        )
    );
    let shown =
        fixture.look(|observed| explain::devices(observed, &crate::plan::plan(observed, fixture.now), fixture.now));
    let wait = |name: &str| shown.iter().find(|report| report.device == name).expect(name).wait.to_string();
    assert_eq!(wait("here"), "is back on its previous image");
    assert_eq!(wait("failed"), "is back on its previous image; failed (DeadlineExceeded): it did not come up");
    assert_eq!(wait("other"), "is not back on its previous image: it reports another image");
    assert_eq!(wait("away"), "was sent back to its previous image, and was not seen since 2026-06-01T08:13:20Z");

    // Once they are, nothing is left to say.
    let mut fixture = going_back(&devices[..2], 1300);
    assert_eq!(not_back(&fixture.settle()), None);
}
