//! What people do to rollouts. Decided by [`crate::verbs`]; written here with the revision that was looked at.

use http::{HeaderMap, Method, header};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rest;
use super::caller::Caller;
use super::endpoint::{About, Call, Reply, Table};
use super::input::{Maybe, Nothing};
use super::page;
use super::problems::Refusal;
use super::rollouts::{Id, find};
use super::words::{self, RolloutStatus};
use crate::api::{ImageRollout, act};
use crate::verbs::{Candidate, Decision, Effect, Person, Verb, decide};

/// Field manager of what people change here.
pub(super) const MANAGER: &str = "tranche-rest";
/// How often is decided again because the controller wrote meanwhile.
const ATTEMPTS: u32 = 8;

pub(super) fn endpoints(table: Table) -> Table {
    let about = |id, summary, text| About { id, tag: "rollouts", summary, text };
    table
        .add(
            Method::POST,
            "/rollouts/{id}/pause",
            about(
                "pauseRollout",
                "Stop a rollout",
                "No device moves forward until it is resumed; those that run the image keep it.",
            ),
            |call: ActCall<Id>| act(call, |_| Verb::Pause, "Rollout paused"),
        )
        .add(
            Method::POST,
            "/rollouts/{id}/resume",
            about(
                "resumeRollout",
                "Let a rollout go on",
                "After a pause, and after a halt: its failures are then acknowledged.",
            ),
            |call: ActCall<Id>| act(call, |_| Verb::Resume, "Rollout resumed"),
        )
        .add(
            Method::POST,
            "/rollouts/{id}/cancel",
            about("cancelRollout", "End a rollout", "Devices that run the image keep it. It can't be taken back."),
            |call: ActCall<Id>| act(call, |_| Verb::Cancel, "Rollout cancelled"),
        )
        .add(
            Method::POST,
            "/rollouts/{id}/rollback-all",
            about(
                "rollBackRollout",
                "Send every device back",
                "Each goes to its own previous image. It can't be taken back.",
            ),
            |call: ActCall<Id>| act(call, |_| Verb::RollBack, "Rollout is rolled back"),
        )
        .add(
            Method::POST,
            "/rollouts/{id}/approve",
            about(
                "approveBatch",
                "Let the next batch open",
                "Name the batch to be safe against asking twice: without it each call approves another.",
            ),
            approve,
        )
        .add(
            Method::POST,
            "/rollouts/{id}/devices/{uuid}/rollback",
            about("rollBackDevice", "Send one device back", "It goes to its own previous image."),
            roll_back_device,
        )
}

type ActCall<P> = Call<P, Nothing, Maybe<Reason>>;

/// Why.
#[derive(JsonSchema, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// In one line of at most 256 characters; it is kept with the rollout, beside the person's name.
    #[serde(default)]
    #[schemars(length(max = 256), regex(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"))]
    reason: Option<String>,
}

