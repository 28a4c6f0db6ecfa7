//! A socket that tells what it does, and closes politely.
//!
//! A server that closes while the other side is still sending makes the kernel reset the connection, and the reset
//! may destroy the answer on its way: whoever sent too much would never read that it was too much. So what is left
//! is read away for a moment after the answer is out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Place;
use super::activity::Activity;

/// How long what is left is read away.
const LINGER: Duration = Duration::from_secs(2);
/// And how much of it.
const LINGER_BYTES: u64 = 16 << 20;

/// A socket under watch.
pub(super) struct Watched<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    /// Only gone while being dropped, together with its place.
    inner: Option<(S, Place)>,
    activity: Arc<Activity>,
    /// The other side has closed or the socket is broken: nothing is left to read away.
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, place: Place) -> Self {
        Self { inner: Some((stream, place)), activity, ended: false }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        match &mut self.inner {
            Some((stream, _)) => Ok(Pin::new(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn wrote(&mut self, result: &io::Result<usize>) {
        match result {
            Ok(_) => self.activity.wrote(),
            Err(_) => self.ended = true,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(self.stream()?.poll_read(cx, buffer));
        if result.is_err() || buffer.filled().len() == before {
            self.ended = true;
        } else {
            self.activity.read();
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(self.stream()?.poll_write(cx, bytes));
        self.wrote(&result);
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.stream()?.poll_write_vectored(cx, slices));
        self.wrote(&result);
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(|(stream, _)| stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Drop for Watched<S> {
    fn drop(&mut self) {
        let Some((mut stream, place)) = self.inner.take() else { return };
        if self.ended || self.activity.is_abandoned() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(LINGER, async move {
                // Errors here only mean that there is nothing left to wait for.
                if stream.shutdown().await.is_ok() {
                    let _ = tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES), &mut tokio::io::sink()).await;
                }
                drop((stream, place));
            }));
        }
    }
}
