//! What the records of devices have in common, and what outlives a single revision of a device.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::api::condition;
use crate::api::device::{DeviceStatus, ReportedService};

/// Bodies of one kind of one device at once. Agents send one after the other; the second is for one whose connection broke,
/// which it knows before we do.
pub const MAX_OF_DEVICE: u8 = 2;

/// Texts that many devices share: applications, image references, reports.
#[derive(Debug, Default)]
pub struct Interner {
    texts: Mutex<(HashSet<Arc<str>>, usize)>,
}

impl Interner {
    /// The one copy of `text`.
    #[must_use]
    pub fn intern(&self, text: &str) -> Arc<str> {
        let (texts, sweep_at) = &mut *self.texts.lock();
        if let Some(known) = texts.get(text) {
            return known.clone();
        }
        // Sweeping each time the set has doubled keeps the cost per text constant.
        if texts.len() >= *sweep_at {
            texts.retain(|text| Arc::strong_count(text) > 1);
            *sweep_at = (texts.len() * 2).max(1024);
        }
        let text: Arc<str> = text.into();
        texts.insert(text.clone());
        text
    }
}

/// A device's bodies of one kind on their way: nobody may take up the places of all the others.
#[derive(Debug, Default)]
pub struct OnTheirWay(AtomicU8);

/// One of them; it has arrived, or will not, when this is dropped.
#[derive(Debug)]
pub struct OneOfThem<'a>(&'a AtomicU8);

impl OnTheirWay {
    /// One more; `None` where there are as many as may be.
    #[must_use]
    pub fn begin(&self) -> Option<OneOfThem<'_>> {
        let more = |count: u8| (count < MAX_OF_DEVICE).then_some(count + 1);
        let begun = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        begun.ok().map(|_| OneOfThem(&self.0))
    }
}

impl Drop for OneOfThem<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What belongs to a device across all revisions of its object.
#[derive(Debug, Default)]
pub struct Shared {
    /// When it was last seen, Unix seconds; 0 before the first time.
    seen: AtomicI64,
    /// Its reports on their way.
    pub(super) reports: OnTheirWay,
    /// What it sends besides, on its way.
    pub(super) besides: OnTheirWay,
    /// The last report that this replica wrote and the watch has not shown yet.
    pub(super) own: Mutex<Option<Box<OwnWrite>>>,
}

impl Shared {
    /// When it was last seen, Unix seconds; 0 for never.
    #[must_use]
    pub fn seen(&self) -> i64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// It was seen at that time; answers with the time before.
    pub fn see(&self, at: i64) -> i64 {
        self.seen.fetch_max(at, Ordering::Relaxed)
    }

    /// The watch shows that revision: what this replica wrote up to it is no news any more.
    pub fn catch_up(&self, resource_version: Option<&str>) {
        let mut own = self.own.lock();
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        let caught_up = own.as_ref().is_some_and(|own| {
            match (number(resource_version), number(own.resource_version.as_deref())) {
                (Some(seen), Some(written)) => seen >= written,
                // Not numbers, so not comparable: the watch is the authority.
                (Some(_) | None, Some(_) | None) => true,
            }
        });
        if caught_up {
            *own = None;
        }
    }
}

/// A report that this replica wrote.
#[derive(Clone, Debug)]
pub struct OwnWrite {
    /// What it said.
    pub reported: Reported,
    /// `metadata.resourceVersion` it was written as.
    pub resource_version: Option<String>,
}

/// What the device reported last, as its status has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Its services, sorted, as JSON, without their containers' ids: whole fleets share it. Absent: it never reported.
    pub services: Option<Arc<str>>,
    /// The ids of its containers, in the order of services. Absent: none was reported.
    pub containers: Option<Arc<str>>,
    /// Its address.
    pub address: Option<Arc<str>>,
    /// Its agent's version.
    pub agent_version: Option<Arc<str>>,
    /// The target version it named.
    pub version: Option<i64>,
    /// Status, reason and transition time (Unix seconds) of condition `InSync`.
    pub in_sync: Option<(bool, Arc<str>, i64)>,
}

impl Reported {
    /// What a status says.
    #[must_use]
    pub fn of(status: DeviceStatus, interner: &Interner) -> Self {
        let in_sync = condition::find(&status.conditions, condition::IN_SYNC).map(|condition| {
            let since = condition.last_transition_time.0.as_second();
            (condition.status == "True", interner.intern(&condition.reason), since)
        });
        Self {
            containers: status.services.as_ref().and_then(|services| containers_text(services.clone())),
            services: status.services.map(|services| interner.intern(&services_text(services))),
            address: status.address.map(Into::into),
            agent_version: status.agent_version.map(|version| interner.intern(&version)),
            version: status.reported_version,
            in_sync,
        }
    }
}

/// Services in the one form in which they are compared.
#[must_use]
pub fn services_text(mut services: Vec<ReportedService>) -> String {
    sort_services(&mut services);
    for service in &mut services {
        service.container.clear();
    }
    json(&services)
}

/// The ids of containers in the one form in which they are compared.
#[must_use]
pub fn containers_text(mut services: Vec<ReportedService>) -> Option<Arc<str>> {
    sort_services(&mut services);
    let ids: Vec<&str> = services.iter().map(|service| service.container.as_str()).collect();
    ids.iter().any(|id| !id.is_empty()).then(|| ids.join(" ").into())
}

/// The order in which services are written, so that a report in another order is no change.
pub fn sort_services(services: &mut Vec<ReportedService>) {
    let key = |service: &ReportedService| {
        let ReportedService { app, id, name, image, status, container, restarts: _, health: _ } = service.clone();
        (app, id, name, image, status, container)
    };
    services.sort_by_cached_key(key);
    services.dedup();
}

/// A value as compact JSON with sorted keys.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    // Maps with text keys always serialise.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shared_and_swept() {
        let interner = Interner::default();
        let kept = interner.intern("kept");
        assert!(Arc::ptr_eq(&kept, &interner.intern("kept")));
        for n in 0..5000 {
            let _ = interner.intern(&n.to_string());
        }
        let len = interner.texts.lock().0.len();
        assert!(len <= 1024, "{len} texts that nobody uses");
        assert!(Arc::ptr_eq(&kept, &interner.intern("kept")));
    }

    #[test]
    fn a_device_has_two_bodies_on_their_way_at_most() {
        let bodies = OnTheirWay::default();
        let (first, second) = (bodies.begin(), bodies.begin());
        assert!(first.is_some() && second.is_some());
        assert!(bodies.begin().is_none());
        drop(first);
        assert!(bodies.begin().is_some());
    }
}
