//! `docs/registries.md`, run as it stands against the real control plane: every command of the page, in its order, and
//! what it says that they answer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kube::{Api, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::Value;
use tranche::api::webhook::RegistryType;
use tranche::api::{ImageRef, ImageRollout, RegistryWebhook};
use tranche::registry::DIALECTS;

use crate::support::controlplane::{ControlPlane, User};
use crate::support::page::{self, Block, MARK, NOT_RUN, Step, answers, blocks, has_program, script};
use crate::support::process::{SECRET, Settings, Tranche};
use crate::support::shell::Shell;

/// What a block that isn't run may hold: tools of others. The rest of the page has no excuse.
const TOOLS_OF_OTHERS: [&str; 1] = ["gcloud "];
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> String {
    page::page("docs/registries.md")
}

impl Step {
    /// Whether it sends a delivery.
    fn delivers(&self) -> bool {
        self.command.starts_with("curl ") && !self.command.ends_with("/test\"")
    }

    /// The HTTP status that the page promises: what it shows, or that the push has its rollout.
    fn status(&self) -> u16 {
        let shown = self.says.iter().find_map(|line| line.split_once("\"status\":"));
        shown.map_or(200, |(_, rest)| rest[..3].parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_registries_works() {
    has_program("curl", "--version");
    has_program("openssl", "version");
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("registries").await;
    let tranche = Tranche::start(&Settings::new(&plane.kubeconfig(User::Admin), &namespace)).await;
    let steps: Vec<Step> = blocks(&page()).iter().filter(|block| block.is_run()).flat_map(Block::steps).collect();
    // The last one takes the policy away, and with it the rollouts that are looked at before.
    let (last, steps) = steps.split_last().expect("commands");
    assert!(last.command.starts_with("kubectl delete "), "{last:?}");

    let shell = Shell::new(plane, &namespace);
    let output = shell.run(&script(steps, &tranche.url), 240, &[("DOCKER_WEBHOOK_SECRET", SECRET)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));

    let client = plane.client(User::Admin).await;
    let rollouts: Api<ImageRollout> = Api::namespaced(client.clone(), &namespace);
    let mut images = BTreeSet::new();
    for (step, answer) in answers(steps, &said) {
        step.answered(answer, &tranche.url);
        if !step.delivers() {
            continue;
        }
        let (body, status) = answer.split_once(&format!("\n{MARK} status ")).expect("curl tells the status");
        assert_eq!(status.trim(), step.status().to_string(), "{step:#?} answers\n{answer}");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {step:#?}\n{answer}"));
        if step.status() == 200 && body.get("reason").is_none() {
            let rollout = rollouts.get(body["rollout_id"].as_str().expect("a rollout")).await.expect("it is there");
            let pushed: ImageRef = body["image"].as_str().expect("an image").parse().expect("an image");
            assert_eq!(rollout.spec.image.repository, pushed.repository, "{step:#?}");
            images.insert((pushed.repository, rollout.spec.image.tag));
        }
        let ignored = step.says.iter().any(|says| says.contains("ignored"));
        assert_eq!(body.get("reason").is_some(), ignored, "{step:#?} answers\n{answer}");
    }
    // Whoever told of it, and however often: one for each image.
    assert_eq!(rollouts.list(&Default::default()).await.expect("a list").items.len(), images.len(), "{images:?}");

    // Every kind of registry has been there by a URL of its own.
    let hooks: Api<RegistryWebhook> = Api::namespaced(client, &namespace);
    let hooks = hooks.list(&Default::default()).await.expect("a list").items;
    let types: BTreeSet<String> = hooks.iter().map(|hook| format!("{:?}", hook.spec.type_)).collect();
    let all: BTreeSet<String> = DIALECTS.iter().map(|dialect| format!("{:?}", dialect.type_())).collect();
    assert_eq!(types, all);
    assert!(!types.contains(&format!("{:?}", RegistryType::Auto)));
    for hook in &hooks {
        let path = hook.status.as_ref().and_then(|status| status.path.as_deref()).expect("a path");
        assert!(!tranche.log().contains(path), "the log shows the path of {}", hook.name_any());
    }
    let output = shell.run(&last.command, 60, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_not_run_says_so() {
    let mut left_out = 0;
    for Block { language, lines } in blocks(&page()) {
        match language.as_str() {
            "console" => {
                let marked = lines[0].starts_with(NOT_RUN);
                left_out += usize::from(marked);
                let block = Block { language, lines: lines[usize::from(marked)..].to_vec() };
                for Step { command, says } in block.steps() {
                    let of_others = TOOLS_OF_OTHERS.iter().any(|tool| command.starts_with(tool));
                    assert!(!marked || (of_others && says.is_empty()), "this can be run: {command}");
                    assert!(!command.contains("#"), "a mark that nobody looks for: {command}");
                }
            }
            "yaml" => {
                let yaml = lines.join("\n");
                drop(serde_yaml::Value::deserialize(serde_yaml::Deserializer::from_str(&yaml)).unwrap());
            }
            "json" => drop(serde_json::from_str::<Value>(&lines.join("\n")).unwrap()),
            other => panic!("a block of {other:?} can hide commands: {lines:?}"),
        }
    }
    assert_eq!(left_out, 1, "blocks that aren't run: is the new one really out of reach?");
}

#[test]
fn every_example_is_on_the_page() {
    let page = page();
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("webhook-") {
            let sent = format!("--data-binary @examples/{name}");
            assert!(page.contains(&sent), "no line sends {name}");
        }
        if let Some(hook) = name.strip_prefix("registrywebhook-").and_then(|name| name.strip_suffix(".yaml")) {
            let made = [format!("$ kubectl apply -f examples/{name}\n"), format!("$ hook {hook}\n")];
            assert!(made.iter().any(|line| page.contains(line)), "no line applies {name}");
        }
    }
}

/// The labels are taken from the source: the enum's reasons carry values that no test could make up for all of them.
#[test]
fn every_reason_is_on_the_page() {
    let source = std::fs::read_to_string(root().join("src/registry/reason.rs")).unwrap();
    let (_, labels) = source.split_once("fn label(").expect("labels");
    let labels: BTreeSet<&str> =
        labels.lines().filter_map(|line| line.split_once("=> \"")?.1.split('"').next()).collect();
    assert!(labels.len() > 10, "{labels:?}");
    let page = page();
    let (_, table) = page.split_once("| `reason` | meaning |\n").expect("the table of reasons");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let told: BTreeSet<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(told, labels);
}

#[test]
fn every_link_leads_somewhere() {
    for (file, folder) in [("docs/registries.md", "docs"), ("docs/api.md", "docs"), ("README.md", "")] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let anchors: BTreeSet<String> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            match target.strip_prefix('#') {
                Some(name) => assert!(anchors.contains(name), "{file}: no heading for #{name}"),
                None if target.starts_with("http") => {}
                None => assert!(root().join(folder).join(target).exists(), "{file}: no {target}"),
            }
        }
    }
}

/// As GitHub makes it from a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}
