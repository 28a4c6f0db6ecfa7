//! `tranche policies list` and `get`.

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::Duration;

use crate::api::condition::{self, READY};
use crate::api::policy::{DeviceClaim, ImageUpdatePolicySpec, Window};
use crate::api::{ImageUpdatePolicy, act::Act};
use crate::cli::cluster::{Cluster, ClusterArgs};
use crate::cli::list::Row;
use crate::cli::output::{Cell, Column, Output, Style, Tone, column, object, print, wide};
use crate::cli::words::{age, short_image};

/// Which one.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// The policy
    pub policy: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

impl Row for ImageUpdatePolicy {
    type Kind = Self;
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("PATTERN"),
        column("STRATEGY"),
        column("LATEST"),
        column("ACTIVE"),
        column("READY"),
        wide("REJECTED"),
        column("AGE"),
        wide("MESSAGE"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let status = self.status.as_ref();
        let latest = status.and_then(|status| status.latest.as_ref()).map(|latest| match &latest.tag {
            Some(tag) => tag.clone(),
            None => short_image(&latest.image),
        });
        let (word, tone, message) = ready(self);
        vec![
            self.name_any().into(),
            self.spec.image.pattern.as_str().into(),
            format!("{:?}", self.spec.strategy.type_).into(),
            latest.into(),
            status.and_then(|status| status.active_rollout.clone()).into(),
            Cell::toned(word, tone),
            self.rejected().count().to_string().into(),
            age(self.metadata.creation_timestamp.as_ref().map(|time| time.0), now).into(),
            message.into(),
        ]
    }
}

/// Whether it can be followed: in a word, and in a sentence.
fn ready(policy: &ImageUpdatePolicy) -> (&'static str, Tone, String) {
    let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match condition::find(conditions, READY) {
        None => ("Unknown", Tone::Warn, "no controller has looked at it yet".to_owned()),
        Some(ready) if ready.status != "True" => ("False", Tone::Bad, ready.message.clone()),
        Some(ready) if policy.spec.suspend => ("Paused", Tone::Warn, ready.message.clone()),
        Some(ready) => ("True", Tone::Good, ready.message.clone()),
    }
}

/// Shows a policy.
///
/// # Errors
/// When it isn't there or can't be had.
pub async fn run(args: &GetArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let value = cluster.get_value::<ImageUpdatePolicy>(&args.policy).await?;
    if let Some(text) = object(&value, "imageupdatepolicies", args.output)? {
        return print(&text);
    }
    let policy: ImageUpdatePolicy = serde_json::from_value(value)?;
    print(&describe(&policy, Style::of_stdout(), crate::clock::now()))
}

fn describe(policy: &ImageUpdatePolicy, style: Style, now: Timestamp) -> String {
    let (word, tone, message) = ready(policy);
    let mut text = format!("{}: {} ({message})\n", policy.name_any(), style.paint(&format!("Ready {word}"), tone));
    for (name, value) in rules(&policy.spec) {
        text += &format!("  {name:<12}{value}\n");
    }
    if let Some(act) = Act::of(&policy.metadata) {
        text +=
            &format!("  {:<12}{} by {}, {} ago\n", "Last act", act.verb, act.who_and_why(), age(Some(act.time.0), now));
    }
    let status = policy.status.clone().unwrap_or_default();
    if let Some(latest) = &status.latest {
        text += &format!("  {:<12}{} by {}\n", "Latest", latest.image, latest.rollout);
    }
    if let Some(active) = &status.active_rollout {
        text += &format!("  {:<12}{active}\n", "Active");
    }
    for condition in status.conditions.iter().filter(|condition| condition.type_ != READY) {
        text += &format!("  {:<12}{}: {}\n", condition.type_, condition.status, condition.message);
    }
    let rejected: Vec<String> = policy
        .rejected()
        .map(|rejected| {
            format!("  {}, {} ago by {}\n", rejected.image, age(Some(rejected.time.0), now), rejected.rollout)
        })
        .collect();
    if !rejected.is_empty() {
        text += "\nRejected: rolled back, and not rolled out again before `tranche policies forgive`\n";
        text += &rejected.concat();
    }
    text
}

/// The rules that it goes by, in words.
fn rules(spec: &ImageUpdatePolicySpec) -> Vec<(&'static str, String)> {
    let strategy = &spec.strategy;
    let mut rules = vec![("Pattern", spec.image.pattern.clone()), ("Offers", format!("{:?}", spec.image.offer))];
    if let Some(interval) = spec.image.poll_interval {
        rules.push(("Polls", format!("every {}", duration(interval))));
    }
    if let Some(tags) = &spec.tags {
        let semver = tags.semver.iter().map(|range| format!("semver {range}"));
        let pattern = tags.pattern.iter().map(|pattern| format!("matching {pattern}"));
        let exclude = tags.exclude.iter().map(|pattern| format!("not {pattern}"));
        let down = tags.allow_downgrade.then(|| "downgrades allowed".to_owned());
        rules.push(("Tags", semver.chain(pattern).chain(exclude).chain(down).collect::<Vec<_>>().join(", ")));
    }
    rules.push(("Devices", devices(&spec.devices)));
    let sizes: Vec<String> = strategy
        .batches
        .iter()
        .map(|batch| match &batch.size {
            k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(count) => count.to_string(),
            k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(share) => share.clone(),
        })
        .collect();
    let sizes = if sizes.is_empty() { String::new() } else { format!(" {}", sizes.join(" -> ")) };
    let soak = strategy.batch_delay.map(|delay| format!(", soak {}", duration(delay))).unwrap_or_default();
    let limit = strategy.max_concurrent.map(|limit| format!(", {limit} at once")).unwrap_or_default();
    rules.push(("Strategy", format!("{:?}{sizes}{soak}{limit}", strategy.type_)));
    rules.extend(strategy.windows.iter().map(|window| ("Window", self::window(window))));
    for check in &spec.health_checks {
        rules.push(("Check", check.name.clone()));
    }
    let failure = &spec.failure_policy;
    rules.push(("On failure", format!("more than {}: {:?}", failure.max_failure_rate, failure.action)));
    rules.push((
        "Deadline",
        format!("{}; offline after {}", duration(spec.update_deadline), duration(spec.offline_after)),
    ));
    rules
}

/// Without what is 0, as people write it.
fn duration(duration: Duration) -> String {
    crate::cli::words::span(i64::try_from(std::time::Duration::from(duration).as_secs()).unwrap_or(i64::MAX))
}

fn devices(claim: &DeviceClaim) -> String {
    let Some(selector) = &claim.selector else { return format!("{} by name", claim.names.len()) };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        format!("{} {} ({})", e.key, e.operator, e.values.iter().flatten().cloned().collect::<Vec<_>>().join(", "))
    });
    let all: Vec<String> = labels.chain(expressions).collect();
    if all.is_empty() { "every one of the namespace".into() } else { all.join(", ") }
}

fn window(window: &Window) -> String {
    let Window { days, start, end, time_zone, deny } = window;
    let days: Vec<String> = days.iter().map(|day| format!("{day:?}")).collect();
    let days = if days.is_empty() { "daily".to_owned() } else { days.join(",") };
    format!("{}{days} {start}-{end} {time_zone}", if *deny { "never " } else { "" })
}
