//! From creation to end: which of a rollout's lives this pass is in.
//!
//! Precedence: deleted, RolledBack, ended, Cancelled, superseded; then not started, or running.

use jiff::Timestamp;

use crate::api::condition::truncate;
use crate::api::policy::OnNewImage;
use crate::api::rollout::{DesiredState, Phase};
use crate::api::time::whole_seconds;
use crate::api::{ImageRef, ROLLOUT_FINALIZER};

use super::observed::{Age, PolicyState, Sibling, is_by_person};
use super::report::WaitingOn;
use super::resolution::{self, Resolution, Step};
use super::subject::{Subject, rollout_image};
use super::validated::ValidatedPolicy;
use super::{FinalizerChange, Pass, advance, cohort, deletion, release, rollback, status};

pub(crate) fn run(pass: &mut Pass<'_>) {
    let rollout = pass.observed.rollout;
    let has_finalizer = rollout.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == ROLLOUT_FINALIZER);
    if rollout.metadata.deletion_timestamp.is_some() {
        if has_finalizer {
            deletion::run(pass);
        }
        return;
    }
    if !has_finalizer {
        pass.finalizer = FinalizerChange::Add;
        return;
    }
    pass.status.observed_generation = rollout.metadata.generation;
    if pass.observed.rollout.status.is_none() {
        status::created(pass);
    }
    status::acted(pass);
    match (rollout.spec.desired_state, pass.status.phase) {
        (DesiredState::RolledBack, phase) if phase != Phase::RolledBack && pass.status.rollback_time.is_none() => {
            rollback::begin(pass, "a person asked for it");
        }
        (DesiredState::RolledBack | DesiredState::Cancelled | DesiredState::Active, _) => {}
    }
    let subject = match pass.observed.subject {
        Ok(subject) => subject,
        Err(why) => return unclear(pass, why.clone()),
    };
    rollback::watch(pass, subject);
    match pass.status.phase {
        Phase::RolledBack => {}
        Phase::Cancelled | Phase::Superseded | Phase::Failed => rollback::requested(pass),
        Phase::Completed => release::latecomers(pass, subject),
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Soaking
        | Phase::Paused
        | Phase::Halted
        | Phase::RollingBack => alive(pass, subject),
    }
}

/// Spec or plan can't be understood: touch nothing, say why.
fn unclear(pass: &mut Pass<'_>, why: WaitingOn) {
    if !pass.status.phase.is_terminal() {
        if let Some(newer) = superseded_by(pass).filter(|_| pass.status.rollback_time.is_none()) {
            return supersede(pass, &newer);
        }
        if pass.spec().desired_state != DesiredState::Active && pass.status.plan.is_none() {
            // Nothing was ever released, so there is nothing to understand.
            return end_unstarted(pass);
        }
        pass.wait(why);
    }
}

fn alive(pass: &mut Pass<'_>, subject: &Subject) {
    if pass.status.rollback_time.is_some() {
        return rollback::everything(pass, subject);
    }
    if pass.spec().desired_state == DesiredState::Cancelled {
        return end(pass, Phase::Cancelled, "cancelled: devices that run the image keep it, nobody else gets it");
    }
    if let Some(newer) = superseded_by(pass) {
        return supersede(pass, &newer);
    }
    if pass.status.plan.is_none() {
        match start(pass, subject) {
            Ok(()) => {}
            Err(why) => {
                pass.enter(Phase::Pending);
                if let WaitingOn::NotBefore { time } = why {
                    pass.requeue(time);
                }
                return pass.wait(why);
            }
        }
        if pass.status.phase.is_terminal() {
            return;
        }
    }
    advance::run(pass, subject);
}

/// Ends a rollout that never started, as its desired state says.
fn end_unstarted(pass: &mut Pass<'_>) {
    match pass.spec().desired_state {
        DesiredState::RolledBack => end(pass, Phase::RolledBack, "rolled back before anything was released"),
        DesiredState::Cancelled => end(pass, Phase::Cancelled, "cancelled before anything was released"),
        DesiredState::Active => {}
    }
}

fn supersede(pass: &mut Pass<'_>, newer: &str) {
    let text = format!("rollout {newer} took over: devices that run this image keep it, nobody else gets it");
    end(pass, Phase::Superseded, &text);
}

