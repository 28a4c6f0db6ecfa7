//! Lists of objects of any kind: filtered, in pages, in every form, and followed.

mod follow;
mod live;
mod told;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use kube::Resource as _;
use kube::api::ListParams;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

pub use self::follow::lost;
use self::told::Told;
use super::cluster::{Cluster, ClusterArgs, Kind, complaint, without_managers};
use super::output::{Cell, Column, Output, Style, Table, indented, json, print};
use crate::api::table;

/// How lists are told.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only objects with these labels, as kubectl takes them
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<usize>,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Without the head of the table
    #[arg(long)]
    pub no_headers: bool,
    /// Go on, with a line for each change, until Ctrl-C; rollouts on a terminal as a live table with a bar for each batch
    #[arg(short, long)]
    pub watch: bool,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What is read of an object to show a row of it.
pub trait Row: DeserializeOwned {
    /// Its kind.
    type Kind: Kind;
    /// Which objects of the kind, as the API server selects by fields; all if `None`.
    const FIELDS: Option<&'static str> = None;
    /// The columns.
    const COLUMNS: &'static [Column];
    /// One cell a column.
    fn cells(&self, now: Timestamp) -> Vec<Cell>;
    /// The columns on a terminal that is redrawn; none if the kind has no such form.
    const LIVE: &'static [Column] = &[];
    /// One cell a column of these.
    fn live_cells(&self, now: Timestamp) -> Vec<Cell> {
        self.cells(now)
    }
}

/// Lists the objects that `keep` keeps.
///
/// # Errors
/// When they can't be had, or nobody reads the output any more.
pub async fn list<R: Row>(args: &ListArgs, keep: impl Fn(&R) -> bool) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&args.cluster).await?;
    if live::fits::<R>(args) {
        return live::follow(&cluster, args, keep).await;
    }
    let mut sink = Sink::<R>::new(args);
    let params = params::<R>(args);
    let mut left = args.limit.unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(());
    }
    cluster
        .pages::<R::Kind>(params, |items| {
            let mut rows: Vec<(&RawValue, R)> = Vec::with_capacity(items.len());
            for item in items {
                match serde_json::from_str::<R>(item.get()) {
                    Ok(row) if keep(&row) => rows.push((item, row)),
                    Ok(_) => {}
                    // One bad object hides no other.
                    Err(error) => eprintln!("tranche: {}", complaint::<R::Kind>(item, &error)),
                }
            }
            if rows.len() >= left {
                sink.told.cut_off();
            }
            rows.truncate(left);
            left -= rows.len();
            if args.watch {
                for (raw, row) in &rows {
                    sink.told.shown(&name_of(raw), &follow::state(args.output, raw, row));
                }
            }
            sink.page(&rows)?;
            Ok(left > 0)
        })
        .await?;
    sink.end(&cluster)?;
    if args.watch { follow::follow(&cluster, args, &mut sink, keep).await } else { Ok(()) }
}

/// The same by printer columns, where these say all that is shown: the API server writes them several times as fast. `read`
/// makes a row of the cells, of which the first is the name.
///
/// # Errors
/// As [`list`].
pub async fn list_printed<R: Row, const N: usize>(
    args: &ListArgs,
    columns: [&str; N],
    read: impl Fn(table::Cells<N>) -> Option<R>,
    keep: impl Fn(&R) -> bool,
) -> anyhow::Result<()> {
    let (watch, limit) = (args.watch, args.limit.unwrap_or(usize::MAX));
    if watch || limit == 0 || args.output != Output::Table {
        return list(args, keep).await;
    }
    let cluster = Cluster::connect(&args.cluster).await?;
    let mut sink = Sink::<R>::new(args);
    let params = params::<R>(args);
    let printed = cluster.columns::<R::Kind, N>(&params, columns, |cells| {
        let mut rows: Vec<R> = cells.into_iter().filter_map(&read).filter(&keep).collect();
        rows.truncate(limit - sink.count);
        sink.rows(&rows.iter().collect::<Vec<_>>())?;
        Ok(sink.count < limit)
    });
    if printed.await? { sink.end(&cluster) } else { list(args, keep).await }
}

fn params<R: Row>(args: &ListArgs) -> ListParams {
    let mut params = ListParams::default();
    params.label_selector.clone_from(&args.selector);
    params.field_selector = R::FIELDS.map(Into::into);
    params
}

