//! Devices, for people: never what proves who they are.

use http::Method;
use kube::ResourceExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::endpoint::{About, Call, Reply, Table};
use super::hold;
use super::input::{NoBody, Nothing};
use super::page::{self, Listed, Pages};
use super::problems::Refusal;
use super::row::time;
use super::standing::{DeviceRow, Sightings, Standing};
use super::verb::device_name;
use crate::api::{Device, FLEET_LABEL, ImageRollout, condition};
use crate::plan::services::{declared_among, declared_services};

/// Pages of the API server that are looked at for one page of a list that leaves some out. One page costs the API server as
/// much as all that comes after it, and a request has an end.
const LOOKED_AT: u32 = 10;

pub(super) fn endpoints(table: Table) -> Table {
    let about = |id, summary, text| About { id, tag: "devices", summary, text };
    table
        .add(
            Method::GET,
            "/devices",
            about(
                "listDevices",
                "Devices, by name",
                "A page may hold fewer than `limit`, or none at all, although more follow: `pagination.continue` says so.",
            ),
            list,
        )
        .add(
            Method::GET,
            "/devices/{uuid}",
            about("getDevice", "One device, and where it stands with each rollout", ""),
            get,
        )
        .add(
            Method::POST,
            "/devices/{uuid}/hold",
            about("holdDevice", "Hold a device, or let it go", "No rollout moves a held device, in either direction."),
            hold::hold,
        )
}

/// Which device.
#[derive(JsonSchema, Debug, Deserialize)]
pub(super) struct Uuid {
    /// Its UUID: the name of its `Device`.
    pub(super) uuid: String,
}

/// Which devices.
#[derive(JsonSchema, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only those of this fleet: of the label `tranche.dev/fleet`.
    #[schemars(length(min = 1, max = 63))]
    fleet: Option<String>,
    /// Only those that are connected, or only the others.
    connected: Option<bool>,
    /// At most so many.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 500))]
    limit: u32,
    /// From where another answer stopped: its `pagination.continue`.
    #[serde(rename = "continue")]
    #[schemars(length(min = 1, max = 1024))]
    token: Option<String>,
}

fn hundred() -> u32 {
    100
}

#[derive(JsonSchema, Debug, Serialize)]
struct DeviceList {
    devices: Vec<Summary>,
    pagination: Pagination,
}

