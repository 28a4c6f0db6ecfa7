//! What an unchanged poll costs the gateway, beside nginx that answers 304 for a file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::PostParams;
use tokio::process::Command;
use tranche::api::device::ImageEntry;
use tranche::api::time::whole_seconds;
use tranche::api::{Device, ImageRef};
use tranche::clock::now;
use tranche::simulate::Identity;
use tranche::simulate::provision::{ImageSource, device};

use crate::client::{Connection, header, load};
use crate::cluster::{ControlPlane, binary};
use crate::process::{Process, find, free_address, pin_self, pinned};
use crate::row::Row;
use crate::stats::median;

const NAMESPACE: &str = "poll";
const DEVICES: u32 = 10_000;
/// As many agents as keep their connection busy at the same moment.
const CONNECTIONS: usize = 32;
/// The two take turns, so that a busy moment hits both.
const ROUNDS: usize = 7;
const TURN: Duration = Duration::from_secs(2);
const MAX_RATIO: f64 = 2.0;
const ROW: &str = "unchanged poll: CPU per request, times nginx's for a 304";
/// Creations at once: as many as the API server's fairness gives one user.
const CONCURRENCY: usize = 16;

/// One turn: CPU and wall-clock seconds per answer.
struct Turn {
    cpu: f64,
    wall: f64,
}

/// The row, and what it is made of.
pub async fn measure(control_plane: &ControlPlane) -> anyhow::Result<Vec<Row>> {
    let Some(nginx) = find("nginx") else {
        return Ok(vec![Row::skipped(format!("{ROW} (no nginx here)"), "", MAX_RATIO)]);
    };
    let identities: Vec<Identity> = (0..DEVICES).map(|index| Identity::derive(1, NAMESPACE, index)).collect();
    control_plane.namespace(NAMESPACE).await?;
    create(control_plane, &identities).await?;
    let command = pinned(0, binary());
    let (gateway, address) = control_plane.tranche(NAMESPACE, &["gateway"], command).await?;
    let (file_server, file_address) = start_nginx(&nginx, control_plane.folder()).await?;
    pin_self("1").await;
    let turns = take_turns(&gateway, &address, &file_server, &file_address, &identities).await;
    pin_self("0-1023").await;
    let (ours, theirs) = turns?;
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.cpu / theirs.cpu).collect();
    let figure = |turns: &[Turn], of: fn(&Turn) -> f64| median(&turns.iter().map(of).collect::<Vec<_>>());
    let mut rows = vec![Row::limited(ROW, median(&ratios), "", MAX_RATIO)];
    for (name, turns) in [("gateway", &ours), ("nginx", &theirs)] {
        rows.push(Row::known(format!("unchanged poll: {name}"), figure(turns, |turn| turn.cpu) * 1e6, "us CPU"));
        let busy = figure(turns, |turn| turn.cpu / turn.wall) * 100.0;
        rows.push(Row::known(format!("unchanged poll: {name}, of one processor"), busy, "%"));
    }
    Ok(rows)
}

/// Devices that a rollout of long ago has released, as most of a real fleet are.
async fn create(control_plane: &ControlPlane, identities: &[Identity]) -> anyhow::Result<()> {
    let old: ImageRef = "docker.io/acme/app:v1".parse()?;
    let source = ImageSource { written: "acme/app:v1", parsed: &old };
    let entry = ImageEntry {
        repository: old.repository.clone(),
        image: Some("docker.io/acme/app:v2".into()),
        previous: Some(old.to_string()),
        declared: old.to_string(),
        rollout: "pruned".into(),
        batch: 1,
        release_time: whole_seconds(now()),
        rolled_back: false,
    };
    let api: Api<Device> = Api::namespaced(control_plane.client.clone(), NAMESPACE);
    stream::iter(identities)
        .map(|identity| {
            let mut device = device(identity, NAMESPACE, &source);
            device.spec.images.push(entry.clone());
            let api = api.clone();
            async move { api.create(&PostParams::default(), &device).await.map(drop) }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
        .context("cannot create devices")
}

async fn start_nginx(program: &Path, folder: &Path) -> anyhow::Result<(Process, String)> {
    let address = free_address()?;
    let root = folder.join("www");
    std::fs::create_dir(&root)?;
    // Of the size of a target state.
    std::fs::write(root.join("state"), "x".repeat(400))?;
    let at = folder.display();
    let settings = folder.join("nginx.conf");
    // Neither of the two logs accesses. Else these are nginx's defaults and Debian's.
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/nginx.pid; error_log {at}/nginx-error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u;\n\
         scgi_temp_path {at}/s; server {{ listen {address}; root {root}; }} }}\n",
        root = root.display()
    );
    std::fs::write(&settings, text)?;
    let mut command: Command = pinned(0, program);
    command.arg("-p").arg(folder).arg("-c").arg(settings).arg("-e").arg(folder.join("nginx-error.log"));
    let mut process = Process::start("nginx", command, folder)?;
    process.until(async || Connection::open(&address).await.is_ok()).await?;
    Ok((process, address))
}

async fn take_turns(
    gateway: &Process,
    address: &str,
    nginx: &Process,
    file_address: &str,
    identities: &[Identity],
) -> anyhow::Result<(Vec<Turn>, Vec<Turn>)> {
    let path = |identity: &Identity| format!("/api/v1/device/{}/state", identity.uuid);
    let ours = conditional(address, identities, path).await?;
    // The same requests, headers and all; only path and tag are the file's.
    let theirs = conditional(file_address, identities, |_| "/state".to_owned()).await?;
    let mut turns = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        turns.0.push(turn(gateway, address, &ours).await?);
        turns.1.push(turn(nginx, file_address, &theirs).await?);
    }
    Ok(turns)
}

/// Asks once without condition; the requests to ask again with the tag of that answer.
async fn conditional(
    address: &str,
    identities: &[Identity],
    path: impl Fn(&Identity) -> String,
) -> anyhow::Result<Arc<Vec<Vec<u8>>>> {
    let mut connection = Connection::open(address).await?;
    let mut requests = Vec::with_capacity(identities.len());
    for identity in identities {
        let start = format!(
            "GET {} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nUser-Agent: device-agent\r\nX-Device-API-Key: {}\r\n",
            path(identity),
            identity.key.expose(),
        );
        let head = connection.ask(format!("{start}\r\n").as_bytes()).await?;
        let tag = header(&head, "etag").with_context(|| format!("no tag in {head}"))?;
        requests.push(format!("{start}If-None-Match: {tag}\r\n\r\n").into_bytes());
    }
    Ok(Arc::new(requests))
}

async fn turn(server: &Process, address: &str, requests: &Arc<Vec<Vec<u8>>>) -> anyhow::Result<Turn> {
    let before = server.cpu()?;
    let answers = load(address, requests, CONNECTIONS, TURN).await? as f64;
    let cpu = server.cpu()? - before;
    Ok(Turn { cpu: cpu / answers, wall: TURN.as_secs_f64() / answers })
}
