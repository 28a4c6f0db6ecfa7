//! Every payload in `tests/data/payloads/` and every `examples/webhook-*.json`: what each registry's dialect makes of it.
//!
//! `expected.json` is the table: the file, the headers that came with it, the type and host of the URL that it came in by,
//! and what it must become. `by` is the dialect that recognises it; then there are `images` with `actor` and `id`, or the
//! beginning or a part of the reason why it is `ignored`, or of the `error`.

mod mutations;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tranche::api::webhook::RegistryType;
use tranche::api::{ImageRef, ImageUpdatePolicy};
use tranche::registry::claim::Claim;
use tranche::registry::intake::{Decision, decide};
use tranche::registry::{DIALECTS, Delivery, Expect, ParseError, PushEvent, parse};

const FOLDER: &str = "tests/data/payloads";
/// A host that no payload names.
const ELSEWHERE: &str = "elsewhere.example:5443";

/// One row of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub file: String,
    pub by: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default, rename = "type")]
    type_: RegistryType,
    #[serde(default)]
    pub registry: Option<String>,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    ignored: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

impl Case {
    pub fn headers(&self) -> HeaderMap {
        let pairs = self.headers.iter();
        pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    pub fn body(&self) -> Vec<u8> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = if self.file.contains('/') { root.join(&self.file) } else { root.join(FOLDER).join(&self.file) };
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn makes_images(&self) -> bool {
        !self.images.is_empty()
    }

    fn own_type(&self) -> RegistryType {
        let dialect = DIALECTS.iter().find(|dialect| dialect.name() == self.by);
        dialect.unwrap_or_else(|| panic!("{}: no dialect {}", self.file, self.by)).type_()
    }

    fn parsed(&self, type_: RegistryType, registry: Option<&str>) -> Result<Vec<PushEvent>, ParseError> {
        let (by, result) = parse(&self.headers(), &self.body(), &Expect { type_, registry });
        assert_eq!(by, Some(self.by.as_str()), "{self:?}");
        result
    }

    /// What the table says, against what came of it.
    fn check(&self, result: Result<Vec<PushEvent>, ParseError>) {
        let file = &self.file;
        match (result, &self.ignored, &self.error) {
            (Ok(events), None, None) => {
                let images: Vec<_> = events.iter().map(|event| event.image.to_string()).collect();
                assert_eq!(images, self.images, "{file}");
                assert_eq!(events[0].delivery_id, self.id, "{file}");
                for event in events {
                    assert_eq!((event.actor, event.receiver), (self.actor.clone(), self.by.as_str()), "{file}");
                }
            }
            (Err(ParseError::NotAPush(why)), Some(says), None) => assert!(why.contains(says), "{file}: {why}"),
            (Err(error), None, Some(says)) if !matches!(error, ParseError::NotAPush(_)) => {
                assert!(error.to_string().contains(says), "{file}: {error}");
            }
            (other, _, _) => panic!("{file}: {other:?}"),
        }
    }
}

pub fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).expect("the table")
}

/// Those whose URL takes any registry, or their own.
fn at_home() -> impl Iterator<Item = Case> {
    cases().into_iter().filter(|case| case.type_ == RegistryType::Auto)
}

#[test]
fn what_each_becomes() {
    for case in cases() {
        case.check(case.parsed(case.type_, case.registry.as_deref()));
    }
}

#[test]
fn every_file_is_in_the_table_and_every_registry_has_an_example() {
    let named: BTreeSet<String> = cases().into_iter().map(|case| case.file).collect();
    let list = |folder: &str, prefix: &str| -> Vec<String> {
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix) && name.ends_with(".json") && name != "expected.json").collect()
    };
    for file in list(FOLDER, "") {
        assert!(named.contains(&file), "{FOLDER}/{file} is not in expected.json");
    }
    let examples: BTreeSet<String> = list("examples", "webhook-").into_iter().collect();
    let expected: BTreeSet<String> =
        DIALECTS.iter().map(|dialect| format!("webhook-{}.json", dialect.name())).collect();
    assert_eq!(examples, expected);
    assert!(examples.iter().all(|file| named.contains(&format!("examples/{file}"))));
}

#[test]
fn a_url_of_the_own_type_reads_the_same() {
    for case in at_home() {
        case.check(case.parsed(case.own_type(), case.registry.as_deref()));
    }
}

