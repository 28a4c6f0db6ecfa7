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

/// One poll and its answer.
#[derive(Clone, Debug)]
pub struct Polled {
    pub at: Instant,
    pub device: Arc<str>,
    /// Which gateway answered.
    pub gateway: &'static str,
    /// `If-None-Match`.
    pub tag: Option<Arc<str>>,
    pub status: u16,
    /// The answer's `ETag`.
    pub etag: Option<Arc<str>>,
    /// What it is told to run, service by service; nothing without a 200.
    pub images: Vec<String>,
    /// Whether the answer came through.
    pub received: bool,
}

/// Which gateway a device reaches now, and whether the answer comes back.
pub type Choice = Box<dyn Fn(&str) -> (usize, bool) + Send + Sync>;

/// The gateways that devices reach, and what they answered.
#[derive(Default)]
pub struct Doorway {
    pub routers: Mutex<Vec<(&'static str, Router)>>,
    pub choice: Mutex<Option<Choice>>,
    pub polls: Mutex<Vec<Polled>>,
}

pub type Door = Arc<Doorway>;

impl Doorway {
    fn pick(&self, device: &str) -> Option<(&'static str, Router, bool)> {
        let (index, received) = self.choice.lock().as_ref().map_or((0, true), |choice| choice(device));
        let routers = self.routers.lock();
        let (name, router) = routers.get(index % routers.len().max(1))?;
        Some((*name, router.clone(), received))
    }
}

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
    let Some((gateway, router, received)) = door.pick(&device.uuid) else { return Answer::Failed };
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let etag: Option<Arc<str>> = head.headers.get(header::ETAG).map(|etag| Arc::from(etag.to_str().unwrap()));
    let mut images = Vec::new();
    let answer = match head.status {
        StatusCode::NOT_MODIFIED => Answer::Unchanged,
        StatusCode::OK => {
            let body = body.collect().await.unwrap().to_bytes();
            let state = wire::parse_target(&body, &device.uuid).unwrap();
            let services = state.iter().flat_map(|(target, _)| &target.services);
            images.extend(services.filter_map(|service| service.image.as_deref()).map(str::to_owned));
            Answer::Target { etag: etag.clone(), state }
        }
        _ => Answer::Failed,
    };
    door.polls.lock().push(Polled {
        at: Instant::now(),
        device: device.uuid.clone(),
        gateway,
        tag: if_none_match.map(Arc::from),
        status: head.status.as_u16(),
        etag,
        images,
        received,
    });
    if received { answer } else { Answer::Failed }
}

async fn tell(door: &Door, device: &Identity, report: wire::Report) -> Delivery {
    let mut request = Request::patch("/api/v1/device/state").header("x-device-api-key", device.key.expose());
    if report.gzip {
        request = request.header(header::CONTENT_ENCODING, "gzip");
    }
    let Some((_, router, received)) = door.pick(&device.uuid) else { return Delivery::Lost };
    let status = router.oneshot(request.body(Body::from(report.body)).unwrap()).await.unwrap().status();
    match status {
        _ if !received => Delivery::Lost,
        status if status.is_success() => Delivery::Accepted,
        status if status.is_client_error() => Delivery::Refused,
        _ => Delivery::Lost,
    }
}
