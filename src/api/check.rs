//! Health checks: the ways in which a policy has devices judged.
//!
//! Each is of exactly one kind. `container` is read from what a device reports; `http` and `tcp` look at the device from
//! the controller; `webhook` and `job` ask somebody else about it; `analysis` asks Prometheus about a batch as a whole.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::webhook::SecretRef;

/// One way of judging a device; exactly one kind of check.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new(
    "[has(self.http), has(self.tcp), has(self.container), has(self.webhook), has(self.job), has(self.analysis)]\
     .filter(kind, kind).size() == 1")
    .message("a health check needs exactly one of http, tcp, container, webhook, job and analysis"))]
pub struct HealthCheck {
    /// Unique within the policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// A request from the controller to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A connection from the controller to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// What the device itself reports of its containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerCheck>,
    /// A service of your own that is told of the device and says whether it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookCheck>,
    /// A Kubernetes Job whose success is the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobCheck>,
    /// A question to Prometheus about the batch as a whole, while it soaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisCheck>,
    /// For one attempt; of a Job, for its whole run.
    #[serde(default = "default_timeout")]
    #[schemars(schema_with = "schema::duration_from_1ms")]
    pub timeout: Duration,
    /// How many attempts may fail beside the last.
    #[serde(default = "default_retries")]
    #[schemars(range(min = 0, max = 20))]
    pub retries: i32,
    /// Between two attempts.
    #[serde(default = "default_interval")]
    #[schemars(schema_with = "schema::duration")]
    pub interval: Duration,
    /// From when the device is seen running the image (or the batch soaks) to the first attempt. Absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub initial_delay: Option<Duration>,
    /// So many attempts in a row must succeed.
    #[serde(default = "default_success_threshold")]
    #[schemars(range(min = 1, max = 20))]
    pub success_threshold: i32,
}

/// `http` check.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// With `{device_ip}`, `{device_name}`, `{device_uuid}`, `{namespace}`, `{image}` and `{tag}`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = schema::matches("^https?://.", "the url of a check starts with http:// or https://"))]
    pub url: String,
    /// How it is asked.
    #[serde(default)]
    pub method: HttpMethod,
    /// Sent along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<Header>,
    /// The statuses that are healthy: one (`200`), or a text of several and ranges (`"200-299,304"`).
    #[serde(default = "default_expected_status")]
    #[schemars(schema_with = "schema::int_or_string")]
    pub expected_status: IntOrString,
    /// What the body must contain. Of a body the first 64 KiB are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub body_contains: Option<String>,
    /// A regular expression that must match somewhere in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub body_matches: Option<String>,
    /// For https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<CheckTls>,
}

/// How a device is asked over HTTP.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum HttpMethod {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Put,
}

impl HttpMethod {
    /// As HTTP has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// A header of a request: written here, or in a Secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.value) != has(self.secretKeyRef)")
    .message("a header needs exactly one of value and secretKeyRef"))]
pub struct Header {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value, for everybody to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: Option<String>,
    /// Where its value is, if it isn't for everybody to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Whom a check over https trusts.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckTls {
    /// Secret in the same namespace whose key `ca.crt` holds the authorities that are trusted instead of the system's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
    /// The name that the certificate must be for, instead of the URL's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
    /// Any certificate will do: who answers is then not known.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// `tcp` check: the device takes a connection.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpCheck {
    /// With the placeholders of an `http` check's url.
    #[serde(default = "default_tcp_host")]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// `container` check: reported running, from the right image, healthy if the engine says so, and not started again and
/// again. `timeout` and its like don't matter to it: `updateDeadline` does.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerCheck {
    /// Only this service. Absent: every service of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service: Option<String>,
    /// How often its container may be started again since it runs the image. Beyond that the device has failed.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_restarts: i32,
}

/// `webhook` check: a service of your own is sent the device as JSON, and answers status 200 with
/// `{"healthy": true}` or `{"healthy": false, "reason": "…"}`. Any other answer is no verdict.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookCheck {
    /// With placeholders as that of an `http` check, but none in the host.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = schema::matches("^https?://.", "the url of a check starts with http:// or https://"))]
    pub url: String,
    /// Sent along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<Header>,
    /// For https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<CheckTls>,
}

/// `job` check: a Job is run for each device and attempt, in the policy's namespace; how its containers end is the verdict.
/// A Job that is not made, not scheduled, evicted or deleted is none, nor is a command that can't be run (exit codes 126 to
/// 128). The device is in the environment of its containers: `DEVICE_NAME`, `DEVICE_UUID`, `DEVICE_IP` (empty where it has
/// reported none), `ROLLOUT`, `NAMESPACE`, `IMAGE`, `TAG` and `CHECK`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCheck {
    /// A pod template (`metadata` and `spec`), as a Job has it, of at most 64 KiB. `restartPolicy` is Never unless it says
    /// OnFailure. What of the environment is set here stays, and may refer to the above: `http://$(DEVICE_IP)/`.
    #[schemars(schema_with = "schema::opaque_object")]
    pub template: serde_json::Map<String, serde_json::Value>,
}

/// `analysis` check: a query of Prometheus whose every sample must be within bounds. Judged while a batch soaks, and once
/// more when the soak is over. No samples, NaN, warnings and errors are no verdict.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.min) || has(self.max)")
    .message("an analysis needs min, max or both"))]
pub struct AnalysisCheck {
    /// Where Prometheus is, without `/api/v1/query`: `http://prometheus.monitoring:9090`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = schema::matches("^https?://.", "the url of a check starts with http:// or https://"))]
    pub url: String,
    /// In PromQL, with `{{namespace}}`, `{{image}}`, `{{tag}}` and `{{rollout}}` within its strings, and the number `{{batch}}`
    /// anywhere: single braces are PromQL's own. A vector or a scalar must come of it.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// The least that is healthy, a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::decimal")]
    pub min: Option<String>,
    /// The most that is healthy, a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::decimal")]
    pub max: Option<String>,
    /// Sent along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<Header>,
    /// For https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<CheckTls>,
}

fn default_timeout() -> Duration {
    std::time::Duration::from_secs(30).into()
}

fn default_retries() -> i32 {
    2
}

fn default_interval() -> Duration {
    std::time::Duration::from_secs(2).into()
}

fn default_success_threshold() -> i32 {
    1
}

fn default_expected_status() -> IntOrString {
    IntOrString::Int(200)
}

fn default_tcp_host() -> String {
    "{device_ip}".into()
}
