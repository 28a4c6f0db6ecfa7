//! One request and its answer, over a connection of its own. Decides nothing about health.
//!
//! HTTP/1.1 over one connection that is closed after: a check is to see that a connection can be made. hyper's client
//! rather than reqwest's, because here the address is chosen before, TLS differs by check, and what went wrong must be told
//! exactly: whether nobody answered, or somebody answered badly.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::fault;
use super::guard::{Guard, Reach};
use super::template::Host;
use super::tls::Tls;
use super::verdict::{Doubt, Failure, Outcome};

/// The largest head of an answer, and the most that is read at once.
const MAX_HEAD: usize = 64 << 10;

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a Method,
    pub(super) url: &'a Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
    pub(super) tls: &'a Tls,
    pub(super) reach: Reach<'a>,
    /// Bytes of the answer's body that are read. With 0 it isn't waited for.
    pub(super) limit: usize,
    /// When the answer must be complete.
    pub(super) deadline: Instant,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Its beginning, as far as was asked for.
    pub(super) body: Vec<u8>,
    /// There was more.
    pub(super) cut: bool,
}

/// The host of a URL, as something to connect to.
pub(super) fn host(url: &Url) -> Option<Host> {
    let host = url.host_str()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(bare.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Address))
}

/// Asks.
///
/// # Errors
/// What the lack of an answer says about the device.
pub(super) async fn ask(guard: &Guard, ask: &Ask<'_>) -> Result<Answer, Outcome> {
    let no_target = || Outcome::unknown(Doubt::NoTarget, "the URL has no host or port");
    let host = host(ask.url).ok_or_else(no_target)?;
    let port = ask.url.port_or_known_default().ok_or_else(no_target)?;
    let request = request(ask).map_err(|error| Outcome::unknown(Doubt::NoTarget, error.to_string()))?;
    let stream = guard.connect(&host, port, ask.reach, ask.deadline).await?;
    let answer = async {
        if ask.url.scheme() == "https" {
            let stream = ask.tls.handshake(stream, &host, ask.deadline).await?;
            exchange(stream, request, ask.limit).await
        } else {
            exchange(stream, request, ask.limit).await
        }
    };
    let late = |_| Outcome::failed(Failure::Timeout, "it took the connection, but did not answer in time");
    timeout_at(ask.deadline, answer).await.map_err(late)?
}

fn request(ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
    let url = ask.url;
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let mut request = Request::builder().method(ask.method).uri(path).body(Full::new(ask.body.clone()))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tranche/", env!("CARGO_PKG_VERSION"))));
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    headers.insert(HOST, HeaderValue::try_from(host)?);
    // The check's own Host, for a device that serves several names, takes the place of ours.
    for name in ask.headers.keys() {
        headers.remove(name);
    }
    for (name, value) in ask.headers {
        headers.append(name, value.clone());
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if !ask.body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(ask.body.len()));
    }
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, limit: usize) -> Result<Answer, Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let answer = async {
        let mut response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (mut body, mut cut) = (Vec::new(), false);
        while body.len() < limit {
            let Some(frame) = response.body_mut().frame().await else { break };
            let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            let room = limit - body.len();
            cut = data.len() > room;
            body.extend_from_slice(&data[..data.len().min(room)]);
        }
        let (head, rest) = response.into_parts();
        // Whether there is more after exactly as much as was asked for is not waited for.
        let cut = cut || limit > 0 && body.len() == limit && !hyper::body::Body::is_end_stream(&rest);
        Ok(Answer { status: head.status, headers: head.headers, body, cut })
    };
    // The connection is driven here and not by a task of its own: it ends with the look.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = &mut connection => if let Err(error) = ended {
            return Err(broken(&error));
        },
    }
    answer.await
}

/// An answer that didn't come to its end.
fn broken(error: &hyper::Error) -> Outcome {
    if error.is_parse() {
        return Outcome::failed(Failure::NotHttp, format!("what it answered is not HTTP: {error}"));
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source {
        Some(error) => fault::of_stream(error),
        None => Outcome::failed(Failure::Broken, format!("the connection ended before the answer did: {error}")),
    }
}
