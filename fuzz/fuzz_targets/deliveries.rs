//! What strangers send: headers and bytes to `registry::parse`, for every type of URL, with and without a host of its own.
//!
//! An input is lines `name: value` as long as there are any, and the rest is the body. So the payloads of the tests are
//! inputs as they stand.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tranche::api::ImageRef;
use tranche::api::webhook::RegistryType;
use tranche::registry::{DIALECTS, Expect, PushEvent, parse};

const HOST: &str = "mirror.local:5000";
/// The CRD's limit on texts of `spec.trigger`.
const MAX_TEXT: usize = 253;
const MAX_PUSHES: usize = 64;

fuzz_target!(|input: &[u8]| {
    let (headers, body) = split(input);
    check(&headers, body, RegistryType::Auto, None);
    for dialect in DIALECTS {
        check(&headers, body, dialect.type_(), Some(dialect.name()));
    }
});

fn split(mut input: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
        let line = &input[..end];
        let Some(colon) = line.windows(2).position(|pair| pair == b": ") else { break };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 2..]);
        let (Ok(name), Ok(value)) = (name, value) else { break };
        headers.append(name, value);
        input = &input[end + 1..];
    }
    (headers, input)
}

fn check(headers: &HeaderMap, body: &[u8], type_: RegistryType, receiver: Option<&str>) {
    for registry in [None, Some(HOST)] {
        let (_, result) = parse(headers, body, &Expect { type_, registry });
        let events = match result {
            Ok(events) => events,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        assert!(!events.is_empty() && events.len() <= MAX_PUSHES, "{} pushes", events.len());
        for PushEvent { image, actor, delivery_id, receiver: by } in &events {
            let written = image.to_string();
            assert_eq!(written.parse::<ImageRef>().as_ref(), Ok(image), "canonical, and readable again");
            assert!(registry.is_none() || written.starts_with("mirror.local:5000/"), "the receiver's host: {written}");
            assert!(receiver.is_none_or(|receiver| receiver == *by), "{receiver:?} read by {by}");
            for text in [actor, delivery_id].into_iter().flatten() {
                assert!(text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control), "{text:?}");
            }
        }
    }
}
