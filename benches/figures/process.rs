//! Other processes: started, watched, and gone when this one is.

use std::fs::{File, read_to_string};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Linux counts processor time in hundredths of a second, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
/// Whatever is started here serves long before that.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process, killed when dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints goes into a log in `folder`.
    pub fn start(name: &'static str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Waits until `ready` holds.
    pub async fn until(&mut self, ready: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !ready().await {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}\n{}", self.name, read_to_string(&self.log).unwrap_or_default());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready in time\n{}", self.name, read_to_string(&self.log).unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits for a line that is `ready`.
    pub async fn until_it_says(&mut self, ready: &str) -> anyhow::Result<()> {
        let log = self.log.clone();
        self.until(async || read_to_string(&log).is_ok_and(|text| text.lines().any(|line| line == ready))).await
    }

    /// Its id.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} is gone", self.name))
    }

    /// Processor time that it has used, user and system, seconds.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        let id = self.id()?;
        let stat = read_to_string(format!("/proc/{id}/stat")).context("no /proc")?;
        // The name comes second, in brackets, and may hold anything; utime and stime are the 14th and the 15th.
        let (_, rest) = stat.rsplit_once(')').context("not as expected")?;
        let fields = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(fields.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }
}

/// The most memory that a process has had at once, megabytes.
pub fn peak_memory(id: u32) -> anyhow::Result<f64> {
    let status = read_to_string(format!("/proc/{id}/status")).context("no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("not as expected")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// A command that runs on one processor alone, where there is more than one and `taskset` to say so.
pub fn pinned(processor: usize, program: &Path) -> Command {
    if can_pin() {
        let mut command = Command::new("taskset");
        command.args(["-c", &processor.to_string()]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Keeps this process to `processors`, where that is possible.
pub async fn pin_self(processors: &str) {
    if can_pin() {
        let id = std::process::id().to_string();
        // Where it fails, servers still share alike.
        let _ = Command::new("taskset").args(["-acp", processors, &id]).stdout(Stdio::null()).status().await;
    }
}

fn can_pin() -> bool {
    crate::machine::cores() > 1 && find("taskset").is_some()
}

/// A program on the PATH, or where Debian keeps servers.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder: PathBuf| folder.join(program)).find(|file| file.is_file())
}

/// An address on loopback that is free now.
pub fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
