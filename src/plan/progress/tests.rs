use serde_json::{Value, json};

use super::*;
use crate::plan::fixture::{Fixture, at, device, entry, failed, policy, reported, rollout};

/// Ten minutes to the deadline, two to being offline; released at second 0.
struct Case {
    what: &'static str,
    patch: Value,
    /// When it was last seen, and how far and since when presence is known.
    seen: Option<i64>,
    known: Option<i64>,
    since: Option<i64>,
    expected: Progress,
}

fn released(image: &str, status: &str) -> Value {
    json!({ "spec": { "images": [entry(&json!({}))] }, "status": { "services": [reported(image, status)] } })
}

fn held(mut patch: Value) -> Value {
    patch["spec"]["hold"] = json!(true);
    patch
}

fn failing(mut patch: Value) -> Value {
    patch["status"]["updates"] = failed();
    patch
}

fn progress(case: &Case, adjust: impl FnOnce(&mut Clock), excluded: &HashSet<&str>) -> Progress {
    let device = device("d", &case.patch);
    let mut fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), &[device], at(case.known.unwrap_or(0)));
    fixture.seen.clear();
    case.seen.map(|seen| fixture.seen.insert("d".into(), at(seen)));
    fixture.knowledge.as_of = case.known.map(at);
    fixture.knowledge.since = case.since.map(at);
    fixture.look(|observed| {
        let mut clock = Clock::new(&observed.subject.unwrap().rules, observed.knowledge, None, false);
        adjust(&mut clock);
        Progress::of(&observed.members[0], &clock, excluded)
    })
}

#[test]
fn where_devices_stand() {
    use Evidence::{NotRunning, OtherImage};
    use Progress::{Failed, Healthy, Held, Missing, Offline, SentBack, Unfetched, Updating, Waiting};
    let case = |what, patch: &Value, seen, known, since, expected| Case {
        what,
        patch: patch.clone(),
        seen,
        known,
        since,
        expected,
    };
    let plain = json!({});
    let other = released("acme/web:v1", "running");
    let down = released("acme/web:v2", "exited");
    let good = released("acme/web:v2", "running");
    let back = json!({
        "spec": { "images": [entry(&json!({ "image": "docker.io/acme/web:v1", "rolledBack": true }))] },
        "status": { "services": [reported("acme/web:v1", "running")] },
    });
    let withdrawn = json!({ "spec": { "images": [entry(&json!({ "image": "docker.io/acme/web:v1" }))] } });
    let new = Failed { new: true, sent_back: false };
    let known = Failed { new: false, sent_back: false };
    for case in [
        case("seen just now", &plain, Some(100), Some(100), None, Waiting),
        case("unseen, but not for long enough", &plain, Some(0), Some(120), None, Waiting),
        case("unseen for longer", &plain, Some(0), Some(121), None, Offline),
        case("never seen", &plain, None, Some(0), None, Offline),
        case("never seen by anybody who knows", &plain, None, None, None, Waiting),
        case("gateways are just back", &plain, Some(0), Some(3600), Some(3590), Missing),
        case("gateways are back for long enough", &plain, Some(0), Some(3600), Some(3479), Offline),
        case("held", &held(plain.clone()), Some(100), Some(100), None, Held { released: false }),
        case("on its way", &other, Some(100), Some(100), None, Updating(OtherImage)),
        case("almost too late", &down, Some(599), Some(599), None, Updating(NotRunning)),
        case("too late", &down, Some(600), Some(600), None, new),
        case("too late, but gateways do not say so yet", &down, Some(590), Some(599), None, Updating(NotRunning)),
        case("told and silent: that counts against the image", &down, Some(10), Some(600), None, new),
        case("away before it could ask", &other, Some(0), Some(121), None, Unfetched),
        case("away before it could ask, for ever", &other, Some(-50), Some(90_000), None, Unfetched),
        case("not seen since, but not offline yet", &other, Some(0), Some(120), None, Updating(OtherImage)),
        case(
            "gateways were silent: its time starts again",
            &down,
            Some(3600),
            Some(3600),
            Some(3590),
            Updating(NotRunning),
        ),
        case("and is up again", &down, Some(4190), Some(4190), Some(3590), new),
        case("healthy", &good, Some(100), Some(100), None, Healthy),
        case("healthy and switched off", &good, Some(100), Some(90_000), None, Healthy),
        case("failed on record", &failing(good.clone()), Some(700), Some(700), None, known),
        // What was taken back from it is not given again.
        case("failed and withdrawn", &failing(withdrawn), Some(700), Some(700), None, known),
        case("held after its release", &held(other.clone()), Some(900), Some(900), None, Held { released: true }),
        case("held and healthy", &held(good.clone()), Some(900), Some(900), None, Healthy),
        case("sent back", &back, Some(900), Some(900), None, SentBack),
        case(
            "sent back for failing",
            &failing(back),
            Some(900),
            Some(900),
            None,
            Failed { new: false, sent_back: true },
        ),
    ] {
        assert_eq!(progress(&case, |_| {}, &HashSet::new()), case.expected, "{}", case.what);
    }
}

