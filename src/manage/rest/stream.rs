//! The devices of a rollout, written while they are read: a page is all that is held of them.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use kube::ResourceExt as _;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Rest;
use super::caller::Caller;
use super::door::Place;
use super::endpoint::List;
use super::page::{Listed, PAGE, Pages};
use super::problems::Refusal;
use super::rollouts::by_name;
use super::standing::{DeviceRow, Standing};
use super::words::DeviceStatus;
use crate::api::{Device, ImageRollout};

/// Devices of the first page: small, so that the first byte comes soon.
const FIRST_PAGE: u32 = 50;
/// Pieces that are written and not taken yet. Whoever reads slowly is waited for.
const AHEAD: usize = 1;

/// What the whole of it looks like.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that is wanted: it is written piece by piece")]
pub(super) struct RolloutDevices {
    rollout_id: String,
    /// As the rollout counted them last.
    total_devices: i32,
    /// By name.
    devices: Vec<DeviceRow>,
    /// The same devices by number of their batch, `0` while they have none.
    batches: BTreeMap<String, Vec<InBatch>>,
    /// False when something went wrong half way; `error` says what.
    complete: bool,
    /// A problem.
    #[schemars(with = "Option<serde_json::Value>")]
    error: Option<()>,
}

/// A device of a batch.
#[derive(JsonSchema, Debug, Serialize)]
struct InBatch {
    device_uuid: String,
    status: DeviceStatus,
    /// Why, in one word of ours.
    reason: &'static str,
}

/// A device's name, in as little room as it takes: there may be a million of them.
#[derive(Debug)]
enum ShortName {
    Uuid([u8; 16]),
    Other(Box<str>),
}

impl ShortName {
    fn new(name: &str) -> Self {
        let digits: Vec<u8> = name.bytes().filter(|byte| *byte != b'-').collect();
        let mut bytes = [0; 16];
        let lower = name.bytes().all(|byte| !byte.is_ascii_uppercase());
        if !super::page::is_uid(name) || !lower {
            return Self::Other(name.into());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let text = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(text, 16).unwrap_or_default();
        }
        Self::Uuid(bytes)
    }
}

impl std::fmt::Display for ShortName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other(name) => f.write_str(name),
            Self::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// Begins to write them. What can be refused is refused before that: whoever `may_list` devices has the beginning at once, for
/// the first page of a hundred thousand takes the API server a while; the others have it with the API server's own word.
pub(super) async fn devices(
    rest: &Arc<Rest>,
    place: Place,
    caller: Caller,
    rollout: ImageRollout,
    may_list: bool,
) -> Result<List<RolloutDevices>, Refusal> {
    let mut pages = Pages::<Device>::of::<Device>(&caller, &[]).from(FIRST_PAGE, None);
    let first = if may_list { None } else { pages.next().await? };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let writer = Writer { sender, _place: place, caller, rest: Arc::clone(rest), grouped: BTreeMap::new(), any: false };
    tokio::spawn(writer.run(rollout, first, pages));
    Ok(List(body(receiver), PhantomData))
}

/// A body of the pieces that come out of a channel.
pub(super) fn body(receiver: mpsc::Receiver<Bytes>) -> Body {
    Body::from_stream(stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), receiver))
    }))
}

/// The caller is gone.
struct Gone;

struct Writer {
    sender: mpsc::Sender<Bytes>,
    _place: Place,
    caller: Caller,
    rest: Arc<Rest>,
    grouped: BTreeMap<usize, Vec<(ShortName, DeviceStatus, &'static str)>>,
    any: bool,
}

impl Writer {
    async fn run(mut self, rollout: ImageRollout, first: Option<Vec<Listed<Device>>>, pages: Pages<Device>) {
        // Whoever is gone needs no answer.
        let _ = self.write(rollout, first, pages).await;
    }

    async fn send(&self, piece: Vec<u8>) -> Result<(), Gone> {
        self.sender.send(piece.into()).await.map_err(|_| Gone)
    }

