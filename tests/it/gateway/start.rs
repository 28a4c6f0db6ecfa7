//! The gateway with its own watches and writes, against the API server in the process, in virtual time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tranche::gateway::{Gateway, GatewayConfig, router};
use tranche::metrics::Metrics;

use super::api::FakeApi;
use super::fixture::{A, Answer, B, KEY_A, KEY_B, call, device, poll, released, rollout};

struct World {
    api: Arc<FakeApi>,
    gateway: Arc<Gateway>,
    router: Router,
    task: JoinHandle<()>,
    shutdown: Option<oneshot::Sender<()>>,
}

impl World {
    fn start(api: Arc<FakeApi>, presence_interval: Option<Duration>) -> Self {
        let (shutdown, stop) = oneshot::channel();
        let config = GatewayConfig { presence_interval, ..GatewayConfig::new("default") };
        let (gateway, task) = Gateway::start(api.client(), config, Arc::new(Metrics::new()), async {
            let _ = stop.await;
        });
        Self { router: router(gateway.clone()), gateway, api, task, shutdown: Some(shutdown) }
    }

    async fn ready(self) -> Self {
        self.until("it is ready", || self.gateway.is_ready().is_ok()).await;
        self
    }

    /// Virtual time passes until it is so; none at all where it is so already.
    async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(600);
        while !so() {
            assert!(Instant::now() < end, "waited in vain: {what}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn poll(&self, tag: Option<&str>) -> Answer {
        call(&self.router, poll(A, KEY_A, tag)).await
    }

    async fn until_told(&self, image: &str) {
        let end = Instant::now() + Duration::from_secs(600);
        loop {
            let told = self.poll(None).await.image(A);
            if told == image {
                return;
            }
            assert!(Instant::now() < end, "told {told}, not {image}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn world() -> Arc<FakeApi> {
    let api = FakeApi::new();
    api.put("imagerollouts", rollout(&json!({}), &json!({"phase": "Progressing"})));
    api.put("devices", released(A, KEY_A));
    api
}

#[tokio::test(start_paused = true)]
async fn not_ready_before_everything_was_listed() {
    let api = world();
    api.set_down(true);
    let world = World::start(api, None);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.gateway.is_ready(), Err("the rollouts have not been listed yet"));
    let answer = world.poll(None).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    world.api.set_down(false);
    let world = world.ready().await;
    assert_eq!(world.poll(None).await.image(A), "acme/web:v2");
}

#[tokio::test(start_paused = true)]
async fn follows_both_watches() {
    let world = World::start(world(), None).ready().await;
    assert_eq!(world.poll(None).await.image(A), "acme/web:v2");
    world.api.put("imagerollouts", rollout(&json!({"paused": true}), &json!({"phase": "Progressing"})));
    world.until_told("acme/web:v1").await;
    world.api.put("imagerollouts", rollout(&json!({}), &json!({"phase": "Progressing"})));
    world.until_told("acme/web:v2").await;
    world.api.put("devices", device(A, KEY_A));
    world.until_told("acme/web:v1").await;
    world.api.delete("devices", A);
    let refused = async {
        while world.poll(None).await.status != StatusCode::UNAUTHORIZED {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cluster_is_no_dead_one() {
    let world = World::start(world(), None).ready().await;
    for _ in 0..60 {
        sleep(Duration::from_secs(10)).await;
        assert!(world.gateway.is_live());
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_stops_everybody_and_its_return_goes_on() {
    let world = World::start(world(), None).ready().await;
    let tag = world.poll(None).await.header("etag").to_owned();
    world.api.hangs.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(181)).await;
    assert!(!world.gateway.is_live());
    assert_eq!(world.poll(None).await.image(A), "acme/web:v1");
    assert_eq!(world.poll(Some(&tag)).await.status, StatusCode::NOT_MODIFIED);
    assert!(world.gateway.is_ready().is_ok(), "it answers on");
    world.api.hangs.store(false, Ordering::SeqCst);
    world.until_told("acme/web:v2").await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_down_likewise() {
    let world = World::start(world(), None).ready().await;
    world.api.set_down(true);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(world.poll(None).await.image(A), "acme/web:v2", "not stale yet");
    sleep(Duration::from_secs(25)).await;
    assert_eq!(world.poll(None).await.image(A), "acme/web:v1");
    world.api.set_down(false);
    world.until_told("acme/web:v2").await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_gone_is_asked_for_once() {
    let api = world();
    api.delete("imagerollouts", "r");
    let world = World::start(api, None).ready().await;
    assert_eq!(world.poll(None).await.image(A), "acme/web:v2", "its entry stands as it was left");
    let asked = || world.api.requests().iter().filter(|seen| seen.path.ends_with("/imagerollouts/r")).count();
    assert_eq!(asked(), 1);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(asked(), 1);
    // The same push comes again: names are deterministic.
    world.api.put("imagerollouts", rollout(&json!({"paused": true}), &json!({})));
    world.until_told("acme/web:v1").await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_rollout_leaves_its_last_word() {
    let world = World::start(world(), None).ready().await;
    world.api.put("imagerollouts", rollout(&json!({"paused": true}), &json!({})));
    world.until_told("acme/web:v1").await;
    world.api.delete("imagerollouts", "r");
    sleep(Duration::from_secs(30 * 60)).await;
    assert_eq!(world.poll(None).await.image(A), "acme/web:v1");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_holds_up_nothing_else() {
    let api = world();
    let mut odd = device(B, KEY_B);
    odd["spec"]["hold"] = json!("perhaps");
    api.put("devices", odd.clone());
    let world = World::start(api, None).ready().await;
    assert_eq!(world.poll(None).await.image(A), "acme/web:v2");
    let b = |world: &World| {
        let router = world.router.clone();
        async move { call(&router, poll(B, KEY_B, None)).await.status }
    };
    assert_eq!(b(&world).await, StatusCode::UNAUTHORIZED);
    world.api.put("devices", device(B, KEY_B));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(b(&world).await, StatusCode::OK);
    world.api.put("devices", odd);
    let mut unreadable = rollout(&json!({}), &json!({}));
    unreadable["spec"]["paused"] = json!(7);
    world.api.put("imagerollouts", unreadable);
    world.until_told("acme/web:v1").await;
    assert_eq!(b(&world).await, StatusCode::OK, "it stays as it was");
}

#[tokio::test(start_paused = true)]
async fn presence_is_published_early_and_then_at_its_pace() {
    let world = World::start(world(), Some(Duration::from_secs(20))).ready().await;
    let spec = || world.api.get("devicepresences", "presence-1-0").map(|object| object["spec"].clone());
    world.until("it exists", || spec().is_some()).await;
    assert_eq!(spec().unwrap()["seen"], json!({}), "nobody yet, and that is said");
    assert_eq!(spec().unwrap()["interval"], "20s");
    world.api.take_writes();
    world.poll(None).await;
    let before = Instant::now();
    world.until("the device is in it", || spec().unwrap()["seen"][A].is_i64()).await;
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    for _ in 0..30 {
        sleep(Duration::from_secs(10)).await;
        world.poll(None).await;
    }
    let writes = world.api.take_writes();
    assert!((14..=17).contains(&writes.len()), "{} writes in 300 s at 20 s", writes.len());
}

#[tokio::test(start_paused = true)]
async fn presence_is_merged_with_other_replicas_and_old_shards_are_removed() {
    let api = world();
    api.put("devices", device(B, KEY_B));
    let presence = |name: &str, seen: Value| {
        json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "DevicePresence", "metadata": {"name": name},
            "spec": {"asOf": "2026-01-01T00:00:00Z", "interval": "5s", "seen": seen},
        })
    };
    api.put("devicepresences", presence("presence-1-0", json!({B: 1_767_225_600, "deleted": 1_767_225_600})));
    api.put("devicepresences", presence("presence-4-2", json!({B: 1})));
    let first = World::start(api.clone(), Some(Duration::from_secs(5))).ready().await;
    let second = World::start(api.clone(), Some(Duration::from_secs(5))).ready().await;
    first.poll(None).await;
    call(&second.router, poll(B, KEY_B, None)).await;
    sleep(Duration::from_secs(60)).await;
    let seen = api.get("devicepresences", "presence-1-0").unwrap()["spec"]["seen"].clone();
    assert!(seen[A].as_i64() > Some(1_767_225_600) && seen[B].as_i64() > Some(1_767_225_600), "{seen}");
    assert!(seen.get("deleted").is_none());
    assert_eq!(api.names("devicepresences"), ["presence-1-0"]);
}

#[tokio::test(start_paused = true)]
async fn ends_when_told() {
    let mut world = World::start(world(), None).ready().await;
    assert!(!world.task.is_finished());
    world.shutdown.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), world.task).await.unwrap().unwrap();
}
