//! What people do, against the real control plane: what is written, by whom and why, and what is not.

use kube::ResourceExt as _;
use serde_json::json;
use tranche::api::rollout::Phase;
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

use super::say_on;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::wait::until;

async fn rollout(stage: &Stage, name: &str) -> ImageRollout {
    stage.api::<ImageRollout>().get(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_say_what_they_do_and_who_did_it() {
    let stage = Stage::set("cli-verbs", 10, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let name = stage.push("v2.0.0").await;
    stage.until_phase(&name, Phase::Soaking).await;

    // A dry run writes nothing, and shows what the planner would make of it.
    let before = rollout(&stage, &name).await.resource_version();
    for (verb, words) in [
        ("pause", &["would be paused: 8 devices wait; 2 devices that run it keep it", "Soaking -> Paused"][..]),
        ("cancel", &["would be cancelled", "Soaking -> Cancelled"]),
        ("rollback", &["2 devices go back", "Soaking -> RollingBack", "2 devices sent back"]),
    ] {
        let said = say_on(&stage, &["rollouts", verb, &name, "--dry-run", "--reason", "only looking"]);
        assert_eq!(said.code, 0, "{said:?}");
        for word in words {
            assert!(said.out.contains(word), "{verb} should say {word:?}:\n{}", said.out);
        }
    }
    assert_eq!(rollout(&stage, &name).await.resource_version(), before, "a dry run has written");

    let said = say_on(&stage, &["rollouts", "pause", &name, "--reason", "too slow"]);
    assert_eq!(said.out, format!("{name} paused: 8 devices wait; 2 devices that run it keep it\n"));
    let paused = stage.until_phase(&name, Phase::Paused).await;
    let line = paused.history.iter().find(|line| line.type_ == "RolloutPaused").unwrap();
    assert!(line.message.contains("admin: too slow"), "{}", line.message);
    let again = say_on(&stage, &["rollouts", "pause", &name]);
    assert_eq!((again.code, again.out), (0, format!("rollout {name} is paused already\n")));

    assert_eq!(say_on(&stage, &["rollouts", "resume", &name]).code, 0);
    stage.until_phase(&name, Phase::Soaking).await;
    assert_eq!(say_on(&stage, &["rollouts", "cancel", &name]).code, 0);
    stage.until_phase(&name, Phase::Cancelled).await;
    let late = say_on(&stage, &["rollouts", "pause", &name]);
    assert_eq!((late.code, late.out.as_str()), (4, ""), "{}", late.err);
    assert!(late.err.contains("is cancelled (Cancelled): there is nothing to pause"), "{}", late.err);

    // Once more, by a person's word: starting it is not that.
    let started = say_on(&stage, &["rollouts", "start", "myapp", "iotistic/myapp:v2.0.0"]);
    assert_eq!((started.code, started.out.as_str()), (4, ""), "{started:?}");
    assert!(started.err.contains(&format!("`tranche rollouts retry {name}` rolls it out again")), "{started:?}");
    let dry = say_on(&stage, &["rollouts", "retry", &name, "--dry-run"]);
    assert!(dry.out.contains("would be created") && dry.out.contains("phase    "), "{}", dry.out);
    assert_eq!(stage.api::<ImageRollout>().list(&Default::default()).await.unwrap().items.len(), 1);
    let said = say_on(&stage, &["rollouts", "retry", &name]);
    let again = said.out.split(' ').next().unwrap().to_owned();
    assert!(said.out.contains("created: docker.io/iotistic/myapp:v2.0.0"), "{said:?}");
    assert!(say_on(&stage, &["rollouts", "retry", &name]).out.starts_with(&format!("{again} is there already")));
    stage.until_phase(&again, Phase::Soaking).await;
    assert_eq!(say_on(&stage, &["rollouts", "retry", &again]).code, 4, "it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_approved_and_a_device_sent_back() {
    let stage = Stage::set("cli-approve", 10, &json!({"strategy": {"type": "Manual"}})).await;
    let said = say_on(&stage, &["rollouts", "start", "myapp", "other/app:v1"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("is for iotistic/myapp:*, which does not match"), "{}", said.err);
    let said = say_on(&stage, &["rollouts", "start", "myapp", "iotistic/myapp:v2.0.0", "--reason", "by hand"]);
    let name = said.out.split(' ').next().unwrap().to_owned();
    stage.until_phase(&name, Phase::AwaitingApproval).await;
    let again = say_on(&stage, &["rollouts", "start", "myapp", "iotistic/myapp:v2.0.0"]);
    assert!(again.code == 0 && again.out.starts_with(&format!("{name} is there already: ")), "{again:?}");
    let said = say_on(&stage, &["rollouts", "approve", &name]);
    assert_eq!(said.out, format!("{name} approved: batch 1 (20%) may open: 2 devices\n"));
    stage.until_running("v2.0.0", 2).await;
    assert_eq!(say_on(&stage, &["rollouts", "approve", &name, "--batch", "7"]).code, 4);

    let one = stage.released(&name).await.remove(0);
    let said = say_on(&stage, &["devices", "why", &one]);
    assert!(said.out.starts_with(&format!("{name} (")) && said.out.contains("batch 1"), "{said:?}");
    let said = say_on(&stage, &["devices", "rollback", &one.to_uppercase()]);
    assert_eq!(said.out, format!("{name} rolled back: device {one} goes back to its own previous image\n"));
    stage.until_running("v2.0.0", 1).await;
    let again = say_on(&stage, &["devices", "rollback", &one]);
    assert_eq!((again.code, again.out), (0, format!("device {one} was sent back from rollout {name} already\n")));
    let again = say_on(&stage, &["rollouts", "rollback", &name, "--device", &one.to_uppercase()]);
    assert_eq!((again.code, again.out), (0, format!("device {one} goes back already\n")));

    // A device that was never sent forward can't be sent back; each name takes a place of a thousand.
    let typo = say_on(&stage, &["rollouts", "rollback", &name, "--device", "no-such-device"]);
    assert!(typo.code == 3 && typo.err.contains("there is no device no-such-device"), "{typo:?}");
    let stranger = serde_json::from_value(json!({"metadata": {"name": "stranger"}, "spec": {}})).unwrap();
    stage.api::<Device>().create(&Default::default(), &stranger).await.unwrap();
    let said = say_on(&stage, &["rollouts", "rollback", &name, "--device", "stranger"]);
    assert!(said.code == 4 && said.err.contains("device stranger is not one of rollout"), "{said:?}");
    assert_eq!(rollout(&stage, &name).await.spec.roll_back_devices, [one]);
    let door = crate::rest::Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);
    let refused = door.post(&format!("/rollouts/{name}/devices/stranger/rollback"), &json!({})).await;
    assert!(refused.problem(409, "state")["detail"].as_str().unwrap().contains("has no service of"), "{refused:?}");
    let none = stage.list().await.iter().find(|device| device.spec.images.is_empty()).unwrap().name_any();
    let said = say_on(&stage, &["devices", "rollback", &none]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("no rollout has told device"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_held_and_policies_paused() {
    let stage = Stage::set("cli-hold", 2, &json!({"strategy": {"type": "Auto", "batches": null}})).await;
    let one = stage.list().await.remove(0).name_any();
    let held = async || stage.api::<Device>().get(&one).await.unwrap().spec.hold;
    let said = say_on(&stage, &["devices", "hold", &one, "--dry-run"]);
    assert!(said.out.contains("would be held") && !held().await, "{said:?}");
    assert_eq!(say_on(&stage, &["devices", "hold", &one, "--reason", "on the bench"]).code, 0);
    assert!(held().await);
    assert!(say_on(&stage, &["devices", "get", &one]).out.contains("DeviceHeld by admin: on the bench"));
    assert!(say_on(&stage, &["devices", "list", "--status", "held", "-o", "name"]).out.ends_with(&format!("/{one}\n")));
    assert!(say_on(&stage, &["devices", "hold", &one]).out.contains("held already"));
    assert_eq!(say_on(&stage, &["devices", "release", &one]).code, 0);
    assert!(!held().await);

    let suspended = async || stage.api::<ImageUpdatePolicy>().get("myapp").await.unwrap().spec.suspend;
    assert_eq!(say_on(&stage, &["policies", "pause", "myapp"]).code, 0);
    assert!(suspended().await);
    until("the api to know of it", async || {
        let said = say_on(&stage, &["policies", "check", "myapp", "--image", "iotistic/myapp:v2.0.0"]);
        let told = said.code == 4 && said.err.contains("the policy is suspended");
        if told { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    assert_eq!(say_on(&stage, &["policies", "resume", "myapp"]).code, 0);
    assert!(!suspended().await);
    let said = say_on(&stage, &["policies", "check", "myapp", "--image", "iotistic/myapp:v2.0.0"]);
    assert_eq!(said.code, 0, "{said:?}");
    for words in [
        "2 selected, 2 of them",
        "batch 1  2 devices, 0 may fail",
        "would be rolled out as myapp-",
        "2 devices released",
    ] {
        assert!(said.out.contains(words), "{words:?} is missing:\n{}", said.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_followed_to_its_end() {
    let stage = Stage::set("cli-watch", 10, &json!({"strategy": {"batchDelay": "1s"}})).await;
    let good = stage.push("v2.0.0").await;
    let said = tokio::task::block_in_place(|| say_on(&stage, &["rollouts", "watch", &good]));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains(&format!("{good} Completed batch 2/2 10/10 healthy")), "{}", said.out);
    assert!(said.out.ends_with('\n') && said.out.contains(&format!("{good} is Completed after ")), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'), "no terminal, no colours: {:?}", said.out);

    let bad = stage.push("v9.9.9").await;
    let said = tokio::task::block_in_place(|| say_on(&stage, &["rollouts", "watch", &bad]));
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains(&format!("rollout {bad} is RolledBack")), "{}", said.err);

    let slow = json!({"spec": {"strategy": {"batchDelay": "10m"}}});
    let api = stage.api::<ImageUpdatePolicy>();
    api.patch("myapp", &Default::default(), &kube::api::Patch::Merge(&slow)).await.unwrap();
    let third = stage.push("v3.0.0").await;
    let said = tokio::task::block_in_place(|| say_on(&stage, &["rollouts", "watch", &third, "--timeout", "1s"]));
    assert_eq!(said.code, 6, "{said:?}");
}
