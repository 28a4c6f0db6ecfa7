//! `docs/enrolment.md`, run as it stands against the real control plane: every command of the page, in its order, and what
//! it says that they answer.

use crate::support::controlplane::{ControlPlane, User};
use crate::support::page::{Block, Step, answers, blocks, has_program, page, script};
use crate::support::process::{Settings, Tranche};
use crate::support::shell::Shell;

const PAGE: &str = "docs/enrolment.md";

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_enrolment_works() {
    has_program("curl", "--version");
    has_program("openssl", "version");
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("enrol-page").await;
    let settings = Settings::new(&plane.kubeconfig(User::Admin), &namespace).only(&["gateway"]);
    let tranche = Tranche::start(&settings).await;
    let steps: Vec<Step> = blocks(&page(PAGE)).iter().filter(|block| block.is_run()).flat_map(Block::steps).collect();
    assert!(steps.len() > 10, "{steps:#?}");
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let shell = Shell::new(plane, &namespace);
    let output = shell.run(&script(&steps, &tranche.url), 120, &[("HOME", home.path().to_str().unwrap())]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for (step, answer) in answers(&steps, &said) {
        step.answered(answer, &tranche.url);
    }
    // The key was printed once, into the file, and is nowhere else.
    let key = std::fs::read_to_string(home.path().join("plant-a.key")).unwrap();
    assert!(key.starts_with("tpk_plant-a_") && key.ends_with('\n'), "the key alone");
    assert!(!said.contains(key.trim()) && !tranche.log().contains(key.trim()));
}

#[test]
fn every_block_is_run_or_shown() {
    for Block { language, lines } in blocks(&page(PAGE)) {
        // A form to be signed is no command.
        let is_form = language == "text" && lines.iter().all(|line| line.starts_with('{'));
        assert!(is_form || language == "console", "a block of {language:?} can hide commands: {lines:?}");
    }
}

#[test]
fn no_key_is_an_argument() {
    let mut sent = 0;
    for Step { command, .. } in blocks(&page(PAGE)).iter().filter(|block| block.is_run()).flat_map(Block::steps) {
        // What echo, which is the shell itself, writes into a file; the rest are arguments.
        let arguments: String =
            command.split("@<(echo ").map(|part| part.split_once(')').unwrap_or(("", part)).1).collect();
        let arguments = if command.contains("@<(echo ") { arguments } else { command.clone() };
        sent += usize::from(command.starts_with("curl "));
        if command.starts_with("curl ") {
            for secret in ["$key", "$next", "plant-a.key"] {
                assert!(!arguments.contains(secret), "{secret} is an argument in {command}");
            }
        }
    }
    assert!(sent >= 6, "the page has lost its requests");
}
