//! One rollout and the fleet under it, as lines for the screen.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tranche::api::rollout::{BatchStatus, Phase};

use crate::follow::Record;
use crate::stage::{Paint, View};
use crate::testimony::Testimony;

/// Cells of a bar.
const CELLS: usize = 20;

/// What is on the screen while a rollout runs.
pub fn of_rollout(record: &Record, testimony: &Testimony, paint: Paint, old: &str, new: &str) -> View {
    let status = &record.status;
    let current = usize::try_from(status.current_batch).unwrap_or_default();
    let mut rich: Vec<String> =
        status.batches.iter().enumerate().map(|(index, batch)| batch_line(index, batch, current, paint)).collect();
    rich.push(format!("    devices        {}", dots(testimony, paint, old, new)));
    let phase = status.phase;
    let coloured = match phase {
        Phase::Completed => paint.green(phase.as_str()),
        Phase::Halted | Phase::RollingBack | Phase::Failed => paint.red(phase.as_str()),
        Phase::RolledBack | Phase::Soaking => paint.yellow(phase.as_str()),
        Phase::Pending
        | Phase::AwaitingApproval
        | Phase::Progressing
        | Phase::Paused
        | Phase::Cancelled
        | Phase::Superseded => paint.cyan(phase.as_str()),
    };
    // What follows is what a person could do about it. Here nobody needs to.
    let message = status.message.split("; ").next().unwrap_or_default();
    rich.push(format!("    {coloured}  {}", paint.dim(message)));

    let batch = status.batches.get(current.wrapping_sub(1));
    let batch = batch.map_or_else(
        || "no batch open".into(),
        |batch| format!("batch {current}/{} ({}): {}", status.batches.len(), batch.size, figures(batch)),
    );
    View {
        rich,
        headline: format!("{phase}: {message}"),
        key: format!("{phase} {current}"),
        plain: format!("{batch} · {}", legend(testimony, &[old, new])),
    }
}

/// What is on the screen while a fleet comes up.
pub fn of_fleet(testimony: &Testimony, paint: Paint, image: &str, devices: usize) -> View {
    let up = testimony.running(image);
    let empty = "· ".repeat(devices.saturating_sub(testimony.devices().count()));
    let dots = format!("{}{}", dots(testimony, paint, image, ""), paint.dim(&empty));
    View {
        rich: vec![
            format!("    devices  {dots}"),
            format!("    {}", paint.dim(&format!("{up} of {devices} run {}", tag(image)))),
        ],
        plain: format!("{up} of {devices} devices run {}", tag(image)),
        headline: String::new(),
        key: String::new(),
    }
}

fn batch_line(index: usize, batch: &BatchStatus, current: usize, paint: Paint) -> String {
    let bar = bar(batch, paint);
    let text = if index < current { figures(batch) } else { paint.dim(&format!("{} devices", batch.devices)) };
    format!("    batch {}  {:>4}  {bar}  {text}", index + 1, batch.size)
}

fn figures(batch: &BatchStatus) -> String {
    let mut text = format!("{}/{} healthy", batch.healthy, batch.devices);
    for (count, what) in [(batch.failed, "failed"), (batch.rolled_back, "sent back"), (batch.deferred, "deferred")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

/// Failed, healthy, told but not decided, and the rest.
fn bar(batch: &BatchStatus, paint: Paint) -> String {
    let count = |n: i32| usize::try_from(n).unwrap_or_default();
    let devices = count(batch.devices).max(1);
    let (failed, healthy) = (count(batch.failed), count(batch.healthy));
    let told = count(batch.released).saturating_sub(failed + healthy);
    let mut cells = String::new();
    let (mut reached, mut drawn) = (0, 0);
    // Told apart by colour and, where there is none, by shade.
    for (n, cell, draw) in [
        (failed, "▓", Paint::red as fn(Paint, &str) -> String),
        (healthy, "█", Paint::green),
        (told, "▒", Paint::yellow),
    ] {
        reached = (reached + n).min(devices);
        let until = (reached * CELLS).div_ceil(devices);
        cells.push_str(&draw(paint, &cell.repeat(until - drawn)));
        drawn = until;
    }
    cells.push_str(&paint.dim(&"░".repeat(CELLS - drawn)));
    cells
}

/// A dot a device, by what it runs in its own words.
fn dots(testimony: &Testimony, paint: Paint, old: &str, new: &str) -> String {
    let dots: Vec<String> = testimony
        .devices()
        .map(|runs| match runs {
            Some(image) if image == new => paint.green("●"),
            Some(image) if image == old => paint.blue("●"),
            Some(_) => paint.yellow("●"),
            None => paint.red("○"),
        })
        .collect();
    let known = [old, new].map(|image| (testimony.running(image), image));
    let legend: Vec<String> = [Paint::blue as fn(Paint, &str) -> String, Paint::green]
        .into_iter()
        .zip(known)
        .filter(|(_, (count, _))| *count > 0)
        .map(|(draw, (count, image))| format!("{count} {}", draw(paint, tag(image))))
        .collect();
    let down = testimony.devices().filter(Option::is_none).count();
    let down = if down > 0 { paint.red(&format!(", {down} stopped")) } else { String::new() };
    if new.is_empty() { dots.join(" ") + " " } else { format!("{}  {}{down}", dots.join(" "), legend.join(", ")) }
}

fn legend(testimony: &Testimony, images: &[&str]) -> String {
    let running = images.iter().map(|image| (testimony.running(image), tag(image)));
    let mut parts: Vec<String> =
        running.filter(|(count, _)| *count > 0).map(|(count, tag)| format!("{count} on {tag}")).collect();
    let down = testimony.devices().filter(Option::is_none).count();
    if down > 0 {
        parts.push(format!("{down} stopped"));
    }
    parts.join(", ")
}

/// The part that tells the demo's images apart.
pub fn tag(image: &str) -> &str {
    image.rsplit_once(':').map_or(image, |(_, tag)| tag)
}

/// A batch's size as people write it.
pub fn size(size: &IntOrString) -> String {
    match size {
        IntOrString::Int(count) => count.to_string(),
        IntOrString::String(share) => share.clone(),
    }
}
