//! Counters and gauges, all registered in one place.
//!
//! Labels are fixed words, never names of objects or texts from outside: the number of series must not depend on who
//! calls. Counters that every request touches are looked up once, here, and not per request.

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One label: its name and its value, both fixed words.
pub type Label = [(&'static str, &'static str); 1];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// The HTTP server's.
    pub server: ServerMetrics,
    /// The gateway's.
    pub gateway: GatewayMetrics,
}

/// What the HTTP server counts.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    /// Connections that are open.
    pub open: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed because no request arrived in time.
    pub timed_out: Counter,
}

/// What the gateway counts.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    /// Polls answered 304.
    pub polls_unchanged: Counter,
    /// Polls answered 200.
    pub polls_changed: Counter,
    /// Polls refused.
    pub polls_refused: Counter,
    /// Reports that led to a write.
    pub reports_written: Counter,
    /// Reports that said nothing new.
    pub reports_unchanged: Counter,
    /// Reports that proved nothing but that the device is alive: stale, replayed, or without applications.
    pub reports_liveness: Counter,
    /// Reports refused.
    pub reports_refused: Counter,
    /// Reports that could not be written: the device is asked to come again.
    pub reports_failed: Counter,
    /// Status writes that succeeded.
    pub writes_done: Counter,
    /// Status writes that failed.
    pub writes_failed: Counter,
    /// Presence objects written.
    pub presence_done: Counter,
    /// Presence objects that could not be written.
    pub presence_failed: Counter,
    /// Requests of enrolments, by how they ended: see [`ENROLMENT_OUTCOMES`].
    enrolments: Family<Label, Counter>,
    /// Devices in the cache.
    pub devices: Gauge,
}

/// How a request of an enrolment may end, in one word each.
pub const ENROLMENT_OUTCOMES: [&str; 15] = [
    "registered",
    "registered_again",
    "taken_over",
    "enrolled",
    "challenged",
    "rotated",
    "provisioning_key_refused",
    "device_refused",
    "taken",
    "unfit",
    "conflict",
    "malformed",
    "rate_limited",
    "unavailable",
    "not_ready",
];

impl GatewayMetrics {
    /// Counts the end of a request of an enrolment: one of [`ENROLMENT_OUTCOMES`].
    pub fn enrolment(&self, outcome: &'static str) {
        self.enrolments.get_or_create(&[("outcome", outcome)]).inc();
    }
}

impl Metrics {
    /// All of them, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tranche");
        let server = ServerMetrics::default();
        registry.register("http_connections_open", "Open HTTP connections", server.open.clone());
        registry.register("http_connections", "HTTP connections accepted", server.accepted.clone());
        registry.register(
            "http_connections_timed_out",
            "HTTP connections closed because no request arrived in time",
            server.timed_out.clone(),
        );
        let polls = outcomes(&mut registry, "gateway_polls", "Polls of devices by outcome");
        let reports = outcomes(&mut registry, "gateway_reports", "Reports of devices by outcome");
        let writes = outcomes(&mut registry, "gateway_status_writes", "Writes of a device's status by outcome");
        let presence = outcomes(&mut registry, "gateway_presence_writes", "Writes of presence objects by outcome");
        let enrolments =
            family::<Label>(&mut registry, "gateway_enrolments", "Requests of devices that enrol, by outcome");
        for outcome in ENROLMENT_OUTCOMES {
            drop(enrolments.get_or_create(&[("outcome", outcome)]));
        }
        let devices = Gauge::default();
        registry.register("gateway_devices", "Devices in the cache", devices.clone());
        let gateway = GatewayMetrics {
            polls_unchanged: polls("unchanged"),
            polls_changed: polls("changed"),
            polls_refused: polls("refused"),
            reports_written: reports("written"),
            reports_unchanged: reports("unchanged"),
            reports_liveness: reports("liveness"),
            reports_refused: reports("refused"),
            reports_failed: reports("failed"),
            writes_done: writes("done"),
            writes_failed: writes("failed"),
            presence_done: presence("done"),
            presence_failed: presence("failed"),
            enrolments,
            devices,
        };
        Self { registry: Mutex::new(registry), server, gateway }
    }

    /// For another part to register its own.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    /// All of them as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a family with the label `outcome`, and gives its counters out by value.
fn outcomes(registry: &mut Registry, name: &str, help: &str) -> impl Fn(&'static str) -> Counter + use<> {
    let family = family::<Label>(registry, name, help);
    move |outcome| family.get_or_create(&[("outcome", outcome)]).clone()
}

fn family<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
{
    let family = Family::<L, Counter>::default();
    registry.register(name, help, family.clone());
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_there_from_the_start() {
        let metrics = Metrics::new();
        metrics.gateway.polls_unchanged.inc();
        let text = metrics.encode();
        for line in [
            "tranche_gateway_polls_total{outcome=\"unchanged\"} 1",
            "tranche_gateway_polls_total{outcome=\"refused\"} 0",
            "tranche_gateway_enrolments_total{outcome=\"taken_over\"} 0",
            "tranche_gateway_devices 0",
            "tranche_http_connections_open 0",
        ] {
            assert!(text.lines().any(|candidate| candidate == line), "{line} is missing in\n{text}");
        }
    }
}
