//! What goes wrong, and whether the words say what to do about it.

use std::path::Path;

use super::{err, say, tranche};
use crate::support::controlplane::{ControlPlane, User};
use crate::support::fake::{Fake, reply};

/// A kubeconfig for a server that anybody may be.
fn kubeconfig(folder: &Path, server: &str) -> std::path::PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{{"name": "here", "cluster": {{"server": "{server}"}}}}],
        "users": [{{"name": "me", "user": {{}}}}],
        "contexts": [{{"name": "here", "context": {{"cluster": "here", "user": "me"}}}}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn no_cluster() {
    let output = tranche(&["rollouts", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("set KUBECONFIG"), "{}", err(&output));
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path(), &format!("http://127.0.0.1:{port}"));
    let said = say(&file, "x", &["devices", "list"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("can't be reached") && said.err.contains("--context"), "{}", said.err);
    let said = say(&file, "x", &["devices", "list", "--context", "elsewhere"]);
    assert!(said.err.contains("elsewhere") && said.err.contains("get-contexts"), "{}", said.err);
    let said = say(&file, "x", &["doctor"]);
    assert_eq!(said.code, 1);
    assert!(said.out.starts_with("✗ cluster"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kinds_and_no_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let without = Fake::start(|_| reply(404).body("404 page not found\n")).await;
    let file = kubeconfig(folder.path(), &format!("http://{}", without.host));
    let said = tokio::task::block_in_place(|| say(&file, "x", &["rollouts", "list"]));
    assert!(said.err.contains("tranche crds | kubectl apply --server-side -f -"), "{}", said.err);
    let body = r#"{"kind": "Status", "status": "Failure", "code": 401, "reason": "Unauthorized", "message": "no"}"#;
    let locked = Fake::start(move |_| reply(401).header("content-type", "application/json").body(body)).await;
    let file = kubeconfig(folder.path(), &format!("http://{}", locked.host));
    let said = tokio::task::block_in_place(|| say(&file, "x", &["rollouts", "pause", "r"]));
    assert!(said.err.contains("does not accept your credentials"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rights_and_no_such_thing() {
    let plane = ControlPlane::shared();
    let namespace = plane.namespace("cli-errors").await;
    let nobody = plane.kubeconfig(User::Nobody);
    let said = say(&nobody, &namespace, &["rollouts", "list"]);
    let words = format!("nobody (you) may not list imagerollouts.tranche.dev in namespace {namespace}");
    assert!(said.err.contains(&words) && said.err.contains("--verb=list"), "{}", said.err);
    assert_eq!(said.code, 1);

    let admin = plane.kubeconfig(User::Admin);
    let said = say(&admin, &namespace, &["rollouts", "get", "myapp-1"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("there is none at all"), "{}", said.err);
    let policy = include_str!("../../../examples/policy-staged.yaml");
    let client = plane.client(User::Admin).await;
    let api: kube::Api<tranche::api::ImageUpdatePolicy> = kube::Api::namespaced(client, &namespace);
    let policy: tranche::api::ImageUpdatePolicy = serde_yaml::from_str(policy).unwrap();
    api.create(&Default::default(), &policy).await.unwrap();
    let said = say(&admin, &namespace, &["policies", "get", "mypap"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("did you mean myapp?"), "{}", said.err);
    assert_eq!(say(&admin, &namespace, &["policies", "get", "myapp", "-o", "xml"]).code, 2);
    assert_eq!(say(&admin, &namespace, &["policies", "get", "myapp", "--reason", "x"]).code, 2);
    let said = say(&admin, &namespace, &["policies", "pause", "myapp", "--reason", "two\nlines"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("one line"), "{}", said.err);
}
