//! What a connection is doing, and until when it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::ServerConfig;

/// What a connection is doing. Times are milliseconds since it was opened.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    in_requests: AtomicU32,
    /// Answers whose body is written as it is made.
    streams: AtomicU32,
    /// When something of these was taken last.
    taken: AtomicU64,
    /// When it began to wait for a request.
    waiting: AtomicU64,
    /// When the first byte arrived since then, plus one; 0 before.
    first_byte: AtomicU64,
    had_request: AtomicBool,
    http2: AtomicBool,
    abandoned: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            in_requests: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            taken: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            first_byte: AtomicU64::new(0),
            had_request: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Bytes arrived.
    pub(super) fn read(&self) {
        if self.first_byte.load(Ordering::Relaxed) == 0 {
            self.first_byte.store(self.millis() + 1, Ordering::Relaxed);
        }
    }

    /// Bytes of an answer were taken.
    pub(super) fn wrote(&self) {
        // Of HTTP/2 it may be housekeeping; there, a piece of the body is only asked for once there is room for it.
        if self.streams.load(Ordering::Relaxed) > 0 && !self.http2.load(Ordering::Relaxed) {
            self.taken.store(self.millis(), Ordering::Relaxed);
        }
    }

    /// A request's head is complete; until the guard is dropped, it is being answered.
    pub(super) fn enter(self: &Arc<Self>, http2: bool) -> InRequest {
        self.in_requests.fetch_add(1, Ordering::Relaxed);
        self.had_request.store(true, Ordering::Relaxed);
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        InRequest(self.clone())
    }

    /// It is given up: nothing is worth waiting for.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// When it is over unless something happens; not after `now` where it is over already.
    pub(super) fn deadline(&self, config: &ServerConfig, now: Instant) -> Instant {
        let at = |millis: u64| self.opened + Duration::from_millis(millis);
        if self.in_requests.load(Ordering::Relaxed) > 0 {
            // The request has its own timeout. Look again later.
            return now + config.header_timeout.max(Duration::from_millis(1));
        }
        if self.streams.load(Ordering::Relaxed) > 0 {
            // Whoever reads may be slow, but not stand still: a stream says something now and then.
            return at(self.taken.load(Ordering::Relaxed)) + config.idle_timeout;
        }
        let had_request = self.had_request.load(Ordering::Relaxed);
        let first_byte = self.first_byte.load(Ordering::Relaxed);
        // Between the requests of an HTTP/2 connection, bytes may be housekeeping and begin no request.
        if first_byte > 0 && !(had_request && self.http2.load(Ordering::Relaxed)) {
            return at(first_byte - 1) + config.header_timeout;
        }
        at(self.waiting.load(Ordering::Relaxed)) + if had_request { config.idle_timeout } else { config.header_timeout }
    }

    /// Begins to wait for the next request.
    fn wait(&self) {
        self.waiting.store(self.millis(), Ordering::Relaxed);
        self.first_byte.store(0, Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// A request is being answered.
pub(super) struct InRequest(Arc<Activity>);

impl InRequest {
    /// The head of its answer is there, and the body comes in pieces until the guard is dropped.
    pub(super) fn stream(&self) -> Streaming {
        let Self(activity) = self;
        activity.taken.store(activity.millis(), Ordering::Relaxed);
        activity.streams.fetch_add(1, Ordering::Relaxed);
        Streaming(activity.clone())
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.wait();
        activity.in_requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer is being written.
pub(super) struct Streaming(Arc<Activity>);

impl Streaming {
    /// A piece of it is on its way.
    pub(super) fn goes_on(&self) {
        let Self(activity) = self;
        activity.taken.store(activity.millis(), Ordering::Relaxed);
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.wait();
        activity.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ServerConfig {
        ServerConfig {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            ..ServerConfig::default()
        }
    }

    async fn left(activity: &Activity) -> u64 {
        let now = Instant::now();
        activity.deadline(&config(), now).saturating_duration_since(now).as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn four_states() {
        let activity = Arc::new(Activity::new());
        assert_eq!(left(&activity).await, 10, "silent from the start");
        tokio::time::advance(Duration::from_secs(9)).await;
        activity.read();
        assert_eq!(left(&activity).await, 10, "the head has begun");
        tokio::time::advance(Duration::from_secs(4)).await;
        activity.read();
        assert_eq!(left(&activity).await, 6, "dripping doesn't help");
        let request = activity.enter(false);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(left(&activity).await, 10, "in a request, looked at again later");
        drop(request);
        assert_eq!(left(&activity).await, 75, "idle");
        tokio::time::advance(Duration::from_secs(70)).await;
        activity.read();
        assert_eq!(left(&activity).await, 10, "the next head has begun");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(left(&activity).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_lasts_as_long_as_it_is_read() {
        let activity = Arc::new(Activity::new());
        let request = activity.enter(false);
        let stream = request.stream();
        drop(request);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(70)).await;
            assert_eq!(left(&activity).await, 5, "nothing of it was taken lately");
            activity.wrote();
            assert_eq!(left(&activity).await, 75);
        }
        tokio::time::advance(Duration::from_secs(75)).await;
        assert_eq!(left(&activity).await, 0, "nobody reads it");
        stream.goes_on();
        assert_eq!(left(&activity).await, 75, "a piece of it is on its way");
        drop(activity.enter(true));
        tokio::time::advance(Duration::from_secs(70)).await;
        activity.wrote();
        assert_eq!(left(&activity).await, 5, "housekeeping of HTTP/2 is no piece of it");
        drop(stream);
        assert_eq!(left(&activity).await, 75, "idle");
    }

    #[tokio::test(start_paused = true)]
    async fn housekeeping_of_http2_begins_no_request() {
        let activity = Arc::new(Activity::new());
        drop(activity.enter(true));
        tokio::time::advance(Duration::from_secs(60)).await;
        activity.read();
        assert_eq!(left(&activity).await, 15);
    }
}
