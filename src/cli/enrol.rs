//! `tranche enrol`: the provisioning keys by which devices enrol.
//!
//! A key is shown once, on stdout and nowhere else; the cluster keeps its hash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{ObjectMeta, PostParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, ClusterArgs, request};
use super::keys::random;
use super::list::{ListArgs, Row, list};
use super::output::{Cell, Column, Tone, column, print, wide};
use super::person::{self, SayArgs};
use super::words::age;
use crate::api::time::whole_seconds;
use crate::api::{Device, label};
use crate::enrol::device::{challenge, created};
use crate::enrol::hash;
use crate::enrol::key::{is_name, spell};
use crate::enrol::registration::Registration;
use crate::enrol::terms::{self, Terms};

/// How many devices a key may create of which nobody has said how many. Whoever finds one can make no more.
const MAX_DEVICES: u32 = 100;
/// Nobody's UUID.
const NO_DEVICE: &str = "00000000-0000-4000-8000-000000000000";

/// Provisioning keys in the cluster.
#[derive(Debug, Subcommand)]
pub enum EnrolCommand {
    /// Make a provisioning key, and print it: this once
    Create(CreateArgs),
    /// The provisioning keys, and how many devices have come in by each
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// End a provisioning key; devices that have enrolled with it stay
    Revoke(RevokeArgs),
}

/// What a provisioning key is good for.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Name of its Secret
    pub name: String,
    /// Fleet of its devices: their label tranche.dev/fleet
    #[arg(long, value_parser = fleet)]
    pub fleet: Option<String>,
    /// Further label of its devices; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub labels: Vec<(String, String)>,
    /// What its devices run at first: spec.apps, as JSON or YAML
    #[arg(long, value_name = "FILE")]
    pub apps: Option<PathBuf>,
    /// How their agents are set up at first: spec.config, as JSON or YAML
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// For how long it is good, such as 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = days, default_value = "365d")]
    pub expires: Duration,
    /// It is good until it is revoked
    #[arg(long, conflicts_with = "expires")]
    pub no_expiry: bool,
    /// How many devices it may create
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..), default_value_t = MAX_DEVICES)]
    pub max_devices: u32,
    /// It may create any number of devices
    #[arg(long, conflicts_with = "max_devices")]
    pub unlimited: bool,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Which provisioning key.
#[derive(Args, Debug)]
pub struct RevokeArgs {
    /// Name of its Secret
    pub name: String,
    /// Why, for whoever looks at the Secret
    #[arg(long, value_name = "TEXT", value_parser = person::one_line)]
    pub reason: Option<String>,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

impl EnrolCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Whatever the person should know.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => create(args).await,
            Self::List(args) => list(&args, |_: &Secret| true).await,
            Self::Revoke(args) => revoke(&args).await,
        }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write key=value")?;
    if !label::is_key(key) {
        return Err(format!("{key:?} can't be a label: write a name such as region or example.com/region"));
    }
    Ok((key.to_owned(), value_of(value)?))
}

fn fleet(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must be a name".into()) } else { value_of(text) }
}

/// The value of a label: no device can have another one, so none could enrol.
fn value_of(text: &str) -> Result<String, String> {
    if label::is_value(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} can't be a label's value: up to 63 letters, digits, '-', '_' and '.', such as plant-a; the first and the \
         last of them a letter or a digit"
    ))
}

