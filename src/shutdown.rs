//! Stopping: one request, seen by everybody who holds a handle.

use std::sync::Arc;

use tokio::sync::watch;

/// A handle on the request to stop. Clones see the same request.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
    receiver: watch::Receiver<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A request that nobody has made yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, receiver) = watch::channel(false);
        Self { sender: Arc::new(sender), receiver }
    }

    /// Makes the request.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    /// Whether the request was made.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        // An error would mean that every sender is gone, and this handle holds one.
        let _ = self.receiver.clone().wait_for(|requested| *requested).await;
    }

    /// As [`Self::requested`], for those that need an owned future.
    pub async fn wait(self) {
        self.requested().await;
    }

    /// Makes the request on SIGTERM or Ctrl-C. A second signal ends the process at once.
    ///
    /// # Errors
    /// When signal handlers can't be installed.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            for round in 0.. {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if round > 0 {
                    std::process::exit(130);
                }
                tracing::info!("stopping; once more to stop at once");
                shutdown.request();
            }
        });
        Ok(())
    }
}
