//! Takes in the body of a request within bounds: of size, before and after inflating, of time, and of how many there are at
//! once, of one device and of all.

use std::io::{self, Read as _, Write};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::shared::MAX_OF_DEVICE;
use crate::problem::Problem;

/// A body must have arrived by then; agents give up after 30 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// `Retry-After`, seconds, for a device that has more on their way than it may.
const RETRY_AFTER: u64 = 15;

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
    /// As many of the same device are on their way already as may be.
    TooMany,
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

/// Reads a body away as it comes and keeps nothing of it, in one of those places; answers with how many lines it had that
/// are not blank.
///
/// # Errors
/// When it doesn't keep to its bounds.
pub async fn count_lines(places: &Semaphore, request: Request, bounds: &Bounds) -> Result<usize, BodyError> {
    let read = async {
        // Never closed.
        let _place = places.acquire().await;
        let (gzip, mut body) = limited(request, bounds)?;
        let mut lines = Lines { left: bounds.plain, ..Lines::default() };
        if gzip {
            let mut inflater = flate2::write::MultiGzDecoder::new(lines);
            while let Some(chunk) = next(&mut body).await? {
                inflater.write_all(&chunk).map_err(|_| inflater.get_ref().why())?;
            }
            // What it holds back until now may be too much as well.
            inflater.try_finish().map_err(|_| inflater.get_ref().why())?;
            lines = inflater.finish().map_err(|_| BodyError::NotGzip)?;
        } else {
            while let Some(chunk) = next(&mut body).await? {
                lines.write_all(&chunk).map_err(|_| BodyError::TooLarge)?;
            }
        }
        Ok(lines.count + usize::from(lines.in_line))
    };
    timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(BodyError::Slow))
}

/// Counts lines that are not blank, and takes in no more than it may.
#[derive(Debug, Default)]
struct Lines {
    /// Bytes that may come yet.
    left: usize,
    /// More came.
    too_large: bool,
    count: usize,
    /// The line that is being read is not blank so far.
    in_line: bool,
}

impl Lines {
    /// Why what was inflated was not taken.
    fn why(&self) -> BodyError {
        if self.too_large { BodyError::TooLarge } else { BodyError::NotGzip }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.too_large = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        for byte in bytes {
            if *byte == b'\n' {
                self.count += usize::from(self.in_line);
                self.in_line = false;
            } else {
                self.in_line |= !byte.is_ascii_whitespace();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn take_in(request: Request, bounds: &Bounds) -> Result<Bytes, BodyError> {
    let (gzip, body) = limited(request, bounds)?;
    let bytes = body.collect().await.map_err(|error| broken(&*error))?.to_bytes();
    if gzip { inflate(&bytes, bounds.plain) } else { Ok(bytes) }
}

/// Whether a body is compressed, and the body, which ends where it has more than it may.
fn limited(request: Request, bounds: &Bounds) -> Result<(bool, Limited<Body>), BodyError> {
    let gzip = is_gzip(request.headers())?;
    let limit = if gzip { bounds.compressed } else { bounds.plain };
    let body = request.into_body();
    if axum::body::HttpBody::size_hint(&body).lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    Ok((gzip, Limited::new(body, limit)))
}

/// The next piece of a body.
async fn next(body: &mut Limited<Body>) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| broken(&*error))?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn broken(error: &(dyn std::error::Error + Send + Sync + 'static)) -> BodyError {
    if error.downcast_ref::<LengthLimitError>().is_some() { BodyError::TooLarge } else { BodyError::BrokeOff }
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
            Self::TooMany => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-bodies",
                "Too many at once",
                format!("send one {what} after the other: {MAX_OF_DEVICE} of this device's are on their way already"),
            )
            .retry_after(RETRY_AFTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { compressed: 100, plain: 1000, what: "batch", malformed: ("malformed", "Malformed"), says: "large" };

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).expect("compressed");
        encoder.finish().expect("compressed")
    }

    /// A body that comes in pieces of that size.
    async fn count(bytes: &[u8], is_gzip: bool, size: usize) -> Result<usize, BodyError> {
        let pieces: Vec<Result<Vec<u8>, io::Error>> = bytes.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
        let mut request = Request::new(Body::from_stream(stream::iter(pieces)));
        if is_gzip {
            request.headers_mut().insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
        }
        count_lines(&Semaphore::new(1), request, &BOUNDS).await
    }

    #[tokio::test]
    async fn lines_are_counted_as_they_come() {
        for (text, lines) in
            [("", 0), ("\n", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), (" \n\r\n{}\r\n\n a \n", 2), ("\n\na", 1)]
        {
            for size in [1, 3, 1000] {
                assert_eq!(count(text.as_bytes(), false, size).await, Ok(lines), "{text:?} by {size}");
                assert_eq!(count(&gzip(text.as_bytes()), true, size).await, Ok(lines), "{text:?} by {size}, gzip");
                // A gzip file may be several, one after the other.
                let twice = [gzip(text.as_bytes()), gzip(b"\n")].concat();
                assert_eq!(count(&twice, true, size).await, Ok(lines), "{text:?} by {size}, gzip in two");
            }
        }
    }

    #[tokio::test]
    async fn what_is_read_away_has_bounds_too() {
        let (fits, bomb) = (vec![b'a'; 1000], vec![b'a'; 20_000]);
        assert!(gzip(&bomb).len() <= BOUNDS.compressed, "or this tests nothing");
        for size in [7, 100_000] {
            assert_eq!(count(&fits, false, size).await, Ok(1));
            assert_eq!(count(&gzip(&fits), true, size).await, Ok(1));
            assert_eq!(count(&bomb, false, size).await, Err(BodyError::TooLarge));
            assert_eq!(count(&gzip(&bomb), true, size).await, Err(BodyError::TooLarge));
            assert_eq!(count(b"not gzip", true, size).await, Err(BodyError::NotGzip));
            assert_eq!(count(&gzip(&fits)[..20], true, size).await, Err(BodyError::NotGzip), "cut off");
        }
    }
}
