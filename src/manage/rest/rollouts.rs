//! Reading rollouts.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use kube::ResourceExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::endpoint::{About, Call, List, Reply, Table};
use super::input::{NoBody, Nothing};
use super::page::{self, Listed, PAGE, Pages};
use super::problems::Refusal;
use super::row::{RolloutRow, Seen, Statistics, time};
use super::standing::{DeviceRow, Standing};
use super::words;
use super::{list, stream, watch};
use crate::api::rollout::BatchStatus;
use crate::api::{Device, ImageRollout, ImageUpdatePolicy, table};

/// Devices that the details of a rollout hold; all of them are at a path of their own.
const DEVICES_OF_DETAILS: usize = 100;
/// Devices that are looked at for these.
const DEVICES_LOOKED_AT: u32 = 10 * PAGE;
/// Lines of history that the details hold.
const EVENTS_OF_DETAILS: usize = 50;

pub(super) fn endpoints(table: Table) -> Table {
    let about = |id, summary, text| About { id, tag: "rollouts", summary, text };
    table
        .add(Method::GET, "/rollouts", about("listRollouts", "Rollouts, newest first", ""), list::list)
        .add(Method::GET, "/rollouts/active", about("activeRollouts", "Rollouts that have not ended, newest first", ""), list::active)
        .add(
            Method::GET,
            "/rollouts/{id}",
            about("getRollout", "One rollout in detail", "`devices` holds the first 100, by name; `devices_next` is where all of them are."),
            get,
        )
        .add(
            Method::GET,
            "/rollouts/{id}/devices",
            about(
                "rolloutDevices",
                "Every device of a rollout, by name, each with where it stands and why",
                "Written while it is read, so that it costs no memory however long it is. Should something go wrong half way, \
                 `complete` is false and `error` says what.",
            ),
            devices,
        )
        .add(Method::GET, "/rollouts/{id}/events", about("rolloutEvents", "What happened to a rollout, newest first", ""), events)
        .add(
            Method::GET,
            "/rollouts/{id}/watch",
            about(
                "watchRollout",
                "Follows a rollout by server-sent events",
                "An event `rollout` with each change, its id the resourceVersion; `end` once the rollout has ended or is gone; \
                 `error`, a problem, if it can't be followed any more. Comments keep the connection alive.",
            ),
            watch::follow,
        )
}

/// Which rollout.
#[derive(JsonSchema, Debug, Deserialize)]
pub(super) struct Id {
    /// Its name, or its UID.
    pub(super) id: String,
}

/// What is shown of policies beside their rollouts.
pub(super) struct Policies(HashMap<String, (Option<String>, Option<String>)>);

impl Policies {
    /// What policies say now; nothing where the caller may not read them.
    pub(super) async fn read(caller: &Caller) -> Result<Self, Refusal> {
        let columns = [table::NAME, "Pattern", "Strategy"];
        let cells = match page::columns::<ImageUpdatePolicy, 3>(caller, &[], columns).await {
            Ok(cells) => cells.unwrap_or_default(),
            Err(refusal) if refusal.is_forbidden() => Vec::new(),
            Err(refusal) => return Err(refusal),
        };
        // The predecessor's words are ours in small letters.
        let said = |[name, pattern, strategy]: table::Cells<3>| {
            Some((name?, (pattern, strategy.map(|strategy| strategy.to_ascii_lowercase()))))
        };
        Ok(Self(cells.into_iter().filter_map(said).collect()))
    }

    /// Rows of rollouts.
    pub(super) fn rows<'a>(&self, seen: impl IntoIterator<Item = &'a Arc<Seen>>) -> Vec<RolloutRow> {
        seen.into_iter().map(|seen| self.row(seen)).collect()
    }

    fn row(&self, seen: &Seen) -> RolloutRow {
        let mut row = RolloutRow::from(seen);
        if let Some((pattern, strategy)) = self.0.get(&seen.spec.policy_ref.name) {
            row.image_pattern.clone_from(pattern);
            row.policy_strategy.clone_from(strategy);
        }
        row
    }
}

/// A rollout by its name or its UID.
pub(super) async fn find(caller: &Caller, id: &str) -> Result<ImageRollout, Refusal> {
    let missing = || Refusal::NotFound { kind: "rollout", id: id.to_owned(), namespace: caller.namespace().to_owned() };
    let id = id.to_ascii_lowercase();
    if !page::is_name(&id) {
        return Err(missing());
    }
    match caller.api::<ImageRollout>().get(&id).await.map_err(Refusal::from) {
        Err(refusal) if refusal.is_missing() && page::is_uid(&id) => {
            let all = Pages::<ImageRollout>::of::<ImageRollout>(caller, &[]).all().await?;
            all.into_iter().find(|rollout| rollout.uid().is_some_and(|uid| uid == id)).ok_or_else(missing)
        }
        Err(refusal) if refusal.is_missing() => Err(missing()),
        other => other,
    }
}

/// The row of a whole rollout.
pub(super) fn row(rollout: &ImageRollout) -> Result<RolloutRow, Refusal> {
    let seen = Seen::of(rollout).ok_or_else(|| Refusal::Unreadable(format!("rollout {}", rollout.name_any())))?;
    Ok(RolloutRow::from(&seen))
}

#[derive(JsonSchema, Debug, Serialize)]
struct Details {
    rollout: RolloutRow,
    /// The first 100, by name.
    devices: Vec<DeviceRow>,
    /// Whether these are all.
    devices_complete: bool,
    /// Why there are none, where the caller may not read devices: in the API server's words.
    devices_error: Option<String>,
    /// Where all of them are.
    devices_next: String,
    /// The newest 50.
    events: Vec<Event>,
    statistics: Statistics,
    batches: Vec<BatchRow>,
}

