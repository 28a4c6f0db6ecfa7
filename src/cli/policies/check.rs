//! `tranche policies check`: what a policy would do, before it does.

use std::collections::BTreeSet;

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{ImageRef, ImageUpdatePolicy};
use crate::cli::cluster::{Cluster, ClusterArgs};
use crate::cli::fault::{Code, Fault};
use crate::cli::output::print;
use crate::cli::preview::beginning;
use crate::cli::rollouts::phase_of;
use crate::cli::words::short_image;
use crate::cli::world::World;
use crate::controller::devices::Known;
use crate::controller::gather::validate;
use crate::plan::rivals::{Rival, overlaps};
use crate::plan::{DeviceView, ValidatedPolicy};
use crate::registry::PushEvent;
use crate::registry::claim::Claim;
use crate::registry::intake::{Decision, decide};

/// Devices that are named.
const NAMED: usize = 5;

/// What is checked.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The policy
    pub policy: String,
    /// Say what would become of a push of this image, such as acme/app:v2
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<ImageRef>,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Checks a policy.
///
/// # Errors
/// When it isn't there or can't be followed, or when the push would not be rolled out.
pub async fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let policy: ImageUpdatePolicy = cluster.get(&args.policy).await?;
    let world = World::read(&cluster).await?;
    eprint!("{}", world.notes());
    let name = policy.name_any();
    let valid = validate(&policy)
        .map_err(|error| Fault::new(Code::Error, format!("policy {name} can't be followed: {error}")))?;
    let devices = world.objects.index().devices(&cluster.namespace);
    print(&claims(&policy, &valid, &devices, &world))?;
    match &args.image {
        None => Ok(()),
        Some(image) => push(&policy, image, world, crate::clock::now()),
    }
}

/// Which devices are the policy's, and in what batches.
fn claims(policy: &ImageUpdatePolicy, valid: &ValidatedPolicy, devices: &[Known], world: &World) -> String {
    let name = policy.name_any();
    let views: Vec<&DeviceView> =
        devices.iter().map(|known| known.view.as_ref()).filter(|view| !view.deleting).collect();
    let selected: Vec<&&DeviceView> =
        views.iter().filter(|view| valid.rules.claims(&view.name, &view.labels)).collect();
    let runs = |view: &DeviceView| {
        view.services.iter().any(|service| valid.pattern.matches_repository(&service.image.repository))
    };
    let (cohort, others): (Vec<&DeviceView>, Vec<&DeviceView>) =
        selected.iter().copied().copied().partition(|view| runs(view));
    let mut text = format!(
        "policy {name} can be followed{}\n",
        if policy.spec.suspend { "; it is paused, so no rollout starts" } else { "" }
    );
    text += &format!("  pattern  {}\n", valid.pattern.as_str());
    text +=
        &format!("  devices  {} selected, {} of them with a service of such an image\n", selected.len(), cohort.len());
    if !others.is_empty() && cohort.is_empty() {
        let images: BTreeSet<String> = others
            .iter()
            .flat_map(|view| view.services.iter().map(|service| short_image(&service.image.repository)))
            .take(NAMED)
            .collect();
        let images: Vec<String> = images.into_iter().collect();
        text += &format!(
            "           what they declare: {}\n",
            if images.is_empty() { "nothing".to_owned() } else { images.join(", ") }
        );
    }
    let held = cohort.iter().filter(|view| view.hold).count();
    if held > 0 {
        text += &format!("           {held} of them held, which defers them\n");
    }
    for view in cohort.iter().take(NAMED) {
        let display = view.display_name.as_ref().map(|display| format!("  {display}")).unwrap_or_default();
        text += &format!("    {}{display}\n", view.name);
    }
    if cohort.len() > NAMED {
        text += &format!("    and {} more\n", cohort.len() - NAMED);
    }
    if let Some(own) = Rival::of(policy) {
        for (rival, count) in overlaps(&name, &own, &world.objects.policies, views.iter().copied()) {
            text +=
                &format!("  before   {rival}: more specific, {count} of these devices are its for the same images\n");
        }
    }
    text + &course(valid, cohort.len())
}

/// How a rollout to so many devices would go.
fn course(valid: &ValidatedPolicy, devices: usize) -> String {
    let mut text = String::new();
    let mut placed = 0;
    for (index, (batch, size)) in valid.batches.iter().zip(&valid.sizes).enumerate() {
        let upto = size.of(devices);
        let (batch_size, more) =
            (upto.saturating_sub(placed), if batch.approval { ", waits for approval" } else { "" });
        let selector = if batch.selector.is_some() { ", at most: it has a selector" } else { "" };
        let tolerated = valid.rules.tolerated(index, i32::try_from(batch_size).unwrap_or(i32::MAX));
        text += &format!("  batch {}  {batch_size} devices{selector}, {tolerated} may fail{more}\n", index + 1);
        placed = upto.max(placed);
    }
    let kinds = [(&valid.rules.probes, "looked at"), (&valid.rules.analyses, "asked of the batch")];
    for (names, how) in kinds {
        if !names.is_empty() {
            text += &format!("  checks   {} ({how})\n", names.join(", "));
        }
    }
    if !valid.rules.containers.is_empty() {
        text += "  checks   what devices report of their containers\n";
    }
    text
}

/// What would become of a push, and how its rollout would begin.
fn push(policy: &ImageUpdatePolicy, image: &ImageRef, mut world: World, now: Timestamp) -> anyhow::Result<()> {
    let event = PushEvent { image: image.clone(), actor: None, delivery_id: None, receiver: "check" };
    let no = |why: String| {
        Err(Fault::new(Code::Conflict, format!("a push of {image} would not be rolled out: {why}")).into())
    };
    match decide(&event, now, &[Claim::of(policy)]).into_iter().next() {
        None => no("the policy has nothing to say of it".into()),
        Some(Decision::Ignore(ignored)) => no(ignored.reason.to_string()),
        Some(Decision::Create(creation)) => {
            let mut rollout = creation.rollout;
            let name = rollout.name_any();
            if let Some(there) = world.objects.rollouts.iter().find(|other| other.name_any() == name) {
                let phase = phase_of(there);
                return no(format!(
                    "{name} has it already ({phase}), unless the tag was moved to another digest since"
                ));
            }
            rollout.metadata.uid = Some(name.clone());
            world.objects.rollouts.push(rollout.clone());
            let answer = world.plan(&rollout, now);
            print(&format!("a push of {image} would be rolled out as {name}\n{}", beginning(&answer)))
        }
    }
}
