//! `tranche devices list`: a hundred thousand of them in bounded memory.
//!
//! Of each device only what its row shows is read: its apps and what it reports are most of it. Where the printer columns
//! say all of that, the API server isn't asked for more, which makes a long list several times as fast.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Deserialize;

use crate::api::condition::{CONNECTED, IN_SYNC};
use crate::api::device::Verdict;
use crate::api::{Device, FLEET_LABEL, table};
use crate::cli::list::{ListArgs, Row, list, list_printed};
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
    /// It was told more images than are known here.
    #[serde(skip)]
    more: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    creation_timestamp: Option<When>,
}

/// A point in time, or how long ago it was in the API server's words, which are kubectl's.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum When {
    At(Timestamp),
    Ago(String),
}

impl When {
    fn said(this: Option<&Self>, now: Timestamp) -> String {
        match this {
            Some(Self::Ago(text)) => text.clone(),
            Some(Self::At(time)) => age(Some(*time), now),
            None => age(None, now),
        }
    }
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
    last_seen_time: Option<When>,
    updates: Vec<Update>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Update {
    verdict: Verdict,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// The printer columns that say what a row shows.
const PRINTED: [&str; 11] =
    [table::NAME, "Fleet", "Images", "Repository", "Also", "Connected", "InSync", "Held", "Failure", "LastSeen", "Age"];

impl Slim {
    /// From the cells of these columns.
    fn printed(cells: table::Cells<{ PRINTED.len() }>) -> Option<Self> {
        let [name, fleet, image, repository, also, connected, in_sync, held, failure, seen, age] = cells;
        let condition =
            |type_: &str, status: Option<String>| status.map(|status| Condition { type_: type_.to_owned(), status });
        let conditions = [condition(CONNECTED, connected), condition(IN_SYNC, in_sync)];
        let image = repository.map(|repository| Image { repository, image, rollout: String::new() });
        Some(Self {
            metadata: Meta {
                name: name?,
                labels: fleet.map(|fleet| (FLEET_LABEL.to_owned(), fleet)).into_iter().collect(),
                creation_timestamp: age.map(When::Ago),
            },
            spec: Spec {
                display_name: None,
                hold: held.is_some_and(|held| held == "true"),
                images: image.into_iter().collect(),
            },
            status: Status {
                last_seen_time: seen.map(When::Ago),
                updates: failure.map(|_| Update { verdict: Verdict::Failed }).into_iter().collect(),
                conditions: conditions.into_iter().flatten().collect(),
                ..Status::default()
            },
            more: also.is_some(),
        })
    }

    fn condition(&self, type_: &str) -> Option<bool> {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == type_)?;
        Some(found.status == "True")
    }

    fn failed(&self) -> bool {
        self.status.updates.iter().any(|update| update.verdict == Verdict::Failed)
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
            if images.is_empty() { None } else { Some(images.join(",") + if self.more { ",…" } else { "" }) }.into(),
            Cell::toned(state, tone),
            // The time in the status is written along with other changes only; whoever is connected polled lately.
            match self.condition(CONNECTED) {
                Some(true) => "now".into(),
                Some(false) | None => When::said(self.status.last_seen_time.as_ref(), now).into(),
            },
            self.status.address.clone().into(),
            self.status.agent_version.clone().into(),
            When::said(self.metadata.creation_timestamp.as_ref(), now).into(),
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
    // Columns don't say which rollout an image is of.
    if policy.is_some() || rollout.is_some() {
        return list(how, keep).await;
    }
    list_printed(how, PRINTED, Slim::printed, keep).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [Option<&str>; PRINTED.len()]) -> Vec<String> {
        let slim = Slim::printed(cells.map(|cell| cell.map(str::to_owned))).unwrap();
        slim.cells(Timestamp::UNIX_EPOCH).iter().map(|cell| cell.text().to_owned()).collect()
    }

    #[test]
    fn columns_say_what_objects_say() {
        let device = serde_json::json!({
            "metadata": {"name": "a", "labels": {FLEET_LABEL: "plant-a"}, "creationTimestamp": "1969-12-31T23:00:00Z"},
            "spec": {"images": [{"repository": "docker.io/acme/app", "image": "docker.io/acme/app:v2", "rollout": "app-1"}]},
            "status": {
                "lastSeenTime": "1969-12-31T23:55:00Z",
                "conditions": [{"type": CONNECTED, "status": "False"}, {"type": IN_SYNC, "status": "True"}],
            },
        });
        let slim: Slim = serde_json::from_value(device).unwrap();
        let objects: Vec<String> =
            slim.cells(Timestamp::UNIX_EPOCH).iter().map(|cell| cell.text().to_owned()).collect();
        let some = |text| Some(text);
        let mut cells = [
            some("a"),
            some("plant-a"),
            some("docker.io/acme/app:v2"),
            some("docker.io/acme/app"),
            None,
            some("False"),
            some("True"),
            some("false"),
            None,
            some("5m"),
            some("60m"),
        ];
        assert_eq!(row(cells), objects);
        cells[4] = Some("docker.io/acme/db");
        assert_eq!(row(cells)[3], "acme/app:v2,…", "it was told another image, too");
        cells[7] = Some("true");
        assert_eq!(row(cells)[4], "Held");
        cells[8] = Some("DeadlineExceeded");
        assert_eq!(row(cells)[4], "Failed");
        let bare = [Some("a"), None, None, None, None, None, None, None, None, None, Some("1s")];
        assert_eq!(row(bare)[4], "NeverSeen");
        cells[2] = None;
        assert_eq!(row(cells)[3], "acme/app,…", "told to run what it declares");
    }
}
