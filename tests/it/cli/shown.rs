//! What is shown: the forms for programs are kubectl's own, and the plugin is the same program.

use serde_json::Value;

use crate::support::controlplane::ControlPlane;
use crate::support::shell::Shell;

fn script(shell: &Shell, script: &str) -> String {
    let output = shell.run(&format!("set -eo pipefail\n{script}"), 60, &[]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_read_what_kubectl_writes() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("cli-shown").await;
    let shell = Shell::new(plane, &namespace);
    script(
        &shell,
        "kubectl apply -f examples/devices.yaml -f examples/policy-staged.yaml -f tests/data/rollout-staged.yaml",
    );
    let name = script(&shell, "tranche devices list -o name --limit 1");
    let device = name.trim().rsplit('/').next().unwrap();
    for (ours, theirs) in [
        ("devices list", "get devices"),
        ("policies list", "get iup"),
        ("rollouts list", "get iro"),
        (&*format!("devices get {device}"), &*format!("get device {device}")),
        ("policies get myapp", "get iup myapp"),
    ] {
        for form in ["json", "name"] {
            let (ours, theirs) = (format!("tranche {ours} -o {form}"), format!("kubectl {theirs} -o {form}"));
            assert_eq!(script(&shell, &ours), script(&shell, &theirs), "{ours} and {theirs}");
        }
        let parsed = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
        let (ours, theirs) = (format!("tranche {ours} -o yaml"), format!("kubectl {theirs} -o yaml"));
        assert_eq!(parsed(&script(&shell, &ours)), parsed(&script(&shell, &theirs)), "{ours} and {theirs}");
    }
    assert_eq!(
        script(&shell, "tranche devices list -l no=such -o json"),
        script(&shell, "kubectl get devices -l no=such -o json")
    );
    let selected = script(&shell, "tranche devices list --no-headers -l tranche.dev/fleet=plant-a | wc -l");
    assert_eq!(selected, script(&shell, "kubectl get devices --no-headers -l tranche.dev/fleet=plant-a | wc -l"));
    // Whoever reads only the first line is no failure.
    assert_eq!(script(&shell, "tranche devices list | head -n 1").split_whitespace().next(), Some("NAME"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_finds_its_plugin() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("cli-plugin").await;
    let shell = Shell::new(plane, &namespace);
    script(&shell, "kubectl apply -f examples/policy-staged.yaml");
    let told =
        script(&shell, "kubectl tranche policies list -n default -o name; kubectl tranche policies list -o name");
    assert_eq!(told, "imageupdatepolicy.tranche.dev/myapp\n", "-n is heeded, and so is the kubeconfig's namespace");
    let help = script(&shell, "kubectl tranche rollouts pause --help");
    assert!(help.contains("Usage: kubectl tranche rollouts pause"), "{help}");
    let help = script(&shell, "tranche rollouts pause --help");
    assert!(help.contains("Usage: tranche rollouts pause"), "{help}");
    let completed = script(&shell, "kubectl_complete-tranche rollouts pa");
    assert!(completed.lines().any(|line| line.starts_with("pause")), "{completed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_are_helped() {
    let plane = ControlPlane::shared();
    let shell = Shell::new(plane, "default");
    script(&shell, "source <(tranche completion bash); complete -p tranche");
    for name in ["zsh", "fish", "powershell", "elvish"] {
        assert!(script(&shell, &format!("tranche completion {name}")).contains("rollouts"), "{name}");
    }
}
