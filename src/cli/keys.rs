//! `tranche devices keys`: what lets one device in, and a person's say in it.
//!
//! Keys are never arguments: other users of a machine can read those. A key that is made here is printed once, on stdout.

use anyhow::{anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::cluster::{Cluster, ClusterArgs, request};
use super::output::print;
use crate::api::Device;
use crate::api::auth::{DeviceAuth, Enrolment};
use crate::enrol::device::{is_released, patch, release};
use crate::enrol::hash;
use crate::enrol::registration::uuid;
use crate::enrol::rotation::{OVERLAP, with_next};

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
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs it.
///
/// # Errors
/// Whatever the person should know.
pub async fn run(args: KeysArgs) -> anyhow::Result<()> {
    let KeysArgs { uuid: name, revoke, restore, reenrol, rotate, cluster } = args;
    let cluster = Cluster::connect(&cluster).await?;
    let name = uuid(&name).unwrap_or(name);
    let device: Device = cluster.get(&name).await?;
    let auth = device.spec.auth.clone().unwrap_or_default();
    if revoke {
        change(&cluster, &device, json!({ "revoked": true })).await?;
        print(&format!("device {name} is revoked: it is refused from its next request on\n"))?;
    } else if restore {
        change(&cluster, &device, json!({ "revoked": null })).await?;
        print(&format!("device {name} is no longer revoked: what let it in before does so again\n"))?;
    } else if reenrol {
        if auth.revoked {
            bail!("device {name} is revoked, so nothing can take its place; --restore it first");
        }
        change(&cluster, &device, json!({ "reenrol": release(&auth, crate::clock::now()) })).await?;
        print(&format!("the next device that registers as {name} takes its place; until then this one goes on\n"))?;
    } else if rotate {
        let (next, key) = rotated(&auth)?;
        change(&cluster, &device, patch(&next)).await?;
        print(&format!("{key}\n"))?;
        eprintln!("This is the only time that the key is shown. The present one counts for {OVERLAP:#}.");
    } else {
        print(&shown(&name, &auth, crate::clock::now()))?;
    }
    Ok(())
}

/// Writes on the revision that was read.
async fn change(cluster: &Cluster, device: &Device, auth: Value) -> anyhow::Result<()> {
    let name = device.name_any();
    let body = json!({ "metadata": { "resourceVersion": device.resource_version() }, "spec": { "auth": auth } });
    match cluster.merge::<Device>(&name, &body, false).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            bail!("device {name} was changed in the same moment: look at it, and try again")
        }
        Err(error) => Err(request::<Device>("patch", Some(&name), &cluster.namespace).refused(&error).into()),
    }
}

fn rotated(auth: &DeviceAuth) -> anyhow::Result<(DeviceAuth, String)> {
    let key = format!("v2_{}_{}", &hash::hex(&random()?)[..8], hash::hex(&random()?));
    Ok((with_next(auth, &hash::of(&key), crate::clock::now(), OVERLAP), key))
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

    #[test]
    fn what_is_shown_holds_hashes_only() {
        let (auth, key) = rotated(&rotated(&DeviceAuth::default()).expect("a key").0).expect("a key");
        assert_eq!(key.len(), 76);
        let text = shown("a", &auth, crate::clock::now());
        assert!(text.contains(&hash::written(&hash::of(&key))) && text.contains("previous:"), "{text}");
        assert!(!text.contains(&key[12..]), "{text}");
        assert!(text.contains("written by a person"), "{text}");
    }
}
