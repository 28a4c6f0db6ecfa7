//! `tranche devices list`: a hundred thousand of them in bounded memory.
//!
//! Of each device only what its row shows is read: its apps and what it reports are most of it.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Deserialize;

use crate::api::condition::{CONNECTED, IN_SYNC};
use crate::api::{Device, FLEET_LABEL};
use crate::cli::list::{ListArgs, Row, list};
use crate::cli::output::{Cell, Column, Tone, column, wide};
use crate::cli::words::{age, short_image};

/// Which devices.
#[derive(Args, Debug)]
pub struct DeviceListArgs {
    /// Only those
    #[arg(long, value_enum, value_name = "STATE", value_delimiter = ',')]
    pub status: Vec<State>,
    /// Only those that this policy has told an image
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// Only those that this rollout has told an image
    #[arg(long, value_name = "NAME")]
    pub rollout: Option<String>,
    /// How.
    #[command(flatten)]
    pub list: ListArgs,
}

/// How a device can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Polled lately
    Connected,
    /// Did not
    Offline,
    /// Reports the images that it was told
    InSync,
    /// Reports others
    OutOfSync,
    /// Nobody moves it
    Held,
    /// Failed its last update
    Failed,
}

/// What is read of a device.
#[derive(Debug, Deserialize)]
struct Slim {
    metadata: Meta,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    creation_timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    display_name: Option<String>,
    #[serde(default)]
    hold: bool,
    #[serde(default)]
    images: Vec<Image>,
}

#[derive(Debug, Deserialize)]
struct Image {
    repository: String,
    image: Option<String>,
    rollout: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    address: Option<String>,
    agent_version: Option<String>,
    last_seen_time: Option<Timestamp>,
    updates: Vec<Update>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Update {
    verdict: crate::api::device::Verdict,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl Slim {
    fn condition(&self, type_: &str) -> Option<bool> {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == type_)?;
        Some(found.status == "True")
    }

    fn failed(&self) -> bool {
        self.status.updates.iter().any(|update| update.verdict == crate::api::device::Verdict::Failed)
    }

    fn is(&self, state: State) -> bool {
        match state {
            State::Connected => self.condition(CONNECTED) == Some(true),
            State::Offline => self.condition(CONNECTED) != Some(true),
            State::InSync => self.condition(IN_SYNC) == Some(true),
            State::OutOfSync => self.condition(IN_SYNC) == Some(false),
            State::Held => self.spec.hold,
            State::Failed => self.failed(),
        }
    }
}

impl Row for Slim {
    type Kind = Device;
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        wide("DISPLAY"),
        column("FLEET"),
        column("IMAGES"),
        column("STATE"),
        column("SEEN"),
        wide("ADDRESS"),
        wide("AGENT"),
        column("AGE"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let images: Vec<String> = self
            .spec
            .images
            .iter()
            .map(|entry| short_image(entry.image.as_ref().unwrap_or(&entry.repository)))
            .collect();
        let (state, tone) = match (self.condition(CONNECTED), self.condition(IN_SYNC)) {
            _ if self.failed() => ("Failed", Tone::Bad),
            _ if self.spec.hold => ("Held", Tone::Warn),
            (None, _) => ("NeverSeen", Tone::Faint),
            (Some(false), _) => ("Offline", Tone::Warn),
            (Some(true), Some(false)) => ("Updating", Tone::Plain),
            (Some(true), Some(true) | None) => ("Connected", Tone::Good),
        };
        vec![
            self.metadata.name.as_str().into(),
            self.spec.display_name.clone().into(),
            self.metadata.labels.get(FLEET_LABEL).cloned().into(),
            if images.is_empty() { None } else { Some(images.join(",")) }.into(),
            Cell::toned(state, tone),
            // The time in the status is written along with other changes only; whoever is connected polled lately.
            match self.condition(CONNECTED) {
                Some(true) => "now".into(),
                Some(false) | None => age(self.status.last_seen_time, now).into(),
            },
            self.status.address.clone().into(),
            self.status.agent_version.clone().into(),
            age(self.metadata.creation_timestamp, now).into(),
        ]
    }
}

/// Lists devices.
///
/// # Errors
/// When they can't be had.
pub async fn run(args: &DeviceListArgs) -> anyhow::Result<()> {
    let DeviceListArgs { status, policy, rollout, list: how } = args;
    // The names of a policy's rollouts are the policy's, a dash and ten digits.
    let of_policy = |name: &str, policy: &str| name.rsplit_once('-').is_some_and(|(before, _)| before == policy);
    let keep = |device: &Slim| {
        let images = &device.spec.images;
        (status.is_empty() || status.iter().any(|state| device.is(*state)))
            && policy.as_ref().is_none_or(|policy| images.iter().any(|image| of_policy(&image.rollout, policy)))
            && rollout.as_ref().is_none_or(|rollout| images.iter().any(|image| image.rollout == *rollout))
    };
    list(how, keep).await
}
