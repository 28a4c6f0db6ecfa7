//! The API server's own count of calls: what was really asked of it, by whom.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicU32, Ordering};

use kube::Client;
use serde_json::Value;

use super::controlplane::ControlPlane;
use super::wait::until;

/// A place in the record. Calls that were answered before it was taken lie before it.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub user: String,
    pub verb: String,
    /// With subresource: `devices/status`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub code: u64,
}

impl Call {
    /// Whether it asked for a change.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

impl ControlPlane {
    /// Marks now. The mark is a call itself: once the record has it, it has what came before it.
    pub async fn mark(&self, client: &Client) -> Mark {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("mark-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let from = std::fs::metadata(self.audit_log()).map_or(0, |meta| meta.len());
        let request = http::Request::get(format!("/api/v1/namespaces/default/configmaps/{name}")).body(Vec::new());
        // There is none of that name, and it isn't about the answer.
        let _ = client.request_text(request.expect("a request")).await;
        until("the API server's record to reach a mark", async || {
            let text = self.record(from);
            let at = text.find(&name).ok_or("not there yet")?;
            let end = text[at..].find('\n').ok_or("half a line")?;
            Ok(Mark(from + (at + end + 1) as u64))
        })
        .await
    }

    /// The calls between two marks.
    pub fn calls(&self, from: Mark, to: Mark) -> Vec<Call> {
        let text = self.record(from.0);
        let length = usize::try_from(to.0 - from.0).expect("marks in order");
        text[..length].lines().map(|line| call(&serde_json::from_str(line).expect("JSON"))).collect()
    }

    fn record(&self, from: u64) -> String {
        let mut file = std::fs::File::open(self.audit_log()).expect("the record of calls");
        file.seek(SeekFrom::Start(from)).expect("its end moves only forward");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("readable");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn call(line: &Value) -> Call {
    let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let subresource = text("/objectRef/subresource");
    let separator = if subresource.is_empty() { "" } else { "/" };
    Call {
        user: text("/user/username"),
        verb: text("/verb"),
        resource: format!("{}{separator}{subresource}", text("/objectRef/resource")),
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        code: line.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
    }
}
