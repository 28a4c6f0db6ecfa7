//! What the controller counts. Labels are words of our own types, never names of objects.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One label with a word of ours.
type Label = [(&'static str, &'static str); 1];

/// Counters of the controller.
#[derive(Clone, Debug, Default)]
pub struct ControllerMetrics {
    passes: Family<Label, Counter>,
    failures: Family<Label, Counter>,
    writes: Family<Label, Counter>,
    events: Counter,
    checks: Family<Label, Counter>,
    /// Devices known.
    pub devices: Gauge,
}

impl ControllerMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let Self { passes, failures, writes, events, checks, devices } = self;
        registry.register("reconciles", "Passes that went well, by kind", passes.clone());
        registry.register("reconcile_failures", "Passes that failed, by error", failures.clone());
        registry.register("writes", "Writes to the API server, by reason", writes.clone());
        registry.register("events", "Kubernetes Events published", events.clone());
        registry.register("health_checks", "Health checks that came to a result, by what it was", checks.clone());
        registry.register("devices", "Devices known to the controller", devices.clone());
    }

    /// A pass went well.
    pub fn passed(&self, kind: &'static str) {
        self.passes.get_or_create(&[("kind", kind)]).inc();
    }

    /// A pass failed.
    pub fn failed(&self, error: &'static str) {
        self.failures.get_or_create(&[("error", error)]).inc();
    }

    /// Something was written.
    pub fn wrote(&self, reason: &'static str) {
        self.writes.get_or_create(&[("reason", reason)]).inc();
    }

    /// A health check came to a result.
    pub fn probed(&self, outcome: &'static str) {
        self.checks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// An Event was published.
    pub fn published(&self) {
        self.events.inc();
    }
}
