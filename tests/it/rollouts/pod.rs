//! As the chart runs it: a controller, and a gateway with the API beside it, both with no more rights than the chart
//! grants.

use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tranche::api::ImageRollout;
use tranche::api::rollout::Phase;

use super::stage::Stage;
use crate::chart::rights::installed;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{Settings, Tranche};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_rights_are_enough() {
    let plane = ControlPlane::shared();
    let (namespace, kubeconfig) = installed("chart-pod").await;
    let begin = plane.mark(&plane.client(User::Admin).await).await;
    let settings = Settings::new(&kubeconfig, &namespace);
    let controller = Tranche::start(&settings.clone().only(&["controller"])).await;
    let beside = settings.only(&["gateway", "api"]);
    let spec = json!({ "historyLimit": 1, "updateDeadline": "6s", "failurePolicy": { "action": "RollBackAll" } });
    let stage = Stage::set_with(plane, beside, 5, &spec).await;

    // Releases, verdicts, a rollback, Events, finalizers, and rollouts that are too many: everything that is written.
    let bad = stage.push("v9.9.9").await;
    stage.until_phase(&bad, Phase::RolledBack).await;
    for tag in ["v2.0.0", "v3.0.0"] {
        let rollout = stage.push(tag).await;
        stage.until_phase(&rollout, Phase::Completed).await;
    }
    let rollouts: Api<ImageRollout> = stage.api();
    until("old rollouts to be cleared away", async || {
        let left = rollouts.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items.len();
        if left <= 2 { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await;
    let events: Api<k8s_openapi::api::events::v1::Event> = stage.api();
    let published = events.list(&ListParams::default()).await.expect("a list").items;
    assert!(published.iter().any(|event| event.reason.as_deref() == Some("RolloutCompleted")), "no Event tells of it");

    let user = format!("system:serviceaccount:{namespace}:fleet-tranche");
    let end = plane.mark(&stage.client).await;
    let calls = plane.calls(begin, end);
    let ours: Vec<_> = calls.iter().filter(|call| call.user == user).collect();
    let refused: Vec<_> = ours.iter().filter(|call| call.code == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(ours.len() > 20, "only {} calls: were they made by somebody else?", ours.len());
    assert!(!controller.log().contains("forbidden"), "{}", controller.log());
}
