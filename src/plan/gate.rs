//! The gate: whether a released device is told its rollout's image or its own previous one, at this moment.
//!
//! Pure. Looks at the rollout's own spec and status and at what is known of the device; never at which replica asks,
//! nor at what was answered before. Where two rows apply, the stricter one does.

use crate::api::ImageRollout;
use crate::api::rollout::{DesiredState, Phase};

/// A row of the gate table, from the most permissive to the strictest. The order is the precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// Active, completed, or gone: every released device is told the image.
    Active,
    /// Paused, cancelled, superseded, the device is held, or too little is known: nobody moves, forward or back.
    Held,
    /// The rollout stopped itself: the image is suspect, so only devices that run it keep it.
    Halted,
    /// Everybody goes back.
    RolledBack,
}

/// What the gate needs of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its row by its own spec and status.
    pub row: Row,
    /// Whether a device whose own verdict is Failed goes back to its previous image.
    pub rolls_back_failed: bool,
    /// Devices that a person sent back one by one, sorted.
    pub roll_back_devices: Box<[Box<str>]>,
}

impl Facts {
    /// A rollout of which nothing can be read, though it exists: nobody moves on its account.
    #[must_use]
    pub fn unreadable() -> Self {
        Self { row: Row::Held, rolls_back_failed: false, roll_back_devices: Box::default() }
    }

    /// A rollout that is gone. Its finalizer stayed until every entry that the gate held back had been rewritten to
    /// what the device is really told, so the entry is right as it stands.
    #[must_use]
    pub fn gone() -> Self {
        Self { row: Row::Active, rolls_back_failed: false, roll_back_devices: Box::default() }
    }

    /// What a rollout's spec and status say. The spec counts the moment it is seen, whatever the status still says;
    /// the status counts as well, since it may know of a stop that no spec asked for.
    #[must_use]
    pub fn of(rollout: &ImageRollout) -> Self {
        let spec = &rollout.spec;
        let desired = match spec.desired_state {
            DesiredState::Active if spec.paused => Row::Held,
            DesiredState::Active => Row::Active,
            DesiredState::Cancelled => Row::Held,
            DesiredState::RolledBack => Row::RolledBack,
        };
        let (phase, halted) = match &rollout.status {
            Some(status) => (phase_row(status.phase), if status.halted.is_some() { Row::Halted } else { Row::Active }),
            None => (Row::Active, Row::Active),
        };
        // Without a resolved plan nothing was released yet; the policy's default is the safer guess.
        let rolls_back_failed = rollout
            .status
            .as_ref()
            .and_then(|status| status.plan.as_ref())
            .is_none_or(|plan| plan.failure_policy.roll_back_failed_devices);
        let mut roll_back_devices: Vec<Box<str>> =
            spec.roll_back_devices.iter().map(|name| name.as_str().into()).collect();
        roll_back_devices.sort_unstable();
        Self {
            row: desired.max(phase).max(halted),
            rolls_back_failed,
            roll_back_devices: roll_back_devices.into_boxed_slice(),
        }
    }

    /// The row for one device: stricter where a person sent just this one back.
    #[must_use]
    pub fn row_for(&self, device: &str) -> Row {
        if self.roll_back_devices.binary_search_by(|name| (**name).cmp(device)).is_ok() {
            Row::RolledBack
        } else {
            self.row
        }
    }
}

fn phase_row(phase: Phase) -> Row {
    match phase {
        // Failed: it can never start, so it released nothing.
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Soaking
        | Phase::Completed
        | Phase::Failed => Row::Active,
        Phase::Paused | Phase::Cancelled | Phase::Superseded => Row::Held,
        Phase::Halted => Row::Halted,
        Phase::RollingBack | Phase::RolledBack => Row::RolledBack,
    }
}

/// What is known of a released device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Its last report shows every service of the repository running the rollout's image.
    pub running: bool,
    /// Its own verdict in this rollout is Failed.
    pub failed: bool,
}

