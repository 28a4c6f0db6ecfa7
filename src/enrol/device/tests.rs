//! Whose UUID it is.

use super::*;

const PEM: &str = include_str!("../../../tests/data/enrolment/ed25519.pem");
const OTHER_PEM: &str = include_str!("../../../tests/data/enrolment/p256.pem");

fn registration(key: &str, pem: Option<&str>) -> Registration {
    Registration {
        spelled: "A".into(),
        uuid: "a".into(),
        name: Some("line 3".into()),
        type_: None,
        key_hash: hash::of(key),
        public_key: pem.and_then(PublicKey::from_pem),
        application: None,
    }
}

const NOW: &str = "2026-12-01T00:00:00.7Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn fresh(text: &str) -> Enrolment {
    challenge(text.into(), at(NOW))
}

fn terms(fleet: Option<&str>) -> Terms {
    Terms {
        key_hash: [0; 32],
        fleet: fleet.map(str::to_owned),
        labels: [].into(),
        apps: [].into(),
        config: serde_json::Map::new(),
        expires: None,
        max_devices: None,
        revoked: false,
        enrolled: 0,
    }
}

fn labelled(auth: &DeviceAuth, labels: &[(&str, &str)]) -> Device {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let spec = DeviceSpec { auth: Some(auth.clone()), ..DeviceSpec::default() };
    Device { metadata: ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }, spec, status: None }
}

/// With a provisioning key of the device's fleet.
fn readmit(auth: &DeviceAuth, registration: &Registration, enrolment: Enrolment) -> Result<DeviceAuth, Taken> {
    readmitted(&labelled(auth, &[]), registration, "plant-a", &terms(None), enrolment, at(NOW))
}

fn released(auth: &DeviceAuth, release: &str) -> DeviceAuth {
    DeviceAuth { reenrol: Some(Time(at(release))), ..auth.clone() }
}

fn enrolled(pem: Option<&str>) -> DeviceAuth {
    let mut auth = taken_over(&registration("k", pem), fresh("first"));
    auth.enrolment.as_mut().expect("an enrolment").completed = true;
    auth
}

#[test]
fn a_new_device_has_what_its_key_says() {
    let terms = Terms {
        labels: [("region".to_owned(), "eu".to_owned()), (FLEET_LABEL.to_owned(), "no".to_owned())].into(),
        apps: [("1".to_owned(), json!({"services": []}))].into(),
        config: [("a".to_owned(), json!(1))].into_iter().collect(),
        ..terms(Some("plant-a"))
    };
    let device = created(&registration("k", Some(PEM)), "plant-a-key", &terms, fresh("c"));
    assert_eq!(device.metadata.name.as_deref(), Some("a"));
    assert_eq!(
        json!(device.metadata.labels),
        json!({
            "region": "eu", "tranche.dev/fleet": "plant-a", "tranche.dev/provisioning-key": "plant-a-key",
            "app.kubernetes.io/managed-by": "tranche",
        })
    );
    assert_eq!(
        json!(device.spec),
        json!({
            "displayName": "line 3", "apps": {"1": {"services": []}}, "config": {"a": 1}, "hold": false,
            "auth": {
                "keyHash": hash::written(&hash::of("k")), "publicKey": PEM,
                "enrolment": {"challenge": "c", "expires": "2026-12-01T00:05:00Z", "since": "2026-12-01T00:00:00Z"},
            },
        })
    );
}

#[test]
fn who_repeats_itself_gets_a_new_challenge() {
    let pending = taken_over(&registration("k", Some(PEM)), fresh("first"));
    let again = readmit(&pending, &registration("k", Some(PEM)), fresh("second")).expect("the same device");
    assert_eq!(again, DeviceAuth { enrolment: Some(fresh("second")), ..pending });

    let done = enrolled(Some(PEM));
    let again = readmit(&done, &registration("k", Some(PEM)), fresh("second")).expect("the same device");
    assert!(again.enrolment.as_ref().is_some_and(|enrolment| enrolment.completed), "it is not held up");

    // A key that a person wrote counts already, and a public key can be added to it.
    let by_hand = DeviceAuth { key_hash: Some(hash::written(&hash::of("k"))), ..DeviceAuth::default() };
    let again = readmit(&by_hand, &registration("k", Some(PEM)), fresh("c")).expect("the same device");
    assert_eq!(again.public_key.as_deref(), Some(PEM));
    assert!(again.enrolment.is_some_and(|enrolment| enrolment.completed));
}

#[test]
fn nobody_else_gets_it() {
    let done = enrolled(Some(PEM));
    for (auth, registration, why) in [
        (done.clone(), registration("j", Some(PEM)), Taken::OtherKey),
        (done.clone(), registration("k", Some(OTHER_PEM)), Taken::OtherPublicKey),
        (done.clone(), registration("k", None), Taken::OtherPublicKey),
        (DeviceAuth::default(), registration("k", None), Taken::OtherKey),
        (DeviceAuth { revoked: true, ..done.clone() }, registration("k", Some(PEM)), Taken::Revoked),
        (DeviceAuth { revoked: true, ..released(&done, NOW) }, registration("j", None), Taken::Revoked),
        (DeviceAuth { public_key: Some("garbage".into()), ..done }, registration("k", None), Taken::OtherPublicKey),
    ] {
        assert_eq!(readmit(&auth, &registration, fresh("c")), Err(why), "{auth:?}");
    }
}

