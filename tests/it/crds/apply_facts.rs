//! What the design takes for granted of server-side apply. Safety rests on these, not on there being one controller.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tranche::api::{CONTROLLER_MANAGER, Device, GATEWAY_MANAGER, policy_manager};

use crate::support::controlplane::{ControlPlane, User};

const APP: &str = "docker.io/acme/app";
const DB: &str = "docker.io/acme/db";

struct Place {
    devices: Api<Device>,
}

impl Place {
    async fn new(purpose: &str) -> Self {
        let plane = ControlPlane::shared();
        let client: Client = plane.client(User::Admin).await;
        let namespace = plane.namespace(purpose).await;
        let devices = Api::namespaced(client, &namespace);
        devices.create(&PostParams::default(), &Device::new("one", Default::default())).await.expect("a device");
        Self { devices }
    }

    /// As the controller releases: not forced.
    async fn claim(&self, policy: &str, entries: &[Value], seen: Option<&Device>) -> Result<Device, kube::Error> {
        let metadata = match seen {
            Some(seen) => json!({ "name": "one", "uid": seen.uid(), "resourceVersion": seen.resource_version() }),
            None => json!({ "name": "one" }),
        };
        self.apply(policy, metadata, entries).await
    }

    async fn apply(&self, policy: &str, metadata: Value, entries: &[Value]) -> Result<Device, kube::Error> {
        let body = json!({
            "apiVersion": "tranche.dev/v1alpha1",
            "kind": "Device",
            "metadata": metadata,
            "spec": { "images": entries },
        });
        self.devices.patch("one", &PatchParams::apply(&policy_manager(policy)), &Patch::Apply(&body)).await
    }

    async fn status(&self, manager: &str, status: Value) -> Device {
        let body = json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "metadata": { "name": "one" }, "status": status,
        });
        let params = PatchParams::apply(manager).force();
        self.devices.patch_status("one", &params, &Patch::Apply(&body)).await.expect("the status is stored")
    }
}

fn entry(repository: &str, image: &str) -> Value {
    json!({
        "repository": repository, "image": format!("{repository}:{image}"), "declared": "", "rollout": "r", "batch": 1,
        "releaseTime": "2026-11-02T09:30:00Z",
    })
}

fn repositories(device: &Device) -> Vec<&str> {
    device.spec.images.iter().map(|entry| entry.repository.as_str()).collect()
}

