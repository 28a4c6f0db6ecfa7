//! The management REST API, `/api/v1`, for whoever does not live in kubectl: rollouts, policies and devices, in the names and
//! statuses of the predecessor's documents, beside ours.
//!
//! It has no power of its own. Every request is made on the API server with the caller's own token and nothing else, so RBAC
//! decides and the audit log names the person. What a person may see is the API server's to say, each time: what is kept of
//! rollouts (`index`) counts only for whoever has just been told that it is there, and that it is the present.
//! Long lists are read in pages and written as they come.

mod bounds;
mod caller;
mod devices;
mod door;
mod endpoint;
mod flat;
mod hold;
mod index;
mod input;
mod list;
mod openapi;
mod page;
mod policies;
mod problems;
mod rollouts;
mod row;
mod standing;
mod start;
mod stream;
mod verb;
mod wanted;
mod watch;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header;
use kube::Client;
use tokio::sync::Semaphore;

use self::door::{Door, Places};
use self::endpoint::Table;
use crate::clock::Clock;
use crate::server::source::TrustedProxies;
use crate::shutdown::Shutdown;

/// Where everything is.
const BASE: &str = "/api/v1";
/// Where the document is. No token is needed for it.
pub const OPENAPI_PATH: &str = "/api/v1/openapi.json";

/// Requests at once. Each holds up to a page of objects (some megabytes) and one of the API server's own seats.
const MAX_REQUESTS: usize = 32;
/// People who follow a rollout at once, and of these one caller. Each costs a watch of the API server.
const MAX_FOLLOWERS: (usize, usize) = (256, 32);
/// Lists that are written as they are read, at once, and of these one caller's. Each holds a page of devices, and when all were
/// seen last: some 20 MB of a hundred thousand.
const MAX_LISTS: (usize, usize) = (8, 2);

/// What all requests share.
pub struct Rest {
    /// A client without credentials.
    nobody: Client,
    namespace: String,
    clock: Clock,
    shutdown: Shutdown,
    slots: Arc<Semaphore>,
    door: Door,
    followers: Arc<Places>,
    lists: Arc<Places>,
    kept: index::Kept,
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Rest {
    /// For one namespace, with the proxies whose word about addresses counts. `nobody` must bring no credentials (see [`crate::kubeclient::connect_as_nobody`]): each request
    /// brings those of its caller.
    #[must_use]
    pub fn new(
        nobody: Client,
        namespace: &str,
        clock: Clock,
        proxies: TrustedProxies,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self {
            nobody,
            namespace: namespace.to_owned(),
            clock,
            shutdown,
            slots: Arc::new(Semaphore::new(MAX_REQUESTS)),
            door: Door::new(proxies),
            followers: Places::new(MAX_FOLLOWERS.0, MAX_FOLLOWERS.1),
            lists: Places::new(MAX_LISTS.0, MAX_LISTS.1),
            kept: index::Kept::default(),
        })
    }
}

/// Every endpoint.
fn table() -> Table {
    let table = Table::new();
    let table = rollouts::endpoints(table);
    let table = verb::endpoints(table);
    let table = start::endpoints(table);
    let table = policies::endpoints(table);
    devices::endpoints(table)
}

/// The routes of the REST API.
pub fn router(rest: Arc<Rest>) -> Router {
    let mut table = table();
    let router = std::mem::take(&mut table.router);
    let document = openapi::document(table).to_string();
    router.route(OPENAPI_PATH, get(move || std::future::ready(json(document.clone())))).with_state(rest)
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests;
