//! A folder in which commands of the documentation run as they stand: `tranche`, `kubectl` and its plugin on the PATH, and a
//! kubeconfig whose namespace is the test's.

use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::controlplane::{ControlPlane, User};

pub struct Shell {
    folder: TempDir,
}

impl Shell {
    pub fn new(plane: &ControlPlane, namespace: &str) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in ["tranche", "kubectl-tranche", "kubectl_complete-tranche"] {
            symlink(env!("CARGO_BIN_EXE_tranche"), folder.path().join(name)).unwrap();
        }
        symlink(plane.program(), folder.path().join("kubectl")).unwrap();
        let text = std::fs::read_to_string(plane.kubeconfig(User::Admin)).unwrap();
        let text = text.replace("namespace: default", &format!("namespace: {namespace}"));
        std::fs::write(folder.path().join("kubeconfig"), text).unwrap();
        Self { folder }
    }

    /// Runs a script in the folder of the sources, for so many seconds at most.
    pub fn run(&self, script: &str, seconds: u32, variables: &[(&str, &str)]) -> Output {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut run = Command::new("timeout");
        run.args([&seconds.to_string(), "bash", "-c", script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PATH", path)
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        tokio::task::block_in_place(|| run.output()).unwrap()
    }
}
