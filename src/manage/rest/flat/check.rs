//! The predecessor's health check, and ours.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Untranslatable, news, untranslatable};
use crate::api::check::HealthCheck;

/// Name of the one health check that a row has.
const CHECK: &str = "health";
/// The field of the row.
const FIELD: &str = "health_check_config";
/// What the predecessor asked of each device when nothing else was said.
const DEFAULT_ENDPOINT: &str = "http://{device_ip}:80/health";
/// Longest time that a row can say.
const MAX_SECONDS: u32 = 3600;

/// A health check as the predecessor had it, in both ways in which its documents write it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Check {
    /// `http`, `tcp` or `container`. There are no scripts: see `webhook` and `job` of `spec.healthChecks`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_: Option<CheckType>,
    /// Of `http`: the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// Of `http`: the status that is healthy.
    #[serde(rename = "expectedStatusCode", alias = "expected_status", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    expected_status_code: Option<i32>,
    /// Of `http`: what the body must have in it.
    #[serde(rename = "expectedBody", skip_serializing_if = "Option::is_none")]
    expected_body: Option<String>,
    /// Of `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Of `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    port: Option<i32>,
    /// Of `container`: the service.
    #[serde(rename = "containerName", skip_serializing_if = "Option::is_none")]
    container_name: Option<String>,
    /// For one attempt, seconds.
    #[serde(alias = "timeout_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    timeout: Option<u32>,
    /// How many attempts may fail beside the last.
    #[serde(alias = "retry_count", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    retries: Option<i32>,
    /// Between two attempts, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    interval_seconds: Option<u32>,
}

/// Kind of a health check.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CheckType {
    /// A request to the device.
    Http,
    /// A connection to the device.
    Tcp,
    /// What the device reports of a container.
    #[serde(alias = "container_running")]
    Container,
    /// A script: can't be translated.
    Custom,
}

impl Check {
    /// Whether it says anything.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it says that `known` doesn't; all of it, where it is of another kind.
    pub(super) fn unlike(self, known: &Self) -> Self {
        if self.type_.is_some_and(|type_| Some(type_) != known.type_) {
            return self;
        }
        Self {
            type_: None,
            endpoint: news(self.endpoint, known.endpoint.as_ref()),
            expected_status_code: news(self.expected_status_code, known.expected_status_code.as_ref()),
            expected_body: news(self.expected_body, known.expected_body.as_ref()),
            host: news(self.host, known.host.as_ref()),
            port: news(self.port, known.port.as_ref()),
            container_name: news(self.container_name, known.container_name.as_ref()),
            timeout: news(self.timeout, known.timeout.as_ref()),
            retries: news(self.retries, known.retries.as_ref()),
            interval_seconds: news(self.interval_seconds, known.interval_seconds.as_ref()),
        }
    }

    /// Whether it is about a check of ours: of its kind, or of no kind in particular.
    pub(super) fn fits(&self, check: &Value) -> bool {
        kind_of(check).is_some_and(|kind| self.type_.is_none_or(|type_| type_ == kind))
    }

    /// Says it in a check of ours that it [fits](Self::fits), of which the rest stays as it is.
    pub(super) fn apply(&self, check: &mut Value, timeout: Option<u32>) -> Result<(), Untranslatable> {
        let said: [(&str, &str, Option<Value>); 6] = [
            ("http", "url", self.endpoint.as_ref().map(|url| json!(url))),
            ("http", "expectedStatus", self.expected_status_code.map(|status| json!(status))),
            ("http", "bodyContains", self.expected_body.as_ref().map(|text| json!(text))),
            ("tcp", "host", self.host.as_ref().map(|host| json!(host))),
            ("tcp", "port", self.port.map(|port| json!(port))),
            ("container", "service", self.container_name.as_ref().map(|name| json!(name))),
        ];
        for (kind, field, value) in said {
            let Some(value) = value else { continue };
            let Some(of) = check.get_mut(kind).and_then(Value::as_object_mut) else {
                return untranslatable(
                    FIELD,
                    format!("{field} is of a {kind} check, and the policy has none: say its type"),
                );
            };
            // An empty text asks for nothing.
            if value == json!("") {
                of.remove(field)
            } else {
                of.insert(field.to_owned(), value)
            };
        }
        set_timeout(check, self.timeout.or(timeout));
        if let Some(retries) = self.retries {
            check["retries"] = json!(retries);
        }
        if let Some(seconds) = self.interval_seconds {
            check["interval"] = json!(format!("{seconds}s"));
        }
        Ok(())
    }

