//! `PATCH /api/v1/device/state`: what a device says it runs.
//!
//! Takes the body in within bounds, has it read by [`parse`] and weighed by [`mod@judge`], both pure, and writes the status
//! when something that matters changed. The key decides who is speaking; the body may only agree.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use kube::Resource as _;
use kube::api::{PartialObjectMeta, Patch, PatchParams};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use self::judge::{Judgement, Write, judge};
use self::parse::{Refusal, Report};
use super::Gateway;
use super::auth::{Refused, authenticate};
use super::body::{self, BodyError, Bounds};
use super::cache::name_hash;
use super::record::Record;
use super::shared::OwnWrite;
use crate::api::{Device, GATEWAY_MANAGER};
use crate::problem::Problem;

pub mod judge;
pub mod parse;
mod restarts;

/// What a report may be. A report of 256 services compresses to a tenth of the first figure; the second is far above the
/// largest real one (about 100 KiB).
const BOUNDS: Bounds = Bounds {
    compressed: 256 << 10,
    plain: 1 << 20,
    what: "report",
    malformed: ("malformed-report", "Malformed report"),
    says: "a report may have 1 MiB, and 256 KiB when it is sent compressed",
};
/// Bodies in memory at once. With [`BOUNDS`] this bounds their memory to 256 MiB, and is far more than the API server
/// can take in writes.
const MAX_BODIES: usize = 256;
/// Bodies of logs and metrics at once, apart from those of reports. They are read away as they come, so each has a piece and
/// what inflates it: 32 MiB in all.
const MAX_BESIDES: usize = 256;
/// Status writes in flight at once. The API server's own share for one client is of this order.
const MAX_WRITES: usize = 64;
/// A write, waiting for its turn included, takes no longer; then the device is asked to come again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before a write is tried again, up to half as long again: a device that is refused comes back only after its
/// whole report interval, 100 s for real agents, and its batch waits for it meanwhile.
const RETRIES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Reports of one device are weighed one after the other; locks are shared by hash, so that they cost nothing while idle.
const STRIPES: usize = 1024;
/// `Retry-After`, seconds, where a report could not be written or taken in.
const RETRY_AFTER: u64 = 15;

/// What bounds the work on reports.
#[derive(Debug)]
pub struct Limits {
    bodies: Semaphore,
    pub(super) besides: Semaphore,
    writes: Semaphore,
    stripes: Box<[Mutex<()>]>,
}