/// Enrolled in November.
fn enrolled_before() -> DeviceAuth {
    let mut auth = enrolled(Some(PEM));
    auth.enrolment.as_mut().expect("an enrolment").since = Some(Time(at("2026-11-01T00:00:00Z")));
    auth
}

#[test]
fn a_persons_release_is_used_up() {
    let rotated = DeviceAuth {
        previous_key_hash: Some(hash::written(&hash::of("i"))),
        previous_key_expires: Some(fresh("c").expires),
        ..released(&enrolled_before(), "2026-11-30T00:00:00Z")
    };
    let next = readmit(&rotated, &registration("j", None), fresh("c")).expect("the next one");
    let expected = released(&taken_over(&registration("j", None), fresh("c")), "2026-11-30T00:00:00Z");
    assert_eq!(next, expected, "nothing is left of the one before");
    // It is declared still, or once more, or in other digits: that is no other release.
    for release in ["2026-11-30T00:00:00Z", "2026-01-01T00:00:00Z", "2026-12-01T00:00:00Z", "2026-12-01T00:00:00.9Z"] {
        let declared = released(&next, release);
        assert_eq!(readmit(&declared, &registration("h", None), fresh("d")), Err(Taken::UsedUp), "{release}");
    }
    // Nor has it been used up by anybody's other challenge.
    let another = readmit(&next, &registration("j", None), challenge("e".into(), at("2026-12-02T00:00:00Z")));
    let another = another.expect("the same device").enrolment.and_then(|enrolment| enrolment.since);
    assert_eq!(another, fresh("c").since);
    // A later one is.
    let later = released(&next, "2026-12-01T00:00:01Z");
    assert!(readmit(&later, &registration("h", None), fresh("d")).is_ok());
    // Without one there is nothing to use up.
    let none = DeviceAuth { reenrol: None, ..next };
    assert_eq!(readmit(&none, &registration("h", None), fresh("d")), Err(Taken::OtherKey));
}

#[test]
fn a_release_is_not_of_a_time_to_come() {
    let auth = enrolled_before();
    for (release, counts) in [
        ("2026-11-01T00:00:00Z", false),
        ("2026-11-01T00:00:01Z", true),
        ("2026-12-01T00:05:00Z", true),
        ("2026-12-01T00:05:01Z", false),
        ("2099-01-01T00:00:00Z", false),
    ] {
        assert_eq!(is_released(&released(&auth, release), at(NOW)), counts, "{release}");
    }
    assert!(!is_released(&auth, at(NOW)));
    // One that was dated by a clock ahead of ours is used up as well.
    let ahead = released(&auth, "2026-12-01T00:04:00Z");
    let next = readmit(&ahead, &registration("j", None), fresh("c")).expect("the next one");
    assert!(!is_released(&next, at(NOW)) && !is_released(&next, at("2026-12-01T01:00:00Z")));
    // And one that is given in that second counts.
    let again = DeviceAuth { reenrol: Some(release(&next, at(NOW))), ..next };
    assert!(is_released(&again, at(NOW)));
    // A device that never enrolled, or did so before it was noted when, has used none up.
    let by_hand = DeviceAuth { key_hash: auth.key_hash, ..DeviceAuth::default() };
    assert!(is_released(&released(&by_hand, "1970-01-01T00:00:00Z"), at(NOW)));
    assert!(is_released(&released(&DeviceAuth::default(), "1970-01-01T00:00:00Z"), at(NOW)));
    assert_eq!(release(&by_hand, at(NOW)), whole_seconds(at(NOW)));
}

#[test]
fn a_release_is_for_holders_of_keys_of_its_fleet() {
    let auth = released(&enrolled_before(), NOW);
    let (fleet, by) = (FLEET_LABEL, PROVISIONING_KEY_LABEL);
    for (labels, key, of_key, admits) in [
        (vec![(fleet, "plant-a")], "key", Some("plant-a"), true),
        (vec![(fleet, "plant-a"), (by, "last-year")], "key", Some("plant-a"), true),
        (vec![(fleet, "plant-a")], "key", Some("plant-b"), false),
        (vec![(fleet, "plant-a"), (by, "key")], "key", Some("plant-b"), false),
        (vec![(fleet, "plant-a"), (by, "key")], "key", None, false),
        (vec![(by, "key")], "key", Some("plant-a"), false),
        (vec![], "key", Some("plant-a"), false),
        (vec![(by, "key")], "key", None, true),
        (vec![(by, "another")], "key", None, false),
        (vec![], "key", None, true),
    ] {
        let device = labelled(&auth, &labels);
        let taken = readmitted(&device, &registration("j", None), key, &terms(of_key), fresh("c"), at(NOW));
        assert_eq!(taken.err(), (!admits).then_some(Taken::OtherFleet), "{labels:?} {of_key:?}");
        // Who proves itself needs no release, and no fleet.
        let itself = registration("k", Some(PEM));
        assert!(readmitted(&device, &itself, key, &terms(of_key), fresh("c"), at(NOW)).is_ok());
    }
}

#[test]
fn a_patch_takes_away_what_is_absent() {
    let patch = patch(&enrolled(None));
    for absent in ["publicKey", "previousKeyHash", "previousKeyExpires", "revoked", "reenrol"] {
        assert!(patch.get(absent).is_some_and(Value::is_null), "{absent}");
    }
    assert_eq!(patch["enrolment"]["completed"], true);
}
