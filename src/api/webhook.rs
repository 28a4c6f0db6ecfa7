//! `RegistryWebhook`: one URL for one registry, with a secret of its own.
//!
//! The first URL needs no object (`DOCKER_WEBHOOK_SECRET` opens it). One of these is for everything beyond: a secret per
//! team, a registry that sends no host, a token that a vendor signs, a URL that only speaks for some repositories.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// One URL that takes the webhooks of one registry.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tranche.dev",
    version = "v1alpha1",
    kind = "RegistryWebhook",
    plural = "registrywebhooks",
    namespaced,
    status = "RegistryWebhookStatus",
    derive = "PartialEq",
    shortname = "rwh",
    category = "tranche",
    doc = "One URL that takes the webhooks of one registry, for the policies of its namespace.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Accepted", type_ = "integer", json_path = ".status.accepted"),
    printcolumn(name = "Ignored", type_ = "integer", json_path = ".status.ignored"),
    printcolumn(name = "Rejected", type_ = "integer", json_path = ".status.rejected"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastDelivery.time"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("self.spec.type != 'GoogleArtifactRegistry' || has(self.spec.oidc)")
        .message("type GoogleArtifactRegistry needs oidc: Pub/Sub proves itself by a signed token, and by nothing else"),
    validation = kube::core::Rule::new("!(self.spec.type in ['Nexus', 'Zot']) || has(self.spec.registry)")
        .message("this registry does not say its own name in a webhook: set registry to the host that devices pull from"),
)]
#[serde(rename_all = "camelCase")]
pub struct RegistryWebhookSpec {
    /// Which registry delivers here. Auto tells them apart by what they send; a type refuses everything else.
    #[serde(default, rename = "type")]
    pub type_: RegistryType,
    /// Secret in the same namespace. Its key `token` is what deliveries prove to know; `token-previous`, where it is
    /// there, is as good while a secret is being exchanged.
    pub secret_ref: SecretRef,
    /// Host, and port if any, that devices pull from. For registries that send none, or one that only they can reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = schema::matches(
        "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?$",
        "write a host, and a port if any, without scheme or path, such as registry.local:5000",
    ))]
    pub registry: Option<String>,
    /// Globs over the repositories that may be told of here, `*` for any run of characters. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 512)))]
    pub repositories: Vec<String>,
    /// Only policies with these labels. Absent: every policy of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_selector: Option<LabelSelector>,
    /// The token that deliveries must carry, for registries whose platform signs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcRule>,
    /// Deliveries are answered, and ignored.
    #[serde(default)]
    pub suspend: bool,
}

/// Who delivers.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RegistryType {
    /// Any of the others, told apart by what it sends.
    #[default]
    Auto,
    DockerHub,
    GitHub,
    Quay,
    Harbor,
    /// CNCF Distribution, and GitLab where one runs it oneself.
    Distribution,
    AmazonECR,
    /// Artifact Registry and GCR, by a Pub/Sub push subscription.
    GoogleArtifactRegistry,
    AzureACR,
    AlibabaACR,
    Artifactory,
    Nexus,
    /// And Forgejo.
    Gitea,
    Zot,
    /// `{"image": "host/name:tag"}`, for a CI job, and CloudEvents of that content.
    Generic,
}

/// A Secret of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What a signed token (OpenID Connect) must say.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OidcRule {
    /// `iss`.
    #[serde(default = "default_issuer")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// `aud`: what the push subscription was given as audience; without one there, the URL that it pushes to.
    #[schemars(length(min = 1, max = 1024))]
    pub audience: String,
    /// `email`: the service account of the push subscription. It must be verified.
    #[schemars(length(min = 3, max = 320))]
    pub email: String,
    /// Where the issuer's keys are, as a JSON Web Key Set.
    #[serde(default = "default_jwks_url", rename = "jwksURL")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = schema::matches("^https?://.", "jwksURL starts with https:// (http:// only for trials)"))]
    pub jwks_url: String,
}

fn default_issuer() -> String {
    "https://accounts.google.com".into()
}

fn default_jwks_url() -> String {
    "https://www.googleapis.com/oauth2/v3/certs".into()
}

/// What is known of a webhook.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryWebhookStatus {
    /// `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Path of its URL, `/hooks/<token>`. As good as the secret for registries that can't sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub path: Option<String>,
    /// The last authentic one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<LastDelivery>,
    /// Deliveries that have their rollout. The counts are written down about once in half a minute.
    #[serde(default)]
    pub accepted: i64,
    /// Authentic deliveries that made nothing.
    #[serde(default)]
    pub ignored: i64,
    /// Deliveries that were not authentic, or not understood.
    #[serde(default)]
    pub rejected: i64,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// One delivery.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastDelivery {
    /// When it came in.
    #[x_kube(validation = schema::a_time())]
    pub time: Time,
    /// The registry's own id of it, where it sends one.
    #[serde(default, rename = "deliveryID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub delivery_id: Option<String>,
    /// What became of it, in a sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
}