/// A terminal phase, reached now.
pub(crate) fn end(pass: &mut Pass<'_>, phase: Phase, message: &str) {
    pass.enter(phase);
    if matches!(phase, Phase::Completed | Phase::RolledBack) {
        // Otherwise the image stays suspect, and the gate must go on treating it so.
        pass.status.halted = None;
    }
    pass.status.unchecked_devices.clear();
    pass.status.message = truncate(message.to_owned(), 1024);
    pass.status.completion_time = Some(whole_seconds(pass.now));
}

/// The newer rollout that takes over: under a policy that says so, or because both have started, and two that run would
/// take the devices from each other for ever. One that can't start takes nothing over, so its own first pass is waited
/// for.
fn superseded_by(pass: &Pass<'_>) -> Option<String> {
    // Ending is final, so only a policy that can be read may ask for it.
    let replaces = match pass.observed.policy {
        PolicyState::Valid(policy) => policy.on_new_image() == OnNewImage::Replace,
        PolicyState::Missing | PolicyState::Invalid(_) => false,
    };
    // It waited for this one, unless this one could not be read, or the policy said something else at the time.
    let runs_beside = |sibling: &Sibling| pass.status.plan.is_some() && sibling.has_started;
    pass.observed
        .siblings
        .iter()
        .filter(|sibling| comes_after(pass, sibling) && sibling.is_known && counts(sibling))
        .filter(|sibling| replaces || runs_beside(sibling))
        .max_by(|a, b| a.age.cmp(&b.age))
        .map(|sibling| sibling.name.clone())
}

/// Whether a rollout stands for the policy's latest image: neither stopped for good nor taken back.
fn counts(sibling: &Sibling) -> bool {
    if sibling.is_stuck {
        return false;
    }
    match sibling.phase {
        Phase::RolledBack | Phase::Cancelled | Phase::Superseded | Phase::Failed | Phase::RollingBack => false,
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Soaking
        | Phase::Paused
        | Phase::Halted
        | Phase::Completed => sibling.desired == DesiredState::Active,
    }
}

/// Whether this rollout's image is still the policy's latest.
pub(crate) fn is_latest(pass: &Pass<'_>) -> bool {
    let stands = |sibling: &Sibling| counts(sibling) || sibling.phase == Phase::RollingBack;
    !pass.observed.siblings.iter().any(|sibling| comes_after(pass, sibling) && stands(sibling))
}

/// Whether another rollout is the newer of the two: by version, where pushes made both and their tags have one; else by
/// age. Pushes of two versions may be told, or get the registry's word, in any order.
fn comes_after(pass: &Pass<'_>, sibling: &Sibling) -> bool {
    let by_age = sibling.age > Age::of(pass.observed.rollout);
    let PolicyState::Valid(policy) = pass.observed.policy else { return by_age };
    let may_go_down = policy.spec.tags.as_ref().is_some_and(|rule| rule.allow_downgrade);
    match (pass.spec().image.tag.as_deref(), sibling.tag.as_deref()) {
        (Some(mine), Some(theirs)) if !may_go_down && !sibling.by_person && !is_by_person(pass.observed.rollout) => {
            policy.tags.is_older(mine, theirs) || (by_age && !policy.tags.is_older(theirs, mine))
        }
        (Some(_) | None, Some(_) | None) => by_age,
    }
}

