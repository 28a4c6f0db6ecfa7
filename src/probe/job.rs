//! The `job` check: a Kubernetes Job is made for a device, and its success is the verdict.
//!
//! A look makes one Job and follows it to its end. Its name follows from what it is about, so whoever takes the same look
//! again, such as after a restart, finds the Job that is there. A Job that can't be made or followed is Unknown: that is
//! about the cluster and not about the device. What its end says is told in `ended.rs`.
//!
//! Pods are not read: that would be a right to see every pod of the namespace. The exit code of a container is in the Job's
//! own words; more is in the pod's log.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client};
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};

use super::Rollout;
use super::ended::{self, not_judged};
use super::manifest::Order;
use super::template::Values;
use super::verdict::Outcome;

pub use super::manifest::JobCheck;

/// Between two looks at a Job. At most 64 are followed at once: 32 small reads a second.
const POLL: Duration = Duration::from_secs(2);
/// For one call. The API server answers within a second or is in trouble, and is asked again then.
const CALL: Duration = Duration::from_secs(10);
/// What a look has beyond its Job's own time: for Kubernetes to begin with the Job, to see its end, and for us to see that.
const SETTLE: Duration = Duration::from_secs(15);
/// Hosts that Jobs are spread over. There is none, but by host the engine limits how many looks there are at once: 8 for
/// each, so 64 Jobs in all. They take room in the cluster, and places of looks for minutes.
const HOSTS: u8 = 8;
/// Nobody's: for a Job that is tried and not made.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// Makes Jobs.
#[derive(Clone)]
pub struct Jobs(Client);

/// A Job that is being followed.
struct Follower<'a> {
    client: &'a Client,
    order: &'a Order<'a>,
    job: Value,
    name: String,
    is_there: bool,
    /// A pod of it was seen running.
    ran: bool,
    /// Kubernetes has begun with it.
    begun: bool,
    /// What the API server said at last, when it couldn't be asked.
    trouble: Option<String>,
}

impl Jobs {
    /// With this client, which needs the rights to create and get Jobs in the namespaces of policies.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

impl JobCheck {
    /// None, really: see `HOSTS`.
    pub(super) fn host(values: &Values) -> String {
        format!("job/{}", Sha256::digest(&*values.device_uuid)[0] % HOSTS)
    }

    /// How long a look may take whose Job may take so long.
    pub(super) fn patience(timeout: Duration) -> Duration {
        timeout + SETTLE
    }

    /// Makes a Job, unless it is there, and follows it.
    pub(super) async fn look(&self, jobs: &Jobs, order: &Order<'_>) -> Outcome {
        let mut follower = Follower {
            client: &jobs.0,
            order,
            job: self.job(order),
            name: order.name(),
            is_there: false,
            ran: false,
            begun: false,
            trouble: None,
        };
        match timeout(Self::patience(order.timeout), follower.follow()).await {
            Ok(outcome) => outcome,
            Err(_) => follower.too_late(),
        }
    }
}

impl Follower<'_> {
    async fn follow(&mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.step().await {
                return outcome;
            }
            sleep(POLL).await;
        }
    }

    /// What is known now, if that is enough.
    async fn step(&mut self) -> Option<Outcome> {
        if !self.is_there {
            match call(create(self.client, &self.order.values.namespace, &self.job, Run::Real)).await {
                Ok(()) => self.is_there = true,
                // Made by an earlier look.
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => self.is_there = true,
                Err(error) => return self.troubled(&error, "its Job was refused"),
            }
        }
        let api: Api<Job> = Api::namespaced(self.client.clone(), &self.order.values.namespace);
        match call(api.get_opt(&self.name)).await {
            Ok(Some(job)) => self.seen(&job),
            Ok(None) => Some(self.deleted()),
            Err(error) => self.troubled(&error, &format!("its Job {} can't be read", self.name)),
        }
    }

    fn seen(&mut self, job: &Job) -> Option<Outcome> {
        self.trouble = None;
        self.ran |= ended::is_running(job);
        self.begun |= job.status.as_ref().is_some_and(|status| status.start_time.is_some());
        let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
        if !owners.iter().any(|owner| *owner.uid == *self.order.rollout.uid) {
            return Some(not_judged(&format!("there is a Job {} that is not this rollout's", self.name)));
        }
        let outcome = ended::outcome(job, self.ran);
        if outcome.is_none() && job.metadata.deletion_timestamp.is_some() {
            return Some(self.deleted());
        }
        outcome
    }

    fn deleted(&self) -> Outcome {
        not_judged(&format!("somebody deleted its Job {}", self.name))
    }

    /// What can pass is waited for, as long as there is time.
    fn troubled(&mut self, error: &kube::Error, what: &str) -> Option<Outcome> {
        if may_pass(error) {
            self.trouble = Some(words(error));
            return None;
        }
        Some(not_judged(&format!("{what}: {}", words(error))))
    }

    fn too_late(&self) -> Outcome {
        let name = &self.name;
        let why = match (&self.trouble, self.is_there, self.begun) {
            (Some(trouble), false, _) => format!("its Job could not be made: {trouble}"),
            (Some(trouble), true, _) => format!("its Job {name} could not be followed: {trouble}"),
            (None, false, _) => "its Job could not be made in time".to_owned(),
            (None, true, false) => format!("nobody has begun with its Job {name}"),
            (None, true, true) => format!("its Job {name} is not over, though its time is"),
        };
        not_judged(&why)
    }
}

