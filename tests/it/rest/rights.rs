//! RBAC decides, and the record of the API server names the person.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::json;
use tranche::api::{ImageRollout, act::Act};

use super::{Door, bind};
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn three_people() {
    let plane = ControlPlane::shared();
    let stage = Stage::set("rest-rights", 3, &json!({"strategy": {"type": "Manual"}})).await;
    let (namespace, url) = (stage.namespace.clone(), stage.tranche().url.clone());
    bind(plane, &namespace, User::Viewer, &["rbac-viewer.yaml"]).await;
    bind(plane, &namespace, User::Operator, &["rbac-viewer.yaml", "rbac-operator.yaml"]).await;
    let [viewer, operator, nobody] =
        [User::Viewer, User::Operator, User::Nobody].map(|user| Door::of(plane, &url, user));
    let rollout = stage.push("v2.0.0").await;
    let from = plane.mark(&stage.client).await;

    // Bindings come to the API server's authorizer a moment after they are made.
    until("the viewer to be let in", async || {
        let answer = viewer.get("/rollouts").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    for door in [&viewer, &operator] {
        let list = door.get("/rollouts").await.ok();
        assert_eq!(list["rollouts"][0]["rollout_id"], rollout, "{list}");
        assert_eq!(list["rollouts"][0]["image_pattern"], "iotistic/myapp:*");
    }
    let refusal = nobody.get("/rollouts").await.problem(403, "forbidden");
    let text = refusal["detail"].as_str().unwrap();
    assert!(text.contains("\"nobody\" cannot list") && text.contains("imagerollouts"), "{text}");

    let before = stage.api::<ImageRollout>().get(&rollout).await.unwrap();
    for path in ["pause", "cancel", "rollback-all", "approve", "resume"] {
        let answer = viewer.post(&format!("/rollouts/{rollout}/{path}"), &json!({})).await;
        if path != "resume" {
            let refusal = answer.problem(403, "forbidden");
            assert!(refusal["detail"].as_str().unwrap().contains("\"viewer\" cannot patch"), "{refusal}");
        }
    }
    viewer.post("/image-policies", &json!({"image_pattern": "a/b"})).await.problem(403, "forbidden");
    viewer.delete("/image-policies/myapp").await.problem(403, "forbidden");
    let after = stage.api::<ImageRollout>().get(&rollout).await.unwrap();
    assert_eq!((before.spec, before.metadata.generation), (after.spec, after.metadata.generation));

    let answer =
        operator.post(&format!("/rollouts/{rollout}/pause"), &json!({"reason": "the line is busy"})).await.ok();
    assert_eq!(answer["changed"], true, "{answer}");
    let paused = stage.api::<ImageRollout>().get(&rollout).await.unwrap();
    assert!(paused.spec.paused);
    let act = Act::of(&paused.metadata).unwrap();
    assert_eq!((act.by.as_str(), act.reason.as_deref()), ("operator", Some("the line is busy")));
    stage
        .until(&rollout, "its history to name the operator", |status| {
            status.history.iter().any(|line| line.message.contains("operator: the line is busy"))
        })
        .await;

    let to = plane.mark(&stage.client).await;
    let calls = plane.calls(from, to);
    let of = |user: &str, write: bool| {
        calls.iter().filter(|call| call.user == user && call.namespace == namespace && call.is_write() == write).count()
    };
    let patched = calls.iter().filter(|call| call.user == "operator" && call.verb == "patch" && call.code == 200);
    assert_eq!(patched.count(), 1);
    assert!(of("viewer", false) > 3 && of("nobody", false) > 0);
    let written =
        calls.iter().filter(|call| call.user == "viewer" && call.is_write() && call.resource != "selfsubjectreviews");
    assert!(written.clone().all(|call| call.code == 403), "{:?}", written.collect::<Vec<_>>());
    let log = stage.tranche().log();
    for user in [User::Viewer, User::Operator, User::Nobody] {
        assert!(!log.contains(&plane.token(user)), "a token is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_namespace_never_reads_another() {
    let plane = ControlPlane::shared();
    let stage = Stage::set("rest-other", 2, &json!({})).await;
    let rollout = stage.push("v2.0.0").await;
    let elsewhere = plane.namespace("rest-own").await;
    bind(plane, &elsewhere, User::Operator, &["rbac-viewer.yaml", "rbac-operator.yaml"]).await;
    let door = Door::of(plane, &stage.tranche().url, User::Operator);
    let device = kube::ResourceExt::name_any(&stage.list().await[0]);
    for path in [
        "/rollouts".to_owned(),
        "/rollouts/active".to_owned(),
        format!("/rollouts/{rollout}"),
        format!("/rollouts/{rollout}/devices"),
        format!("/rollouts/{rollout}/events"),
        format!("/rollouts/{rollout}/watch"),
        "/image-policies".to_owned(),
        "/image-policies/myapp".to_owned(),
        "/devices".to_owned(),
        format!("/devices/{device}"),
    ] {
        let answer = door.get(&path).await;
        answer.problem(403, "forbidden");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_told() {
    let plane = ControlPlane::shared();
    let stage = Stage::set("rest-strangers", 1, &json!({})).await;
    let url = &stage.tranche().url;
    for door in [
        Door::with(url, None),
        Door::with(url, None).header("authorization", "Basic YTpi"),
        Door::with(url, Some("made-up".into())),
        // Somebody else's name is not taken from whoever asks.
        Door::with(url, Some("made-up".into())).header("impersonate-user", "admin"),
    ] {
        let answer = door.get("/rollouts").await;
        answer.problem(401, "unauthenticated");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let nobody = Door::of(plane, url, User::Nobody).header("impersonate-user", "admin");
    nobody.get("/rollouts").await.problem(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_rollouts_and_no_devices_sees_the_rollout() {
    let plane = ControlPlane::shared();
    let stage = Stage::set("rest-part", 2, &json!({})).await;
    let rollout = stage.push("v2.0.0").await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "rollouts"},
        "rules": [{"apiGroups": ["tranche.dev"], "resources": ["imagerollouts"], "verbs": ["get", "list"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "rollouts"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "rollouts"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}],
    });
    let roles: kube::Api<Role> = kube::Api::namespaced(stage.client.clone(), &stage.namespace);
    let bindings: kube::Api<RoleBinding> = kube::Api::namespaced(stage.client.clone(), &stage.namespace);
    roles.create(&Default::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    bindings.create(&Default::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let door = Door::of(plane, &stage.tranche().url, User::Viewer);
    until("the viewer to be let in", async || {
        let answer = door.get("/rollouts").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    let details = door.get(&format!("/rollouts/{rollout}")).await.ok();
    assert_eq!(details["rollout"]["rollout_id"], rollout);
    assert_eq!((&details["devices"], &details["devices_complete"]), (&json!([]), &json!(false)), "{details}");
    let why = details["devices_error"].as_str().unwrap();
    assert!(why.contains("\"viewer\" cannot list") && why.contains("devices"), "{why}");
    door.get(&format!("/rollouts/{rollout}/devices")).await.problem(403, "forbidden");
}