/// Fixes the batches, or says what is missing.
fn start(pass: &mut Pass<'_>, subject: &Subject) -> Result<(), WaitingOn> {
    let policy = policy(pass)?;
    let spec = pass.spec();
    let name = || spec.policy_ref.name.clone();
    let image = rollout_image(pass.spec()).map_err(|error| WaitingOn::ImageInvalid { why: error.to_string() })?;
    matches_pattern(policy, &image).map_err(|pattern| WaitingOn::ImageNotMatched {
        policy: name(),
        pattern,
        image: image.to_string(),
    })?;
    if policy.spec.suspend {
        return Err(WaitingOn::PolicySuspended { policy: name() });
    }
    if let Some(time) = not_before(pass) {
        return Err(WaitingOn::NotBefore { time });
    }
    if let Some(why) = outrun(pass, policy) {
        end(pass, Phase::Superseded, &why);
        return Ok(());
    }
    if pass.observed.members.is_empty() {
        return Err(match pass.observed.left {
            Some((other, devices)) => WaitingOn::LeftToOthers { policy: name(), devices, other: other.to_owned() },
            None => WaitingOn::NoDevices { policy: name(), repository: image.repository },
        });
    }
    // The registry is asked last, since its word may change while something else is waited for; but what can't start must
    // not take another's place.
    let takes_over = policy.on_new_image() == OnNewImage::Replace;
    if !takes_over {
        wait_for_older(pass, policy)?;
        if pass.status.phase.is_terminal() {
            return Ok(());
        }
    }
    let Some(digest) = resolved(pass, policy, &image)? else { return Ok(()) };
    if takes_over {
        wait_for_older(pass, policy)?;
    }
    let members = pass.observed.members;
    let boundaries = cohort::boundaries(members, &policy.sizes);
    after_namesakes(pass, &subject.image.repository)?;
    let (plan, batches) = policy.resolve(pass.now, members.len(), &boundaries);
    pass.status.plan = Some(plan);
    pass.status.batches = batches;
    pass.status.image = Some(subject.image.to_string());
    pass.status.digest = digest;
    pass.status.current_batch = 0;
    let sizes = policy.batches.len();
    status::note(pass, "RolloutStarted", format!("{} devices in {sizes} batches", members.len()));
    Ok(())
}

/// A rollout of the same name that is gone may have written to devices in this very second. Times are whole seconds, and
/// what was written before the start is told from what is written after it by them.
fn after_namesakes(pass: &mut Pass<'_>, repository: &str) -> Result<(), WaitingOn> {
    let name = pass.name();
    let wrote = pass.observed.members.iter().flat_map(|member| {
        let entry = member.view.entry(repository).map(|view| &view.entry).filter(|entry| entry.rollout == name);
        let verdict = member.view.verdict(repository, name);
        [entry.map(|entry| entry.release_time.0), verdict.map(|verdict| verdict.time.0)].into_iter().flatten()
    });
    match wrote.max().filter(|last| last.as_second() >= pass.now.as_second()) {
        None => Ok(()),
        Some(last) => {
            let time = last.saturating_add(jiff::SignedDuration::from_secs(1)).unwrap_or(last);
            pass.requeue(time);
            Err(WaitingOn::NotBefore { time })
        }
    }
}

/// What an older rollout that runs means for this one, by the policy's word on new images.
fn wait_for_older(pass: &mut Pass<'_>, policy: &ValidatedPolicy) -> Result<(), WaitingOn> {
    let holds_up = |sibling: &&Sibling| !comes_after(pass, sibling) && sibling.is_active() && !sibling.is_stuck;
    let older = pass.observed.siblings.iter().filter(holds_up).max_by(|a, b| a.age.cmp(&b.age));
    let Some(rollout) = older.map(|sibling| sibling.name.clone()) else { return Ok(()) };
    match policy.on_new_image() {
        OnNewImage::Replace => Err(WaitingOn::OlderRollout { rollout }),
        OnNewImage::Queue => Err(WaitingOn::Queue { rollout }),
        OnNewImage::Ignore => {
            let text = format!("not rolled out: rollout {rollout} was running, and the policy says onNewImage: Ignore");
            end(pass, Phase::Superseded, &text);
            Ok(())
        }
    }
}

/// Why something else came first, if so: a push may take long to be told of, or to get the registry's word.
fn outrun(pass: &Pass<'_>, policy: &ValidatedPolicy) -> Option<String> {
    let standing = || pass.observed.siblings.iter().filter(|sibling| counts(sibling));
    if let Some(newer) = standing().find(|sibling| {
        sibling.age > Age::of(pass.observed.rollout) && sibling.has_started && comes_after(pass, sibling)
    }) {
        return Some(format!("not rolled out: {} is newer and has started", newer.name));
    }
    let rule = policy.spec.tags.as_ref();
    if is_by_person(pass.observed.rollout) || rule.is_some_and(|rule| rule.allow_downgrade) {
        return None;
    }
    let tag = pass.spec().image.tag.as_deref()?;
    let is_lower = |sibling: &&Sibling| sibling.tag.as_deref().is_some_and(|than| policy.tags.is_older(tag, than));
    let higher = standing().find(is_lower)?;
    let than = higher.tag.as_deref().unwrap_or_default();
    Some(format!(
        "not rolled out: {tag} is older than {than}, which {} brings; set spec.tags.allowDowngrade of the policy to allow it",
        higher.name
    ))
}

