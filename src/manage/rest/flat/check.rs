//! The predecessor's health check, and ours.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Untranslatable, untranslatable};
use crate::api::check::HealthCheck;

/// Name of the one health check that a row has.
const CHECK: &str = "health";
/// What the predecessor asked of each device when nothing else was said.
const DEFAULT_ENDPOINT: &str = "http://{device_ip}:80/health";

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
    #[schemars(range(min = 1, max = 3600))]
    timeout: Option<u32>,
    /// How many attempts may fail beside the last.
    #[serde(alias = "retry_count", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    retries: Option<i32>,
    /// Between two attempts, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
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
    /// In ours; `timeout` is for where it has none.
    pub(super) fn check(self, timeout: Option<u32>) -> Result<Value, Untranslatable> {
        const FIELD: &str = "health_check_config";
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
        if let Some(seconds) = self.timeout.or(timeout) {
            check["timeout"] = json!(format!("{seconds}s"));
        }
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
            timeout: Some(seconds(check.timeout)),
            retries: Some(check.retries),
            interval_seconds: Some(seconds(check.interval)),
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

/// Whole seconds.
pub(super) fn seconds(duration: kube::core::Duration) -> u32 {
    u32::try_from(std::time::Duration::from(duration).as_secs()).unwrap_or(u32::MAX)
}
