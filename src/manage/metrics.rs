//! What is counted at the webhook. Labels come from closed sets of words, never from what a stranger sent.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It made a rollout.
    Created,
    /// Its rollout was there already.
    Existing,
    /// Authentic, and nothing to do.
    Ignored,
    /// The door is shut, or open and not for browsers.
    Shut,
    /// Not authentic.
    Unauthentic,
    /// More than the body limit.
    TooLarge,
    /// The body didn't come in time, or not whole.
    Incomplete,
    /// Too many at once.
    Throttled,
    /// Too many in a time, of one source or by one URL.
    RateLimited,
    /// Authentic, and not as any dialect has it.
    NotUnderstood,
    /// The API server or the policies were out of reach.
    Unavailable,
}

impl Outcome {
    /// One word, stable.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Existing => "existing",
            Self::Ignored => "ignored",
            Self::Shut => "shut",
            Self::Unauthentic => "unauthentic",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::Throttled => "throttled",
            Self::RateLimited => "rate_limited",
            Self::NotUnderstood => "not_understood",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Delivery {
    /// Name of the dialect, or `unknown`.
    dialect: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ignored {
    reason: &'static str,
}

/// Counters of the webhook. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    deliveries: Family<Delivery, Counter>,
    ignored: Family<Ignored, Counter>,
    duration: Histogram,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            deliveries: Family::default(),
            ignored: Family::default(),
            // 1 ms to 8 s: the promise is 50 ms, the limit 10 s.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
        }
    }
}

impl WebhookMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_deliveries",
            "Deliveries of registries, by dialect and outcome",
            self.deliveries.clone(),
        );
        registry.register(
            "webhook_ignored",
            "Authentic pushes that made no rollout, by reason; one for each policy that had a word",
            self.ignored.clone(),
        );
        registry.register(
            "webhook_duration_seconds",
            "Time from the head of a delivery to its answer",
            self.duration.clone(),
        );
    }

    /// Counts a delivery's end.
    pub fn delivery(&self, dialect: Option<&'static str>, outcome: Outcome, took: std::time::Duration) {
        let labels = Delivery { dialect: dialect.unwrap_or("unknown"), outcome: outcome.label() };
        self.deliveries.get_or_create(&labels).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a reason for making nothing.
    pub fn ignored(&self, reason: &'static str) {
        self.ignored.get_or_create(&Ignored { reason }).inc();
    }
}
