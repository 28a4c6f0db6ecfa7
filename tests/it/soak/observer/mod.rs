//! Judges the Never list (design, section 8) from what the API server stored and from what devices were answered.
//!
//! Nothing of `tranche::plan` is used here: the gate's table, what is declared and who runs what are worked out a second
//! time, from JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::drive::History;

mod ends;
pub mod facts;
pub mod liveness;
mod opened;
mod past;
mod released;
mod told;

/// What was found, and how often each line was looked at.
#[derive(Debug, Default)]
pub struct Findings {
    pub broken: Vec<Broken>,
    pub looked: BTreeMap<&'static str, u64>,
    /// How often a known gap was met, by its name.
    pub excused: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub struct Broken {
    pub at: Instant,
    pub line: &'static str,
    pub what: String,
}

impl Findings {
    fn look(&mut self, line: &'static str) {
        *self.looked.entry(line).or_default() += 1;
    }

    fn excuse(&mut self, gap: &'static str) {
        *self.excused.entry(gap).or_default() += 1;
    }

    fn broken(&mut self, at: Instant, line: &'static str, what: impl Into<String>) {
        self.broken.push(Broken { at, line, what: what.into() });
    }

    /// One that is demanded.
    fn demand(&mut self, holds: bool, at: Instant, line: &'static str, what: impl FnOnce() -> String) {
        self.look(line);
        if !holds {
            self.broken(at, line, what());
        }
    }
}

pub const OFFER: &str = "1 offered against its rollout";
pub const LIMIT: &str = "2 too many at once";
pub const ORDER: &str = "3 a batch too early";
pub const STOP: &str = "4 forward after a stop";
pub const PUSH: &str = "5 one push, two rollouts";
pub const BACK: &str = "6 back to something else";
pub const FOREIGN: &str = "7 overwrites somebody";
pub const IDLE: &str = "8 writes while settled";
pub const OTHER: &str = "9 another device's state";
pub const END: &str = "10 an end that changes";
pub const REASON: &str = "11 waits without a reason";
/// Every line, for the report: one that was never looked at proves nothing.
pub const LINES: [&str; 11] = [OFFER, LIMIT, ORDER, STOP, PUSH, BACK, FOREIGN, IDLE, OTHER, END, REASON];

/// Writes that were on their way when something changed arrive within this time.
const IN_HAND: Duration = Duration::from_secs(10);

pub fn judge(history: &History) -> Findings {
    let mut findings = Findings::default();
    told::judge(history, &mut findings);
    released::judge(history, &mut findings);
    opened::judge(history, &mut findings);
    ends::judge(history, &mut findings);
    liveness::judge(history, &mut findings);
    findings.broken.sort_by_key(|broken| broken.at);
    findings
}
