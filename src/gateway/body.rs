//! Takes in the body of a request within bounds: of size, before and after inflating, and of time.

use std::io::Read as _;
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::problem::Problem;

/// A body must have arrived by then; agents give up after 30 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a compressed body, at most.
    pub compressed: usize,
    /// Bytes of a body as read, at most: plain, or after inflating.
    pub plain: usize,
    /// What it is, in one word.
    pub what: &'static str,
    /// Slug and title of the problem where it is malformed.
    pub malformed: (&'static str, &'static str),
    /// What is said of one that is too large.
    pub says: &'static str,
}

/// Why a body is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// More than its bounds.
    TooLarge,
    /// Encoded in a way that isn't known.
    Coding,
    /// Not the gzip that it says it is.
    NotGzip,
    /// It ended before its end.
    BrokeOff,
    /// It takes too long.
    Slow,
}

/// Reads a body, and inflates it where it says that it is compressed. It takes a place among those that are in memory,
/// which is given back with the permit.
///
/// # Errors
/// When it doesn't keep to its bounds.
pub async fn read<'a>(
    places: &'a Semaphore,
    request: Request,
    bounds: &Bounds,
) -> Result<(Option<SemaphorePermit<'a>>, Bytes), BodyError> {
    let read = async {
        // Never closed.
        let place = places.acquire().await.ok();
        Ok((place, take_in(request, bounds).await?))
    };
    timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(BodyError::Slow))
}

/// The same for who has a place already, and has to send its body within that time.
///
/// # Errors
/// When it doesn't keep to its bounds.
pub async fn arrive(request: Request, bounds: &Bounds, time: Duration) -> Result<Bytes, BodyError> {
    timeout(time, take_in(request, bounds)).await.unwrap_or(Err(BodyError::Slow))
}

async fn take_in(request: Request, bounds: &Bounds) -> Result<Bytes, BodyError> {
    let gzip = is_gzip(request.headers())?;
    let limit = if gzip { bounds.compressed } else { bounds.plain };
    let body = request.into_body();
    let announced = axum::body::HttpBody::size_hint(&body).lower();
    if announced > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let bytes = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => return Err(BodyError::TooLarge),
        Err(_) => return Err(BodyError::BrokeOff),
    };
    if gzip { inflate(&bytes, bounds.plain) } else { Ok(bytes) }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, BodyError> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes().trim_ascii()) {
        None | Some(b"") => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(b"identity") => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => Ok(true),
        Some(_) => Err(BodyError::Coding),
    }
}

fn inflate(compressed: &[u8], limit: usize) -> Result<Bytes, BodyError> {
    let mut body = Vec::new();
    match flate2::read::GzDecoder::new(compressed).take(limit as u64 + 1).read_to_end(&mut body) {
        Ok(_) if body.len() > limit => Err(BodyError::TooLarge),
        Ok(_) => Ok(body.into()),
        Err(_) => Err(BodyError::NotGzip),
    }
}

impl BodyError {
    /// The answer.
    #[must_use]
    pub fn problem(self, bounds: &Bounds) -> Problem {
        let Bounds { what, says, malformed: (slug, title), compressed: _, plain: _ } = bounds;
        let malformed = |why: &str| Problem::new(StatusCode::BAD_REQUEST, slug, title, why);
        match self {
            Self::TooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Payload too large", *says),
            Self::Coding => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content-encoding",
                "Unsupported content encoding",
                format!("send the {what} plain or with Content-Encoding: gzip"),
            ),
            Self::NotGzip => malformed("the body says that it is gzip, and is not"),
            Self::BrokeOff => malformed("the body broke off"),
            Self::Slow => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-timeout",
                "Request timeout",
                format!("the {what} did not arrive in time"),
            ),
        }
    }
}
