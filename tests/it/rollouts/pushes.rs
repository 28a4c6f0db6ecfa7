//! From a push to the devices, with a real registry: it tells of the push itself, and is asked what the tag stands for.

use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tranche::api::rollout::{Phase, TriggerType};
use tranche::api::{ImageRollout, ImageUpdatePolicy};

use super::stage::Stage;
use crate::support::controlplane::{ControlPlane, User};
use crate::support::process::{SECRET, Settings};
use crate::support::registry::{Kind, Registry, Settings as RegistrySettings};
use crate::support::wait::until;

/// Devices that run `acme/app:v1.0.0` of a registry on this machine, which Tranche may ask.
async fn stage(purpose: &str, registry: &Registry, more: &Value) -> Stage {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace(purpose).await;
    let mut settings = Settings::new(&plane.kubeconfig(User::Admin), &namespace);
    settings.more = vec!["--registry-allow-addresses", "127.0.0.0/8,::1/128"];
    let old = registry.image("acme/app:v1.0.0").to_string();
    let mut spec = json!({
        "image": {"pattern": format!("{}/acme/app:*", registry.host), "offer": "Digest", "registry": {"plainHttp": true}},
        "strategy": {"batches": [{"size": "50%"}, {"size": "100%"}]},
    });
    for (key, value) in more.as_object().unwrap() {
        for (field, value) in value.as_object().unwrap() {
            spec[key][field] = value.clone();
        }
    }
    Stage::set_from(plane, settings, &old, 4, &spec).await
}

