//! `tranche doctor` on a cluster that is well, and on others.

use serde_json::{Value, json};
use tranche::api::rollout::Phase;

use super::{say, say_on};
use crate::rest::bind;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::wait::until;

fn grade(report: &Value, check: &str) -> String {
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == check);
    finding.unwrap_or_else(|| panic!("no {check} in {report:#}"))["grade"].as_str().unwrap().to_owned()
}

fn report(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_well_and_one_that_was() {
    let mut stage = Stage::set("cli-doctor", 2, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let said = say_on(&stage, &["doctor"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    assert!(!said.out.contains('✗') && !said.out.contains('!'), "{}", said.out);
    let well = report(&say_on(&stage, &["doctor", "-o", "json"]).out);
    assert_eq!(well["ok"], true);
    for check in
        ["cluster", "kinds", "clock", "your rights", "gateway", "controller", "policies", "rollouts", "objects"]
    {
        assert_eq!(grade(&well, check), "good", "{check}");
    }
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::Soaking).await;
    stage.tranche.take().unwrap().stop().await;
    stage.edit(&rollout, json!({"paused": true})).await;
    let said = say_on(&stage, &["doctor", "-o", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(grade(&report(&said.out), "controller"), "bad", "nobody looks at what has changed: {}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_may_see_anything() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("cli-doctor-nobody").await;
    let said = say(&plane.kubeconfig(User::Nobody), &namespace, &["doctor", "-o", "json"]);
    assert_eq!(said.code, 1);
    let nobody = report(&said.out);
    assert_eq!(grade(&nobody, "your rights"), "bad");
    assert_eq!(grade(&nobody, "kinds"), "unknown");
    assert!(said.out.contains("may not get imagerollouts"), "{}", said.out);
    let said = say(&plane.kubeconfig(User::Admin), &namespace, &["doctor", "-o", "json"]);
    let empty = report(&said.out);
    assert_eq!(grade(&empty, "gateway"), "bad", "nobody has ever written who is there");
    assert_eq!(grade(&empty, "policies"), "unknown");
    let advised = |finding: &Value| finding["grade"] != "bad" || finding["advice"].is_string();
    assert!(empty["findings"].as_array().unwrap().iter().all(advised), "{empty:#}");
}

/// With the roles that the examples have, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_roles_of_the_examples_suffice() {
    let plane = ControlPlane::shared();
    let stage = Stage::set("cli-roles", 2, &json!({})).await;
    bind(plane, &stage.namespace, User::Viewer, &["rbac-viewer.yaml"]).await;
    bind(plane, &stage.namespace, User::Operator, &["rbac-viewer.yaml", "rbac-operator.yaml"]).await;
    let say_as = |user: User, args: &[&str]| {
        tokio::task::block_in_place(|| say(&plane.kubeconfig(user), &stage.namespace, args))
    };
    // Bindings come to the API server's authorizer a moment after they are made.
    for (user, args) in [
        (User::Viewer, &["policies", "list"][..]),
        (User::Operator, &["policies", "list"]),
        (User::Operator, &["policies", "pause", "myapp", "--dry-run"]),
    ] {
        until("the roles to be known", async || {
            let said = say_as(user, args);
            if said.code == 0 { Ok(()) } else { Err(said.err) }
        })
        .await;
    }
    for (user, rights) in [(User::Viewer, "warning"), (User::Operator, "good")] {
        let said = say_as(user, &["doctor", "-o", "json"]);
        assert_eq!(said.code, 0, "{user:?}: {said:?}");
        let report = report(&said.out);
        assert_eq!((grade(&report, "your rights").as_str(), grade(&report, "objects").as_str()), (rights, "good"));
    }
    for verb in ["pause", "resume", "forgive"] {
        let said = say_as(User::Operator, &["policies", verb, "myapp"]);
        assert_eq!(said.code, 0, "{verb}: {said:?}");
    }
    let said = say_as(User::Viewer, &["policies", "pause", "myapp"]);
    assert!(said.code == 1 && said.err.contains("viewer (you) may not patch imageupdatepolicies"), "{said:?}");
}
