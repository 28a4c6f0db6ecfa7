//! Every rollout in a line, and the rollouts behind a few of these lines.
//!
//! A list is filtered, put in order and counted by what kubectl's table says of each rollout, which costs the API server
//! a small part of what the objects cost. Then only those that are shown are read. Rollouts seldom change, so what was read of
//! one is kept, with its resourceVersion: the table says which one is the present, and what is kept of another counts for
//! nothing. The table is asked for anew in each request and with the caller's token, so nobody sees what they may
//! not list, and nobody sees what was.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};

use super::caller::Caller;
use super::page::{self, Pages};
use super::problems::Refusal;
use super::row::Seen;
use super::words::{self, RolloutStatus};
use crate::api::rollout::Phase;
use crate::api::{ImageRef, ImageRollout, table};
use crate::registry::familiar;

/// What is needed of the table.
///
/// Each column of a kind costs the API server in each row of each table, whether it is wanted or not; so what another way leads
/// to has none.
const COLUMNS: [&str; 6] = [table::NAME, "Revision", "Created", "Image", "Phase", "Batch"];
/// Rollouts that are kept: some 2 KB each.
const KEPT: usize = 4096;
/// Single rollouts that are read at once.
const AT_ONCE: usize = 8;
/// Beyond so many that are wanted and not kept, all are read: one answer is cheaper then.
const ONE_BY_ONE: usize = 100;

/// A rollout in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    revision: String,
    created: Timestamp,
    /// `None` until the controller has looked at it.
    repository: Option<String>,
    phase: Phase,
    /// A batch is open.
    begun: bool,
}

impl Entry {
    /// From the cells of [`COLUMNS`]. `None` if they are not what our kind says.
    fn read(cells: table::Cells<{ COLUMNS.len() }>) -> Option<Self> {
        let [name, revision, created, image, phase, batch] = cells;
        Some(Self {
            name: name?,
            revision: revision?,
            created: created?.parse().ok()?,
            repository: image.and_then(|image| image.parse::<ImageRef>().ok()).map(|image| image.repository),
            phase: match phase {
                None => Phase::default(),
                Some(phase) => Phase::deserialize(word(&phase)).ok()?,
            },
            begun: batch.as_deref().and_then(|batch| batch.split('/').next()).is_some_and(|open| open != "0"),
        })
    }

    fn of(seen: &Seen) -> Self {
        Self {
            name: seen.metadata.name.clone(),
            revision: seen.metadata.resource_version.clone(),
            created: seen.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0),
            repository: Some(seen.spec.image.repository.clone()),
            phase: seen.status.phase,
            begun: seen.status.current_batch > 0,
        }
    }

    /// Whether it still moves devices, or will.
    pub(super) fn is_active(&self) -> bool {
        !self.phase.is_terminal()
    }

    /// The predecessor's word.
    pub(super) fn word(&self) -> RolloutStatus {
        words::rollout(self.phase, self.begun)
    }

    /// Whether the image's name has that in it, as people write it or in full.
    fn has_in_name(&self, text: &str) -> bool {
        let has = |repository: &String| familiar(repository).contains(text) || repository.contains(text);
        self.repository.as_ref().is_some_and(has)
    }

    /// The order of lists: newest first, and among those of one second by name.
    pub(super) fn key(&self) -> (Reverse<Timestamp>, String) {
        (Reverse(self.created), self.name.clone())
    }

    /// Its place in lists, as text that sorts like [`Self::key`].
    pub(super) fn place(&self) -> String {
        format!("{:020}|{}", i64::MAX.saturating_sub(self.created.as_second()), self.name)
    }
}

fn word(text: &str) -> StrDeserializer<'_, Error> {
    text.into_deserializer()
}

/// Which rollouts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    All,
    /// Of one policy.
    Of(&'a str),
    /// Of every other policy.
    NotOf(&'a str),
}

impl Whose<'_> {
    fn selector(self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Of(policy) => Some(format!("spec.policyRef.name={policy}")),
            Self::NotOf(policy) => Some(format!("spec.policyRef.name!={policy}")),
        }
    }
}

/// What was read of rollouts, by name.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<HashMap<String, Arc<Seen>>>);

impl Kept {
    /// Every rollout that the caller may list.
    pub(super) async fn index(&self, caller: &Caller, whose: Whose<'_>) -> Result<Vec<Entry>, Refusal> {
        let selector = whose.selector();
        let selectors: Vec<(&str, &str)> =
            selector.iter().map(|selector| ("fieldSelector", selector.as_str())).collect();
        if let Some(cells) = page::columns::<ImageRollout, { COLUMNS.len() }>(caller, &selectors, COLUMNS).await? {
            return Ok(cells.into_iter().filter_map(readable).collect());
        }
        let all = Pages::<Seen>::of::<ImageRollout>(caller, &selectors).all().await?;
        Ok(all.into_iter().map(|seen| Entry::of(&self.keep(seen))).collect())
    }

    /// The rollouts behind some lines, in their order; without those that are gone meanwhile.
    pub(super) async fn read(&self, caller: &Caller, entries: &[Entry]) -> Result<Vec<Arc<Seen>>, Refusal> {
        let mut known = self.known(entries);
        let names = entries.iter().map(|entry| &entry.name);
        let missing: Vec<String> = names.filter(|name| !known.contains_key(*name)).cloned().collect();
        let read = if missing.len() > ONE_BY_ONE {
            self.all(caller).await?
        } else {
            match self.one_by_one(caller, missing).await {
                // Some may list and not get.
                Err(refusal) if refusal.is_forbidden() => self.all(caller).await?,
                other => other?,
            }
        };
        known.extend(read.into_iter().map(|seen| (seen.metadata.name.clone(), seen)));
        Ok(entries.iter().filter_map(|entry| known.remove(&entry.name)).collect())
    }