    /// In ours; `timeout` is for where it has none.
    pub(super) fn check(self, timeout: Option<u32>) -> Result<Value, Untranslatable> {
        let kind = match self.type_.unwrap_or(CheckType::Http) {
            CheckType::Http => {
                let mut http = json!({
                    "url": self.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT),
                    "expectedStatus": self.expected_status_code.unwrap_or(200),
                });
                if let Some(text) = self.expected_body.filter(|text| !text.is_empty()) {
                    http["bodyContains"] = json!(text);
                }
                ("http", http)
            }
            CheckType::Tcp => {
                let Some(port) = self.port else { return untranslatable(FIELD, "tcp needs a port") };
                ("tcp", json!({ "host": self.host.as_deref().unwrap_or("{device_ip}"), "port": port }))
            }
            CheckType::Container => {
                let service = self.container_name.filter(|name| !name.is_empty());
                ("container", service.map_or_else(|| json!({}), |service| json!({ "service": service })))
            }
            CheckType::Custom => {
                let why = "scripts are not run on the server: send spec.healthChecks with a webhook check (a service of your \
                           own) or a job check (a Kubernetes Job)";
                return untranslatable(FIELD, why);
            }
        };
        let mut check = json!({ "name": CHECK, kind.0: kind.1 });
        set_timeout(&mut check, self.timeout.or(timeout));
        if let Some(retries) = self.retries {
            check["retries"] = json!(retries);
        }
        if let Some(seconds) = self.interval_seconds {
            check["interval"] = json!(format!("{seconds}s"));
        }
        Ok(check)
    }

    /// Of ours, if it is of a kind that the predecessor had.
    pub(super) fn of(check: &HealthCheck) -> Option<Self> {
        let timed = Self {
            timeout: seconds(check.timeout),
            retries: Some(check.retries),
            interval_seconds: seconds(check.interval),
            ..Self::default()
        };
        if let Some(http) = &check.http {
            let IntOrString::Int(status) = http.expected_status else { return None };
            return Some(Self {
                type_: Some(CheckType::Http),
                endpoint: Some(http.url.clone()),
                expected_status_code: Some(status),
                expected_body: http.body_contains.clone(),
                ..timed
            });
        }
        if let Some(tcp) = &check.tcp {
            let (host, port) = (Some(tcp.host.clone()), Some(tcp.port));
            return Some(Self { type_: Some(CheckType::Tcp), host, port, ..timed });
        }
        let container = check.container.as_ref()?;
        Some(Self { type_: Some(CheckType::Container), container_name: container.service.clone(), ..timed })
    }
}

/// Which kind of check a row can speak of, a check of ours is.
fn kind_of(check: &Value) -> Option<CheckType> {
    let kinds = [("http", CheckType::Http), ("tcp", CheckType::Tcp), ("container", CheckType::Container)];
    let kind = kinds.into_iter().find(|(name, _)| check.get(name).is_some_and(|kind| !kind.is_null()))?;
    Some(kind.1)
}

/// Whether a row can speak of a check of ours.
pub(super) fn is_of_rows(check: &Value) -> bool {
    kind_of(check).is_some()
}

/// For one attempt.
pub(super) fn set_timeout(check: &mut Value, seconds: Option<u32>) {
    if let Some(seconds) = seconds {
        check["timeout"] = json!(format!("{seconds}s"));
    }
}

/// Whole seconds, rounded up; `None` for what a row has no room for.
pub(super) fn seconds(duration: kube::core::Duration) -> Option<u32> {
    let duration = std::time::Duration::from(duration);
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(whole).ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds))
}