/// The registry's word on the image: a digest, or none where it isn't asked. `None` when the rollout ended over it.
fn resolved(
    pass: &mut Pass<'_>,
    policy: &ValidatedPolicy,
    image: &ImageRef,
) -> Result<Option<Option<String>>, WaitingOn> {
    let digest = match resolution::judge(image, pass.observed.resolution, pass.now) {
        Step::Start(digest) => digest,
        Step::Wait(on, again) => {
            if let Some(again) = again {
                pass.requeue(again);
            }
            return Err(on);
        }
        Step::Fail(why) => {
            end(pass, Phase::Failed, &why);
            return Ok(None);
        }
    };
    if let Some(rejected) = rejected(pass, policy, image, digest.as_deref()) {
        // Remembered, so that the same push is known again.
        pass.status.digest = digest;
        end(pass, Phase::Failed, &rejected);
        return Ok(None);
    }
    if let Some(same) = same_bits(pass, image, digest.as_deref()) {
        let why = format!("not rolled out: rollout {same} is of the same image under another name");
        pass.status.digest = digest;
        end(pass, Phase::Superseded, &why);
        return Ok(None);
    }
    Ok(Some(digest))
}

/// An earlier rollout that stands for the very same bits, told under another tag or without its digest.
fn same_bits(pass: &Pass<'_>, image: &ImageRef, digest: Option<&str>) -> Option<String> {
    let digest = digest.or(image.digest.as_deref())?;
    if is_by_person(pass.observed.rollout) || matches!(pass.observed.resolution, Resolution::Unasked) {
        return None;
    }
    let mine = Age::of(pass.observed.rollout);
    let same = |sibling: &&Sibling| {
        counts(sibling) && sibling.digest.as_deref() == Some(digest) && (sibling.has_started || sibling.age < mine)
    };
    pass.observed.siblings.iter().find(same).map(|sibling| sibling.name.clone())
}

/// The policy remembers these very bits as rolled back, and nobody asked for them by name.
fn rejected(pass: &Pass<'_>, policy: &ValidatedPolicy, image: &ImageRef, digest: Option<&str>) -> Option<String> {
    if is_by_person(pass.observed.rollout) {
        return None;
    }
    let digest = digest.or(image.digest.as_deref())?;
    let same = policy.rejected.iter().find(|rejected| {
        rejected.rollout != pass.name()
            && rejected.image.parse::<ImageRef>().is_ok_and(|rejected| {
                rejected.repository == image.repository && rejected.digest.as_deref() == Some(digest)
            })
    })?;
    Some(format!(
        "not rolled out: {} was rolled back by {}; create an ImageRollout to try it again, or name it in spec.forgiven of the policy",
        same.image, same.rollout
    ))
}

fn policy<'a>(pass: &Pass<'a>) -> Result<&'a ValidatedPolicy, WaitingOn> {
    let name = || pass.spec().policy_ref.name.clone();
    match pass.observed.policy {
        PolicyState::Valid(policy) => Ok(policy),
        PolicyState::Missing => Err(WaitingOn::PolicyMissing { policy: name() }),
        PolicyState::Invalid(why) => Err(WaitingOn::PolicyInvalid { policy: name(), why: why.into() }),
    }
}

/// The pattern, if it does not match.
fn matches_pattern(policy: &ValidatedPolicy, image: &ImageRef) -> Result<(), String> {
    if policy.pattern.matches(&image.repository, image.tag.as_deref()) {
        Ok(())
    } else {
        Err(policy.spec.image.pattern.clone())
    }
}

/// `spec.notBefore`, while it lies ahead.
pub(crate) fn not_before(pass: &Pass<'_>) -> Option<Timestamp> {
    pass.spec().not_before.as_ref().map(|time| time.0).filter(|time| *time > pass.now)
}

#[cfg(test)]
mod tests;