/// How far a list goes.
#[derive(JsonSchema, Debug, Serialize)]
struct Pagination {
    limit: u32,
    /// How many come after this page, filters apart, where the API server says it.
    remaining: Option<i64>,
    /// Where the next page begins; absent after the last.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A device.
#[derive(JsonSchema, Debug, Serialize)]
struct Summary {
    device_uuid: String,
    device_name: String,
    /// Of the label `tranche.dev/fleet`.
    fleet: Option<String>,
    /// Whether it polled or reported lately; null while nobody has said.
    is_online: Option<bool>,
    /// Whether it runs what it was told; null while it hasn't reported.
    in_sync: Option<bool>,
    /// Nobody moves it.
    hold: bool,
    /// The address that it reports as its own.
    ip_address: Option<String>,
    agent_version: Option<String>,
    /// When it was last seen, coarsely.
    last_seen: Option<String>,
    /// What it was told to run, besides what its `apps` declare.
    images: Vec<String>,
    created_at: Option<String>,
}

impl From<&Device> for Summary {
    fn from(device: &Device) -> Self {
        let status = device.status.clone().unwrap_or_default();
        let is = |type_| condition::find(&status.conditions, type_).map(|condition| condition.status == "True");
        Self {
            device_uuid: device.name_any(),
            device_name: device.spec.display_name.clone().unwrap_or_else(|| device.name_any()),
            fleet: device.labels().get(FLEET_LABEL).cloned(),
            is_online: is(condition::CONNECTED),
            in_sync: is(condition::IN_SYNC),
            hold: device.spec.hold,
            ip_address: status.address.clone(),
            agent_version: status.agent_version.clone(),
            last_seen: status.last_seen_time.as_ref().map(time),
            images: device.spec.images.iter().filter_map(|entry| entry.image.clone()).collect(),
            created_at: device.creation_timestamp().as_ref().map(time),
        }
    }
}

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Reply<DeviceList>, Refusal> {
    let Call { caller, query: ListQuery { fleet, connected, limit, token }, .. } = call;
    let selector = match &fleet {
        Some(fleet) if !is_label(fleet) => {
            return Err(Refusal::Query { name: "fleet".into(), why: "is not the value of a label".into() });
        }
        Some(fleet) => Some(format!("{FLEET_LABEL}={fleet}")),
        None => None,
    };
    let selectors: Vec<(&str, &str)> = selector.iter().map(|selector| ("labelSelector", selector.as_str())).collect();
    let place = token.as_deref().map(page::unseal).transpose()?;
    let mut pages = Pages::<Device>::of::<Device>(&caller, &selectors).from(limit, place);
    let (mut devices, mut looked_at) = (Vec::new(), 0);
    // Whole pages only: the API server's token names the end of one.
    while devices.is_empty() && looked_at < LOOKED_AT {
        let Some(page) = pages.next().await.map_err(|refusal| bad_token(refusal, token.is_some()))? else { break };
        looked_at += 1;
        let page: Vec<Device> = page.into_iter().filter_map(Listed::read).collect();
        let rows = page.iter().map(Summary::from);
        devices.extend(rows.filter(|row| connected.is_none_or(|wanted| row.is_online.unwrap_or(false) == wanted)));
    }
    let pagination = Pagination { limit, remaining: pages.remaining, token: pages.token().map(page::seal) };
    Ok(Reply::new(DeviceList { devices, pagination }))
}

/// A token that the API server doesn't take is the caller's mistake, or too old.
fn bad_token(refusal: Refusal, has_token: bool) -> Refusal {
    match refusal {
        Refusal::Server(status) if has_token && matches!(status.code, 400 | 410) => Refusal::Query {
            name: "continue".into(),
            why: "is not what an answer has said, or too old: begin anew".into(),
        },
        other => other,
    }
}

fn is_label(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends(text.bytes().next())
        && ends(text.bytes().last())
}

/// A device by its UUID.
pub(super) async fn find(caller: &Caller, uuid: &str) -> Result<Device, Refusal> {
    let missing =
        || Refusal::NotFound { kind: "device", id: uuid.to_owned(), namespace: caller.namespace().to_owned() };
    let name = device_name(uuid).ok_or_else(missing)?;
    match caller.api::<Device>().get(&name).await.map_err(Refusal::from) {
        Err(refusal) if refusal.is_missing() => Err(missing()),
        other => other,
    }
}

/// A device in detail.
#[derive(JsonSchema, Debug, Serialize)]
struct Details {
    device: Summary,
    /// By repository of its services.
    repositories: Vec<Repository>,
    /// Its containers, as it reported them last; null if it never did.
    services: Option<Vec<Service>>,
}

/// A repository whose images a device runs.
#[derive(JsonSchema, Debug, Serialize)]
struct Repository {
    repository: String,
    /// What its `apps` declare.
    declared: Option<String>,
    /// What it was told instead.
    image: Option<String>,
    /// Where it would go back to.
    previous: Option<String>,
    /// The rollout that told it.
    rollout_id: Option<String>,
    /// Where it stands with that rollout; null where that is gone, or the caller may not read it.
    standing: Option<DeviceRow>,
}

/// A container.
#[derive(JsonSchema, Debug, Serialize)]
struct Service {
    app: String,
    service: String,
    image: String,
    /// In the engine's words.
    status: String,
    restarts: i32,
}

async fn get(call: Call<Uuid, Nothing, NoBody>) -> Result<Reply<Details>, Refusal> {
    let Call { rest, caller, path: Uuid { uuid }, .. } = call;
    let device = find(&caller, &uuid).await?;
    let services = declared_services(&device.spec.apps);
    let mut names: Vec<String> = services.iter().map(|service| service.image.repository.clone()).collect();
    names.extend(device.spec.images.iter().map(|entry| entry.repository.clone()));
    names.sort();
    names.dedup();
    let mut sightings = Sightings::read(&caller).await?;
    let mut repositories = Vec::new();
    for name in names {
        let entry = device.spec.images.iter().find(|entry| entry.repository == name);
        let mut standing = None;
        if let Some(entry) = entry
            && let Some(rollout) = rollout(&caller, &entry.rollout).await?
        {
            let of = Standing::alone(rollout, sightings);
            standing = of.rows(std::slice::from_ref(&device), rest.clock.now()).pop();
            sightings = of.into_sightings();
        }
        repositories.push(Repository {
            declared: declared_among(&services, &name),
            image: entry.and_then(|entry| entry.image.clone()),
            previous: entry.and_then(|entry| entry.previous.clone()),
            rollout_id: entry.map(|entry| entry.rollout.clone()),
            repository: name,
            standing,
        });
    }
    let reported = device.status.as_ref().and_then(|status| status.services.as_ref());
    let service = |service: &crate::api::device::ReportedService| Service {
        app: service.app.clone(),
        service: service.name.clone(),
        image: service.image.clone(),
        status: service.status.clone(),
        restarts: service.restarts,
    };
    let services = reported.map(|services| services.iter().map(service).collect());
    let details = Details { device: Summary::from(&device), repositories, services };
    Ok(Reply::of_revision(details, device.resource_version().as_deref()))
}

/// The rollout that told a device something, if it is there for the caller.
async fn rollout(caller: &Caller, name: &str) -> Result<Option<ImageRollout>, Refusal> {
    match super::rollouts::find(caller, name).await {
        Ok(rollout) => Ok(Some(rollout)),
        Err(Refusal::NotFound { .. }) => Ok(None),
        Err(refusal) if refusal.is_forbidden() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
