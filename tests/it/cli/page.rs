//! `docs/cli.md`: its second half is what `--help` says, and the examples of its first half run as they stand.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::readme::commands;
use crate::rollouts::stage::Stage;
use crate::support::controlplane::ControlPlane;
use crate::support::shell::Shell;

/// What is below was written by this test.
const MARK: &str =
    "\n<!-- The rest is what --help says: `UPDATE_GOLDEN=1 cargo test --test it cli::page` writes it anew. -->\n";

/// The help of a command and of all below it, without what differs from machine to machine.
fn help(command: &clap::Command, path: &str, text: &mut String) {
    let mut shown = command.clone().term_width(100).bin_name(path).mut_args(|arg| arg.hide_env_values(true));
    let said = shown.render_help().to_string();
    let said: Vec<&str> = said.trim().lines().map(str::trim_end).collect();
    write!(text, "\n### {path}\n\n```text\n{}\n```\n", said.join("\n")).unwrap();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        help(sub, &format!("{path} {}", sub.get_name()), text);
    }
}

#[test]
fn the_page_has_the_help_of_every_command() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, tail) = page.split_once(MARK).expect("the page has its mark");
    let mut command = tranche::cli::command(None);
    command.build();
    let mut text = String::new();
    help(&command, "tranche", &mut text);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{head}{MARK}{text}")).unwrap();
        return;
    }
    assert!(tail == text, "docs/cli.md is behind --help: UPDATE_GOLDEN=1 cargo test --test it cli::page");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run_as_they_stand() {
    let plane = ControlPlane::shared();
    let stage = Stage::set("cli-page", 10, &json!({"strategy": {"batchDelay": "1s"}})).await;
    let shell = Shell::new(plane, &stage.namespace);
    let commands = commands("docs/cli.md", "Five examples");
    assert!(commands.len() >= 12, "the page has lost its examples: {commands:?}");
    let mut script = String::from("set -eo pipefail\n");
    for command in commands {
        writeln!(script, "echo '$ {}'\n{command}", command.replace('\'', " ")).unwrap();
    }
    let output = shell.run(&script, 120, &[]);
    let (said, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{err}");
    for words in [
        "would be rolled out as myapp-9c07d57162",
        "myapp-9c07d57162 created",
        "myapp-9c07d57162 resumed",
        "myapp-9c07d57162 is Completed",
        "nobody moves it forward",
        "would be rolled back: 10 devices go back",
        "myapp-9c07d57162 rolled back: 10 devices go back",
    ] {
        assert!(said.contains(words), "the examples should show {words:?}:\n{said}\n{err}");
    }
    stage.until_running("v1.0.0", 10).await;
}
