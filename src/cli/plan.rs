//! `tranche plan`: the planner on objects from files. Talks to nobody.
//!
//! What it prints is what the controller would do to these very objects at that time: the same code, the same reasons.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{Device, DevicePresence, ImageRollout, ImageUpdatePolicy, ROLLOUT_FINALIZER};
use crate::controller::devices::DeviceIndex;
use crate::controller::gather::Snapshot;
use crate::plan::explain::{DeviceReport, devices};
use crate::plan::{Change, Plan, StatusWrite};

/// What the planner would do to these objects, and why.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// YAML or JSON with policies, rollouts, devices and presence; `-` for standard input. Lists as kubectl prints them do.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub filename: Vec<PathBuf>,
    /// The time to plan for, RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    pub now: Option<Timestamp>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// In words.
    Text,
    /// For programs.
    Json,
}

/// Runs it.
///
/// # Errors
/// When a file can't be read, or an object in it can't; the text says which and why.
pub fn run(args: &PlanArgs) -> anyhow::Result<()> {
    let mut objects = Objects::default();
    for file in &args.filename {
        let text = if file.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            text
        } else {
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
        };
        objects.read(&text).with_context(|| format!("in {}", file.display()))?;
    }
    let now = args.now.unwrap_or_else(crate::clock::now);
    print!("{}", render(objects, now, args.output)?);
    Ok(())
}

/// The objects of one or more files.
#[derive(Debug, Default)]
pub struct Objects {
    /// Policies.
    pub policies: Vec<ImageUpdatePolicy>,
    /// Rollouts.
    pub rollouts: Vec<ImageRollout>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Who was seen when.
    pub presence: Vec<DevicePresence>,
}

impl Objects {
    /// Adds what a text holds.
    ///
    /// # Errors
    /// When it is no YAML, or one of its objects is not what its kind says.
    pub fn read(&mut self, text: &str) -> anyhow::Result<()> {
        for document in serde_yaml::Deserializer::from_str(text) {
            let value = Value::deserialize(document).context("not YAML")?;
            if !value.is_null() {
                self.add(value)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, value: Value) -> anyhow::Result<()> {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "List" => {
                let items = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                items.into_iter().try_for_each(|item| self.add(item))?;
            }
            "ImageUpdatePolicy" => self.policies.push(object(&kind, value)?),
            "ImageRollout" => self.rollouts.push(object(&kind, value)?),
            "Device" => self.devices.push(object(&kind, value)?),
            "DevicePresence" => self.presence.push(object(&kind, value)?),
            "" => bail!("an object without a kind"),
            // Files that hold other kinds besides are common, and none of them matters here.
            _ => {}
        }
        Ok(())
    }
}

impl Objects {
    /// The devices, and who was seen.
    #[must_use]
    pub fn index(&self) -> DeviceIndex {
        let index = DeviceIndex::default();
        self.devices.iter().for_each(|device| index.apply(device));
        self.presence.iter().for_each(|presence| index.apply_presence(presence));
        index
    }

    /// What the controller would do about one rollout, and why each of its devices stands where it stands.
    pub fn plan(&self, rollout: &ImageRollout, index: &DeviceIndex, now: Timestamp) -> (Plan, Vec<DeviceReport>) {
        let namespace = rollout.namespace().unwrap_or_default();
        let same = |other: &Option<String>| other.as_deref() == Some(namespace.as_str());
        let policies = self.policies.iter().filter(|policy| same(&policy.namespace()));
        let policy = policies.clone().find(|policy| policy.name_any() == rollout.spec.policy_ref.name).cloned().map(Ok);
        let siblings: Vec<ImageRollout> =
            self.rollouts.iter().filter(|other| same(&other.namespace())).cloned().collect();
        let (here, knowledge) = (index.devices(&namespace), index.knowledge(&namespace));
        let snapshot = Snapshot::new(rollout.clone(), policy, &siblings, here, knowledge).among(policies);
        snapshot.plan(now, |observed, plan| devices(observed, plan, now))
    }
}

fn object<K: DeserializeOwned>(kind: &str, mut value: Value) -> anyhow::Result<K> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name").to_owned();
    if value.pointer("/metadata/namespace").is_none()
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("namespace".into(), "default".into());
    }
    serde_json::from_value(value).with_context(|| format!("{kind} {name}"))
}