/// Whether the API server takes such Jobs: why not, if it doesn't. Nothing is made. Misspelt fields, which it would leave
/// out, are refused here.
///
/// # Errors
/// When that can't be told now.
pub async fn refused(client: &Client, namespace: &str, check: &JobCheck) -> Result<Option<String>, kube::Error> {
    let values = Values {
        device_ip: None,
        device_name: "device".into(),
        device_uuid: NOBODY.into(),
        namespace: namespace.into(),
        image: "image".into(),
        tag: "tag".into(),
    };
    let rollout = Rollout { name: "dry-run".into(), uid: NOBODY.into() };
    let timeout = Duration::from_secs(1);
    let order = Order { check: "check", values: &values, since: 0, rollout: &rollout, attempt: 1, timeout };
    match call(create(client, namespace, &check.job(&order), Run::Dry)).await {
        Ok(()) => Ok(None),
        Err(error) if may_pass(&error) || is_momentary(&error) => Err(error),
        Err(error) => Ok(Some(words(&error))),
    }
}

/// Whether a Job is made, or only tried.
#[derive(Clone, Copy)]
enum Run {
    Real,
    Dry,
}

/// As JSON and not as kube's type, which would leave out fields that it doesn't know.
async fn create(client: &Client, namespace: &str, job: &Value, run: Run) -> Result<(), kube::Error> {
    let query = match run {
        Run::Real => "",
        Run::Dry => "&dryRun=All&fieldValidation=Strict",
    };
    let url = format!("/apis/batch/v1/namespaces/{namespace}/jobs?fieldManager=tranche{query}");
    let body = serde_json::to_vec(job).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(url).header(http::header::CONTENT_TYPE, "application/json").body(body);
    client.request::<IgnoredAny>(request.map_err(kube::Error::HttpError)?).await.map(drop)
}

async fn call<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the API server did not answer in time");
    timeout(CALL, answer).await.unwrap_or_else(|_| Err(kube::Error::Service(Box::new(late()))))
}

/// Whether the same call may be answered another way in a moment.
fn may_pass(error: &kube::Error) -> bool {
    // No answer, or one that was cut off.
    let kube::Error::Api(status) = error else { return true };
    // 409: a quota that changed meanwhile. 401: a token that is just being renewed.
    matches!(status.code, 0 | 401 | 409 | 429 | 500..)
}

/// Whether it is about what else there is now, and not about the Job: room in a quota, or a namespace that isn't there.
fn is_momentary(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 404 || status.message.contains("exceeded quota:")
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("status {}", status.code),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