fn name_of(raw: &RawValue) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        metadata: kube::api::ObjectMeta,
    }
    serde_json::from_str::<Named>(raw.get()).ok().and_then(|named| named.metadata.name).unwrap_or_default()
}

/// Where rows go.
struct Sink<R> {
    table: Table,
    output: Output,
    count: usize,
    /// There is no list around the objects: it would have no end.
    bare: bool,
    /// What has been shown, where the list is followed.
    told: Told,
    row: std::marker::PhantomData<R>,
}

impl<R: Row> Sink<R> {
    fn new(args: &ListArgs) -> Self {
        let table = Table::new(R::COLUMNS, args.output == Output::Wide, Style::of_stdout()).headless(args.no_headers);
        Self {
            table,
            output: args.output,
            count: 0,
            bare: args.watch,
            told: Told::default(),
            row: std::marker::PhantomData,
        }
    }

    fn page(&mut self, rows: &[(&RawValue, R)]) -> anyhow::Result<()> {
        let mut text = String::new();
        match self.output {
            Output::Table | Output::Wide => return self.rows(&rows.iter().map(|(_, row)| row).collect::<Vec<_>>()),
            Output::Json | Output::Yaml | Output::Name => {
                for (at, (raw, _)) in rows.iter().enumerate() {
                    let value: Value = serde_json::from_str(raw.get()).context("reading an object")?;
                    text += &self.item(value, self.count + at)?;
                }
            }
        }
        self.count += rows.len();
        print(&text)
    }

    /// Rows of the table.
    fn rows(&mut self, rows: &[&R]) -> anyhow::Result<()> {
        let now = crate::clock::now();
        let cells: Vec<Vec<Cell>> = rows.iter().map(|row| row.cells(now)).collect();
        self.count += rows.len();
        if cells.is_empty() { Ok(()) } else { print(&self.table.page(&cells)) }
    }

    /// One object within a list, in a form for programs.
    fn item(&self, mut value: Value, at: usize) -> anyhow::Result<String> {
        // Items of a list come without what the list says for all of them.
        let kind = R::Kind::kind(&());
        without_managers(&mut value);
        if let Some(object) = value.as_object_mut() {
            object.insert("apiVersion".into(), R::Kind::api_version(&()).into());
            object.insert("kind".into(), kind.into());
        }
        Ok(match self.output {
            Output::Json if self.bare => json(&value)? + "\n",
            Output::Yaml if self.bare => format!("---\n{}", serde_yaml::to_string(&value)?),
            Output::Json => {
                let before = if at == 0 { "{\n    \"apiVersion\": \"v1\",\n    \"items\": [\n" } else { ",\n" };
                format!("{before}{}", indented(&json(&value)?, 8, true))
            }
            Output::Yaml => {
                let before = if at == 0 { "apiVersion: v1\nitems:\n" } else { "" };
                format!("{before}- {}\n", indented(&serde_yaml::to_string(&value)?, 2, false))
            }
            Output::Table | Output::Wide | Output::Name => {
                super::output::object(&value, &R::Kind::plural(&()), Output::Name)?.unwrap_or_default()
            }
        })
    }

    /// Closes a list; says so where there is nothing to say.
    fn end(&self, cluster: &Cluster) -> anyhow::Result<()> {
        const TAIL: &str =
            "    \"kind\": \"List\",\n    \"metadata\": {\n        \"resourceVersion\": \"\"\n    }\n}\n";
        match (self.output, self.count) {
            _ if self.bare => Ok(()),
            (Output::Table | Output::Wide, 0) => {
                eprintln!("No {} found in namespace {}.", R::Kind::plural(&()), cluster.namespace);
                Ok(())
            }
            (Output::Json, 0) => print(&format!("{{\n    \"apiVersion\": \"v1\",\n    \"items\": [],\n{TAIL}")),
            (Output::Json, _) => print(&format!("\n    ],\n{TAIL}")),
            (Output::Yaml, count) => {
                let before = if count == 0 { "apiVersion: v1\nitems: []\n" } else { "" };
                print(&format!("{before}kind: List\nmetadata:\n  resourceVersion: \"\"\n"))
            }
            (Output::Table | Output::Wide | Output::Name, _) => Ok(()),
        }
    }
}
