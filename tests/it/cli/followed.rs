//! Lists with `--watch`: what comes, changes, leaves and goes.

use std::process::Stdio;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::Patch;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tranche::api::rollout::Phase;
use tranche::api::{Device, ImageUpdatePolicy};

use crate::rollouts::stage::Stage;

/// How long a line is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that goes on; ended when it is dropped.
struct Followed {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Followed {
    fn on(stage: &Stage, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tranche"))
            .args(args)
            .args(["--watch", "--namespace", &stage.namespace])
            .env("KUBECONFIG", &stage.settings.kubeconfig)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    /// The next line that has all of this in it.
    async fn line(&mut self, words: &[&str]) -> String {
        let mut before = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it goes on");
                if words.iter().all(|word| line.contains(word)) {
                    return line;
                }
                before.push(line);
            }
        });
        found.await.unwrap_or_else(|_| panic!("no line has {words:?}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_a_filter_and_what_is_deleted_is_told() {
    let stage = Stage::set("cli-followed", 2, &json!({})).await;
    let devices = stage.api::<Device>();
    let one = stage.list().await.remove(0).name_any();
    let hold = async |hold: bool| {
        let patch = Patch::Merge(json!({"spec": {"hold": hold}}));
        devices.patch(&one, &Default::default(), &patch).await.unwrap();
    };
    let mut held = Followed::on(&stage, &["devices", "list", "--status", "held"]);
    hold(true).await;
    held.line(&["NAME", "STATE"]).await;
    held.line(&[&one, "Held"]).await;
    hold(false).await;
    held.line(&[&one, "Connected"]).await;
    hold(true).await;
    held.line(&[&one, "Held"]).await;
    devices.delete(&one, &Default::default()).await.unwrap();
    held.line(&[&format!("device {one} is deleted")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_of_every_change() {
    let stage = Stage::set("cli-followed-json", 1, &json!({})).await;
    let mut followed = Followed::on(&stage, &["policies", "list", "-o", "json"]);
    followed.line(&["\"name\": \"myapp\""]).await;
    // No cell of the table shows this.
    let patch: Value = json!({"metadata": {"annotations": {"note": "look here"}}});
    stage.api::<ImageUpdatePolicy>().patch("myapp", &Default::default(), &Patch::Merge(&patch)).await.unwrap();
    followed.line(&["\"note\": \"look here\""]).await;
}

/// A command on a terminal: what it has drawn so far, and the process.
struct OnTerminal {
    _child: Child,
    drawn: ChildStdout,
    seen: Vec<u8>,
}

impl OnTerminal {
    /// By `script` of util-linux, which gives it one.
    fn start(stage: &Stage, args: &str, no_color: bool) -> Self {
        let tranche = env!("CARGO_BIN_EXE_tranche");
        let command = format!("stty cols 200 rows 40; exec {tranche} {args} --namespace {}", stage.namespace);
        let mut script = Command::new("script");
        script.args(["-qefc", &command, "/dev/null"]).env("KUBECONFIG", &stage.settings.kubeconfig);
        script.env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped());
        if no_color {
            script.env("NO_COLOR", "1");
        }
        let mut child = script.kill_on_drop(true).spawn().expect("`script` of util-linux gives a terminal");
        let drawn = child.stdout.take().unwrap();
        Self { _child: child, drawn, seen: Vec::new() }
    }

    /// Waits until all of this was drawn.
    async fn shows(&mut self, words: &[&str]) {
        let found = tokio::time::timeout(PATIENCE, async {
            let mut buffer = [0; 4096];
            loop {
                let text = String::from_utf8_lossy(&self.seen);
                if words.iter().all(|word| text.contains(word)) {
                    return;
                }
                let read = self.drawn.read(&mut buffer).await.unwrap();
                assert!(read > 0, "it ended: {text}");
                self.seen.extend(&buffer[..read]);
            }
        })
        .await;
        found.unwrap_or_else(|_| panic!("{words:?} should be drawn: {:?}", String::from_utf8_lossy(&self.seen)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_on_a_terminal_are_bars_that_move() {
    let stage = Stage::set("cli-live", 10, &json!({"strategy": {"batchDelay": "10m"}})).await;
    let name = stage.push("v2.0.0").await;
    stage.until_phase(&name, Phase::Soaking).await;
    let mut coloured = OnTerminal::start(&stage, "rollouts list --watch", false);
    let mut plain = OnTerminal::start(&stage, "rollouts list --watch", true);
    coloured.shows(&["BATCHES", &name, "▓▓▓▓", "░░░░", "2/10"]).await;
    plain.shows(&["BATCHES", &name, "▓▓▓▓", "░░░░", "2/10"]).await;
    stage.edit(&name, json!({"paused": true})).await;
    coloured.shows(&["\u{1b}[33mPaused"]).await;
    plain.shows(&["Paused"]).await;
    assert!(!String::from_utf8_lossy(&plain.seen).contains("\u{1b}[33m"), "NO_COLOR is set");
}