/// What the gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// The device's previous image.
    Previous,
    /// The rollout's image.
    Image,
    /// The rollout's image if the device proves to hold it already, by its `If-None-Match`; else the previous one.
    ImageIfHeld,
    /// The rollout's image, unless the device proves to hold the previous one: then it was sent back already, and what it
    /// is seen running is older than that.
    ImageUnlessBack,
}

/// The gate table.
#[must_use]
pub fn gate(row: Row, rolls_back_failed: bool, evidence: Evidence) -> Offer {
    let Evidence { running, failed } = evidence;
    if failed && rolls_back_failed {
        return Offer::Previous;
    }
    match row {
        Row::Active => Offer::Image,
        Row::Held if running => Offer::ImageUnlessBack,
        Row::Held => Offer::ImageIfHeld,
        Row::Halted if running && !failed => Offer::ImageUnlessBack,
        Row::Halted | Row::RolledBack => Offer::Previous,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(spec: &Value, status: &Value) -> ImageRollout {
        let mut object = json!({
            "metadata": {"name": "r"},
            "spec": {"policyRef": {"name": "p"}, "image": {"repository": "docker.io/acme/web", "tag": "v2"}},
        });
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        if !status.is_null() {
            object["status"] = status.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn rows_of_spec_and_status() {
        let halted = json!({"time": "2026-01-01T00:00:00Z", "batch": 1, "failures": 1});
        for (spec, status, row) in [
            (json!({}), Value::Null, Row::Active),
            (json!({}), json!({"phase": "Pending"}), Row::Active),
            (json!({}), json!({"phase": "AwaitingApproval"}), Row::Active),
            (json!({}), json!({"phase": "Progressing"}), Row::Active),
            (json!({}), json!({"phase": "Soaking"}), Row::Active),
            (json!({}), json!({"phase": "Completed"}), Row::Active),
            (json!({}), json!({"phase": "Failed"}), Row::Active),
            (json!({}), json!({"phase": "Paused"}), Row::Held),
            (json!({}), json!({"phase": "Cancelled"}), Row::Held),
            (json!({}), json!({"phase": "Superseded"}), Row::Held),
            (json!({}), json!({"phase": "Halted"}), Row::Halted),
            (json!({}), json!({"phase": "RollingBack"}), Row::RolledBack),
            (json!({}), json!({"phase": "RolledBack"}), Row::RolledBack),
            // The spec counts at once, before any controller saw it.
            (json!({"paused": true}), Value::Null, Row::Held),
            (json!({"paused": true}), json!({"phase": "Progressing"}), Row::Held),
            (json!({"desiredState": "Cancelled"}), json!({"phase": "Progressing"}), Row::Held),
            (json!({"desiredState": "Cancelled"}), json!({"phase": "Completed"}), Row::Held),
            (json!({"desiredState": "RolledBack"}), json!({"phase": "Progressing"}), Row::RolledBack),
            (json!({"desiredState": "RolledBack"}), json!({"phase": "Completed"}), Row::RolledBack),
            // The strictest of all applies.
            (json!({"paused": true}), json!({"phase": "Halted"}), Row::Halted),
            (json!({}), json!({"phase": "Paused", "halted": halted}), Row::Halted),
            (json!({}), json!({"phase": "Progressing", "halted": halted}), Row::Halted),
            (json!({"paused": true}), json!({"phase": "RollingBack", "halted": halted}), Row::RolledBack),
            (json!({"paused": true, "desiredState": "RolledBack"}), Value::Null, Row::RolledBack),
            (json!({"desiredState": "Cancelled"}), json!({"phase": "Paused", "halted": halted}), Row::Halted),
        ] {
            assert_eq!(Facts::of(&rollout(&spec, &status)).row, row, "{spec} {status}");
        }
    }

    #[test]
    fn the_whole_table() {
        use Offer::{Image, ImageIfHeld, ImageUnlessBack, Previous};
        let evidence = |running, failed| Evidence { running, failed };
        for (row, rolls_back_failed, running, failed, offer) in [
            (Row::Active, true, true, false, Image),
            (Row::Active, true, false, false, Image),
            (Row::Active, true, true, true, Previous),
            (Row::Active, true, false, true, Previous),
            (Row::Active, false, true, false, Image),
            (Row::Active, false, false, false, Image),
            (Row::Active, false, true, true, Image),
            (Row::Active, false, false, true, Image),
            (Row::Held, true, true, false, ImageUnlessBack),
            (Row::Held, true, false, false, ImageIfHeld),
            (Row::Held, true, true, true, Previous),
            (Row::Held, true, false, true, Previous),
            (Row::Held, false, true, false, ImageUnlessBack),
            (Row::Held, false, false, false, ImageIfHeld),
            (Row::Held, false, true, true, ImageUnlessBack),
            (Row::Held, false, false, true, ImageIfHeld),
            (Row::Halted, true, true, false, ImageUnlessBack),
            (Row::Halted, true, false, false, Previous),
            (Row::Halted, true, true, true, Previous),
            (Row::Halted, true, false, true, Previous),
            (Row::Halted, false, true, false, ImageUnlessBack),
            (Row::Halted, false, false, false, Previous),
            (Row::Halted, false, true, true, Previous),
            (Row::Halted, false, false, true, Previous),
            (Row::RolledBack, true, true, false, Previous),
            (Row::RolledBack, true, false, false, Previous),
            (Row::RolledBack, true, true, true, Previous),
            (Row::RolledBack, true, false, true, Previous),
            (Row::RolledBack, false, true, false, Previous),
            (Row::RolledBack, false, false, false, Previous),
            (Row::RolledBack, false, true, true, Previous),
            (Row::RolledBack, false, false, true, Previous),
        ] {
            assert_eq!(
                gate(row, rolls_back_failed, evidence(running, failed)),
                offer,
                "{row:?} rolls_back_failed={rolls_back_failed} running={running} failed={failed}"
            );
        }
    }

    #[test]
    fn stricter_rows_never_give_more() {
        let rank = |offer| match offer {
            Offer::Previous => 0,
            Offer::ImageIfHeld => 1,
            Offer::ImageUnlessBack => 2,
            Offer::Image => 3,
        };
        for evidence in [(false, false), (false, true), (true, false), (true, true)] {
            let evidence = Evidence { running: evidence.0, failed: evidence.1 };
            for rolls_back_failed in [false, true] {
                let given: Vec<_> = [Row::Active, Row::Held, Row::Halted, Row::RolledBack]
                    .map(|row| rank(gate(row, rolls_back_failed, evidence)))
                    .into();
                assert!(given.is_sorted_by(|a, b| a >= b), "{evidence:?}: {given:?}");
            }
        }
    }

    #[test]
    fn one_device_sent_back() {
        let facts = Facts::of(&rollout(&json!({"rollBackDevices": ["b", "a"]}), &json!({"phase": "Progressing"})));
        assert_eq!(facts.row_for("a"), Row::RolledBack);
        assert_eq!(facts.row_for("b"), Row::RolledBack);
        assert_eq!(facts.row_for("c"), Row::Active);
    }

    #[test]
    fn failed_devices_follow_the_plan() {
        assert!(Facts::of(&rollout(&json!({}), &Value::Null)).rolls_back_failed);
        let plan = |back: bool| {
            json!({"plan": {
                "startTime": "2026-01-01T00:00:00Z", "devicesAtStart": 1, "devices": {}, "offer": "Tag",
                "strategy": "Auto", "failurePolicy": {"rollBackFailedDevices": back},
                "updateDeadline": "15m", "offlineAfter": "10m",
            }})
        };
        assert!(Facts::of(&rollout(&json!({}), &plan(true))).rolls_back_failed);
        assert!(!Facts::of(&rollout(&json!({}), &plan(false))).rolls_back_failed);
        assert!(!Facts::gone().rolls_back_failed);
        assert_eq!(Facts::unreadable().row, Row::Held);
    }
}
