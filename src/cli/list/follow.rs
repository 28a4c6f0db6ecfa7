//! A list that is followed, as lines: one for each change, in the form of the list.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher as _};

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::value::RawValue;

use super::told::{News, Told};
use super::{ListArgs, Row, Sink};
use crate::cli::cluster::{Cluster, Kind, request};
use crate::cli::fault::singular;
use crate::cli::output::{Output, print};

/// What happens to the objects of a list.
pub(super) fn events<R: Row>(
    cluster: &Cluster,
    args: &ListArgs,
) -> impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + use<R> {
    let resource = ApiResource::erase::<R::Kind>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let mut config = watcher::Config::default();
    config.label_selector.clone_from(&args.selector);
    config.field_selector = R::FIELDS.map(Into::into);
    watcher(api, config).default_backoff()
}

/// What makes two words on an object the same: for people what they see, ages apart; for programs all of it.
pub(super) fn state<R: Row>(output: Output, raw: &RawValue, row: &R) -> u64 {
    #[derive(serde::Deserialize)]
    struct Revised {
        metadata: kube::api::ObjectMeta,
    }
    let mut hasher = DefaultHasher::new();
    match output {
        Output::Table | Output::Wide => row.cells(Timestamp::UNIX_EPOCH).hash(&mut hasher),
        Output::Json | Output::Yaml | Output::Name => {
            let revised: Option<Revised> = serde_json::from_str(raw.get()).ok();
            revised.and_then(|revised| revised.metadata.resource_version).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// A line for each change; forms for programs get one object after the other.
pub(super) async fn follow<R: Row>(
    cluster: &Cluster,
    args: &ListArgs,
    sink: &mut Sink<R>,
    keep: impl Fn(&R) -> bool,
) -> anyhow::Result<()> {
    let mut events = std::pin::pin!(events::<R>(cluster, args));
    let mut told = std::mem::take(&mut sink.told);
    let mut broken = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            signal = tokio::signal::ctrl_c() => { signal?; return Ok(()) }
        };
        match event {
            None => return Ok(()),
            Some(Err(error)) => lost::<R::Kind>(&error, cluster, &mut broken)?,
            Some(Ok(event)) => {
                broken = false;
                happened(event, args.output, &mut told, sink, &keep)?;
            }
        }
    }
}

fn happened<R: Row>(
    event: watcher::Event<DynamicObject>,
    output: Output,
    told: &mut Told,
    sink: &mut Sink<R>,
    keep: &impl Fn(&R) -> bool,
) -> anyhow::Result<()> {
    let (object, listed) = match event {
        watcher::Event::Init => {
            told.begin();
            return Ok(());
        }
        watcher::Event::InitDone => {
            return told.end().iter().try_for_each(|name| gone::<R::Kind>(name, output));
        }
        watcher::Event::Delete(object) => {
            let Some(name) = object.metadata.name.clone() else { return Ok(()) };
            if told.gone(&name) != Some(News::Gone) {
                return Ok(());
            }
            let raw = serde_json::value::to_raw_value(&object)?;
            // Programs get it as it was, as kubectl does.
            if let (Output::Json | Output::Yaml | Output::Name, Ok(row)) = (output, serde_json::from_str(raw.get())) {
                sink.page(&[(&raw, row)])?;
            }
            return gone::<R::Kind>(&name, output);
        }
        watcher::Event::InitApply(object) => (object, true),
        watcher::Event::Apply(object) => (object, false),
    };
    let Some(name) = object.metadata.name.clone() else { return Ok(()) };
    let raw = serde_json::value::to_raw_value(&object)?;
    let Ok(row) = serde_json::from_str::<R>(raw.get()) else { return Ok(()) };
    let (state, fits) = (state(output, &raw, &row), keep(&row));
    let news = if listed { told.listed(&name, &state, fits) } else { told.is_now(&name, &state, fits) };
    match news {
        Some(News::Changed | News::Left | News::Gone) => sink.page(&[(&raw, row)]),
        None => Ok(()),
    }
}

/// Says that an object is deleted, which no form for programs has room for.
fn gone<K: Kind>(name: &str, output: Output) -> anyhow::Result<()> {
    let text = format!("{} {name} is deleted", singular(&K::plural(&())));
    match output {
        Output::Table | Output::Wide => print(&(text + "\n")),
        Output::Json | Output::Yaml | Output::Name => {
            eprintln!("tranche: {text}");
            Ok(())
        }
    }
}

/// Says that a watch is broken, once; goes on unless it can't get any better.
///
/// # Errors
/// When the API server refuses it.
pub fn lost<K: Kind>(error: &watcher::Error, cluster: &Cluster, broken: &mut bool) -> anyhow::Result<()> {
    if let watcher::Error::InitialListFailed(inner) | watcher::Error::WatchStartFailed(inner) = error
        && let kube::Error::Api(status) = inner
        && (status.is_forbidden() || status.is_not_found() || status.code == 401)
    {
        return Err(request::<K>("watch", None, &cluster.namespace).refused(inner).into());
    }
    if !*broken {
        eprintln!("tranche: the connection to the cluster is lost, trying again: {error}");
    }
    *broken = true;
    Ok(())
}
