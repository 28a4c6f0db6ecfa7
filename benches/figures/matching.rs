//! What one push costs with a thousand policies.

use std::hint::black_box;

use serde_json::json;
use tranche::api::ImageUpdatePolicy;
use tranche::registry::PushEvent;
use tranche::registry::claim::Claim;
use tranche::registry::intake::decide;

use crate::planner::seconds;
use crate::row::Row;
use crate::stats::median;
use crate::world::now;

const POLICIES: usize = 1_000;
/// Odd, so that there is a middle one.
const ROUNDS: usize = 11;
const MAX_MICROS: f64 = 100.0;

/// Rows of a push that one policy, none, and all speak of.
pub fn measure() -> anyhow::Result<Vec<Row>> {
    let named = claims(|n| format!("registry.example.com/fleet-{}/app-{n}:*", n % 10))?;
    let starred = claims(|n| format!("*/fleet-*/app-{n}:v*"))?;
    let all = claims(|_| "registry.example.com/fleet-*:v2*".to_owned())?;
    let one = push("registry.example.com/fleet-7/app-517:v2.3.4")?;
    let none = push("registry.example.com/fleet-7/sensor:v2.3.4")?;
    Ok(vec![
        Row::limited("decide, 1,000 policies: one speaks of the push", micros(&one, &named), "us CPU", MAX_MICROS),
        Row::limited("decide, 1,000 policies: none does", micros(&none, &named), "us CPU", MAX_MICROS),
        Row::limited(
            "decide, 1,000 policies: patterns begin with a star",
            micros(&one, &starred),
            "us CPU",
            MAX_MICROS,
        ),
        Row::known("decide, 1,000 policies: 1,000 rollouts", micros(&one, &all), "us CPU"),
    ])
}

fn micros(event: &PushEvent, claims: &[Claim]) -> f64 {
    let samples: Vec<f64> =
        (0..ROUNDS).map(|_| seconds(|| drop(black_box(decide(black_box(event), now(), claims))))).collect();
    median(&samples) * 1e6
}

fn push(image: &str) -> anyhow::Result<PushEvent> {
    let image = image.parse()?;
    Ok(PushEvent { image, actor: Some("ann".into()), delivery_id: Some("1".into()), receiver: "generic" })
}

/// Policies as people write them: tag rules, and something rolled out and something rejected before.
fn claims(pattern: impl Fn(usize) -> String) -> anyhow::Result<Vec<Claim>> {
    (0..POLICIES)
        .map(|n| {
            let policy: ImageUpdatePolicy = serde_json::from_value(json!({
                "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageUpdatePolicy",
                "metadata": {"name": format!("policy-{n}"), "namespace": "default", "uid": format!("u-{n}")},
                "spec": {
                    "image": {"pattern": pattern(n)},
                    "tags": {"semver": ">=2.0.0 <3.0.0", "pattern": r"^v(?P<version>\d+\.\d+\.\d+)$", "exclude": ["-rc"]},
                    "devices": {"selector": {"matchLabels": {"tranche.dev/fleet": format!("fleet-{n}")}}},
                },
                "status": {"rejected": [{
                    "image": format!("registry.example.com/fleet-{}/app-{n}:v2.3.3", n % 10),
                    "rollout": format!("policy-{n}-1"), "time": "2026-01-01T00:00:00Z",
                }]},
            }))?;
            Ok(Claim::of(&policy))
        })
        .collect()
}
