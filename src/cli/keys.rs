//! `tranche devices keys`: what lets one device in, and a person's say in it.
//!
//! Keys are never arguments: other users of a machine can read those. A key that is made here is printed once, on stdout.

use anyhow::{anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::cluster::{Cluster, ClusterArgs, request};
use super::output::{Output, object, print};
use super::person::{self, SayArgs};
use crate::api::Device;
use crate::api::auth::{DeviceAuth, Enrolment};
use crate::enrol::device::{is_released, patch, release};
use crate::enrol::hash;
use crate::enrol::registration::uuid;
use crate::enrol::rotation::{OVERLAP, with_next};
use crate::verbs::Person;

/// Which device, and what is to be done about what lets it in. Without any of the options: what lets it in now.
#[derive(Args, Debug)]
pub struct KeysArgs {
    /// UUID of the device
    pub uuid: String,
    /// Nothing lets it in any more
    #[arg(long, group = "verb")]
    pub revoke: bool,
    /// Take a revocation back
    #[arg(long, group = "verb")]
    pub restore: bool,
    /// Let the next device that registers with this UUID and a provisioning key of its fleet take its place
    #[arg(long, group = "verb")]
    pub reenrol: bool,
    /// Give it another key, and print it: this once. The present one counts for another hour
    #[arg(long, group = "verb")]
    pub rotate: bool,
    /// Why, for whoever looks at the device
    #[arg(long, value_name = "TEXT", value_parser = person::one_line, requires = "verb")]
    pub reason: Option<String>,
    /// How to print what lets it in now
    #[arg(short, long, value_enum, default_value_t = Output::Table, conflicts_with = "verb")]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs it.
///
/// # Errors
/// Whatever the person should know.
pub async fn run(args: KeysArgs) -> anyhow::Result<()> {
    let KeysArgs { uuid: name, revoke, restore, reenrol, rotate, reason, output, cluster } = args;
    let cluster = Cluster::connect(&cluster).await?;
    let name = uuid(&name).unwrap_or(name);
    let device: Device = cluster.get(&name).await?;
    let auth = device.spec.auth.clone().unwrap_or_default();
    let say = SayArgs { reason, dry_run: false };
    if revoke {
        if auth.revoked {
            return print(&format!("device {name} is revoked already\n"));
        }
        change(&cluster, &device, "DeviceRevoked", &say, json!({ "revoked": true })).await?;
        print(&format!("device {name} is revoked: it is refused from its next request on\n"))?;
    } else if restore {
        if !auth.revoked {
            return print(&format!("device {name} is not revoked\n"));
        }
        change(&cluster, &device, "DeviceRestored", &say, json!({ "revoked": null })).await?;
        print(&format!("device {name} is no longer revoked: what let it in before does so again\n"))?;
    } else if reenrol {
        if auth.revoked {
            bail!("device {name} is revoked, so nothing can take its place; --restore it first");
        }
        let released = json!({ "reenrol": release(&auth, crate::clock::now()) });
        change(&cluster, &device, "DeviceReenrolAllowed", &say, released).await?;
        print(&format!("the next device that registers as {name} takes its place; until then this one goes on\n"))?;
    } else if rotate {
        let (next, key) = rotated(&auth, crate::clock::now())?;
        change(&cluster, &device, "DeviceKeyRotated", &say, patch(&next)).await?;
        print(&format!("{key}\n"))?;
        eprintln!("This is the only time that the key is shown. The present one counts for {OVERLAP:#}.");
    } else {
        match object(&in_part(&name, &auth), "devices", output)? {
            Some(text) => print(&text)?,
            None => print(&shown(&name, &auth, crate::clock::now()))?,
        }
    }
    Ok(())
}

/// The device, of which only what lets it in; hashes, as the object has them.
fn in_part(name: &str, auth: &DeviceAuth) -> Value {
    json!({
        "apiVersion": Device::api_version(&()), "kind": Device::kind(&()),
        "metadata": { "name": name }, "spec": { "auth": auth },
    })
}

/// Writes on the revision that was read, with who and why.
async fn change(cluster: &Cluster, device: &Device, verb: &str, say: &SayArgs, auth: Value) -> anyhow::Result<()> {
    let name = device.name_any();
    let person = person::of(cluster, say).await;
    let body = body(device, verb, &person, &auth);
    match cluster.merge::<Device>(&name, &body, false).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            bail!("device {name} was changed in the same moment: look at it, and try again")
        }
        Err(error) => Err(request::<Device>("patch", Some(&name), &cluster.namespace).refused(&error).into()),
    }
}

