//! Holding a device, and letting it go.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::devices::{Uuid, find};
use super::endpoint::{Call, Reply};
use super::input::{Maybe, Nothing};
use super::problems::Refusal;
use super::verb::{MANAGER, check_revision, person};
use crate::api::Device;
use crate::api::act::Act;
use crate::api::time::whole_seconds;

/// How often a device is read again because somebody else wrote meanwhile.
const ATTEMPTS: u32 = 8;

/// Whether to hold it, and why.
#[derive(JsonSchema, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Hold {
    /// False lets it go.
    hold: bool,
    /// Why, in one line of at most 256 characters.
    #[schemars(length(max = 256), regex(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"))]
    reason: Option<String>,
}

impl Default for Hold {
    fn default() -> Self {
        Self { hold: true, reason: None }
    }
}

/// What came of it.
#[derive(JsonSchema, Debug, Serialize)]
pub(super) struct HoldAnswer {
    message: &'static str,
    device_uuid: String,
    hold: bool,
    reason: Option<String>,
    /// False when it was so already.
    changed: bool,
    /// What happens now, in a sentence.
    effect: &'static str,
    /// How many devices it concerns: 1, or null when nothing changes.
    devices: Option<i32>,
}

pub(super) async fn hold(call: Call<Uuid, Nothing, Maybe<Hold>>) -> Result<Reply<HoldAnswer>, Refusal> {
    let Call { rest, caller, path: Uuid { uuid }, body: Maybe(Hold { hold, reason }), headers, .. } = call;
    let person = person(&rest, &caller, reason.as_deref()).await?;
    for _ in 0..ATTEMPTS {
        let device = find(&caller, &uuid).await?;
        check_revision(&headers, device.resource_version().as_deref())?;
        let mut answer = HoldAnswer {
            message: "Nothing to do",
            device_uuid: device.name_any(),
            hold,
            reason: person.reason.clone(),
            changed: false,
            effect: if hold { "it is held already" } else { "it is not held" },
            devices: None,
        };
        if device.spec.hold == hold {
            return Ok(Reply::of_revision(answer, device.resource_version().as_deref()));
        }
        let act = Act {
            verb: if hold { "DeviceHeld" } else { "DeviceReleased" }.to_owned(),
            by: person.name.clone(),
            reason: person.reason.clone(),
            time: whole_seconds(person.time),
            generation: device.metadata.generation.unwrap_or_default() + 1,
        };
        let patch = json!({
            "metadata": { "resourceVersion": device.resource_version(), "annotations": act.annotation() },
            "spec": { "hold": hold },
        });
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        match caller
            .api::<Device>()
            .patch(&device.name_any(), &params, &Patch::Merge(patch))
            .await
            .map_err(Refusal::from)
        {
            Ok(changed) => {
                answer.message = if hold { "Device is held" } else { "Device is let go" };
                answer.changed = true;
                answer.devices = Some(1);
                answer.effect = if hold {
                    "no rollout moves it until it is let go; it keeps what it runs"
                } else {
                    "rollouts move it again"
                };
                return Ok(Reply::of_revision(answer, changed.resource_version().as_deref()));
            }
            Err(refusal) if refusal.is_stale() => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Err(Refusal::Contended)
}
