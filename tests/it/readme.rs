//! The README's tour, run as it stands against the real control plane: commands that are wrong there fail here.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::controlplane::ControlPlane;
use crate::support::shell::Shell;

/// The commands of a section of a page, without prompts; lines that end with a backslash are one command with the next.
pub(crate) fn commands(page: &str, section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let section = text.split(&format!("\n## {section}\n")).nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap();
    let mut commands: Vec<String> = Vec::new();
    let mut inside = false;
    let mut continued = false;
    for line in section.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && continued {
            let last = commands.last_mut().unwrap();
            last.push('\n');
            last.push_str(line);
            continued = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            commands.push(command.to_owned());
            continued = command.ends_with('\\');
        }
    }
    commands
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_works_as_it_stands() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("tour").await;
    let shell = Shell::new(plane, &namespace);
    // Held only to learn a port that nobody has. The tour names one that people have free, which a test can't count on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

    let mut script = String::from("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n");
    let tour = commands("README.md", "Five minutes with kubectl");
    assert!(tour.len() >= 10, "the tour has lost its commands: {tour:?}");
    for command in tour {
        // Where a person looks on until it is done, the test waits for it.
        let command = if command.ends_with("--watch") {
            "kubectl wait --for=condition=Ready imagerollouts --all --timeout=90s".to_owned()
        } else {
            command.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
        };
        writeln!(script, "echo \"$ {}\"", command.replace(['"', '$', '`', '\\', '\n'], " ")).unwrap();
        writeln!(script, "{command}").unwrap();
        if command.starts_with("tranche run") {
            let url = format!("http://127.0.0.1:{port}/api/v1/webhooks/docker-registry/test");
            writeln!(script, "until curl -sf {url} >/dev/null; do sleep 0.2; done").unwrap();
        }
        if command.starts_with("tranche simulate") {
            // A person is slower than twenty devices that start; a script is not.
            let seen =
                r#"kubectl get devices -o jsonpath='{.items[*].status.conditions[?(@.type=="Connected")].status}'"#;
            writeln!(script, "until [ \"$({seen} | wc -w)\" = 20 ]; do sleep 0.2; done").unwrap();
        }
    }
    let (listen, server) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    let variables = [("TRANCHE_LISTEN", &*listen), ("TRANCHE_OPS_LISTEN", "127.0.0.1:0"), ("TRANCHE_SERVER", &*server)];
    let output = shell.run(&script, 150, &variables);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for words in
        ["rollout_id", "condition met", "runs the image well", "imagerollout.tranche.dev/myapp-9c07d57162 patched"]
    {
        assert!(said.contains(words), "the tour should show {words:?}:\n{said}");
    }
}