fn code(result: Result<Device, kube::Error>) -> u16 {
    match result {
        Ok(device) => panic!("accepted: {:?}", device.spec.images),
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[tokio::test]
async fn two_policies_that_claim_one_repository_collide() {
    let place = Place::new("apply-collide").await;
    place.claim("a", &[entry(APP, "v1")], None).await.expect("the first claim");
    let refused = place.claim("b", &[entry(APP, "v2")], None).await;
    let Err(kube::Error::Api(status)) = refused else { panic!("not refused: {refused:?}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(status.message.contains("conflict with \"tranche-policy/a\""), "{}", status.message);
    let device = place.devices.get("one").await.expect("a device");
    assert_eq!(device.spec.images[0].image.as_deref(), Some("docker.io/acme/app:v1"), "the first one's word stands");
}

#[tokio::test]
async fn two_policies_of_different_repositories_live_side_by_side() {
    let place = Place::new("apply-beside").await;
    place.claim("a", &[entry(APP, "v1")], None).await.expect("the first claim");
    let device = place.claim("b", &[entry(DB, "v1")], None).await.expect("the second claim");
    assert_eq!(repositories(&device), [APP, DB]);
}

#[tokio::test]
async fn entries_that_a_policy_no_longer_names_go_away() {
    let place = Place::new("apply-remove").await;
    place.claim("a", &[entry(APP, "v1"), entry(DB, "v1")], None).await.expect("two claims");
    place.claim("b", &[entry("docker.io/acme/web", "v1")], None).await.expect("another's claim");
    let device = place.claim("a", &[entry(DB, "v1")], None).await.expect("one claim less");
    let mut left = repositories(&device);
    left.sort_unstable();
    assert_eq!(left, [DB, "docker.io/acme/web"], "one entry goes, the other policy's stays");
}

#[tokio::test]
async fn fields_that_an_entry_no_longer_names_go_away() {
    let place = Place::new("apply-fields").await;
    let mut released = entry(APP, "v2");
    released["previous"] = json!("docker.io/acme/app:v1");
    place.claim("a", &[released], None).await.expect("a claim");
    let device = place.claim("a", &[entry(APP, "v3")], None).await.expect("a claim");
    assert_eq!(device.spec.images[0].previous, None);
}

#[tokio::test]
async fn a_persons_apps_are_nobody_elses() {
    let place = Place::new("apply-apps").await;
    let apps = json!({ "1": { "services": [{ "serviceId": 1, "imageName": "acme/app:v1" }] } });
    let body = json!({ "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "spec": { "apps": apps } });
    place.devices.patch("one", &PatchParams::apply("git"), &Patch::Apply(&body)).await.expect("Git's word");
    place.claim("a", &[entry(APP, "v2")], None).await.expect("a claim");
    // What Git applies again doesn't touch the claim, and the claim's owner doesn't touch what Git declares.
    let device =
        place.devices.patch("one", &PatchParams::apply("git"), &Patch::Apply(&body)).await.expect("Git's word");
    assert_eq!(repositories(&device), [APP]);
    assert_eq!(json!(device.spec.apps), apps);
}

#[tokio::test]
async fn a_stale_revision_is_refused() {
    let place = Place::new("apply-stale").await;
    let seen = place.devices.get("one").await.expect("a device");
    place.status(GATEWAY_MANAGER, json!({ "address": "10.0.0.7" })).await;
    assert_eq!(code(place.claim("a", &[entry(APP, "v1")], Some(&seen)).await), 409);
    let device = place.devices.get("one").await.expect("a device");
    assert!(device.spec.images.is_empty());
    place.claim("a", &[entry(APP, "v1")], Some(&device)).await.expect("the newest revision is fine");
}

#[tokio::test]
async fn a_deleted_device_is_not_made_again() {
    let place = Place::new("apply-gone").await;
    let seen = place.devices.get("one").await.expect("a device");
    place.devices.delete("one", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(code(place.claim("a", &[entry(APP, "v1")], Some(&seen)).await), 409);
    assert!(place.devices.get_opt("one").await.expect("an answer").is_none(), "it came back");
    // And a status of nothing is nothing.
    let body = json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "Device", "metadata": { "name": "one" },
        "status": { "address": "10.0.0.7" },
    });
    let params = PatchParams::apply(GATEWAY_MANAGER).force();
    assert_eq!(code(place.devices.patch_status("one", &params, &Patch::Apply(&body)).await), 404);
}

/// Why the controller names the UID: were this ever to change, it would do no harm.
#[tokio::test]
async fn a_revision_alone_does_not_keep_a_deleted_device_away() {
    let place = Place::new("apply-ghost").await;
    let seen = place.devices.get("one").await.expect("a device").resource_version();
    place.devices.delete("one", &DeleteParams::default()).await.expect("deleted");
    let metadata = json!({ "name": "one", "resourceVersion": seen });
    let ghost = place.apply("a", metadata, &[entry(APP, "v1")]).await.expect("surprisingly, it is created");
    assert!(ghost.spec.apps.is_empty());
}

#[tokio::test]
async fn a_device_made_anew_is_not_the_one_that_was_seen() {
    let place = Place::new("apply-anew").await;
    let seen = place.devices.get("one").await.expect("a device");
    place.devices.delete("one", &DeleteParams::default()).await.expect("deleted");
    place.devices.create(&PostParams::default(), &Device::new("one", Default::default())).await.expect("a device");
    assert_eq!(code(place.claim("a", &[entry(APP, "v1")], Some(&seen)).await), 409);
}

#[tokio::test]
async fn writers_of_one_status_keep_each_others_fields() {
    let place = Place::new("apply-status").await;
    let time = "2026-11-02T09:30:00Z";
    let condition = |type_: &str| json!({ "type": type_, "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": time });
    let verdict = json!({
        "repository": APP, "rollout": "r", "verdict": "Failed", "reason": "DeadlineExceeded", "message": "", "time": time,
    });
    place.status(GATEWAY_MANAGER, json!({ "address": "10.0.0.7", "conditions": [condition("InSync")] })).await;
    place.status(CONTROLLER_MANAGER, json!({ "updates": [verdict] })).await;
    place.status("tranche-presence", json!({ "conditions": [condition("Connected")], "lastSeenTime": time })).await;
    let device =
        place.status(GATEWAY_MANAGER, json!({ "address": "10.0.0.8", "conditions": [condition("InSync")] })).await;
    let status = device.status.expect("a status");
    assert_eq!(status.address.as_deref(), Some("10.0.0.8"));
    assert_eq!(status.updates.len(), 1);
    assert!(status.last_seen_time.is_some());
    let mut types: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    types.sort_unstable();
    assert_eq!(types, ["Connected", "InSync"]);

    let device = place.status(CONTROLLER_MANAGER, json!({ "updates": [] })).await;
    let status = device.status.expect("a status");
    assert!(status.updates.is_empty(), "a verdict that is no longer named goes away");
    assert_eq!((status.conditions.len(), status.address.as_deref()), (2, Some("10.0.0.8")));
}

#[tokio::test]
async fn the_same_again_is_no_write() {
    let place = Place::new("apply-same").await;
    let first = place.claim("a", &[entry(APP, "v1")], None).await.expect("a claim");
    let second = place.claim("a", &[entry(APP, "v1")], None).await.expect("the same claim");
    assert_eq!(first.resource_version(), second.resource_version());
    let first = place.status(GATEWAY_MANAGER, json!({ "address": "10.0.0.7" })).await;
    let second = place.status(GATEWAY_MANAGER, json!({ "address": "10.0.0.7" })).await;
    assert_eq!(first.resource_version(), second.resource_version());
}
