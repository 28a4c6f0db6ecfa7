//! Devices that show a certificate instead of a key.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use tranche::api::Device;

use super::agent::{Agent, Generation, Place};
use crate::support::wait::until;

/// A certificate authority, made by openssl as a person would.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 2 \
             -subj /CN=authority",
        );
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, args: &str) {
        let run = Command::new("openssl").args(args.split_whitespace()).current_dir(self.folder.path()).output();
        let output = run.expect("openssl on the PATH");
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate with its key behind it, PEM.
    fn issue(&self, subject: &str, extensions: &str) -> Vec<u8> {
        std::fs::write(self.file("extensions"), extensions).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout one.key -out one.csr -subj {subject}"
        ));
        self.openssl(
            "x509 -req -in one.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out one.crt",
        );
        [std::fs::read(self.file("one.crt")).unwrap(), std::fs::read(self.file("one.key")).unwrap()].concat()
    }
}

fn leak(path: &Path) -> &'static str {
    Box::leak(path.to_str().unwrap().to_owned().into_boxed_str())
}

fn client(server: &Authority, identity: Option<Vec<u8>>) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(&std::fs::read(server.file("ca.crt")).unwrap()).unwrap();
    let mut builder = reqwest::Client::builder().tls_certs_only([root]);
    if let Some(identity) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(&identity).unwrap());
    }
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_instead_of_a_key() {
    let (ours, others) = (Authority::new(), Authority::new());
    let server = ours.issue("/CN=localhost", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n");
    std::fs::write(ours.file("server.pem"), server).unwrap();
    let (pem, ca) = (leak(&ours.file("server.pem")), leak(&ours.file("ca.crt")));
    let tls = ["--tls-cert", pem, "--tls-key", pem, "--client-ca", ca];
    let place =
        Place::with("enrol-mtls", &[&tls[..], &["--client-uri-prefix", "urn:uuid:,spiffe://plant-a/device/"]].concat())
            .await;
    let url = &place.tranche.url;
    assert!(url.starts_with("https://"), "{url}");
    let (agent, other) = (Agent::new(Generation::First), Agent::new(Generation::First));
    for agent in [&agent, &other] {
        let device: Device = Device::new(&agent.uuid, Default::default());
        place.devices.create(&Default::default(), &device).await.unwrap();
    }
    let usage = "extendedKeyUsage=clientAuth\n";
    let uri = |uri: String| format!("subjectAltName=URI:{uri}\n{usage}");
    let by_urn = ours.issue("/CN=line-3", &uri(format!("urn:uuid:{}", agent.uuid.to_uppercase())));
    let by_spiffe = ours.issue("/O=acme", &uri(format!("spiffe://plant-a/device/{}", agent.uuid)));
    let elsewhere =
        ours.issue(&format!("/O=acme/CN={}", agent.uuid), &uri(format!("spiffe://plant-b/device/{}", agent.uuid)));
    let by_name = ours.issue(&format!("/O=acme/CN={}", agent.uuid), usage);
    let forged = others.issue(&format!("/CN={}", agent.uuid), usage);
    let wrong_usage = ours.issue(&format!("/CN={}", agent.uuid), "extendedKeyUsage=serverAuth\n");
    let nameless = ours.issue("/CN=line-3", usage);
    let poll = async |identity: Option<Vec<u8>>, uuid: &str| {
        let asked = client(&ours, identity).get(format!("{url}/api/v1/device/{uuid}/state")).send().await;
        asked.map(|answer| answer.status().as_u16()).map_err(|_| "no connection")
    };
    let until_polled = async |status: u16| {
        until("the poll's answer", async || {
            let answered = poll(Some(by_name.clone()), &agent.uuid).await;
            if answered == Ok(status) { Ok(()) } else { Err(format!("{answered:?}")) }
        })
        .await;
    };
    until_polled(200).await;
    for identity in [&by_urn, &by_spiffe] {
        assert_eq!(poll(Some(identity.clone()), &agent.uuid).await, Ok(200));
        assert_eq!(poll(Some(identity.clone()), &other.uuid).await, Ok(401), "another's state");
    }
    assert_eq!(poll(None, &agent.uuid).await, Ok(401), "neither certificate nor key");
    assert_eq!(poll(Some(nameless), &agent.uuid).await, Ok(401));
    assert_eq!(poll(Some(elsewhere), &agent.uuid).await, Ok(401), "its URI is no device's, and it has no other name");
    assert_eq!(poll(Some(forged), &agent.uuid).await, Err("no connection"), "of an authority that isn't ours");
    assert_eq!(poll(Some(wrong_usage), &agent.uuid).await, Err("no connection"), "made for servers");

    let report = |of: &Agent| json!({ of.uuid.clone(): { "apps": {}, "is_online": true } });
    let send = async |of: &Agent| {
        let request = client(&ours, Some(by_urn.clone())).patch(format!("{url}/api/v1/device/state"));
        request.json(&report(of)).send().await.unwrap().status().as_u16()
    };
    assert_eq!((send(&agent).await, send(&other).await), (200, 403));

    place.edit(&agent.uuid, json!({ "revoked": true })).await;
    until_polled(401).await;
    place.edit(&agent.uuid, json!({ "revoked": null })).await;
    until_polled(200).await;

    // Who has no certificate enrols and comes in by a key, over the same listener.
    let key = place.key("plant-a", &[]).await;
    let keyed = Agent::new(Generation::Third).over(client(&ours, None));
    keyed.enrol(url, &key).await;
    assert_eq!(keyed.poll(url).await.status, 200);
}
