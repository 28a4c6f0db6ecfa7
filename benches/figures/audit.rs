//! The API server's own account of what it was asked to write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

/// One finished call.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    user: User,
    verb: String,
    object_ref: Option<ObjectRef>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    #[serde(default)]
    name: String,
    subresource: Option<String>,
}

/// Reads the audit log from where it last stopped.
pub struct Audit {
    log: PathBuf,
    read_to: u64,
}

/// Writes of one user, refused ones included: resource (`imagerollouts/status`), object, how many.
pub type Writes = BTreeMap<String, BTreeMap<String, usize>>;

impl Audit {
    /// From now on.
    pub fn new(log: PathBuf) -> anyhow::Result<Self> {
        let mut audit = Self { log, read_to: 0 };
        audit.skip()?;
        Ok(audit)
    }

    /// Forgets what was not read yet.
    pub fn skip(&mut self) -> anyhow::Result<()> {
        self.read_to = std::fs::metadata(&self.log).context("no audit log")?.len();
        Ok(())
    }

    /// What `user` wrote since the last call.
    pub fn writes(&mut self, user: &str) -> anyhow::Result<Writes> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut lines = BufReader::new(file);
        let mut writes = Writes::new();
        let mut line = String::new();
        // A line that is not complete yet is left for the next call.
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            self.read_to += line.len() as u64;
            let call: Call = serde_json::from_str(&line).context("a line of the audit log")?;
            let is_write = matches!(call.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
            if let Some(object) = call.object_ref.filter(|_| is_write && call.user.username == user) {
                let resource = match object.subresource {
                    Some(part) => format!("{}/{part}", object.resource),
                    None => object.resource,
                };
                *writes.entry(resource).or_default().entry(object.name).or_default() += 1;
            }
            line.clear();
        }
        Ok(writes)
    }
}

/// How many of each object of one kind, whichever part of it.
pub fn per_object(writes: &Writes, kind: &str) -> BTreeMap<String, usize> {
    let mut sums = BTreeMap::new();
    for (resource, objects) in writes {
        if resource.split('/').next() == Some(kind) {
            objects.iter().for_each(|(name, count)| *sums.entry(name.clone()).or_default() += count);
        }
    }
    sums
}

/// How many of one kind, whichever part.
pub fn count(writes: &Writes, kind: &str) -> usize {
    per_object(writes, kind).values().sum()
}
