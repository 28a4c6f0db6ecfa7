//! The processes of the demo. Each has its own log and its own process group, and none outlives the demo.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long a process has to stop by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of a log that are shown when its process died.
const TAIL: usize = 8;

/// A process that runs until it is stopped.
struct Running {
    name: &'static str,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

/// A process that ended by itself: always a failure here.
pub struct Death {
    pub name: &'static str,
    pub how: String,
    pub log: PathBuf,
}

/// Starts processes and hears of their ends.
pub struct Children {
    running: Vec<Running>,
    logs: PathBuf,
    deaths: mpsc::Sender<Death>,
}

impl Children {
    pub fn new(logs: PathBuf) -> (Self, mpsc::Receiver<Death>) {
        // There are three processes, and each ends once.
        let (deaths, heard) = mpsc::channel(8);
        (Self { running: Vec::new(), logs, deaths }, heard)
    }

    /// Starts `command`; everything that it prints goes into its log.
    pub fn start(&mut self, name: &'static str, mut command: Command) -> anyhow::Result<()> {
        let log = self.log(name);
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(out.try_clone().context("cannot share a log")?).stderr(out);
        let child = spawn(name, &mut command)?;
        self.watch(name, log, child);
        Ok(())
    }

    /// Starts `command` and waits until it prints the line `ready`.
    pub async fn start_until_ready(
        &mut self,
        name: &'static str,
        mut command: Command,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let log = self.log(name);
        let err = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let out = tokio::fs::File::from_std(err.try_clone().context("cannot share a log")?);
        command.stdout(Stdio::piped()).stderr(err);
        let mut child = spawn(name, &mut command)?;
        let stdout = child.stdout.take().context("no pipe")?;
        let (is_ready, ready) = oneshot::channel();
        tokio::spawn(copy_until_ready(stdout, out, is_ready));
        self.watch(name, log, child);
        match tokio::time::timeout(patience, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => bail!("{name} ended before it was ready"),
            Err(_) => bail!("{name} was not ready after {patience:?}"),
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{}.log", name.replace(' ', "-")))
    }

    fn watch(&mut self, name: &'static str, log: PathBuf, mut child: Child) {
        let (stop, stopped) = oneshot::channel();
        let deaths = self.deaths.clone();
        let ended = tokio::spawn(async move {
            tokio::select! {
                status = child.wait() => {
                    // Nobody listens any more: the demo is ending anyway.
                    let _ = deaths.send(Death { name, how: describe(status), log }).await;
                }
                _ = stopped => end(&mut child).await,
            }
        });
        self.running.push(Running { name, stop, ended });
    }

    /// Stops one, if it runs, and waits until it is gone.
    pub async fn stop(&mut self, name: &str) {
        while let Some(index) = self.running.iter().position(|running| running.name == name) {
            self.running.remove(index).stop().await;
        }
    }
}

impl Running {
    /// Stops it, and waits until it is gone.
    async fn stop(self) {
        // It may be gone already.
        let _ = self.stop.send(());
        if self.ended.await.is_err() {
            eprintln!("{} could not be stopped", self.name);
        }
    }
}

impl Death {
    /// How it ended, and its last words.
    pub fn describe(&self) -> String {
        format!("{} ended: {}\n{}", self.name, self.how, tail(&self.log))
    }
}

fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Child> {
    // Ctrl-C is for the demo alone, which stops its processes in order.
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    // The demo's processes do what they are told here, whatever the person's shell has set.
    let ours = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with("TRANCHE_")));
    for (variable, _) in ours {
        command.env_remove(variable);
    }
    let program = command.as_std().get_program().to_owned();
    command.spawn().with_context(|| format!("cannot start {name} ({})", program.display()))
}

async fn copy_until_ready(
    stdout: tokio::process::ChildStdout,
    mut log: tokio::fs::File,
    ready: oneshot::Sender<()>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stdout).lines();
    let mut ready = Some(ready);
    while let Some(line) = lines.next_line().await? {
        log.write_all(format!("{line}\n").as_bytes()).await?;
        log.flush().await?;
        if line.trim() == "ready"
            && let Some(ready) = ready.take()
        {
            // The demo may have lost its patience already.
            let _ = ready.send(());
        }
    }
    Ok(())
}

/// SIGTERM, and SIGKILL for one that doesn't listen.
async fn end(child: &mut Child) {
    if let Some(pid) = child.id() {
        // `kill` is part of every POSIX shell; the process is not waited for yet, so its id can't be another's.
        let terminated = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid.to_string()]).status().await;
        if terminated.is_ok_and(|status| status.success()) && tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
            return;
        }
    }
    // It is gone already, or about to be.
    let _ = child.kill().await;
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("      {line}\n")).collect()
}
