//! Runs helm.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize as _;
use serde_json::Value;

/// The chart.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tranche")
}

/// `TRANCHE_HELM`, or the one on the PATH, or the one that `make tools` builds.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let named = std::env::var_os("TRANCHE_HELM").map(PathBuf::from).filter(|path| path.exists());
        let on_path = || Command::new("helm").arg("version").output().is_ok().then(|| "helm".into());
        named.or_else(on_path).unwrap_or_else(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let path = root.join("target/tools/helm");
            // Returns at once where it is built already.
            let status = Command::new(root.join("tests/tools/build.sh")).arg(&path).status();
            let built = status.as_ref().is_ok_and(std::process::ExitStatus::success);
            assert!(built, "no helm to test with: install it, or run `make tools` ({status:?})");
            path
        })
    })
}

/// Runs it, with values from standard input where an argument is `-`. Its output, or what it complains of.
pub fn helm(args: &[&str], values: &Value) -> Result<String, String> {
    let home = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(program())
        .args(args)
        // Nobody's own repositories, plugins and settings.
        .env_clear()
        .env("HOME", home.path())
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("helm runs");
    // It may have ended over its arguments already.
    let _ = child.stdin.take().expect("piped").write_all(values.to_string().as_bytes());
    let output = child.wait_with_output().expect("helm ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stdout) + &text(&output.stderr)),
    }
}

/// What the chart makes of values, as release `fleet` in a namespace.
pub fn render(namespace: &str, values: &Value) -> Vec<Value> {
    let chart = folder();
    let args = ["template", "fleet", chart.to_str().expect("a path"), "--namespace", namespace, "--values", "-"];
    let text = helm(&args, values).unwrap_or_else(|error| panic!("{values}: {error}"));
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

/// The rendered object of a kind and name.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let wanted = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(wanted).unwrap_or_else(|| panic!("no {kind} {name} is rendered"))
}
