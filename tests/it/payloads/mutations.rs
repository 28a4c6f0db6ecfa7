//! No change of any payload makes a dialect panic, push what can't be pulled, or read what another one wrote.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use tranche::api::webhook::RegistryType;
use tranche::registry::{DIALECTS, Expect, parse};

use super::{ELSEWHERE, cases, check_events};

struct Fixture {
    headers: HeaderMap,
    body: Vec<u8>,
}

static FIXTURES: LazyLock<Vec<Fixture>> =
    LazyLock::new(|| cases().iter().map(|case| Fixture { headers: case.headers(), body: case.body() }).collect());

/// Headers by which deliveries are recognised, or that end up in a rollout.
const HEADERS: [&str; 12] = [
    "content-type",
    "x-github-event",
    "x-github-delivery",
    "x-gitea-event",
    "x-gitea-delivery",
    "x-forgejo-event",
    "x-nexus-webhook-id",
    "x-nexus-webhook-delivery",
    "x-goog-pubsub-message-id",
    "ce-type",
    "ce-id",
    "ce-specversion",
];

/// At URLs of every type, with and without a host of their own.
fn check(headers: &HeaderMap, body: &[u8]) {
    let types = DIALECTS.iter().map(|dialect| dialect.type_()).chain([RegistryType::Auto]);
    for type_ in types {
        for registry in [None, Some(ELSEWHERE)] {
            let expect = Expect { type_, registry };
            match parse(headers, body, &expect).1 {
                Ok(events) => check_events(&events, &expect),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

/// Puts `value` at the `at`-th place of a document, counted depth first.
fn replace(document: &mut Value, at: &mut usize, value: &Value) {
    if *at == 0 {
        *document = value.clone();
    }
    *at = at.wrapping_sub(1);
    match document {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, at, value)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, at, value)),
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,300}".prop_map(Value::from),
        "[A-Za-z0-9./:@_-]{0,80}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"name": "x"}])),
    ]
}

fn any_headers() -> impl Strategy<Value = Vec<(usize, String)>> {
    let value = prop_oneof![
        "[ -~]{0,40}",
        Just("package".to_owned()),
        Just("push".to_owned()),
        Just("zotregistry.image.updated".to_owned()),
        Just("rm:repository:component".to_owned()),
        "x{250,260}",
    ];
    prop::collection::vec((0..HEADERS.len(), value), 0..3)
}

fn with(headers: &HeaderMap, more: &[(usize, String)]) -> HeaderMap {
    let mut headers = headers.clone();
    for (name, value) in more {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(HEADERS[*name]), value);
        }
    }
    headers
}

/// Which fixture.
fn any_fixture() -> impl Strategy<Value = prop::sample::Index> {
    any::<prop::sample::Index>()
}

proptest! {
    #[test]
    fn bytes(
        fixture in any_fixture(),
        cut in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        shorten in any::<bool>(),
        more in any_headers(),
    ) {
        let Fixture { headers, body } = fixture.get(&FIXTURES[..]);
        let mut body = body.clone();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if shorten {
            body.truncate(cut.index(body.len()));
        }
        check(&with(headers, &more), &body);
    }

    #[test]
    fn values(
        fixture in any_fixture(),
        places in prop::collection::vec((0usize..60, any_json()), 1..4),
        more in any_headers(),
    ) {
        let Fixture { headers, body } = fixture.get(&FIXTURES[..]);
        let mut body: Value = serde_json::from_slice(body).expect("JSON");
        for (mut at, value) in places {
            replace(&mut body, &mut at, &value);
        }
        check(&with(headers, &more), body.to_string().as_bytes());
    }

    /// Two deliveries in one: whoever is asked reads its own half or nothing.
    #[test]
    fn mixtures(one in any_fixture(), other in any_fixture()) {
        let (one, other) = (one.get(&FIXTURES[..]), other.get(&FIXTURES[..]));
        let mut body: Value = serde_json::from_slice(&one.body).expect("JSON");
        let more: Value = serde_json::from_slice(&other.body).expect("JSON");
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let mut headers = one.headers.clone();
        headers.extend(other.headers.clone());
        check(&headers, body.to_string().as_bytes());
    }

    #[test]
    fn headers(fixture in any_fixture(), more in any_headers()) {
        let Fixture { headers, body } = fixture.get(&FIXTURES[..]);
        check(&with(headers, &more), body);
    }

    #[test]
    fn anything(body in prop::collection::vec(any::<u8>(), 0..200), more in any_headers()) {
        check(&with(&HeaderMap::new(), &more), &body);
    }
}
