//! `tranche rollouts watch`: a rollout, live, to its end.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kube::runtime::{WatchStreamExt as _, watcher};

use crate::api::ImageRollout;
use crate::api::rollout::Phase;
use crate::cli::cluster::{Cluster, ClusterArgs};
use crate::cli::fault::{Code, Fault};
use crate::cli::list::lost;
use crate::cli::output::{Style, print};
use crate::cli::progress::{line, picture, took};

use super::get::seen;

/// What is followed.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// The rollout
    pub rollout: String,
    /// Give up after so long, with exit code 6: 90s, 30m, 2h [default: never]
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::run::whole_duration)]
    pub timeout: Option<Duration>,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Follows a rollout until it ends.
///
/// # Errors
/// When it ended otherwise than well, when it is gone, or when the time is up.
pub async fn run(args: &WatchArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let mut screen = Screen::new();
    screen.show(&cluster.get::<ImageRollout>(&args.rollout).await?)?;
    let patience = async {
        match args.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = to_the_end(&cluster, &args.rollout, &mut screen) => end?,
        () = patience => {
            screen.leave();
            let text = format!("rollout {} has not ended in time; it goes on, only the watching has stopped", args.rollout);
            return Err(Fault::new(Code::TimedOut, text).into());
        }
        signal = tokio::signal::ctrl_c() => {
            signal?;
            screen.leave();
            let text = "stopped watching; the rollout goes on (`tranche rollouts pause` stops it)";
            return Err(Fault::new(Code::Interrupted, text).into());
        }
    };
    screen.leave();
    let status = end.status.unwrap_or_default();
    let took = took(&status).map(|took| format!(" after {took}")).unwrap_or_default();
    match status.phase {
        Phase::Completed => print(&format!("{} is Completed{took}\n", args.rollout)),
        other => Err(Fault::new(
            Code::NotCompleted,
            format!("rollout {} is {other}{took}: {}", args.rollout, status.message),
        )
        .into()),
    }
}

async fn to_the_end(cluster: &Cluster, name: &str, screen: &mut Screen) -> anyhow::Result<ImageRollout> {
    let mut changes = std::pin::pin!(watcher::watch_object(cluster.api::<ImageRollout>(), name).default_backoff());
    let mut broken = false;
    loop {
        match changes.next().await {
            Some(Ok(Some(rollout))) => {
                broken = false;
                screen.show(&rollout)?;
                // An end that a person's word has undone since is none.
                let ended = rollout.status.as_ref().is_some_and(|status| status.phase.is_terminal());
                if ended && seen(&rollout) {
                    return Ok(rollout);
                }
            }
            Some(Ok(None)) => {
                screen.leave();
                return Err(Fault::new(Code::NotFound, format!("rollout {name} was deleted")).into());
            }
            Some(Err(error)) => lost::<ImageRollout>(&error, cluster, &mut broken)?,
            None => anyhow::bail!("the watch of rollout {name} ended"),
        }
    }
}

/// Lines that are redrawn in place, or a line for each change where there is no terminal.
enum Screen {
    Terminal { all: MultiProgress, lines: Vec<ProgressBar>, style: Style },
    Log { last: String },
}

impl Screen {
    fn new() -> Self {
        if std::io::stdout().is_terminal() {
            let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
            Self::Terminal { all, lines: Vec::new(), style: Style::of_stdout() }
        } else {
            Self::Log { last: String::new() }
        }
    }

    fn show(&mut self, rollout: &ImageRollout) -> anyhow::Result<()> {
        match self {
            Self::Terminal { all, lines, style } => {
                let picture = picture(rollout, *style);
                while lines.len() < picture.len() {
                    let bar = ProgressBar::new_spinner();
                    bar.set_style(ProgressStyle::with_template("{msg}")?);
                    lines.push(all.add(bar));
                }
                for (bar, text) in lines.iter().zip(picture.into_iter().chain(std::iter::repeat(String::new()))) {
                    bar.set_message(text);
                    bar.tick();
                }
                Ok(())
            }
            Self::Log { last } => {
                let text = line(rollout);
                if text != *last {
                    let time = crate::plan::report::clock(crate::clock::now());
                    print(&format!("{time} {text}\n"))?;
                }
                *last = text;
                Ok(())
            }
        }
    }

    /// Leaves the last picture standing, and the cursor below it.
    fn leave(&mut self) {
        match self {
            Self::Terminal { lines, .. } if !lines.is_empty() => {
                lines.drain(..).for_each(|bar| bar.abandon());
                println!();
            }
            Self::Terminal { .. } => {}
            Self::Log { .. } => {}
        }
    }
}
