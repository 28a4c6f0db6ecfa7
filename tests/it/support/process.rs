//! The real binary, `tranche run`, as a child of a test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::wait::until;

/// What registries must know in these tests.
pub const SECRET: &str = "the-secret-of-these-tests-0123456789";

/// How a process is started, the same way each time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By which it reaches the API server.
    pub kubeconfig: PathBuf,
    /// Its namespace.
    pub namespace: String,
    /// `controller`, `gateway`, `api`; empty: all.
    pub components: Vec<&'static str>,
    /// Where devices connect: port 0 for a free one. A process that is started again keeps its port by naming it.
    pub listen: String,
    /// Whatever else `tranche run` is to be told.
    pub more: Vec<&'static str>,
}

impl Settings {
    /// All components on a free port.
    pub fn new(kubeconfig: &Path, namespace: &str) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
            components: Vec::new(),
            listen: "127.0.0.1:0".into(),
            more: Vec::new(),
        }
    }

    /// Only these components.
    pub fn only(mut self, components: &[&'static str]) -> Self {
        self.components = components.to_vec();
        self
    }
}

/// A running `tranche run`. Killed when dropped.
pub struct Tranche {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// The same for ops.
    pub ops: String,
}

impl Tranche {
    /// Starts it and waits until it is ready.
    pub async fn start(settings: &Settings) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tranche"))
            .arg("run")
            .args(&settings.components)
            .args(["--namespace", &settings.namespace, "--listen", &settings.listen])
            .args(["--ops-listen", "127.0.0.1:0", "--presence-interval", "1s"])
            .args(&settings.more)
            .env("KUBECONFIG", &settings.kubeconfig)
            .env("DOCKER_WEBHOOK_SECRET", SECRET)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("tranche starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().expect("nobody panics holding it").push(line);
            }
        });
        let mut tranche = Self { child, log, url: String::new(), ops: String::new() };
        tranche.url = tranche.address("listening on ").await;
        tranche.ops = tranche.address("ops on ").await;
        until("tranche to be ready", async || {
            let answer = reqwest::get(format!("{}/readyz", tranche.ops)).await.map_err(|error| error.to_string())?;
            let ready = answer.status().is_success();
            let text = answer.text().await.unwrap_or_default();
            if ready { Ok(()) } else { Err(text) }
        })
        .await;
        tranche
    }

    /// The address that a line of the log names.
    async fn address(&mut self, before: &str) -> String {
        until(&format!("{before:?} in the log"), async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("tranche ended with {status}:\n{}", self.log());
            }
            let log = self.log();
            let rest = log.split_once(before).ok_or_else(|| log.clone())?.1;
            Ok(rest.split_whitespace().next().expect("an address").to_owned())
        })
        .await
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics holding it").join("\n")
    }

    /// Ends it as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Ends it as Kubernetes does, and waits until it has.
    pub async fn stop(mut self) {
        let signalled = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(signalled.success());
        let status =
            until("tranche to end", async || self.child.try_wait().expect("a child").ok_or_else(|| self.log())).await;
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    /// Where devices connect, for starting again on the same port.
    pub fn listen(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }
}

impl Drop for Tranche {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of tranche at {} ---\n{}", self.url, self.log());
        }
    }
}