/// A duration, in days as well.
fn days(text: &str) -> Result<Duration, String> {
    let duration = match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => Duration::from_secs(u64::from(days) * 86_400),
        Some(Err(_)) | None => {
            let parsed: kube::core::Duration =
                text.parse().map_err(|error| format!("{error}; write 12h or 30d, for example"))?;
            if parsed.is_negative() { Duration::ZERO } else { parsed.into() }
        }
    };
    if duration.is_zero() { Err("must be longer than nothing".into()) } else { Ok(duration) }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let CreateArgs { name, fleet, labels, apps, config, expires, no_expiry, max_devices, unlimited, cluster } = args;
    if !is_name(&name) {
        bail!("{name:?} can't be a name: at most 63 lower-case letters, digits, '-' and '.', such as plant-a-2026");
    }
    let mut data = BTreeMap::from([]);
    data.extend(fleet.map(|fleet| (terms::FLEET, fleet)));
    if !labels.is_empty() {
        let labels: BTreeMap<String, String> = labels.into_iter().collect();
        data.insert(terms::LABELS, json!(labels).to_string());
    }
    for (field, file) in [(terms::APPS, apps), (terms::CONFIG, config)] {
        if let Some(file) = file {
            data.insert(field, object(&file)?.to_string());
        }
    }
    if !no_expiry {
        let until = crate::clock::now().checked_add(expires).context("--expires is too far away")?;
        data.insert(terms::EXPIRES, whole_seconds(until).0.to_string());
    }
    if !unlimited {
        data.insert(terms::MAX_DEVICES, max_devices.to_string());
    }
    let key = spell(&name, &random()?);
    data.insert(terms::KEY_HASH, hash::written(&hash::of(&key)));
    let bytes = |(field, value): (&str, String)| (field.to_owned(), ByteString(value.into_bytes()));
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        type_: Some(terms::SECRET_TYPE.into()),
        data: Some(data.into_iter().map(bytes).collect()),
        ..Secret::default()
    };
    // As a gateway will read it.
    let terms = Terms::read(&secret).map_err(|why| anyhow!("this would be no provisioning key: {why}"))?;
    let cluster = Cluster::connect(&cluster).await?;
    try_out(&cluster, &name, &terms).await?;
    match cluster.api::<Secret>().create(&PostParams::default(), &secret).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            bail!("there is a Secret {name} in namespace {} already: choose another name", cluster.namespace)
        }
        Err(error) => return Err(request::<Secret>("create", Some(&name), &cluster.namespace).refused(&error).into()),
    }
    print(&format!("{key}\n"))?;
    eprintln!("This is the only time that the key is shown: only its hash is kept, in Secret {name}.");
    Ok(())
}

