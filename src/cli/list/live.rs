//! A list that is followed on a terminal: one table, redrawn in place.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kube::api::DynamicObject;
use kube::runtime::watcher;

use super::follow::{events, lost};
use super::{ListArgs, Row};
use crate::cli::cluster::Cluster;
use crate::cli::output::{Output, Style, Table};

/// Rows that are drawn. More than a screen has would scroll, and what has scrolled away can't be redrawn.
const ROWS: usize = 30;
/// Ages are redrawn so often, if nothing else happens.
const AGEING: Duration = Duration::from_secs(10);

/// Whether a list is one that is shown so: of a kind that has a live form, for a person, on a terminal.
pub(super) fn fits<R: Row>(args: &ListArgs) -> bool {
    let for_people = match args.output {
        Output::Table | Output::Wide => true,
        Output::Json | Output::Yaml | Output::Name => false,
    };
    args.watch && for_people && !R::LIVE.is_empty() && std::io::stdout().is_terminal()
}

/// Shows the list until Ctrl-C.
///
/// # Errors
/// When it can't be had.
pub(super) async fn follow<R: Row>(
    cluster: &Cluster,
    args: &ListArgs,
    keep: impl Fn(&R) -> bool,
) -> anyhow::Result<()> {
    let mut events = std::pin::pin!(events::<R>(cluster, args));
    let mut rows = Rows { kept: BTreeMap::new(), listed: None };
    let mut screen = Screen::new()?;
    let mut ageing = tokio::time::interval(AGEING);
    let most = args.limit.unwrap_or(usize::MAX).min(ROWS);
    let mut broken = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => break,
                Some(Err(error)) => lost::<R::Kind>(&error, cluster, &mut broken)?,
                Some(Ok(event)) => {
                    broken = false;
                    rows.take(event, &keep);
                }
            },
            _ = ageing.tick() => {}
            signal = tokio::signal::ctrl_c() => {
                signal?;
                break;
            }
        }
        if rows.listed.is_none() {
            screen.draw(&rows.picture(crate::clock::now(), screen.style, most, args.no_headers));
        }
    }
    screen.leave();
    Ok(())
}

/// The objects that are shown, by name.
struct Rows<R> {
    kept: BTreeMap<String, R>,
    /// Those of a listing that is under way.
    listed: Option<BTreeMap<String, R>>,
}

impl<R: Row> Rows<R> {
    fn take(&mut self, event: watcher::Event<DynamicObject>, keep: &impl Fn(&R) -> bool) {
        let read = |object: &DynamicObject| {
            let name = object.metadata.name.clone()?;
            let row: Option<R> = serde_json::to_value(object).and_then(serde_json::from_value).ok();
            Some((name, row.filter(keep)))
        };
        match event {
            watcher::Event::Init => self.listed = Some(BTreeMap::new()),
            watcher::Event::InitApply(object) => {
                if let (Some(listed), Some((name, Some(row)))) = (&mut self.listed, read(&object)) {
                    listed.insert(name, row);
                }
            }
            watcher::Event::InitDone => self.kept = self.listed.take().unwrap_or_default(),
            watcher::Event::Apply(object) => match read(&object) {
                Some((name, Some(row))) => drop(self.kept.insert(name, row)),
                Some((name, None)) => drop(self.kept.remove(&name)),
                None => {}
            },
            watcher::Event::Delete(object) => {
                if let Some(name) = object.metadata.name {
                    self.kept.remove(&name);
                }
            }
        }
    }

    /// As many as fit, with a word on the others.
    fn picture(&self, now: jiff::Timestamp, style: Style, most: usize, headless: bool) -> Vec<String> {
        let cells: Vec<_> = self.kept.values().take(most).map(|row| row.live_cells(now)).collect();
        let text = Table::new(R::LIVE, true, style).headless(headless).page(&cells);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        match self.kept.len().saturating_sub(most) {
            0 => {}
            more => lines.push(format!("and {more} more")),
        }
        lines
    }
}

/// Lines of a terminal.
struct Screen {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
    line: ProgressStyle,
    style: Style,
}

impl Screen {
    fn new() -> anyhow::Result<Self> {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        // Cut where the terminal ends.
        let line = ProgressStyle::with_template("{wide_msg}")?;
        Ok(Self { all, lines: Vec::new(), line, style: Style::of_stdout() })
    }

    fn draw(&mut self, picture: &[String]) {
        while self.lines.len() < picture.len() {
            let bar = ProgressBar::new_spinner();
            bar.set_style(self.line.clone());
            self.lines.push(self.all.add(bar));
        }
        while self.lines.len() > picture.len() {
            if let Some(bar) = self.lines.pop() {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
        for (bar, text) in self.lines.iter().zip(picture) {
            bar.set_message(text.clone());
            bar.tick();
        }
    }

    /// Leaves the last picture standing, and the cursor below it.
    fn leave(&mut self) {
        if !self.lines.is_empty() {
            self.lines.drain(..).for_each(|bar| bar.abandon());
            println!();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::ImageRollout;

    fn rollout(name: &str, phase: &str, healthy: i32) -> DynamicObject {
        let object: Value = json!({
            "apiVersion": "tranche.dev/v1alpha1", "kind": "ImageRollout", "metadata": {"name": name},
            "spec": {"policyRef": {"name": "app"}, "image": {"repository": "docker.io/acme/app", "tag": "v2"}},
            "status": {
                "phase": phase, "message": "m", "progress": "1/2", "currentBatch": 1,
                "totals": {"devices": 4, "released": 2, "updated": 2, "healthy": healthy, "failed": 0, "rolledBack": 0, "deferred": 0},
                "batches": [
                    {"size": "50%", "boundary": "00", "devices": 2, "released": 2, "healthy": healthy},
                    {"size": "100%", "boundary": "00", "devices": 2},
                ],
            },
        });
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn a_table_that_follows_what_happens() {
        let mut rows = Rows::<ImageRollout> { kept: BTreeMap::new(), listed: None };
        let keep = |rollout: &ImageRollout| rollout.status.as_ref().is_some_and(|status| !status.phase.is_terminal());
        for event in [
            watcher::Event::Init,
            watcher::Event::InitApply(rollout("app-1", "Progressing", 1)),
            watcher::Event::InitApply(rollout("app-2", "Completed", 2)),
            watcher::Event::InitDone,
            watcher::Event::Apply(rollout("app-3", "Progressing", 0)),
        ] {
            rows.take(event, &keep);
        }
        let picture =
            |rows: &Rows<ImageRollout>, most| rows.picture(jiff::Timestamp::UNIX_EPOCH, Style::default(), most, false);
        assert_eq!(
            picture(&rows, 9),
            [
                "NAME   IMAGE        PHASE        BATCHES                    HEALTHY  FAILED  AGE  MESSAGE",
                "app-1  acme/app:v2  Progressing  ▓▓▓▓▓▓▒▒▒▒▒▒ ░░░░░░░░░░░░  1/4      0       -    m",
                "app-3  acme/app:v2  Progressing  ▒▒▒▒▒▒▒▒▒▒▒▒ ░░░░░░░░░░░░  0/4      0       -    m",
            ]
        );
        assert_eq!(picture(&rows, 1).last().map(String::as_str), Some("and 1 more"));
        rows.take(watcher::Event::Apply(rollout("app-1", "Completed", 2)), &keep);
        rows.take(watcher::Event::Delete(rollout("app-3", "Progressing", 0)), &keep);
        assert_eq!(picture(&rows, 9).len(), 1, "who leaves is not shown any more");
    }
}
