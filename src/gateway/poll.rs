//! `GET /api/v1/device/{uuid}/state`: what should I run?
//!
//! Answers from the cache, with no API read. An unchanged poll costs one hash of the key, two look-ups and the
//! comparison of a tag.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};

use super::Gateway;
use super::auth::{Refused, authenticate};
use super::etag;
use super::record::Record;

/// Answers are for one device and must be asked for anew each time.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Handles a poll.
pub async fn poll(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    if let Err(why) = gateway.is_ready() {
        return gateway.not_ready(why);
    }
    let uuid = uuid_of(request.uri().path());
    answer(&gateway, uuid, request.headers(), request.extensions())
}

/// The part of `/api/v1/device/{uuid}/state` that names the device; empty where there is none.
fn uuid_of(path: &str) -> &str {
    path.strip_suffix("/state").and_then(|path| path.rsplit_once('/')).map_or("", |(_, uuid)| uuid)
}

fn answer(gateway: &Gateway, uuid: &str, headers: &HeaderMap, extensions: &Extensions) -> Response {
    let metrics = &gateway.metrics.gateway;
    let record =
        authenticate(&gateway.cache, &gateway.config.device_uris, headers, extensions, || gateway.config.clock.now());
    let own = |record: Arc<Record>| record.name.eq_ignore_ascii_case(uuid).then_some(record).ok_or(Refused::Stranger);
    let record = match record.and_then(own) {
        Ok(record) => record,
        Err(refused) => {
            metrics.polls_refused.inc();
            return refused.into_response();
        }
    };
    gateway.presence.see(&record, gateway.config.clock.now());
    let offers = record.offers(gateway.is_live());
    // Each tag the device names proves what it holds. Where none is the current one, its first counts.
    let mut choice = None;
    let mut unchanged = None;
    for asked in etag::asked(headers.get_all(header::IF_NONE_MATCH)) {
        let chosen = record.choose(offers, Some(asked));
        let etag = record.etag(chosen);
        if asked.is(&etag) {
            unchanged = Some(etag);
            break;
        }
        choice.get_or_insert(chosen);
    }
    let (mut response, etag) = if let Some(etag) = unchanged {
        metrics.polls_unchanged.inc();
        (StatusCode::NOT_MODIFIED.into_response(), etag)
    } else {
        metrics.polls_changed.inc();
        let choice = choice.unwrap_or_else(|| record.choose(offers, None));
        let mut response = Response::new(record.body(uuid, choice).into());
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        (response, record.etag(choice))
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_of_a_path() {
        for (path, uuid) in [
            ("/api/v1/device/1111-aa/state", "1111-aa"),
            ("/api/v1/device//state", ""),
            ("/state", ""),
            ("/api/v1/device/x/other", ""),
        ] {
            assert_eq!(uuid_of(path), uuid, "{path}");
        }
    }
}
