//! A real Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager of `tests/controlplane`.
//!
//! One is shared by all tests of a process, each in a namespace of its own. A test that ends components, or that counts
//! calls on cluster scope, starts one for itself. Both end with this process, however it ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;

use super::wait::until;

/// A component that a test may end and start.
#[derive(Clone, Copy, Debug)]
pub enum Component {
    Etcd,
    ApiServer,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
        }
    }
}

/// Somebody whom the API server knows.
#[derive(Clone, Copy, Debug)]
pub enum User {
    /// May do everything.
    Admin,
    /// May do what is bound to it in a test, which by itself is nothing.
    Nobody,
    /// The same; for who may look.
    Viewer,
    /// The same; for who may act.
    Operator,
}

/// A running control plane with the kinds installed.
pub struct ControlPlane {
    program: PathBuf,
    folder: PathBuf,
    supervisor: Child,
}

impl ControlPlane {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One that nobody else uses; gone when dropped.
    pub fn start() -> Self {
        // Whoever asks may be within a runtime, where nothing may block on another one.
        std::thread::spawn(Self::boot).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn boot() -> Self {
        let program = program();
        let folder = new_folder();
        let mut supervisor = Command::new(&program)
            .args(["up", "--dir"])
            .arg(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut lines = BufReader::new(supervisor.stdout.take().expect("piped")).lines();
        match lines.next() {
            Some(Ok(line)) if line == "ready" => {}
            other => panic!("the control plane in {} said {other:?}; logs are in logs/ there", folder.display()),
        }
        let plane = Self { program, folder, supervisor };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { install_kinds(&plane.client(User::Admin).await).await });
        plane
    }

    /// A client that is somebody. Clients belong to the runtime they are made in, hence to one test.
    pub async fn client(&self, user: User) -> Client {
        client(&self.kubeconfig(user)).await
    }

    /// The file by which somebody reaches the API server.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder.join(match user {
            User::Admin => "kubeconfig",
            User::Nobody => "kubeconfig-nobody",
            User::Viewer => "kubeconfig-viewer",
            User::Operator => "kubeconfig-operator",
        })
    }

    /// The token by which the API server knows somebody.
    pub fn token(&self, user: User) -> String {
        let file = Kubeconfig::read_from(self.kubeconfig(user)).expect("a kubeconfig");
        let token = json!(file)["users"][0]["user"]["token"].as_str().map(str::to_owned);
        token.expect("users here have tokens")
    }

    /// A new namespace, its name made from `purpose`.
    pub async fn namespace(&self, purpose: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("{purpose}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta { name: Some(name.clone()), ..Default::default() },
            ..Default::default()
        };
        let api: Api<Namespace> = Api::all(self.client(User::Admin).await);
        api.create(&Default::default(), &namespace).await.expect("a namespace");
        name
    }

    /// A folder that goes away with this control plane.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its program; under the name `kubectl` it is that.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The API server's record of every call.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// Ends a component with SIGKILL.
    pub fn kill(&self, component: Component) {
        self.control("kill", component);
    }

    /// Starts it again; returns once it serves.
    pub fn restart(&self, component: Component) {
        self.control("start", component);
    }

    fn control(&self, verb: &str, component: Component) {
        let output = Command::new(&self.program)
            .args([verb, "--dir"])
            .arg(&self.folder)
            .arg(component.name())
            .output()
            .expect("the control plane's program runs");
        assert!(
            output.status.success(),
            "{verb} {}: {}",
            component.name(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The components end with their supervisor.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A client from a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> Client {
    // The first of several is as good as any.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a configuration");
    tranche::kubeclient::with_config(config).expect("a client")
}

/// Applies the kinds and waits until the API server serves them.
async fn install_kinds(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in tranche::api::crds() {
        let params = PatchParams::apply("tests").force();
        api.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await.expect("the API server takes the CRD");
    }
    for crd in tranche::api::crds() {
        let name = crd.name_any();
        until(&format!("{name} to be established"), async || {
            let crd = api.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = json!(crd.status.and_then(|status| status.conditions).unwrap_or_default());
            let established = |c: &serde_json::Value| c["type"] == "Established" && c["status"] == "True";
            conditions
                .as_array()
                .is_some_and(|all| all.iter().any(established))
                .then_some(())
                .ok_or(conditions.to_string())
        })
        .await;
        // Established says that requests for it will be routed, not that every part of the server knows already.
        until(&format!("{name} to be served"), async || {
            let url =
                format!("/apis/{}/{}/{}?limit=1", crd.spec.group, crd.spec.versions[0].name, crd.spec.names.plural);
            let request = http::Request::get(url).body(Vec::new()).expect("a request");
            client.request_text(request).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}

/// The binary: `TRANCHE_CONTROLPLANE`, or where `make control-plane` puts it.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TRANCHE_CONTROLPLANE") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("target/controlplane/controlplane");
    if !path.exists() {
        // Returns at once where it is built already; else it says by itself that this takes minutes.
        let status = Command::new(root.join("tests/controlplane/build.sh")).arg(&path).status();
        let built = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        assert!(built, "no control plane to test against: run `make control-plane` ({status:?})");
    }
    path
}

/// An empty folder, and the folders of processes that are gone removed: nothing runs when a test process ends, so each
/// leaves the folder of its shared control plane to the next.
fn new_folder() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_old = |meta: std::fs::Metadata| {
            let age = meta.modified().ok().and_then(|modified| modified.elapsed().ok());
            age.is_some_and(|age| age > Duration::from_secs(60))
        };
        let unused = || {
            let lock = std::fs::File::open(entry.path().join("lock")).ok();
            lock.is_none_or(|lock| lock.try_lock().is_ok())
        };
        let ours = entry.file_name().to_string_lossy().starts_with("controlplane-");
        if ours && entry.metadata().is_ok_and(is_old) && unused() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = tempfile::Builder::new().prefix("controlplane-").tempdir_in(parent).expect("a folder");
    folder.keep()
}
