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

fn fresh(text: &str) -> Enrolment {
    challenge(text.into(), "2026-12-01T00:00:00.7Z".parse().expect("a time"))
}

fn enrolled(pem: Option<&str>) -> DeviceAuth {
    let mut auth = taken_over(&registration("k", pem), fresh("first"));
    auth.enrolment.as_mut().expect("an enrolment").completed = true;
    auth
}

#[test]
fn a_new_device_has_what_its_key_says() {
    let terms = Terms {
        key_hash: [0; 32],
        fleet: Some("plant-a".into()),
        labels: [("region".to_owned(), "eu".to_owned()), (FLEET_LABEL.to_owned(), "no".to_owned())].into(),
        apps: [("1".to_owned(), json!({"services": []}))].into(),
        config: [("a".to_owned(), json!(1))].into_iter().collect(),
        expires: None,
        max_devices: None,
        revoked: false,
        enrolled: 0,
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
                "enrolment": {"challenge": "c", "expires": "2026-12-01T00:05:00Z"},
            },
        })
    );
}

#[test]
fn who_repeats_itself_gets_a_new_challenge() {
    let pending = taken_over(&registration("k", Some(PEM)), fresh("first"));
    let again = readmitted(&pending, &registration("k", Some(PEM)), fresh("second")).expect("the same device");
    assert_eq!(again, DeviceAuth { enrolment: Some(fresh("second")), ..pending });

    let done = enrolled(Some(PEM));
    let again = readmitted(&done, &registration("k", Some(PEM)), fresh("second")).expect("the same device");
    assert!(again.enrolment.as_ref().is_some_and(|enrolment| enrolment.completed), "it is not held up");

    // A key that a person wrote counts already, and a public key can be added to it.
    let by_hand = DeviceAuth { key_hash: Some(hash::written(&hash::of("k"))), ..DeviceAuth::default() };
    let again = readmitted(&by_hand, &registration("k", Some(PEM)), fresh("c")).expect("the same device");
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
        (DeviceAuth { revoked: true, reenrol: true, ..done.clone() }, registration("j", None), Taken::Revoked),
        (DeviceAuth { public_key: Some("garbage".into()), ..done }, registration("k", None), Taken::OtherPublicKey),
    ] {
        assert_eq!(readmitted(&auth, &registration, fresh("c")), Err(why), "{auth:?}");
    }
}

#[test]
fn a_persons_release_is_used_up() {
    let rotated = DeviceAuth {
        reenrol: true,
        previous_key_hash: Some(hash::written(&hash::of("i"))),
        previous_key_expires: Some(fresh("c").expires),
        ..enrolled(Some(PEM))
    };
    let next = readmitted(&rotated, &registration("j", None), fresh("c")).expect("the next one");
    assert_eq!(next, taken_over(&registration("j", None), fresh("c")), "nothing is left of the one before");
    assert_eq!(readmitted(&next, &registration("h", None), fresh("d")), Err(Taken::OtherKey));
}

#[test]
fn a_patch_takes_away_what_is_absent() {
    let patch = patch(&enrolled(None));
    for absent in ["publicKey", "previousKeyHash", "previousKeyExpires", "revoked", "reenrol"] {
        assert!(patch.get(absent).is_some_and(Value::is_null), "{absent}");
    }
    assert_eq!(patch["enrolment"]["completed"], true);
}
