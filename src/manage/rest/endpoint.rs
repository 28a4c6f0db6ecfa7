//! One table of endpoints, from which both the routes and their OpenAPI document are made: what is served is in the
//! document, with the types that the handlers really take and give.
//!
//! utoipa wants a second derive on every type, the CRDs' among them, and knows of a route what its annotation says; aide is
//! between releases. Both would be more to keep than this.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Rest;
use super::caller::Caller;
use super::door::Visitor;
use super::input::{self, Nothing, Parameters, Payload};
use super::problems::Refusal;

/// What people read about an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// `operationId`.
    pub(super) id: &'static str,
    /// Group in the document.
    pub(super) tag: &'static str,
    /// In a few words.
    pub(super) summary: &'static str,
    /// In a few sentences.
    pub(super) text: &'static str,
}

/// One request, read.
pub(super) struct Call<P, Q, B> {
    pub(super) rest: Arc<Rest>,
    pub(super) visitor: Visitor,
    pub(super) caller: Caller,
    pub(super) path: P,
    pub(super) query: Q,
    pub(super) body: B,
    /// `If-Match` and `Last-Event-ID`.
    pub(super) headers: HeaderMap,
}

/// What a handler answers with.
pub(super) trait Output {
    /// Status, content type and schema of each answer that is no problem.
    fn answers(generator: &mut SchemaGenerator) -> Vec<(u16, &'static str, Schema)>;
    /// The answer.
    fn into_response(self) -> Response;
}

/// An endpoint, for the document.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) about: About,
    pub(super) path_parameters: Parameters,
    pub(super) query: Parameters,
    pub(super) body: Option<(bool, Value)>,
    pub(super) answers: Vec<(u16, &'static str, Value)>,
    /// Takes `If-Match`.
    pub(super) conditional: bool,
}

/// The endpoints.
pub(super) struct Table {
    pub(super) router: Router<Arc<Rest>>,
    pub(super) operations: Vec<Operation>,
    pub(super) generator: SchemaGenerator,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), operations: Vec::new(), generator: input::generator(false) }
    }

    /// Adds an endpoint. `path` is below [`super::BASE`].
    pub(super) fn add<P, Q, B, T, H, F>(mut self, method: Method, path: &'static str, about: About, handler: H) -> Self
    where
        P: JsonSchema + DeserializeOwned + Send + 'static,
        Q: JsonSchema + DeserializeOwned + Send + 'static,
        B: Payload + Send + 'static,
        T: Output + 'static,
        H: Fn(Call<P, Q, B>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let query = Parameters::of::<Q>();
        self.operations.push(Operation {
            path,
            about,
            path_parameters: Parameters::of::<P>(),
            query: query.clone(),
            body: B::schema(&mut self.generator).map(|(required, schema)| (required, schema.to_value())),
            answers: T::answers(&mut self.generator)
                .into_iter()
                .map(|(status, type_, schema)| (status, type_, schema.to_value()))
                .collect(),
            conditional: method != Method::GET && path.contains('{'),
            method: method.clone(),
        });
        let query = Arc::new(query);
        let respond = move |State(rest): State<Arc<Rest>>, request: Request| {
            let (handler, query) = (handler.clone(), Arc::clone(&query));
            async move {
                match serve::<P, Q, B, T, H, F>(rest, request, &query, handler).await {
                    Ok(output) => output.into_response(),
                    Err(refusal) => refusal.into_response(),
                }
            }
        };
        // Every method here is one that axum knows.
        let filter = MethodFilter::try_from(method).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(&format!("{}{path}", super::BASE), on(filter, respond));
        self
    }
}

/// A request from the door to its answer. A slot is taken once it is read: whoever sends slowly holds up nobody.
async fn serve<P, Q, B, T, H, F>(
    rest: Arc<Rest>,
    request: Request,
    query: &Parameters,
    handler: H,
) -> Result<T, Refusal>
where
    P: DeserializeOwned + Send,
    Q: DeserializeOwned,
    B: Payload,
    H: Fn(Call<P, Q, B>) -> F,
    F: Future<Output = Result<T, Refusal>>,
{
    let visitor = rest.door.enter(&request)?;
    let answer = match call::<P, Q, B>(Arc::clone(&rest), request, visitor, query).await {
        Ok(call) => {
            let _slot = rest.slots.try_acquire().map_err(|_| Refusal::Busy)?;
            handler(call).await
        }
        Err(refusal) => Err(refusal),
    };
    rest.door.answered(visitor, &answer);
    answer
}

