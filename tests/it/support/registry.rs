//! A real container registry: CNCF Distribution as `tests/registry` builds it, which sends real notifications, and what
//! pushes to it. Ends with this process, however it ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;
use tranche::api::image::ImageRef;

/// How a registry is started, the same way each time.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `user:password` of basic authentication.
    pub basic: Option<String>,
    /// `user:password` that the token server takes. Everybody may pull from `public/…`.
    pub token: Option<String>,
    /// Https, by an authority of its own.
    pub tls: bool,
    /// Who is told of every push, in the registry's own way.
    pub notify: Vec<Endpoint>,
    /// Most tags in one answer; absent: 1000.
    pub page: Option<u32>,
}

/// Somebody who is told of every push.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    /// Where.
    pub url: String,
    /// With which headers.
    pub headers: Vec<(String, String)>,
}

impl Settings {
    /// Tells a URL of every push, with these headers.
    pub fn notifying(mut self, url: &str, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.notify.push(Endpoint { url: url.into(), headers });
        self
    }
}

/// What is pushed.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An image for one platform, by the OCI's format.
    Image,
    /// The same by Docker's.
    Docker,
    /// Images for two platforms.
    Index,
    /// A Helm chart.
    Helm,
    /// Something of a media type of its own.
    Artifact,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Docker => "docker",
            Self::Index => "index",
            Self::Helm => "helm",
            Self::Artifact => "artifact",
        }
    }
}

/// A running registry. Killed when dropped.
pub struct Registry {
    settings: Settings,
    folder: tempfile::TempDir,
    child: Option<Child>,
    /// `127.0.0.1:PORT`: the host in the names of its images.
    pub host: String,
    /// `localhost:PORT` of its token server.
    pub tokens: Option<String>,
}

/// The line that the program prints once it serves.
#[derive(Deserialize)]
struct Started {
    address: String,
    tokens: Option<String>,
}

impl Registry {
    /// Starts one on a free port.
    pub fn start(settings: &Settings) -> Self {
        let folder =
            tempfile::Builder::new().prefix("registry-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let host = "127.0.0.1:0".into();
        let mut registry = Self { settings: settings.clone(), folder, child: None, host, tokens: None };
        registry.restart();
        registry
    }

    /// Ends it as `kill -9` does; its images stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again with the same images at the same address, with new keys: tokens of before are good no more.
    pub fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).expect("a file");
        let mut command = Command::new(program());
        command.args(["serve", "--listen", &self.host, "--dir"]).arg(self.folder.path());
        let Settings { basic, token, tls, notify, page } = &self.settings;
        command.args(basic.iter().flat_map(|pair| ["--htpasswd", pair]));
        command.args(token.iter().flat_map(|pair| ["--token", pair]));
        command.args(tls.then_some("--tls"));
        for endpoint in notify {
            command.args(["--notify", &endpoint.url]);
            for (name, value) in &endpoint.headers {
                command.args(["--notify-header", &format!("{name}: {value}")]);
            }
        }
        if let Some(page) = page {
            command.args(["--page", &page.to_string()]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the registry starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let started: Started = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the registry said {line:?}; its log:\n{}", self.log()));
        self.child = Some(child);
        self.host = started.address;
        self.tokens = started.tokens;
    }

    /// An image in it, from `name:tag`.
    pub fn image(&self, name: &str) -> ImageRef {
        format!("{}/{name}", self.host).parse().expect("an image")
    }

    /// The certificate of its authority, PEM.
    pub fn authority(&self) -> Vec<u8> {
        std::fs::read(self.authority_file()).expect("the file is written before it serves")
    }

    /// A certificate of that authority for 127.0.0.1 and localhost, and its key: for servers of a test's own.
    pub fn server_files(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("server.crt"), self.folder.path().join("server.key"))
    }

    fn authority_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Makes an image of a few bytes and pushes it as `name:tag`; says its digest.
    pub async fn push(&self, kind: Kind, name: &str, content: &str) -> String {
        let image = format!("{}/{name}", self.host);
        self.run("push", &["--kind", kind.name(), "--content", content, &image]).await
    }

    /// Gives an image one more tag.
    pub async fn tag(&self, name: &str, tag: &str) {
        self.run("tag", &[&format!("{}/{name}", self.host), tag]).await;
    }

    /// Deletes the tag `name:tag`, or the manifest `name@digest` with all its tags.
    pub async fn delete(&self, name: &str) {
        self.run("delete", &[&format!("{}/{name}", self.host)]).await;
    }

    async fn run(&self, verb: &str, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(program());
        command.arg(verb);
        if let Some(user) = self.settings.basic.as_ref().or(self.settings.token.as_ref()) {
            command.args(["--user", user]);
        }
        if self.settings.tls {
            command.arg("--ca").arg(self.authority_file());
        }
        let output = command.args(args).output().await.expect("the registry's program runs");
        self.text(verb, &output)
    }

    /// What the real crane says, as everybody, of a registry without TLS.
    pub async fn crane(&self, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(program());
        // No configuration of the person's whose machine this is.
        command.arg("crane").args(args).env("DOCKER_CONFIG", self.folder.path()).env("NO_PROXY", "127.0.0.1,localhost");
        let output = command.output().await.expect("crane runs");
        self.text("crane", &output)
    }

    fn text(&self, verb: &str, output: &std::process::Output) -> String {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{verb}: {}; the registry's log:\n{}", error.trim(), self.log());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Everything that it has logged: warnings and errors.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The binary: `TRANCHE_REGISTRY`, or where `make registry` puts it.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("TRANCHE_REGISTRY") {
            return path.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("target/registry/registry");
        if !path.exists() {
            // It says by itself that this takes minutes.
            let status = Command::new(root.join("tests/registry/build.sh")).arg(&path).status();
            let built = status.as_ref().is_ok_and(std::process::ExitStatus::success);
            assert!(built, "no registry to test against: run `make registry` ({status:?})");
        }
        path
    })
}