    async fn write(
        &mut self,
        rollout: ImageRollout,
        first: Option<Vec<Listed<Device>>>,
        pages: Pages<Device>,
    ) -> Result<(), Gone> {
        let total =
            rollout.status.as_ref().and_then(|status| status.totals.as_ref()).map_or(0, |totals| totals.devices);
        let name = serde_json::Value::from(rollout.name_any());
        let head = format!("{{\"rollout_id\":{name},\"total_devices\":{total},\"devices\":[");
        self.send(head.into_bytes()).await?;
        let failure = match Standing::read(&self.rest.kept, &self.caller.clone(), rollout).await {
            Ok(standing) => self.pages(&standing, first, pages).await?,
            Err(refusal) => Some(refusal),
        };
        self.tail(failure.as_ref()).await
    }

    async fn pages(
        &mut self,
        standing: &Standing,
        first: Option<Vec<Listed<Device>>>,
        mut pages: Pages<Device>,
    ) -> Result<Option<Refusal>, Gone> {
        let mut next = match first {
            Some(first) => Ok(Some(first)),
            None => pages.next().await,
        };
        pages.resize(PAGE);
        loop {
            match next {
                Ok(Some(page)) => self.page(standing, page).await?,
                Ok(None) => return Ok(None),
                Err(refusal) => return Ok(Some(refusal)),
            }
            next = pages.next().await;
        }
    }

    async fn page(&mut self, standing: &Standing, page: Vec<Listed<Device>>) -> Result<(), Gone> {
        let rows = {
            // They are let go before anybody is waited for.
            let devices: Vec<Device> = page.into_iter().filter_map(Listed::read).collect();
            by_name(standing.rows(&devices, self.rest.clock.now()))
        };
        let mut piece = Vec::new();
        for row in rows {
            if self.any {
                piece.push(b',');
            }
            self.any = true;
            // A row of strings and numbers can't fail to be written.
            piece.extend(serde_json::to_vec(&row).unwrap_or_default());
            let short = (ShortName::new(&row.device_uuid), row.status, row.reason);
            self.grouped.entry(row.batch_number).or_default().push(short);
        }
        if piece.is_empty() { Ok(()) } else { self.send(piece).await }
    }

    async fn tail(&mut self, failure: Option<&Refusal>) -> Result<(), Gone> {
        self.send(b"],\"batches\":{".to_vec()).await?;
        let mut first = true;
        for (batch, devices) in std::mem::take(&mut self.grouped) {
            let comma = if first { "" } else { "," };
            first = false;
            self.send(format!("{comma}\"{batch}\":[").into_bytes()).await?;
            for (number, chunk) in devices.chunks(PAGE as usize).enumerate() {
                let mut piece = if number == 0 { Vec::new() } else { vec![b','] };
                for (at, (name, status, reason)) in chunk.iter().enumerate() {
                    let row = InBatch { device_uuid: name.to_string(), status: *status, reason };
                    if at > 0 {
                        piece.push(b',');
                    }
                    piece.extend(serde_json::to_vec(&row).unwrap_or_default());
                }
                self.send(piece).await?;
            }
            self.send(b"]".to_vec()).await?;
        }
        let end = match failure {
            None => "},\"complete\":true}".to_owned(),
            Some(refusal) => {
                let problem = serde_json::to_string(&refusal.problem()).unwrap_or_default();
                format!("}},\"complete\":false,\"error\":{problem}}}")
            }
        };
        self.send(end.into_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for name in ["0e8f3c1e-9a00-4000-8000-00000000000a", "line-3", "0E8F3C1E-9a00-4000-8000-00000000000a"] {
            assert_eq!(ShortName::new(name).to_string(), name);
        }
        assert!(matches!(ShortName::new("0e8f3c1e-9a00-4000-8000-00000000000a"), ShortName::Uuid(_)));
    }
}
