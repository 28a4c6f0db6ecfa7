//! `tranche simulate`: a fleet of devices in one process, for trials, demonstrations and load.
//!
//! Creates the `Device` objects, then lives their life until it is told to stop. Shows what the devices themselves
//! saw and did, never what the server thinks of them.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::api::ImageRef;
use crate::kubeclient;
use crate::shutdown::Shutdown;
use crate::simulate::provision::{self, ImageSource};
use crate::simulate::{BadImage, Fleet, FleetConfig, Observation, Observer, Pace, Shares, Tally, World};

/// The status line moves this often on a terminal.
const REFRESH: Duration = Duration::from_millis(200);
/// A line of plain progress at most this often.
const PLAIN: Duration = Duration::from_secs(1);
/// More would be more objects than one API server is meant to hold.
const MAX_DEVICES: i64 = 1_000_000;

/// Simulate a fleet of devices that poll, pull, restart and report
///
/// Creates a Device object for each (or goes on with those of an earlier run with the same seed and fleet), then
/// polls as real agents do until it is stopped. Names and keys are derived from the seed: anyone who knows it can
/// pose as these devices, so this is for trials only.
#[derive(clap::Args, Clone, Debug)]
pub struct SimulateArgs {
    /// How many devices
    #[arg(long, env = "TRANCHE_DEVICES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=MAX_DEVICES))]
    pub devices: u32,
    /// Where they poll
    #[arg(long, env = "TRANCHE_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub server: String,
    /// Namespace of their Device objects [default: the kubeconfig's]
    #[arg(long, env = "TRANCHE_NAMESPACE")]
    pub namespace: Option<String>,
    /// Their label tranche.dev/fleet
    #[arg(long, env = "TRANCHE_FLEET", default_value = "simulated", value_parser = label_value)]
    pub fleet: String,
    /// Image that they are declared to run; the one that no personality spoils
    #[arg(long, env = "TRANCHE_IMAGE", default_value = "iotistic/myapp:v1.0.0")]
    pub image: String,
    /// Time between two polls of a device
    #[arg(long, env = "TRANCHE_POLL_INTERVAL", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub poll_interval: Duration,
    /// What a pull takes on average
    #[arg(long, env = "TRANCHE_PULL_TIME", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub pull_time: Duration,
    /// Names, keys, personalities and chance follow from this
    #[arg(long, env = "TRANCHE_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Shares of devices that are not healthy: slow-pull, fails, flaps, dead, offline, lies, replays, oversize
    #[arg(long, env = "TRANCHE_PERSONALITY", default_value = "", value_name = "NAME=N%,…", hide_default_value = true)]
    pub personality: Shares,
    /// Image that no device can pull: a tag, or repository:tag (repeatable)
    #[arg(long, env = "TRANCHE_BAD_TAG", value_name = "TAG", value_delimiter = ',')]
    pub bad_tag: Vec<BadImage>,
    /// Write what happens on the devices to this file, a line of JSON each
    #[arg(long, env = "TRANCHE_OBSERVATIONS", value_name = "FILE")]
    pub observations: Option<PathBuf>,
}

