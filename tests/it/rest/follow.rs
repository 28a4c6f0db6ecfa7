//! Server-sent events.

use http::Method;
use serde_json::{Value, json};
use tranche::api::rollout::Phase;

use super::Door;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::wait::PATIENCE;

/// Everything until the end of the stream: the events' names, data and ids.
async fn read(response: reqwest::Response) -> Vec<(String, Value, Option<String>)> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = tokio::time::timeout(PATIENCE, response.text()).await.expect("an end").unwrap();
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
    };
    let events = text.split("\n\n").filter_map(|event| {
        let data = serde_json::from_str(&field(event, "data")?).unwrap();
        Some((field(event, "event")?, data, field(event, "id")))
    });
    events.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_followed_to_its_end() {
    let stage = Stage::set("rest-watch", 4, &json!({})).await;
    let door = Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);
    let rollout = stage.push("v2.0.0").await;
    let path = format!("/rollouts/{rollout}/watch");
    let events = read(door.request(Method::GET, &path).send().await.unwrap()).await;
    let (end, told) = events.split_last().unwrap();
    assert_eq!((end.0.as_str(), &end.1["phase"]), ("end", &json!("Completed")), "{events:#?}");
    assert!(told.len() > 1 && told.iter().all(|event| event.0 == "rollout"), "{events:#?}");
    let last = told.last().unwrap();
    assert_eq!((&last.1["phase"], &last.1["status"]), (&json!("Completed"), &json!("completed")));
    assert_eq!(last.1["batches"].as_array().unwrap().len(), 2);
    assert!(told.windows(2).all(|pair| pair[0].2 != pair[1].2), "an event twice: {events:#?}");

    // Whoever comes back and knows the last state is only told that it was the end.
    let known = last.2.clone().unwrap();
    let again = door.header("last-event-id", &known);
    let events = read(again.request(Method::GET, &path).send().await.unwrap()).await;
    assert_eq!(events.iter().map(|event| event.0.as_str()).collect::<Vec<_>>(), ["end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_rollout_and_with_the_process() {
    let mut stage = Stage::set("rest-watch-end", 2, &json!({"strategy": {"type": "Manual"}})).await;
    let door = Door::of(ControlPlane::shared(), &stage.tranche().url, User::Admin);
    let rollout = stage.push("v2.0.0").await;
    stage.until_phase(&rollout, Phase::AwaitingApproval).await;
    let follow = || door.request(Method::GET, &format!("/rollouts/{rollout}/watch")).send();
    let (first, second) = (follow().await.unwrap(), follow().await.unwrap());
    let api: kube::Api<tranche::api::ImageRollout> = stage.api();
    api.delete(&rollout, &Default::default()).await.unwrap();
    let events = read(first).await;
    assert_eq!(events.last().unwrap().1, json!({"rollout_id": rollout, "deleted": true}), "{events:#?}");
    assert_eq!(read(second).await.last().unwrap().0, "end");

    let rollout = stage.push("v3.0.0").await;
    stage.until_phase(&rollout, Phase::AwaitingApproval).await;
    let third = door.request(Method::GET, &format!("/rollouts/{rollout}/watch")).send().await.unwrap();
    stage.tranche.take().unwrap().stop().await;
    let events = read(third).await;
    assert!(events.iter().all(|event| event.0 == "rollout"), "{events:#?}");
}