    /// Keeps those whose image's name has that in it.
    pub(super) async fn retain_named(
        &self,
        caller: &Caller,
        entries: &mut Vec<Entry>,
        text: &str,
    ) -> Result<(), Refusal> {
        let new: Vec<Entry> = entries.iter().filter(|entry| entry.repository.is_none()).cloned().collect();
        let read = self.read(caller, &new).await?;
        let named: HashMap<&str, &Seen> = read.iter().map(|seen| (seen.metadata.name.as_str(), &**seen)).collect();
        entries.retain_mut(|entry| {
            if let Some(seen) = named.get(entry.name.as_str()) {
                entry.repository = Some(seen.spec.image.repository.clone());
            }
            entry.has_in_name(text)
        });
        Ok(())
    }

    async fn one_by_one(&self, caller: &Caller, names: Vec<String>) -> Result<Vec<Arc<Seen>>, Refusal> {
        let api = caller.api::<ImageRollout>();
        let reads = names.into_iter().map(|name| {
            let api = api.clone();
            async move { api.get_opt(&name).await.map_err(Refusal::from) }
        });
        let read: Vec<Option<ImageRollout>> = stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(read.iter().flatten().filter_map(Seen::of).map(|seen| self.keep(seen)).collect())
    }

    async fn all(&self, caller: &Caller) -> Result<Vec<Arc<Seen>>, Refusal> {
        let all = Pages::<Seen>::of::<ImageRollout>(caller, &[]).all().await?;
        Ok(all.into_iter().map(|seen| self.keep(seen)).collect())
    }

    fn keep(&self, seen: Seen) -> Arc<Seen> {
        let seen = Arc::new(seen);
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            // Mostly rollouts that are long gone; the others come back with the next list.
            kept.clear();
        }
        kept.insert(seen.metadata.name.clone(), Arc::clone(&seen));
        seen
    }

    /// What is kept of these, as they are now.
    fn known(&self, entries: &[Entry]) -> HashMap<String, Arc<Seen>> {
        let kept = self.0.lock();
        let present = |entry: &Entry| {
            let seen = kept.get(&entry.name).filter(|seen| seen.metadata.resource_version == entry.revision)?;
            Some((entry.name.clone(), Arc::clone(seen)))
        };
        entries.iter().filter_map(present).collect()
    }
}

fn readable(cells: table::Cells<{ COLUMNS.len() }>) -> Option<Entry> {
    let name = cells[0].clone().unwrap_or_default();
    let entry = Entry::read(cells);
    if entry.is_none() {
        tracing::debug!(name, "a rollout is left out of an answer of the REST API: it can't be read");
    }
    entry
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(phase: Option<&str>, batch: Option<&str>) -> table::Cells<{ COLUMNS.len() }> {
        let [name, revision, created] = ["app-1", "7", "2026-01-02T03:04:05Z"].map(|text| Some(text.to_owned()));
        let image = phase.map(|_| "docker.io/acme/app:v1".to_owned());
        [name, revision, created, image, phase.map(str::to_owned), batch.map(str::to_owned)]
    }

    fn seen(revision: &str) -> Seen {
        serde_json::from_value(json!({
            "metadata": {"name": "app-1", "uid": "u", "resourceVersion": revision, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"policyRef": {"name": "app"}, "image": {"repository": "docker.io/acme/app", "tag": "v1"}},
            "status": {"phase": "Soaking", "currentBatch": 1},
        }))
        .unwrap()
    }

    #[test]
    fn a_line_says_what_the_rollout_says() {
        let entry = Entry::read(cells(Some("Soaking"), Some("1/3"))).unwrap();
        assert_eq!(entry, Entry::of(&seen("7")));
        assert!(entry.is_active() && entry.has_in_name("acme/app") && entry.has_in_name("docker.io/acme"));
        assert_eq!(entry.word(), RolloutStatus::InProgress);
        let entry = |phase, batch| Entry::read(cells(phase, batch));
        assert_eq!(entry(Some("AwaitingApproval"), Some("0/3")).unwrap().word(), RolloutStatus::Pending);
        assert_eq!(entry(Some("AwaitingApproval"), Some("1/3")).unwrap().word(), RolloutStatus::InProgress);
        let new = entry(None, None).unwrap();
        assert_eq!(new.word(), RolloutStatus::Pending, "nobody has looked at it yet");
        assert!(!new.has_in_name("acme"));
        assert!(!entry(Some("Completed"), Some("3/3")).unwrap().is_active());
        assert_eq!(entry(Some("Levitating"), None), None, "a phase of a newer version");
    }

    #[test]
    fn places_sort_as_lists_do() {
        let mut newer = Entry::of(&seen("7"));
        newer.created += jiff::SignedDuration::from_secs(1);
        let mut namesake = Entry::of(&seen("7"));
        namesake.name = "app-2".into();
        let sorted = [newer, Entry::of(&seen("7")), namesake];
        assert!(sorted.is_sorted_by_key(Entry::key) && sorted.is_sorted_by_key(Entry::place));
    }

    #[test]
    fn only_the_present_counts() {
        let kept = Kept::default();
        kept.keep(seen("7"));
        assert_eq!(kept.known(&[Entry::of(&seen("7"))]).len(), 1);
        assert!(kept.known(&[Entry::of(&seen("8"))]).is_empty());
        for number in 0..KEPT {
            let mut other = seen("7");
            other.metadata.name = format!("other-{number}");
            kept.keep(other);
        }
        assert!(kept.0.lock().len() <= KEPT);
    }
}