#[test]
fn named_to_go_back_before_its_release() {
    let case =
        Case { what: "", patch: json!({}), seen: Some(1), known: Some(1), since: None, expected: Progress::Excluded };
    assert_eq!(progress(&case, |_| {}, &HashSet::from(["d"])), case.expected);
    assert_eq!(progress(&case, |_| {}, &HashSet::from(["e"])), Progress::Waiting);
}

#[test]
fn clocks_that_start_again_or_stop() {
    let down = Case {
        what: "",
        patch: released("acme/web:v2", "exited"),
        seen: Some(700),
        known: Some(700),
        since: None,
        expected: Progress::Failed { new: true, sent_back: false },
    };
    let updating = Progress::Updating(Evidence::NotRunning);
    let none = HashSet::new();
    assert_eq!(progress(&down, |_| {}, &none), down.expected);
    assert_eq!(progress(&down, |clock| clock.deadline = None, &none), updating, "stopped: nobody's time runs out");
    assert_eq!(progress(&down, |clock| clock.resumed = at(650).as_second(), &none), updating, "resumed since");
    assert_eq!(progress(&down, |clock| clock.judged_since = at(0).as_second(), &none), Progress::Healthy, "completed");
}

#[test]
fn sums() {
    let fixture = Fixture::new(policy(&json!({})), rollout(&json!({})), &[device("d", &json!({}))], at(0));
    fixture.look(|observed| {
        let clock = Clock::new(&observed.subject.unwrap().rules, observed.knowledge, None, false);
        let mut tally = Tally::default();
        for progress in [
            Progress::Waiting,
            Progress::Missing,
            Progress::Offline,
            Progress::Unfetched,
            Progress::Held { released: true },
            Progress::Excluded,
            Progress::Conflict,
            Progress::Updating(Evidence::Missing),
            Progress::Proving,
            Progress::Doubtful,
            Progress::Healthy,
            Progress::RunsAlready,
            Progress::Failed { new: true, sent_back: false },
            Progress::Failed { new: false, sent_back: true },
            Progress::SentBack,
        ] {
            tally.add(&observed.members[0], progress, &clock);
        }
        let Tally { devices, released, updated, healthy, failed, rolled_back, deferred, conflict, .. } = tally;
        assert_eq!((devices, released, updated, healthy), (15, 9, 4, 2));
        assert_eq!((failed, rolled_back, deferred, conflict), (2, 2, 5, 1));
        let Tally { excused, waiting, missing, unrecorded, updating, unfetched, doubtful, .. } = tally;
        assert_eq!((excused, waiting, missing, unrecorded, updating, unfetched, doubtful), (1, 1, 1, 1, 3, 1, 1));
        assert_eq!((tally.judged(), tally.pending()), (10, 6));
        assert!(!tally.is_decided());
        let mut stored = BatchStatus::default();
        tally.store(&mut stored);
        let kept = (stored.devices, stored.released, stored.updated, stored.healthy, stored.failed);
        assert_eq!((kept, stored.rolled_back, stored.deferred), ((15, 9, 4, 2, 2), 2, 5));
    });
}