async fn call<P, Q, B>(
    rest: Arc<Rest>,
    request: Request,
    visitor: Visitor,
    query: &Parameters,
) -> Result<Call<P, Q, B>, Refusal>
where
    P: DeserializeOwned + Send,
    Q: DeserializeOwned,
    B: Payload,
{
    let (mut parts, body) = request.into_parts();
    let caller = Caller::of(&parts.headers, &rest.nobody, &rest.namespace)?;
    let Ok(Path(path)) = Path::<P>::from_request_parts(&mut parts, &()).await else {
        // Not UTF-8: nothing here has such a name.
        return Err(unknown(&rest.namespace));
    };
    let query = query.read(parts.uri.query().unwrap_or_default())?;
    let body = B::parse(&input::bytes(body).await?)?;
    Ok(Call { rest, visitor, caller, path, query, body, headers: parts.headers })
}

fn unknown(namespace: &str) -> Refusal {
    Refusal::NotFound { kind: "object", id: "of that name".into(), namespace: namespace.to_owned() }
}

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Reply<T> {
    body: T,
    etag: Option<String>,
}

impl<T> Reply<T> {
    /// Of that body.
    pub(super) fn new(body: T) -> Self {
        Self { body, etag: None }
    }

    /// With the revision of the one object that it is about.
    pub(super) fn of_revision(body: T, revision: Option<&str>) -> Self {
        let mut reply = Self::new(body);
        reply.set_revision(revision);
        reply
    }

    /// The revision of the object that it is about.
    pub(super) fn set_revision(&mut self, revision: Option<&str>) {
        self.etag = revision.map(|revision| format!("\"{revision}\""));
    }
}

impl<T: serde::Serialize + JsonSchema> Output for Reply<T> {
    fn answers(generator: &mut SchemaGenerator) -> Vec<(u16, &'static str, Schema)> {
        vec![(200, "application/json", generator.subschema_for::<T>())]
    }

    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.body, self.etag)
    }
}

/// A JSON answer about something that this call made, or that was there.
#[derive(Debug)]
pub(super) struct Made<T> {
    pub(super) reply: Reply<T>,
    pub(super) created: bool,
}

impl<T: serde::Serialize + JsonSchema> Output for Made<T> {
    fn answers(generator: &mut SchemaGenerator) -> Vec<(u16, &'static str, Schema)> {
        [200, 201].map(|status| (status, "application/json", generator.subschema_for::<T>())).into()
    }

    fn into_response(self) -> Response {
        let status = if self.created { StatusCode::CREATED } else { StatusCode::OK };
        json(status, &self.reply.body, self.reply.etag)
    }
}

fn json<T: serde::Serialize>(status: StatusCode, body: &T, etag: Option<String>) -> Response {
    // Types of this module: strings, numbers, lists and maps of them can't fail.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The answer is for whoever the token is of.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// An answer that comes in pieces, each of which is JSON of `T` or events of it.
pub(super) struct Streamed<T> {
    content_type: &'static str,
    body: Body,
    shape: std::marker::PhantomData<T>,
}

/// A list that is written while it is read.
pub(super) struct List<T>(pub(super) Body, pub(super) std::marker::PhantomData<T>);

impl<T: JsonSchema> Output for List<T> {
    fn answers(generator: &mut SchemaGenerator) -> Vec<(u16, &'static str, Schema)> {
        vec![(200, "application/json", generator.subschema_for::<T>())]
    }

    fn into_response(self) -> Response {
        Streamed::<T> { content_type: "application/json", body: self.0, shape: self.1 }.respond()
    }
}

/// Server-sent events.
pub(super) struct Events(pub(super) Body);

impl Output for Events {
    fn answers(generator: &mut SchemaGenerator) -> Vec<(u16, &'static str, Schema)> {
        vec![(200, "text/event-stream", generator.subschema_for::<String>())]
    }

    fn into_response(self) -> Response {
        Streamed::<Nothing> { content_type: "text/event-stream", body: self.0, shape: std::marker::PhantomData }
            .respond()
    }
}

impl<T> Streamed<T> {
    fn respond(self) -> Response {
        let mut response = Response::new(self.body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        response
    }
}