/// Plans every rollout of `objects` at `now` and prints it.
///
/// # Errors
/// When the result can't be written as JSON, which would be a bug.
pub fn render(mut objects: Objects, now: Timestamp, output: Output) -> anyhow::Result<String> {
    let mut notes = Vec::new();
    if objects.presence.is_empty() && !objects.devices.is_empty() {
        notes.push("no DevicePresence among the objects: every device is taken as seen just now".to_owned());
        objects.presence = everybody_is_here(&objects.devices, now);
    }
    if objects.rollouts.is_empty() {
        notes.push("no ImageRollout among the objects: nothing to plan".to_owned());
    }
    for rollout in &mut objects.rollouts {
        // As it will be once the controller has seen it.
        if !rollout.finalizers().iter().any(|finalizer| finalizer == ROLLOUT_FINALIZER) {
            rollout.finalizers_mut().push(ROLLOUT_FINALIZER.into());
        }
        if rollout.metadata.uid.is_none() {
            rollout.metadata.uid = Some(rollout.name_any());
        }
    }
    let index = objects.index();
    let plans: Vec<Value> = objects
        .rollouts
        .iter()
        .map(|rollout| {
            let (plan, reports) = objects.plan(rollout, &index, now);
            as_json(rollout, &plan, &reports)
        })
        .collect();
    let result = json!({ "now": crate::plan::report::clock(now), "notes": notes, "rollouts": plans });
    match output {
        Output::Json => Ok(serde_json::to_string_pretty(&result)? + "\n"),
        Output::Text => Ok(as_text(&result)),
    }
}

fn everybody_is_here(devices: &[Device], now: Timestamp) -> Vec<DevicePresence> {
    let mut seen: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for device in devices {
        let namespace = device.namespace().unwrap_or_default();
        seen.entry(namespace).or_default().insert(device.name_any(), now.as_second());
    }
    seen.into_iter()
        .map(|(namespace, seen)| {
            let spec = crate::api::presence::DevicePresenceSpec {
                as_of: Time(now),
                since: None,
                interval: std::time::Duration::from_secs(5).into(),
                seen,
            };
            let mut presence = DevicePresence::new("presence-1-0", spec);
            presence.metadata.namespace = Some(namespace);
            presence
        })
        .collect()
}

fn as_json(rollout: &ImageRollout, plan: &Plan, reports: &[DeviceReport]) -> Value {
    let news: Vec<Value> = {
        let before = rollout.status.as_ref().map(|status| status.history.as_slice()).unwrap_or_default();
        let fresh = plan.status.history.iter().filter(|line| !before.contains(line));
        fresh.map(|line| json!({ "type": line.type_, "message": line.message })).collect()
    };
    let actions: Vec<Value> = plan
        .actions
        .iter()
        .map(|action| {
            let (what, value) = match &action.change {
                Change::Images { manager, entries } => ("images", json!({ "manager": manager, "entries": entries })),
                Change::Verdicts { updates } => ("verdicts", json!(updates)),
            };
            json!({ "device": action.device, "reason": action.reason.as_str(), what: value })
        })
        .collect();
    json!({
        "namespace": rollout.namespace(),
        "name": rollout.name_any(),
        "phase": plan.status.phase,
        "message": plan.status.message,
        "image": plan.status.image,
        "writesStatus": plan.write != StatusWrite::None,
        "news": news,
        "waitingOn": plan.waiting_on.iter()
            .map(|on| json!({ "reason": on.reason(), "message": on.to_string() })).collect::<Vec<_>>(),
        "batches": plan.status.batches,
        "actions": actions,
        "devices": reports.iter().map(|report| json!({
            "name": report.device,
            "batch": report.batch,
            "reason": report.wait.reason(),
            "message": report.wait.to_string(),
        })).collect::<Vec<_>>(),
        "requeueAt": plan.requeue_at.map(crate::plan::report::clock),
    })
}

/// The same in words, made from the same value, so that neither form knows more than the other.
fn as_text(result: &Value) -> String {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut out = format!("at {}\n", text(result, "now"));
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    for note in list(result, "notes") {
        out += &format!("note: {}\n", note.as_str().unwrap_or_default());
    }
    for rollout in list(result, "rollouts") {
        out += &format!("\nrollout {}/{}", text(&rollout, "namespace"), text(&rollout, "name"));
        let image = text(&rollout, "image");
        out += &if image.is_empty() { "\n".to_owned() } else { format!(": {image}\n") };
        out += &format!("  {}: {}\n", text(&rollout, "phase"), text(&rollout, "message"));
        for on in list(&rollout, "waitingOn") {
            out += &format!("  waits: {} ({})\n", text(&on, "message"), text(&on, "reason"));
        }
        for line in list(&rollout, "news") {
            out += &format!("  records {}: {}\n", text(&line, "type"), text(&line, "message"));
        }
        for (index, batch) in list(&rollout, "batches").iter().enumerate() {
            out += &format!(
                "  batch {} ({}): {} devices, {} released, {} healthy, {} failed, {} sent back, {} deferred{}\n",
                index + 1,
                text(batch, "size"),
                batch["devices"],
                batch["released"],
                batch["healthy"],
                batch["failed"],
                batch["rolledBack"],
                batch["deferred"],
                if batch["startTime"].is_null() { ", not open" } else { "" },
            );
        }
        let actions = list(&rollout, "actions");
        for device in list(&rollout, "devices") {
            let name = text(&device, "name");
            let action = actions.iter().find(|action| action["device"] == device["name"]);
            let does = action.map(|action| format!(" -> {}", text(action, "reason"))).unwrap_or_default();
            out += &format!("    {name}  batch {}  {}{does}\n", device["batch"], text(&device, "message"));
        }
        if let Some(at) = rollout["requeueAt"].as_str() {
            out += &format!("  looks again at {at} at the latest\n");
        }
    }
    out
}