/// A CI job's word, which any number of jobs may give.
async fn tell(stage: &Stage, body: &Value) -> Value {
    let url = format!("{}/api/v1/webhooks/docker-registry", stage.tranche().url);
    let request = reqwest::Client::new().post(url).bearer_auth(SECRET).json(body);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

async fn rollouts(stage: &Stage) -> Vec<ImageRollout> {
    stage.api::<ImageRollout>().list(&ListParams::default()).await.unwrap().items
}

fn of_tag(rollouts: &[ImageRollout], tag: &str) -> String {
    rollouts.iter().find(|rollout| rollout.spec.image.tag.as_deref() == Some(tag)).expect(tag).name_any()
}

/// Waits until there are so many.
async fn until_rollouts(stage: &Stage, count: usize) -> Vec<ImageRollout> {
    until(&format!("{count} rollouts"), async || {
        let all = rollouts(stage).await;
        if all.len() == count { Ok(all) } else { Err(format!("{} are there", all.len())) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_the_devices_by_its_digest() {
    let mut registry = Registry::start(&RegistrySettings::default());
    let stage = stage("push", &registry, &json!({})).await;
    let url = format!("{}/api/v1/webhooks/docker-registry", stage.tranche().url);
    registry.notify(&url, &[("Authorization", &format!("Bearer {SECRET}"))]);

    // One image: blobs and a manifest are told of, and one rollout comes of it.
    let digest = registry.push(Kind::Image, "acme/app:v2.0.0", "two").await;
    let name = until_rollouts(&stage, 1).await.remove(0).name_any();
    let status = stage.until_phase(&name, Phase::Completed).await;
    let bits = format!("{}/acme/app@{digest}", registry.host);
    assert_eq!((status.image.as_deref(), status.digest.as_deref()), (Some(bits.as_str()), Some(digest.as_str())));
    assert_eq!((stage.running_image(&bits), stage.ever_told_image(&bits)), (4, 4));
    let rollout = stage.api::<ImageRollout>().get(&name).await.unwrap();
    let trigger = rollout.spec.trigger.unwrap();
    assert_eq!((trigger.type_, trigger.receiver.as_deref()), (TriggerType::Webhook, Some("distribution")));
    assert!(trigger.delivery_id.is_some() && trigger.time.is_some());
    assert_eq!(rollout.spec.image.digest.as_deref(), Some(digest.as_str()), "as it was announced");

    // An image for two platforms: three manifests, of which one has the tag.
    let index = registry.push(Kind::Index, "acme/app:v2.1.0", "both").await;
    let name = of_tag(&until_rollouts(&stage, 2).await, "v2.1.0");
    let status = stage.until_phase(&name, Phase::Completed).await;
    assert_eq!(status.digest.as_deref(), Some(index.as_str()));

    // The same bits under the same tag again, and a CI job that tells of them: nothing new.
    registry.tag("acme/app:v2.1.0", "v2.1.0").await;
    let answer = tell(&stage, &json!({"image": format!("{}/acme/app:v2.1.0", registry.host)})).await;
    assert_eq!((&answer["rollout_id"], &answer["rollouts"][0]["created"]), (&json!(name), &json!(false)));
    // Other bits under it: a tag that was moved is a new rollout.
    let moved = registry.push(Kind::Image, "acme/app:v2.1.0", "moved").await;
    let all = until_rollouts(&stage, 3).await;
    let last = all.iter().find(|rollout| rollout.spec.image.digest.as_deref() == Some(&moved)).expect("the moved one");
    stage.until_phase(&last.name_any(), Phase::Completed).await;
    let told = json!({"image": format!("{}/acme/app:v2.1.0", registry.host)});
    assert_eq!(tell(&stage, &told).await["rollout_id"], json!(last.name_any()));

    // An older version that somebody pushes late, and what is no image.
    registry.push(Kind::Image, "acme/app:v1.9.0", "late").await;
    registry.push(Kind::Helm, "acme/app:chart", "chart").await;
    let chart =
        until_rollouts(&stage, 4).await.into_iter().find(|rollout| rollout.spec.image.tag.as_deref() == Some("chart"));
    let status = stage.until_phase(&chart.expect("the chart's").name_any(), Phase::Failed).await;
    assert!(status.message.contains("a Helm chart"), "{}", status.message);
    assert_eq!(stage.running_image(&format!("{}/acme/app@{moved}", registry.host)), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_device_is_touched_before_the_registry_has_spoken() {
    let mut registry = Registry::start(&RegistrySettings::default());
    let stage = stage("silent", &registry, &json!({})).await;
    let digest = registry.push(Kind::Image, "acme/app:v2.0.0", "two").await;

    // Announced as something else.
    let wrong = format!("sha256:{}", "0".repeat(64));
    let image = format!("{}/acme/app:v2.0.0", registry.host);
    let answer = tell(&stage, &json!({"image": image, "digest": wrong})).await;
    let name = answer["rollout_id"].as_str().unwrap().to_owned();
    let waits = |reason: &'static str| {
        move |status: &tranche::api::rollout::ImageRolloutStatus| {
            status.phase == Phase::Pending
                && tranche::api::condition::find(&status.conditions, "Ready")
                    .is_some_and(|ready| ready.reason == reason)
        }
    };
    let status = stage.until(&name, "another digest", waits("DigestMismatch")).await;
    assert!(status.message.contains(&wrong) && status.message.contains(&digest), "{}", status.message);
    // And as what it is: this one doesn't wait for the other.
    let answer = tell(&stage, &json!({"image": image, "digest": digest})).await;
    let right = answer["rollout_id"].as_str().unwrap().to_owned();
    assert_ne!(right, name);
    stage.until_phase(&right, Phase::Completed).await;
    stage.until_phase(&name, Phase::Superseded).await;

    // Gone, and back.
    registry.push(Kind::Image, "acme/app:v2.1.0", "three").await;
    registry.kill();
    let image = format!("{}/acme/app:v2.1.0", registry.host);
    let answer = tell(&stage, &json!({"image": image})).await;
    let name = answer["rollout_id"].as_str().unwrap().to_owned();
    let status = stage.until(&name, "no answer", |status| status.message.contains("cannot reach")).await;
    assert!(waits("AwaitingRegistry")(&status) && status.message.contains("offer"), "{}", status.message);
    stage.let_everybody_poll().await;
    assert_eq!(stage.released(&name).await, Vec::<String>::new());
    registry.restart();
    stage.until_phase(&name, Phase::Completed).await;

    // A policy that offers tags goes by the tag, registry or no registry.
    registry.kill();
    let policies: kube::Api<ImageUpdatePolicy> = stage.api();
    let by_tag = json!({"spec": {"image": {"offer": "Tag"}}});
    policies.patch("myapp", &PatchParams::default(), &Patch::Merge(&by_tag)).await.unwrap();
    let image = format!("{}/acme/app:v2.2.0", registry.host);
    let answer = tell(&stage, &json!({"image": image})).await;
    let name = answer["rollout_id"].as_str().unwrap().to_owned();
    stage.until_phase(&name, Phase::Completed).await;
    assert_eq!(stage.running_image(&image), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_webhook_told_of_is_found() {
    let registry = Registry::start(&RegistrySettings::default());
    registry.push(Kind::Image, "acme/app:v1.9.0", "nine").await;
    registry.push(Kind::Image, "acme/app:v1.10.0", "ten").await;
    registry.push(Kind::Image, "acme/app:v2.0.0-rc1", "candidate").await;
    registry.push(Kind::Image, "acme/app:edge", "edge").await;
    let polls = json!({"image": {"pollInterval": "10s"}, "tags": {"semver": ">=1.0.0"}});
    let stage = stage("poll", &registry, &polls).await;
    let found = until_rollouts(&stage, 1).await.remove(0);
    assert_eq!(found.spec.image.tag.as_deref(), Some("v1.10.0"));
    assert_eq!(found.spec.trigger.as_ref().map(|trigger| trigger.type_), Some(TriggerType::Poll));
    stage.until_phase(&found.name_any(), Phase::Completed).await;

    registry.push(Kind::Image, "acme/app:v2.0.0", "two").await;
    let two =
        until_rollouts(&stage, 2).await.into_iter().find(|rollout| rollout.spec.image.tag.as_deref() == Some("v2.0.0"));
    let two = two.expect("the next version").name_any();
    stage.until_phase(&two, Phase::Completed).await;
    // The tag is moved: other bits, another rollout. A policy whose registry answers says so.
    let moved = registry.push(Kind::Image, "acme/app:v2.0.0", "two, mended").await;
    let all = until_rollouts(&stage, 3).await;
    let mended =
        all.iter().find(|rollout| rollout.spec.image.digest.as_deref() == Some(&moved)).expect("the moved one");
    stage.until_phase(&mended.name_any(), Phase::Completed).await;
    let policy = stage.api::<ImageUpdatePolicy>().get("myapp").await.unwrap();
    assert!(tranche::api::condition::is_true(&policy.status.unwrap().conditions, "Polled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_a_token_server_wants_a_secret() {
    let registry =
        Registry::start(&RegistrySettings { token: Some("puller:s3cret".into()), ..RegistrySettings::default() });
    let secret = json!({"image": {"registry": {"plainHttp": true, "pullSecretRef": {"name": "pull"}}}});
    let stage = stage("token", &registry, &secret).await;
    let digest = registry.push(Kind::Image, "acme/app:v2.0.0", "two").await;
    let answer = tell(&stage, &json!({"image": format!("{}/acme/app:v2.0.0", registry.host)})).await;
    let name = answer["rollout_id"].as_str().unwrap().to_owned();
    let status = stage.until(&name, "no secret", |status| status.message.contains("Secret pull")).await;
    assert!(
        status.message.contains("pullSecretRef") && status.message.contains("does not exist"),
        "{}",
        status.message
    );

    let config = json!({"auths": {&registry.host: {"username": "puller", "password": "s3cret"}}});
    let made = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config.to_string()},
    });
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = stage.api();
    secrets.patch("pull", &PatchParams::apply("test"), &Patch::Apply(&made)).await.unwrap();
    let status = stage.until_phase(&name, Phase::Completed).await;
    assert_eq!(status.digest.as_deref(), Some(digest.as_str()));
    assert!(!json!(status).to_string().contains("s3cret"));
}