/// Runs a fleet until ctrl-c or SIGTERM.
///
/// # Errors
/// When the devices can't be created, the server's address is none, or the observations file can't be opened.
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let SimulateArgs {
        devices,
        server,
        namespace,
        fleet,
        image,
        poll_interval,
        pull_time,
        seed,
        personality,
        bad_tag,
        observations,
    } = args;
    let base: ImageRef = image.parse().context("--image")?;
    let world = World { pace: Pace { poll: poll_interval, pull: pull_time }, base: base.clone(), bad: bad_tag };
    let config = FleetConfig { server, devices, fleet, seed, shares: personality, world };
    let observer = observations.as_deref().map(observe_into).transpose()?;
    // From the start: a signal that comes while devices are created must not be lost.
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot listen for signals")?;

    let (client, default_namespace) = kubeclient::connect().await?;
    let namespace = namespace.unwrap_or(default_namespace);
    let source = ImageSource { written: &image, parsed: &base };
    let provisioned = tokio::select! {
        done = provision::provision(&client, &namespace, &config.fleet, &source, config.identities()) => done?,
        () = shutdown.requested() => return Ok(()),
    };
    println!(
        "{devices} devices of fleet {} in namespace {namespace} ({} created, {} there already), polling {} every {poll_interval:?}",
        config.fleet, provisioned.created, provisioned.reused, config.server,
    );

    let fleet = Fleet::new(&config, observer.unwrap_or_else(|| Box::new(|_| {})))?;
    let tally = fleet.tally();
    let progress = tokio::spawn(show_progress(tally, poll_interval));
    let last = fleet.run(shutdown.requested()).await;
    progress.abort();
    // Its last line is wiped by the summary; whether it had one is all the same.
    let _ = progress.await;
    println!("{}", last.summary());
    Ok(())
}

/// A status line on a terminal, else a line now and then.
async fn show_progress(tally: Arc<Mutex<Tally>>, poll_interval: Duration) {
    if io::stderr().is_terminal() && io::stdout().is_terminal() {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner:.cyan} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        let _clear = ClearOnDrop(bar.clone());
        loop {
            let line = tally.lock().to_string();
            bar.set_message(line);
            bar.tick();
            tokio::time::sleep(REFRESH).await;
        }
    }
    let mut every = tokio::time::interval(poll_interval.max(PLAIN));
    every.tick().await;
    loop {
        every.tick().await;
        let line = tally.lock().to_string();
        // Whoever read this is gone; the devices go on.
        if writeln!(io::stdout(), "{line}").is_err() {
            return;
        }
    }
}

struct ClearOnDrop(ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Writes each observation at once: whoever follows the file sees what happens while it happens.
fn observe_into(path: &Path) -> anyhow::Result<Observer> {
    let mut file = Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?);
    let path = path.to_owned();
    Ok(Box::new(move |observation: &Observation| {
        let Some(open) = &mut file else { return };
        let written = serde_json::to_vec(observation).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            // One write a line: a reader never sees half of one in between.
            open.write_all(&line)
        });
        if let Err(error) = written {
            tracing::error!(%error, file = %path.display(), "cannot write observations any more");
            file = None;
        }
    }))
}

/// Go's durations, as everywhere in Kubernetes: `1s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|error| format!("{error}; write 1s or 1m30s"))?;
    let negative = parsed.is_negative();
    let parsed = Duration::from(parsed);
    if negative || parsed < Duration::from_millis(1) || parsed > Duration::from_secs(24 * 3600) {
        return Err("must be between 1ms and 24h".into());
    }
    Ok(parsed)
}

/// What Kubernetes takes as the value of a label, less the empty one.
fn label_value(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    let fine = text.len() <= 63
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.'));
    if fine { Ok(text.to_owned()) } else { Err("must be a label value: letters, digits, - _ and . in between".into()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: SimulateArgs,
    }

    #[test]
    fn reads_what_people_write() {
        let args = Cli::try_parse_from([
            "simulate",
            "--devices=50",
            "--poll-interval=1m30s",
            "--personality=slow-pull=10%,dead=5%",
            "--bad-tag=v2.1.0",
            "--bad-tag=acme/app:v3",
        ])
        .map_err(|error| error.to_string())
        .expect("good arguments")
        .args;
        assert_eq!((args.devices, args.poll_interval), (50, Duration::from_secs(90)));
        assert_eq!(args.bad_tag.len(), 2);
        for bad in [
            "--devices=0",
            "--poll-interval=0s",
            "--poll-interval=-1s",
            "--poll-interval=fast",
            "--fleet=-x",
            "--fleet=",
            "--personality=ded=1%",
            "--bad-tag=a b",
        ] {
            assert!(Cli::try_parse_from(["simulate", bad]).is_err(), "{bad} must be refused");
        }
    }
}
