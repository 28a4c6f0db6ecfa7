//! The command line, as people type it: the real binary, its output, its exit codes.

mod acts;
mod doctor;
mod errors;
mod followed;
mod page;
mod shown;

use std::path::Path;
use std::process::{Command, Output};

use crate::rollouts::stage::Stage;

/// What a command came to.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// What `tranche` comes to with that kubeconfig in that namespace.
fn say(kubeconfig: &Path, namespace: &str, args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_tranche"))
        .args(args)
        .args(["--namespace", namespace])
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    Said { code: output.status.code().unwrap(), out: out(&output), err: err(&output) }
}

fn say_on(stage: &Stage, args: &[&str]) -> Said {
    say(&stage.settings.kubeconfig, &stage.namespace, args)
}

fn tranche(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tranche"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("KUBECONFIG")
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn crds_are_printed_as_one_stream() {
    let output = tranche(&["crds"]);
    assert!(output.status.success());
    let kinds: Vec<String> =
        out(&output).lines().filter_map(|line| line.strip_prefix("    kind: ").map(str::to_owned)).collect();
    assert_eq!(kinds, ["ImageUpdatePolicy", "ImageRollout", "Device", "RegistryWebhook", "DevicePresence"]);
}

const FILES: [&str; 6] =
    ["-f", "examples/devices.yaml", "-f", "examples/policy-staged.yaml", "-f", "tests/data/rollout-staged.yaml"];

#[test]
fn a_plan_in_words() {
    let output = tranche(&[&["plan", "--now", "2026-12-01T12:00:00Z"], &FILES[..]].concat());
    assert!(output.status.success(), "{}", err(&output));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan-staged.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, out(&output)).unwrap();
    }
    assert_eq!(out(&output), std::fs::read_to_string(golden).unwrap_or_default(), "UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn a_plan_for_programs() {
    let output = tranche(&[&["plan", "-o", "json", "--now", "2026-12-01T12:00:00Z"], &FILES[..]].concat());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rollout = &value["rollouts"][0];
    assert_eq!(rollout["phase"], "Progressing");
    assert_eq!(rollout["actions"][0]["reason"], "Release");
    let entry = &rollout["actions"][0]["images"]["entries"][0];
    assert_eq!(entry["image"], "docker.io/iotistic/myapp:v2.0.1");
    assert_eq!(rollout["devices"][1]["reason"], "Held");
}

#[test]
fn bad_input_says_what_and_where() {
    for (args, words) in [
        (&["plan", "-f", "no-such-file.yaml"][..], &["no-such-file.yaml", "No such file"][..]),
        (&["plan", "-f", "Makefile"], &["in Makefile"]),
        (&["plan"], &["--filename"]),
        (&["plan", "-f", "examples/devices.yaml", "--now", "noon"], &["--now", "noon"]),
        (&["run", "--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["run", "--tls-cert", "x.pem"], &["--tls-key"]),
        (&["run", "--webhook-auth", "maybe"], &["--webhook-auth is secret or none"]),
        (&["run", "--presence-interval", "1ms"], &["at least 1s"]),
        (&["run", "everything"], &["everything", "controller, gateway, api"]),
        (&["run", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"], &["KUBECONFIG"]),
    ] {
        let output = tranche(args);
        assert!(!output.status.success(), "{args:?} must fail");
        assert_eq!(out(&output), "", "{args:?} prints nothing to standard output");
        for word in words {
            assert!(err(&output).contains(word), "{args:?} should speak of {word:?}, and says:\n{}", err(&output));
        }
    }
}