impl Limits {
    /// All free.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bodies: Semaphore::new(MAX_BODIES),
            besides: Semaphore::new(MAX_BESIDES),
            writes: Semaphore::new(MAX_WRITES),
            stripes: std::iter::repeat_with(Mutex::default).take(STRIPES).collect(),
        }
    }

    fn stripe(&self, device: &str) -> &Mutex<()> {
        // The remainder is below STRIPES.
        &self.stripes[(name_hash(device) % STRIPES as u64) as usize]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// Handles a report.
pub async fn report(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    if let Err(why) = gateway.is_ready() {
        return gateway.not_ready(why);
    }
    let metrics = &gateway.metrics.gateway;
    // Before the body is read: a stranger's body is worth nothing.
    let now = || gateway.config.clock.now();
    let record =
        match authenticate(&gateway.cache, &gateway.config.device_uris, request.headers(), request.extensions(), now) {
            Ok(record) => record,
            Err(refused) => {
                metrics.reports_refused.inc();
                return refused.into_response();
            }
        };
    gateway.presence.see(&record, gateway.config.clock.now());
    match take_in(&gateway, &record, request).await {
        Ok(report) => settle(&gateway, &record.name, report).await,
        Err(rejection) => {
            metrics.reports_refused.inc();
            rejection.into_response()
        }
    }
}

/// Why a body is not taken in.
#[derive(Debug)]
enum Rejection {
    Refused(Refusal),
    Body(BodyError),
}

async fn take_in(gateway: &Gateway, record: &Record, request: Request) -> Result<Report, Rejection> {
    let _one = record.shared.reports.begin().ok_or(Rejection::Body(BodyError::TooMany))?;
    let (_place, body) = body::read(&gateway.reports.bodies, request, &BOUNDS).await.map_err(Rejection::Body)?;
    // Reduced to its few bounded fields before anything is awaited again.
    parse::parse(&body, &record.name).map_err(Rejection::Refused)
}

/// Weighs a report against what is known, and writes what changed.
async fn settle(gateway: &Gateway, device: &str, report: Report) -> Response {
    let metrics = &gateway.metrics.gateway;
    let settled = timeout(WRITE_TIMEOUT, async {
        let _turn = gateway.reports.stripe(device).lock().await;
        // As it is now: the report may have waited for the one before it.
        let Some(record) = gateway.cache.by_name(device) else { return Refused::Stranger.into_response() };
        let own = record.shared.own.lock().as_ref().map(|own| own.reported.clone());
        let baseline = own.as_ref().unwrap_or(&record.reported);
        match judge(&record, baseline, report, gateway.is_live(), gateway.config.clock.now()) {
            Judgement::Liveness => {
                metrics.reports_liveness.inc();
                accepted()
            }
            Judgement::Unchanged => {
                metrics.reports_unchanged.inc();
                accepted()
            }
            Judgement::Write(write) => put_down(gateway, &record, &write).await,
        }
    });
    settled.await.unwrap_or_else(|_| {
        metrics.writes_failed.inc();
        metrics.reports_failed.inc();
        busy()
    })
}

async fn put_down(gateway: &Gateway, record: &Record, write: &Write) -> Response {
    let metrics = &gateway.metrics.gateway;
    match send_again(gateway, record, write).await {
        Ok(resource_version) => {
            metrics.writes_done.inc();
            metrics.reports_written.inc();
            let reported = write.reported(|text| gateway.cache.intern(text));
            *record.shared.own.lock() = Some(Box::new(OwnWrite { reported, resource_version }));
            accepted()
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Refused::Stranger.into_response(),
        Err(error) => {
            tracing::warn!(device = %record.name, %error, "the report could not be written");
            metrics.writes_failed.inc();
            metrics.reports_failed.inc();
            busy()
        }
    }
}

/// [`send`], again where the API server may be able to take it by then.
async fn send_again(gateway: &Gateway, record: &Record, write: &Write) -> kube::Result<Option<String>> {
    for pause in RETRIES {
        match send(gateway, record, write).await {
            Err(kube::Error::Api(status)) if !(status.is_conflict() || status.code == 429 || status.code >= 500) => {
                return Err(kube::Error::Api(status));
            }
            Err(error) => tracing::debug!(device = %record.name, %error, "the report is to be written again"),
            Ok(written) => return Ok(written),
        }
        tokio::time::sleep(gateway.config.clock.jittered(pause, 0.5)).await;
    }
    send(gateway, record, write).await
}

/// Writes the fields that are the gateway's, in its turn; answers with the object's new resourceVersion.
async fn send(gateway: &Gateway, record: &Record, write: &Write) -> kube::Result<Option<String>> {
    // Never closed. Given back while a write pauses.
    let _permit = gateway.reports.writes.acquire().await;
    let path = Device::url_path(&(), Some(&gateway.config.namespace));
    let body = write.body(&record.name);
    let params = PatchParams::apply(GATEWAY_MANAGER).force();
    let request = kube::core::Request::new(path)
        .patch_subresource("status", &record.name, &params, &Patch::Apply(&body))
        .map_err(kube::Error::BuildRequest)?;
    // Only the metadata of the answer is read, so a device that can't be read doesn't fail its report.
    let written: PartialObjectMeta<Device> = gateway.client.request(request).await?;
    Ok(written.metadata.resource_version)
}

fn accepted() -> Response {
    let mut response = Response::new(r#"{"status":"ok"}"#.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(Refusal::NotYours) => Problem::new(
                StatusCode::FORBIDDEN,
                "not-yours",
                "Forbidden",
                "a device may only report its own state: the body must have one key, this device's UUID",
            ),
            Self::Refused(Refusal::Malformed(why)) => {
                Problem::new(StatusCode::BAD_REQUEST, "malformed-report", "Malformed report", why)
            }
            Self::Body(error) => error.problem(&BOUNDS),
        }
        .into_response()
    }
}

fn busy() -> Response {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-stored",
        "Service unavailable",
        "the report could not be stored; send it again",
    )
    .retry_after(RETRY_AFTER)
    .into_response()
}
