//! Conditions, the way `kubectl wait` and kstatus read them.
//!
//! `Ready` is always there. `Reconciling` and `Stalled` are there only while True, which is what kstatus asks for.

use jiff::Timestamp;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// True when the object is where its spec wants it to be.
pub const READY: &str = "Ready";
/// Present and True while work goes on.
pub const RECONCILING: &str = "Reconciling";
/// Present and True when only a person can get it going again.
pub const STALLED: &str = "Stalled";
/// On a policy, present and True when devices that it selects belong to a more specific one.
pub const OVERLAPPED: &str = "Overlapped";
/// On a policy that polls: whether the registry answers.
pub const POLLED: &str = "Polled";
/// On a rollout: some devices are left alone because somebody else decides over their image.
pub const DEVICES_IN_CONFLICT: &str = "DevicesInConflict";
/// Of a rollout, while True: devices that were sent back are not seen running their previous image.
pub const DEVICES_NOT_BACK: &str = "DevicesNotBack";
/// On a device: it polled or reported lately.
pub const CONNECTED: &str = "Connected";
/// On a device: the images it reported last are those it had been told.
pub const IN_SYNC: &str = "InSync";

/// Those that the controller and the gateway write. Others are somebody else's, and no news of ours.
const OURS: [&str; 9] =
    [READY, RECONCILING, STALLED, OVERLAPPED, POLLED, DEVICES_IN_CONFLICT, DEVICES_NOT_BACK, CONNECTED, IN_SYNC];

/// Without what others wrote: it stays when ours is applied, so whoever compares the two would never be done.
#[must_use]
pub fn ours(mut conditions: Vec<Condition>) -> Vec<Condition> {
    conditions.retain(|condition| OURS.contains(&condition.type_.as_str()));
    conditions
}

/// A condition whose transition time is `now`; [`merge`] puts an older time back when the status did not flip.
#[must_use]
pub fn condition(
    type_: &str,
    status: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    Condition {
        type_: type_.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: reason.into(),
        message: truncate(message.into(), MAX_MESSAGE),
        observed_generation: generation,
        last_transition_time: Time(now),
    }
}

/// `new`, sorted by type, each keeping the transition time of `old` unless its status flipped. Comparing the result
/// with `old` therefore tells whether anything but the clock moved.
#[must_use]
pub fn merge(old: &[Condition], mut new: Vec<Condition>) -> Vec<Condition> {
    for condition in &mut new {
        if let Some(before) = find(old, &condition.type_)
            && before.status == condition.status
        {
            condition.last_transition_time = before.last_transition_time.clone();
        }
    }
    new.sort_by(|a, b| a.type_.cmp(&b.type_));
    new
}

/// The condition of that type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is there and True.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// The API server refuses a condition's message past 32 KiB; nobody reads past a paragraph.
const MAX_MESSAGE: usize = 1024;

/// `text` cut to at most `max` bytes on a character boundary, with an ellipsis where something is missing.
#[must_use]
pub fn truncate(mut text: String, max: usize) -> String {
    if text.len() > max {
        let cut = (0..=max.saturating_sub('…'.len_utf8())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}