fn body(device: &Device, verb: &str, person: &Person, auth: &Value) -> Value {
    let act = person::act(verb, person, device.metadata.generation);
    json!({
        "metadata": { "resourceVersion": device.resource_version(), "annotations": act.annotation() },
        "spec": { "auth": auth },
    })
}

fn rotated(auth: &DeviceAuth, now: Timestamp) -> anyhow::Result<(DeviceAuth, String)> {
    let key = format!("v2_{}_{}", &hash::hex(&random()?)[..8], hash::hex(&random()?));
    Ok((with_next(auth, &hash::of(&key), now, OVERLAP), key))
}

/// What lets a device in, in words.
fn shown(name: &str, auth: &DeviceAuth, now: Timestamp) -> String {
    let DeviceAuth { key_hash, public_key, previous_key_hash, previous_key_expires, revoked, reenrol: _, enrolment } =
        auth;
    let mut lines = vec![format!("device {name}")];
    lines.push(format!("  key:        {}", key_hash.as_deref().unwrap_or("none")));
    if let Some((previous, until)) = previous_key_hash.as_ref().zip(previous_key_expires.as_ref()) {
        lines.push(format!("  previous:   {previous}, until {}", until.0));
    }
    lines.push(format!("  public key: {}", if public_key.is_some() { "yes" } else { "none" }));
    lines.push(match enrolment {
        None => "  enrolment:  none; its key was written by a person".to_owned(),
        Some(Enrolment { completed: true, .. }) => "  enrolment:  complete".to_owned(),
        Some(Enrolment { expires, .. }) => {
            format!("  enrolment:  registered; the key exchange is missing (its challenge is good until {})", expires.0)
        }
    });
    lines.extend(revoked.then(|| "  revoked:    nothing lets it in; --restore takes that back".to_owned()));
    lines.extend(
        is_released(auth, now).then(|| "  released:   the next device that registers takes its place".to_owned()),
    );
    lines.join("\n") + "\n"
}

/// 32 random bytes.
pub(super) fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system has no random numbers to give"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-12-01T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_rotation_is_written_with_who_and_why_and_without_the_key() {
        let device = json!({
            "metadata": {"name": "a", "generation": 4, "resourceVersion": "77"},
            "spec": {"auth": {"keyHash": "sha256:old"}},
        });
        let device: Device = serde_json::from_value(device).expect("a device");
        let (next, key) = rotated(&device.spec.auth.clone().expect("auth"), now()).expect("a key");
        let person = Person { name: "jane".into(), reason: Some("it was lost".into()), time: now() };
        let body = body(&device, "DeviceKeyRotated", &person, &patch(&next));
        let auth = &body["spec"]["auth"];
        assert_eq!(auth["keyHash"], hash::written(&hash::of(&key)));
        assert_eq!(auth["previousKeyHash"], "sha256:old");
        assert_eq!(auth["previousKeyExpires"], "2026-12-01T13:00:00Z");
        assert_eq!(body["metadata"]["resourceVersion"], "77", "nobody else's change is lost");
        let act = body["metadata"]["annotations"]["tranche.dev/last-act"].as_str().expect("an act");
        let act: crate::api::act::Act = serde_json::from_str(act).expect("an act");
        assert_eq!(
            (act.verb.as_str(), act.who_and_why().as_str(), act.generation),
            ("DeviceKeyRotated", "jane: it was lost", 5)
        );
        assert!(!body.to_string().contains(&key[12..]), "the key itself is in what is written");
    }

    #[test]
    fn programs_get_the_object_in_part() {
        let value = in_part("a", &DeviceAuth { revoked: true, ..DeviceAuth::default() });
        assert_eq!(object(&value, "devices", Output::Name).unwrap().unwrap(), "device.tranche.dev/a\n");
        assert_eq!((&value["kind"], &value["spec"]["auth"]["revoked"]), (&json!("Device"), &json!(true)));
    }

    #[test]
    fn what_is_shown_holds_hashes_only() {
        let (auth, key) = rotated(&rotated(&DeviceAuth::default(), now()).expect("a key").0, now()).expect("a key");
        assert_eq!(key.len(), 76);
        let text = shown("a", &auth, crate::clock::now());
        assert!(text.contains(&hash::written(&hash::of(&key))) && text.contains("previous:"), "{text}");
        assert!(!text.contains(&key[12..]), "{text}");
        assert!(text.contains("written by a person"), "{text}");
    }
}
