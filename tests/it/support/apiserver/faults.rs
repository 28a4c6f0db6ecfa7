//! What can go wrong, on request: requests that are refused, that never come through, or whose answer never does.

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Which client.
    pub actor: &'static str,
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Value,
    /// `fieldManager`
    pub manager: String,
    /// What it was answered; `None` if it wasn't.
    pub answer: Option<StatusCode>,
    /// Why not.
    pub refusal: String,
}

impl Seen {
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it is about that kind, or that subresource of it: `devices`, `devices/status`.
    pub fn is_of(&self, what: &str) -> bool {
        let (plural, subresource) = what.split_once('/').unwrap_or((what, ""));
        let parts: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        let rest = match parts.iter().position(|part| *part == "namespaces") {
            Some(at) => &parts[at + 2..],
            None => &parts[3..],
        };
        rest[0] == plural && (subresource.is_empty() || rest.get(2) == Some(&subresource))
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and that is said.
    Refuse(StatusCode),
    /// Nothing is done, and the client never hears anything again: it died before it could ask.
    DieBefore,
    /// It is done, and the client never hears anything again: it died before it could hear of it.
    DieAfter,
    /// It is done, and the answer says that it wasn't.
    LieAfter(StatusCode),
    /// The connection breaks before anything was done.
    CutBefore,
    /// It is done, and the connection breaks before the answer.
    CutAfter,
}

/// Decides over each request.
pub type Hook = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;

/// That fault for the `n`-th write (from 1) of an actor, and for nothing else.
pub fn nth_write(actor: &'static str, n: usize, fault: Fault) -> Hook {
    let mut count = 0;
    Box::new(move |seen| {
        if seen.actor == actor && seen.is_write() {
            count += 1;
            return (count == n).then_some(fault);
        }
        None
    })
}