/// Has the API server look at a device as this key would make it, and make none. Otherwise devices would find out.
async fn try_out(cluster: &Cluster, name: &str, terms: &Terms) -> anyhow::Result<()> {
    let registration = Registration {
        spelled: NO_DEVICE.to_owned(),
        uuid: NO_DEVICE.to_owned(),
        name: None,
        type_: None,
        key_hash: terms.key_hash,
        public_key: None,
        application: None,
    };
    let device = created(&registration, name, terms, challenge(NO_DEVICE.to_owned(), crate::clock::now()));
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match cluster.api::<Device>().create(&params, &device).await {
        Err(kube::Error::Api(status)) if status.code == 422 => {
            bail!("no device could enrol with this key: {}", status.message)
        }
        // Who may make keys need not be one who may make devices; and whatever else is wrong, making the Secret will say.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The object in a file.
fn object(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let value: Value = serde_yaml::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    if !value.is_object() {
        bail!("{} must hold an object", file.display());
    }
    Ok(value)
}

impl Row for Secret {
    type Kind = Self;
    const FIELDS: Option<&'static str> = Some("type=tranche.dev/provisioning-key");
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("FLEET"),
        column("DEVICES"),
        column("EXPIRES"),
        column("STATE"),
        wide("LABELS"),
        wide("AGE"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let made = age(self.metadata.creation_timestamp.as_ref().map(|time| time.0), now);
        let terms = match Terms::read(self) {
            Ok(terms) => terms,
            Err(why) => {
                let state = Cell::toned(why.to_string(), Tone::Bad);
                return vec![
                    self.name_any().into(),
                    None.into(),
                    None.into(),
                    None.into(),
                    state,
                    None.into(),
                    made.into(),
                ];
            }
        };
        let state = match terms.check(&terms.key_hash, now).and_then(|()| terms.one_more().map(drop)) {
            Ok(()) => Cell::toned("good", Tone::Good),
            Err(why) => Cell::toned(why.to_string(), Tone::Warn),
        };
        let max = terms.max_devices.map_or_else(String::new, |max| format!("/{max}"));
        let labels: Vec<String> = terms.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            self.name_any().into(),
            terms.fleet.into(),
            format!("{}{max}", terms.enrolled).into(),
            terms.expires.map(|until| until.to_string()).into(),
            state,
            Some(labels.join(",")).filter(|labels| !labels.is_empty()).into(),
            made.into(),
        ]
    }
}

async fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let secret: Secret = cluster.get(&args.name).await?;
    if secret.type_.as_deref() != Some(terms::SECRET_TYPE) {
        bail!("Secret {} is no provisioning key: its type is not {}", args.name, terms::SECRET_TYPE);
    }
    let say = SayArgs { reason: args.reason.clone(), dry_run: false };
    let act = person::act("ProvisioningKeyRevoked", &person::of(&cluster, &say).await, None);
    let body = json!({
        "metadata": { "uid": secret.uid(), "annotations": act.annotation() },
        "stringData": { terms::REVOKED: "true" },
    });
    let patched = cluster.merge::<Secret>(&args.name, &body, false).await;
    patched.map_err(|error| request::<Secret>("patch", Some(&args.name), &cluster.namespace).refused(&error))?;
    print(&format!("provisioning key {} is revoked; devices that have enrolled with it stay\n", args.name))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: EnrolCommand,
    }

    fn terms_of(line: &[&str]) -> Result<(Option<Duration>, Option<u32>), clap::error::ErrorKind> {
        let line = ["tranche", "create", "plant-a"].iter().chain(line);
        match Line::try_parse_from(line).map_err(|error| error.kind())?.command {
            EnrolCommand::Create(args) => {
                Ok(((!args.no_expiry).then_some(args.expires), (!args.unlimited).then_some(args.max_devices)))
            }
            EnrolCommand::List(_) | EnrolCommand::Revoke(_) => panic!("it is another command"),
        }
    }

    #[test]
    fn a_key_ends_unless_somebody_says_otherwise() {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        for (line, terms) in [
            (&[][..], (days(365), Some(100))),
            (&["--expires", "30d"], (days(30), Some(100))),
            (&["--max-devices", "5000"], (days(365), Some(5000))),
            (&["--no-expiry"], (None, Some(100))),
            (&["--unlimited"], (days(365), None)),
            (&["--no-expiry", "--unlimited"], (None, None)),
        ] {
            assert_eq!(terms_of(line), Ok(terms), "{line:?}");
        }
        for line in [["--no-expiry", "--expires", "30d"], ["--unlimited", "--max-devices", "5"]] {
            assert_eq!(terms_of(&line), Err(clap::error::ErrorKind::ArgumentConflict), "{line:?}");
        }
    }

    #[test]
    fn labels_that_no_device_can_have() {
        assert_eq!(key_and_value("region=eu"), Ok(("region".to_owned(), "eu".to_owned())));
        assert_eq!(key_and_value("example.com/a="), Ok(("example.com/a".to_owned(), String::new())));
        for none in ["region", "=eu", "a b=eu", "region=eu west", "region=-"] {
            assert!(key_and_value(none).is_err(), "{none}");
        }
        assert_eq!(fleet("plant-a").as_deref(), Ok("plant-a"));
        for none in ["", "Plant A", "plant-a-", &"x".repeat(64)] {
            assert!(fleet(none).is_err(), "{none}");
        }
    }

    #[test]
    fn durations_in_days_as_well() {
        assert_eq!(days("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(days("12h"), Ok(Duration::from_secs(12 * 3600)));
        for none in ["0d", "0s", "-1h", "soon", "d", "-3d"] {
            assert!(days(none).is_err(), "{none}");
        }
    }
}