impl Reason {
    /// In words, if there are any.
    pub(super) fn text(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Which batch, and why.
#[derive(JsonSchema, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    /// Which, from 1, and all before it. Absent: the next one.
    #[serde(default)]
    #[schemars(range(min = 1, max = 21))]
    batch: Option<u8>,
    /// As elsewhere.
    #[serde(default)]
    #[schemars(length(max = 256), regex(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"))]
    reason: Option<String>,
}

/// A device of a rollout.
#[derive(JsonSchema, Debug, Deserialize)]
struct DeviceOf {
    /// The rollout's name, or its UID.
    id: String,
    /// The device's UUID.
    uuid: String,
}

/// What came of a verb.
#[derive(JsonSchema, Debug, Serialize)]
struct Acted {
    /// In a few words.
    message: String,
    rollout_id: String,
    reason: Option<String>,
    /// False when it was so already.
    changed: bool,
    /// What happens now, in a sentence.
    effect: String,
    /// How many devices it concerns; null while they are not counted.
    devices: Option<i32>,
    /// The phase in which the rollout was.
    state: String,
    /// The same in the predecessor's word.
    status: RolloutStatus,
    /// Of rollback-all: how many devices are sent back.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices_rolled_back: Option<i32>,
    /// Of rollback-all: always 0. Devices that don't come back show in the rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices_failed: Option<i32>,
    /// Of a single device's rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_uuid: Option<String>,
}

/// Who asks, why and when.
pub(super) async fn person(rest: &Rest, caller: &Caller, reason: Option<&str>) -> Result<Person, Refusal> {
    let reason = reason.map_or(Ok(None), act::reason).map_err(|why| Refusal::Body(format!("reason: {why}")))?;
    Ok(Person { name: caller.name().await?, reason, time: rest.clock.now() })
}

async fn act(call: ActCall<Id>, verb: fn(&Id) -> Verb, message: &'static str) -> Result<Reply<Acted>, Refusal> {
    let Call { rest, caller, path, body: Maybe(Reason { reason }), headers, .. } = call;
    let person = person(&rest, &caller, reason.as_deref()).await?;
    carry_out(&caller, &path.id, &verb(&path), &person, &headers, message).await
}

async fn approve(call: Call<Id, Nothing, Maybe<Approval>>) -> Result<Reply<Acted>, Refusal> {
    let Call { rest, caller, path, body: Maybe(Approval { batch, reason }), headers, .. } = call;
    if batch == Some(0) {
        return Err(Refusal::Body("batch: batches are counted from 1".into()));
    }
    let person = person(&rest, &caller, reason.as_deref()).await?;
    let verb = Verb::Approve { batch: batch.map(usize::from) };
    carry_out(&caller, &path.id, &verb, &person, &headers, "Batch approved").await
}

async fn roll_back_device(call: ActCall<DeviceOf>) -> Result<Reply<Acted>, Refusal> {
    let Call { rest, caller, path: DeviceOf { id, uuid }, body: Maybe(Reason { reason }), headers, .. } = call;
    let person = person(&rest, &caller, reason.as_deref()).await?;
    let device = super::devices::find(&caller, &uuid).await?;
    let verb = Verb::RollBackDevice { device: Candidate::from(&device) };
    carry_out(&caller, &id, &verb, &person, &headers, "Device is rolled back").await
}

/// Reads, decides and writes, again while others write.
async fn carry_out(
    caller: &Caller,
    id: &str,
    verb: &Verb,
    person: &Person,
    headers: &HeaderMap,
    message: &str,
) -> Result<Reply<Acted>, Refusal> {
    for _ in 0..ATTEMPTS {
        let rollout = find(caller, id).await?;
        check_revision(headers, rollout.resource_version().as_deref())?;
        let (patch, effect) = match decide(&rollout, verb, person)? {
            Decision::Already { text } => {
                let effect = Effect { devices: None, text };
                return Ok(acted(&rollout, verb, person, effect, false, "Nothing to do"));
            }
            Decision::Change { patch, effect } => (patch, effect),
        };
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let api = caller.api::<ImageRollout>();
        match api.patch(&rollout.name_any(), &params, &Patch::Merge(patch)).await.map_err(Refusal::from) {
            Ok(changed) => {
                let mut reply = acted(&rollout, verb, person, effect, true, message);
                reply.set_revision(changed.resource_version().as_deref());
                return Ok(reply);
            }
            Err(refusal) if refusal.is_stale() => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Err(Refusal::Contended)
}

fn acted(
    rollout: &ImageRollout,
    verb: &Verb,
    person: &Person,
    effect: Effect,
    changed: bool,
    message: &str,
) -> Reply<Acted> {
    let status = rollout.status.as_ref();
    let phase = status.map(|status| status.phase).unwrap_or_default();
    let begun = status.is_some_and(|status| status.current_batch > 0);
    let all = *verb == Verb::RollBack;
    let body = Acted {
        message: message.to_owned(),
        rollout_id: rollout.name_any(),
        reason: person.reason.clone(),
        changed,
        effect: effect.text,
        devices_rolled_back: all.then(|| effect.devices.unwrap_or_default()),
        devices_failed: all.then_some(0),
        devices: effect.devices,
        state: phase.as_str().to_owned(),
        status: words::rollout(phase, begun),
        device_uuid: match verb {
            Verb::RollBackDevice { device } => Some(device.name.clone()),
            Verb::Pause | Verb::Resume | Verb::Approve { .. } | Verb::Cancel | Verb::RollBack => None,
        },
    };
    Reply::of_revision(body, rollout.resource_version().as_deref())
}

/// Refuses when the caller named another revision than the present one.
pub(super) fn check_revision(headers: &HeaderMap, revision: Option<&str>) -> Result<(), Refusal> {
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let current = revision.unwrap_or_default();
    let matches = wanted.to_str().unwrap_or_default().split(',').map(str::trim).any(|tag| {
        let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        tag == "*" || tag == current
    });
    if matches { Ok(()) } else { Err(Refusal::Precondition { current: format!("\"{current}\"") }) }
}

/// A device's name as it is looked up.
pub(super) fn device_name(uuid: &str) -> Option<String> {
    let name = uuid.to_ascii_lowercase();
    page::is_name(&name).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_revision_is_honoured() {
        let check = |wanted: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(wanted));
            check_revision(&headers, Some("12"))
        };
        for fits in ["\"12\"", "12", "*", "\"11\", \"12\""] {
            assert!(check(fits).is_ok(), "{fits}");
        }
        for other in ["\"11\"", "", "\"123\""] {
            assert!(matches!(check(other), Err(Refusal::Precondition { .. })), "{other}");
        }
        assert!(check_revision(&HeaderMap::new(), Some("12")).is_ok());
    }
}