/// One batch.
#[derive(JsonSchema, Debug, Serialize)]
pub(super) struct BatchRow {
    /// From 1.
    batch_number: usize,
    /// As the policy has it: a share or a number, counted together with all batches before it.
    size: String,
    #[serde(flatten)]
    statistics: Statistics,
    /// Devices that were told the image.
    released_devices: i32,
    /// When it opened.
    started_at: Option<String>,
    /// When its last device got its verdict.
    completed_at: Option<String>,
}

/// The batches of a rollout.
pub(super) fn batches(rollout: &ImageRollout) -> Vec<BatchRow> {
    let batches = rollout.status.iter().flat_map(|status| &status.batches).enumerate();
    let row = |(index, batch): (usize, &BatchStatus)| BatchRow {
        batch_number: index + 1,
        size: batch.size.clone(),
        statistics: Statistics::of(Some(&crate::plan::progress::totals(std::slice::from_ref(batch)))),
        released_devices: batch.released,
        started_at: batch.start_time.as_ref().map(time),
        completed_at: batch.completion_time.as_ref().map(time),
    };
    batches.map(row).collect()
}

async fn get(call: Call<Id, Nothing, NoBody>) -> Result<Reply<Details>, Refusal> {
    let Call { rest, caller, path: Id { id }, .. } = call;
    let rollout = find(&caller, &id).await?;
    let revision = rollout.resource_version();
    let seen = Seen::of(&rollout).ok_or_else(|| Refusal::Unreadable(format!("rollout {id}")))?;
    let row = Policies::read(&caller).await?.row(&seen);
    let standing = Standing::read(&rest.kept, &caller, rollout.clone()).await?;
    let mut pages = Pages::<Device>::of::<Device>(&caller, &[]);
    let (mut devices, mut looked_at, mut complete, mut error) = (Vec::new(), 0, false, None);
    while devices.len() <= DEVICES_OF_DETAILS && looked_at < DEVICES_LOOKED_AT {
        let page = match pages.next().await {
            Ok(Some(page)) => page,
            Ok(None) => {
                complete = true;
                break;
            }
            // The rollout is theirs to see all the same.
            Err(refusal) if refusal.is_forbidden() => {
                error = Some(refusal.to_string());
                break;
            }
            Err(refusal) => return Err(refusal),
        };
        let page: Vec<Device> = page.into_iter().filter_map(Listed::read).collect();
        looked_at += PAGE;
        devices.extend(by_name(standing.rows(&page, rest.clock.now())));
    }
    complete &= devices.len() <= DEVICES_OF_DETAILS;
    devices.truncate(DEVICES_OF_DETAILS);
    let details = Details {
        devices_next: format!("{}/rollouts/{}/devices", super::BASE, row.rollout_id),
        rollout: row,
        devices,
        devices_complete: complete,
        devices_error: error,
        events: history(&rollout, EVENTS_OF_DETAILS, 0),
        statistics: Statistics::of(rollout.status.as_ref().and_then(|status| status.totals.as_ref())),
        batches: batches(&rollout),
    };
    Ok(Reply::of_revision(details, revision.as_deref()))
}

/// In the order of pages.
pub(super) fn by_name(mut rows: Vec<DeviceRow>) -> Vec<DeviceRow> {
    rows.sort_by(|a, b| a.device_uuid.cmp(&b.device_uuid));
    rows
}

async fn devices(call: Call<Id, Nothing, NoBody>) -> Result<List<stream::RolloutDevices>, Refusal> {
    let Call { rest, visitor, caller, path: Id { id }, .. } = call;
    let place = rest.lists.take(visitor.token)?;
    let (rollout, may_list) = futures::join!(find(&caller, &id), caller.may_list::<Device>());
    stream::devices(&rest, place, caller, rollout?, may_list).await
}

#[derive(JsonSchema, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// At most so many.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 500))]
    limit: u32,
    /// Leaves out so many.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    offset: u32,
}

fn hundred() -> u32 {
    100
}

#[derive(JsonSchema, Debug, Serialize)]
struct RolloutEvents {
    rollout_id: String,
    events: Vec<Event>,
    /// How many are in this answer.
    count: usize,
}

/// A line of a rollout's history.
#[derive(JsonSchema, Debug, Serialize)]
struct Event {
    /// As the predecessor called it, or would have.
    event_type: String,
    /// As Kubernetes events call it.
    reason: String,
    /// What happened, in a sentence.
    message: String,
    /// When.
    timestamp: String,
}

fn history(rollout: &ImageRollout, limit: usize, offset: usize) -> Vec<Event> {
    let lines = rollout.status.iter().flat_map(|status| status.history.iter().rev());
    let event = |line: &crate::api::rollout::HistoryEntry| Event {
        event_type: words::event(&line.type_),
        reason: line.type_.clone(),
        message: line.message.clone(),
        timestamp: time(&line.time),
    };
    lines.skip(offset).take(limit).map(event).collect()
}

async fn events(call: Call<Id, EventsQuery, NoBody>) -> Result<Reply<RolloutEvents>, Refusal> {
    let Call { caller, path: Id { id }, query: EventsQuery { limit, offset }, .. } = call;
    let rollout = find(&caller, &id).await?;
    let events = history(&rollout, limit as usize, offset as usize);
    Ok(Reply::new(RolloutEvents { rollout_id: rollout.name_any(), count: events.len(), events }))
}
