//! Bad input, and lists.

use http::Method;
use serde_json::json;

use super::Door;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{Settings, Tranche};

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named() {
    let stage = Stage::set("rest-refusals", 2, &json!({})).await;
    let plane = ControlPlane::shared();
    let door = Door::of(plane, &stage.tranche().url, User::Admin);
    let rollout = stage.push("v2.0.0").await;
    for unknown in [
        "/rollouts/none",
        "/rollouts/none/devices",
        "/rollouts/none/events",
        "/rollouts/none/watch",
        "/devices/none",
        "/rollouts/..%2f..%2fapi",
        "/rollouts/a%2Fb%3Fc",
        "/rollouts/%ff",
        "/rollouts/0e8f3c1e-9a00-4000-8000-00000000000a",
        "/image-policies/NONE",
        "/devices/a%00b",
    ] {
        door.get(unknown).await.problem(404, "not-found");
    }
    door.get("/no-such-thing").await.problem(404, "no-route");
    for (path, parameter) in [
        ("/rollouts?status=done", "status"),
        ("/rollouts?limit=0", "limit"),
        ("/rollouts?limit=501", "limit"),
        ("/rollouts?offset=-1", "offset"),
        ("/rollouts?offset=1&continue=MTIz", "offset"),
        ("/rollouts?continue=!", "continue"),
        ("/rollouts?colour=red", "colour"),
        ("/rollouts/active?limit=1", "limit"),
        ("/rollouts?policy=a%20b", "policy"),
        ("/devices?connected=maybe", "connected"),
        ("/devices?fleet=a%20b", "fleet"),
    ] {
        assert_eq!(door.get(path).await.problem(400, "bad-parameter")["parameter"], parameter, "{path}");
    }
    let pause = format!("/rollouts/{rollout}/pause");
    for (body, names) in [
        ("{", "EOF"),
        ("[]", "body"),
        (r#"{"raeson": "a"}"#, "raeson"),
        (r#"{"reason": 1}"#, "string"),
        (r#"{"reason": "a\nb"}"#, "one line"),
    ] {
        let problem = door.send(Method::POST, &pause, Some(body.into())).await.problem(400, "bad-body");
        assert!(problem["detail"].as_str().unwrap().contains(names), "{body}: {problem}");
    }
    door.post(&pause, &json!({"reason": "x".repeat(257)})).await.problem(400, "bad-body");
    door.send(Method::POST, &pause, Some("x".repeat(70_000))).await.problem(413, "body-too-large");
    for (method, path, allowed) in [
        (Method::DELETE, pause.as_str(), "POST"),
        (Method::PATCH, "/rollouts", "GET"),
        (Method::PUT, "/devices", "GET"),
    ] {
        let answer = door.send(method, path, None).await;
        answer.problem(405, "method");
        assert!(answer.headers["allow"].to_str().unwrap().contains(allowed), "{answer:?}");
    }
    let other = door.post("/rollouts", &json!({"image": "iotistic/other:v1"})).await.problem(422, "invalid");
    assert!(other["detail"].as_str().unwrap().contains("no policy"), "{other}");
    let named = json!({"image": "iotistic/other:v1", "policy": "myapp"});
    door.post("/rollouts", &named).await.problem(422, "invalid");
    door.post("/rollouts", &json!({"image": "a:1", "policy": "none"})).await.problem(404, "not-found");
    door.post("/rollouts", &json!({"image": "iotistic/myapp"})).await.problem(400, "bad-body");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_newest_first_and_go_on() {
    let stage = Stage::set("rest-lists", 1, &json!({"suspend": true})).await;
    let door = Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);
    let mut made = Vec::new();
    for tag in ["v2", "v3", "v4", "v5", "v6"] {
        let answer = door.post("/rollouts", &json!({"image": format!("iotistic/myapp:{tag}")})).await;
        made.push(answer.ok()["rollout_id"].as_str().unwrap().to_owned());
    }
    let ids = |list: &serde_json::Value| -> Vec<String> {
        let rollouts = list["rollouts"].as_array().unwrap();
        rollouts.iter().map(|rollout| rollout["rollout_id"].as_str().unwrap().to_owned()).collect()
    };
    let all = door.get("/rollouts").await.ok();
    assert_eq!(all["pagination"], json!({"total": 5, "limit": 50, "offset": 0}));
    let rollouts = all["rollouts"].as_array().unwrap();
    let times: Vec<_> = rollouts.iter().map(|rollout| rollout["created_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let all = ids(&all);
    let by_offset = door.get("/rollouts?limit=2&offset=2").await.ok();
    assert_eq!(ids(&by_offset), all[2..4]);
    let mut path = "/rollouts?limit=2".to_owned();
    let mut read = Vec::new();
    loop {
        let page = door.get(&path).await.ok();
        read.extend(ids(&page));
        let Some(token) = page["pagination"]["continue"].as_str() else { break };
        path = format!("/rollouts?limit=2&continue={token}");
    }
    assert_eq!(read, all);
    assert_eq!(ids(&door.get("/rollouts?image_name=tic/my&policy=myapp&status=pending").await.ok()).len(), 5);
    for nothing in ["image_name=other", "policy=other", "status=completed"] {
        assert_eq!(door.get(&format!("/rollouts?{nothing}")).await.ok()["pagination"]["total"], 0, "{nothing}");
    }
}

/// Whoever asks at the door whether somebody is there is told so, whichever components are behind it.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_there_without_a_gateway() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("rest-health").await;
    let settings = Settings::new(&plane.kubeconfig(User::Admin), &namespace).only(&["api"]);
    let tranche = Tranche::start(&settings).await;
    let response = reqwest::get(format!("{}/health", tranche.url)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, r#"{"status":"ok"}"#));
}
