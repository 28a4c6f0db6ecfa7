//! `make demo`: from nothing to a staged rollout over 20 polling devices, and a bad image that stops itself and goes
//! back. Exits with 0 only if all of it was seen, both on the API server and in the devices' own words.

#![allow(missing_docs)] // A program, not a library.

mod checks;
mod children;
mod cluster;
mod follow;
mod stage;
mod story;
mod testimony;
mod view;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use children::{Children, Death};
use story::Story;

/// Tranche's demo
#[derive(clap::Parser)]
struct Args {
    /// The control plane of tests/controlplane, where no cluster is given
    #[arg(long, value_name = "PROGRAM", required_unless_present = "kubeconfig")]
    control_plane: Option<PathBuf>,
    /// Use the cluster that this file names; the demo cleans up after itself
    #[arg(long, value_name = "FILE", conflicts_with = "control_plane")]
    kubeconfig: Option<PathBuf>,
    /// The tranche program
    #[arg(long, value_name = "PROGRAM")]
    tranche: PathBuf,
    /// Leave everything running at the end, and say how to look around
    #[arg(long)]
    keep: bool,
}

/// How the story ended.
enum End {
    Told,
    Failed(anyhow::Error),
    Died(Death),
    Interrupted,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Whoever came first has installed the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match demo(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("✗ {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: Args) -> anyhow::Result<ExitCode> {
    let keep = args.keep;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // A terminal that is closed: nobody looks any more, but there is something to clean up.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut signals = std::pin::pin!(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    });
    // Only this user may enter it: there are credentials in it.
    let private = std::fs::Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("tranche-demo-").permissions(private).tempdir();
    let folder = folder.context("no temporary folder")?;
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).context("no folder for logs")?;
    let (children, mut deaths) = Children::new(logs);
    let mut story = Story::new(args, folder.path().to_owned(), children)?;

    let mut end = tokio::select! {
        told = story.tell() => told.map_or_else(End::Failed, |()| End::Told),
        Some(death) = deaths.recv() => End::Died(death),
        () = &mut signals => End::Interrupted,
    };
    // A process that died is the better explanation of whatever failed a moment later.
    if matches!(end, End::Failed(_))
        && let Ok(Some(death)) = tokio::time::timeout(std::time::Duration::from_millis(300), deaths.recv()).await
    {
        end = End::Died(death);
    }
    let good = verdict(&mut story, &end);
    if keep && good {
        story.look_around()?;
        tokio::select! {
            Some(death) = deaths.recv() => println!("{}", death.describe()),
            () = &mut signals => {}
        }
    }
    let cleaned = story.clean_up().await;
    if let Err(error) = &cleaned {
        eprintln!("✗ not everything could be cleaned up: {error:#}");
    }
    if keep || (!good && !matches!(end, End::Interrupted)) {
        println!("  The logs of all processes are in {}/logs\n", folder.keep().display());
    }
    Ok(if good && cleaned.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The last line, and whether it is a good one.
fn verdict(story: &mut Story, end: &End) -> bool {
    let stage = &mut story.stage;
    if matches!(end, End::Interrupted) {
        stage.abandon();
    }
    stage.settle();
    let wrong = match end {
        End::Told if stage.failed() == 0 => {
            let text = format!("✓ All of it was seen, in {:.0} seconds.", stage.elapsed());
            println!("\n{}\n", stage.paint.bold(&stage.paint.green(&text)));
            return true;
        }
        End::Told => format!("{} of it was not seen as it should be", stage.failed()),
        End::Failed(error) => format!("{error:#}"),
        End::Died(death) => death.describe(),
        End::Interrupted => return false,
    };
    println!("\n{}", stage.paint.bold(&stage.paint.red(&format!("✗ {}", wrong.trim_end()))));
    false
}
