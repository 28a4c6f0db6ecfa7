//! Devices that poll and report through a gateway's router, in virtual time: the simulator's agents without sockets.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::ServiceExt as _;
use tranche::simulate::agent::{Action, Agent, Answer, Input};
use tranche::simulate::engine::Event;
use tranche::simulate::identity::Identity;
use tranche::simulate::reporter::Delivery;
use tranche::simulate::wire;

/// Something that happened on a device.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub at: Instant,
    pub device: Arc<str>,
    pub event: Event,
}

/// The gateway that devices reach; another one after a restart.
pub type Door = Arc<Mutex<Router>>;

/// Lives for ever.
pub async fn live(mut agent: Agent, start: Instant, door: Door, sightings: Arc<Mutex<Vec<Sighting>>>) {
    let identity = agent.identity().clone();
    while let Some(at) = agent.wake() {
        tokio::time::sleep_until(start + at).await;
        let mut inputs = VecDeque::from([Input::Wake]);
        while let Some(input) = inputs.pop_front() {
            for action in agent.step(start.elapsed(), input) {
                match action {
                    Action::Poll { if_none_match } => {
                        inputs.push_back(Input::Polled(poll(&door, &identity, if_none_match.as_deref()).await));
                    }
                    Action::Report(report) => inputs.push_back(Input::Reported(tell(&door, &identity, report).await)),
                    Action::Observed(event) => {
                        let device = identity.uuid.clone();
                        sightings.lock().push(Sighting { at: Instant::now(), device, event });
                    }
                }
            }
        }
    }
}

async fn poll(door: &Door, device: &Identity, if_none_match: Option<&str>) -> Answer {
    let mut request = Request::get(format!("/api/v1/device/{}/state", device.uuid));
    if let Some(tag) = if_none_match {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let request = request.header("x-device-api-key", device.key.expose()).body(Body::empty()).unwrap();
    let router = door.lock().clone();
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    match head.status {
        StatusCode::NOT_MODIFIED => Answer::Unchanged,
        StatusCode::OK => {
            let etag = head.headers.get(header::ETAG).map(|etag| Arc::from(etag.to_str().unwrap()));
            let body = body.collect().await.unwrap().to_bytes();
            Answer::Target { etag, state: wire::parse_target(&body, &device.uuid).unwrap() }
        }
        _ => Answer::Failed,
    }
}

async fn tell(door: &Door, device: &Identity, report: wire::Report) -> Delivery {
    let mut request = Request::patch("/api/v1/device/state").header("x-device-api-key", device.key.expose());
    if report.gzip {
        request = request.header(header::CONTENT_ENCODING, "gzip");
    }
    let router = door.lock().clone();
    let status = router.oneshot(request.body(Body::from(report.body)).unwrap()).await.unwrap().status();
    match status {
        status if status.is_success() => Delivery::Accepted,
        status if status.is_client_error() => Delivery::Refused,
        _ => Delivery::Lost,
    }
}