#[test]
fn a_url_of_another_type_ignores_it() {
    for case in at_home() {
        for other in DIALECTS.iter().filter(|other| other.name() != case.by) {
            match case.parsed(other.type_(), case.registry.as_deref()) {
                Err(ParseError::NotAPush(why)) => {
                    assert!(why.starts_with(&format!("this URL is for {}, ", other.title())), "{}: {why}", case.file);
                }
                unexpected => panic!("{} at {}: {unexpected:?}", case.file, other.name()),
            }
        }
    }
}

#[test]
fn only_one_dialect_recognises_it() {
    for case in cases() {
        let (headers, body) = (case.headers(), case.body());
        let delivery = Delivery::read(&headers, &body, None).expect("an object");
        let who: Vec<_> = DIALECTS.iter().filter(|one| one.recognises(&delivery)).map(|one| one.name()).collect();
        assert_eq!(who, [case.by.as_str()], "{}", case.file);
    }
}

#[test]
fn the_receivers_host_goes_before_the_payloads() {
    // A host that names Artifactory's repository stands for a part of the path.
    let keyed = |case: &Case| case.registry.as_deref() == Some("docker-local.acme.jfrog.io");
    for case in at_home().filter(|case| case.makes_images() && !keyed(case)) {
        let events = case.parsed(RegistryType::Auto, Some(ELSEWHERE)).unwrap();
        for (event, image) in events.iter().zip(&case.images) {
            let path = image.split_once('/').unwrap().1;
            assert_eq!(event.image.to_string(), format!("{ELSEWHERE}/{path}"), "{}", case.file);
        }
    }
}

/// Distinct for people who look for why nothing happened: two different events of one registry never get one sentence.
#[test]
fn every_reason_is_its_own() {
    let mut reasons = BTreeMap::<(String, String), BTreeSet<String>>::new();
    for case in at_home().filter(|case| case.ignored.is_some()) {
        if let Err(ParseError::NotAPush(why)) = case.parsed(RegistryType::Auto, None) {
            reasons.entry((case.by, why)).or_default().insert(case.file);
        }
    }
    let shared: Vec<_> = reasons.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:#?}");
}

/// What is a push but no image of a release, intake leaves alone; and all other pushes roll out.
#[test]
fn only_tagged_images_roll_out() {
    let policy: ImageUpdatePolicy = serde_json::from_value(json!({
        "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy", "metadata": {"name": "all", "namespace": "plant"},
        "spec": {"image": {"pattern": "*"}, "devices": {"names": ["a"]}},
    }))
    .unwrap();
    let everything = [Claim::of(&policy)];
    let mut seen = BTreeSet::new();
    for case in at_home() {
        for event in case.parsed(RegistryType::Auto, case.registry.as_deref()).into_iter().flatten() {
            let expected = match event.image.tag.as_deref() {
                None => "Untagged",
                Some(tag) if tag.starts_with("sha256-") => "CosignArtifact",
                Some(_) => "Create",
            };
            let decisions = decide(&event, Timestamp::UNIX_EPOCH, &everything);
            let [decision] = &decisions[..] else { panic!("{}: {decisions:?}", case.file) };
            let became = match decision {
                Decision::Create(_) => "Create",
                Decision::Ignore(ignored) => ignored.reason.label(),
            };
            assert_eq!(became, expected, "{}", case.file);
            seen.insert(expected);
        }
    }
    assert_eq!(seen.len(), 3);
}

/// More pushes in one delivery than anybody makes are cut, not refused.
#[test]
fn a_delivery_is_bounded() {
    let tags: Vec<String> = (0..1000).map(|n| format!("v{n}")).collect();
    let body = json!({"docker_url": "quay.io/acme/app", "updated_tags": tags}).to_string();
    let events = parse(&HeaderMap::new(), body.as_bytes(), &Expect::default()).1.unwrap();
    assert_eq!(events.len(), 64);
}

/// Whatever came of a delivery, it is an image that can be written down and read again, told by whom it should be.
fn check_events(events: &[PushEvent], expect: &Expect<'_>) {
    assert!(!events.is_empty() && events.len() <= 64);
    for PushEvent { image, actor, delivery_id, receiver } in events {
        let written = image.to_string();
        assert_eq!(written.parse::<ImageRef>().as_ref(), Ok(image), "canonical, and readable again");
        if let Some(host) = expect.registry {
            assert!(written.starts_with(&format!("{host}/")), "{written} on {host}");
        }
        let dialect = DIALECTS.iter().find(|dialect| dialect.name() == *receiver).expect("a dialect");
        assert!(expect.type_ == RegistryType::Auto || dialect.type_() == expect.type_, "{receiver}");
        for text in [actor, delivery_id].into_iter().flatten() {
            assert!(text.chars().count() <= 253 && !text.chars().any(char::is_control), "{text:?}");
        }
    }
}
