//! The kinds of `tranche.dev/v1alpha1`, and the few words they share.
//!
//! Decides the shape of what people write and read: fields, bounds, defaults and the rules that the API server
//! checks by itself. Holds no client, clock or randomness, and no opinion on what to do with the objects: that is
//! [`crate::plan`].
//!
//! The rules follow the Kubernetes API conventions: conditions are a list-map, durations are Go's strings ("30m"),
//! shares are strings ("20%"), no floats, every list has a bound, every verb that a person has is a field of a
//! spec.

pub mod act;
pub mod auth;
pub mod check;
pub mod condition;
pub mod device;
pub mod image;
pub mod label;
pub mod policy;
pub mod presence;
pub mod rollout;
pub mod schema;
pub mod table;
pub mod time;
pub mod webhook;

pub use condition::Condition;
pub use device::Device;
pub use image::ImageRef;
pub use policy::ImageUpdatePolicy;
pub use presence::DevicePresence;
pub use rollout::ImageRollout;
pub use webhook::RegistryWebhook;

/// API group of every kind.
pub const GROUP: &str = "tranche.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";

/// Label on a device: the fleet it belongs to. Only a convention that columns and examples use; policies may select by any label.
pub const FLEET_LABEL: &str = "tranche.dev/fleet";
/// Label on a rollout: the policy it was made for.
pub const POLICY_LABEL: &str = "tranche.dev/policy";
/// Label on a device: name of the Secret with the provisioning key that it came in by.
pub const PROVISIONING_KEY_LABEL: &str = "tranche.dev/provisioning-key";
/// Finalizer on a rollout: it stays until no device's answer hangs on it (see [`crate::plan::deletion`]).
pub const ROLLOUT_FINALIZER: &str = "tranche.dev/rollout";

/// Field manager of the controller's status writes.
pub const CONTROLLER_MANAGER: &str = "tranche-controller";
/// Field manager of the gateway's status writes.
pub const GATEWAY_MANAGER: &str = "tranche-gateway";
/// Field manager under which the gateway creates devices that enrol, and writes their `spec.auth`.
pub const ENROLMENT_MANAGER: &str = "tranche-enrolment";

/// What the field managers of policies begin with.
const POLICY_MANAGER: &str = "tranche-policy/";

/// Field manager under which one policy's image entries are written to devices. One per policy, so that two policies
/// which claim one repository on one device collide in the API server instead of overwriting each other.
#[must_use]
pub fn policy_manager(policy: &str) -> String {
    format!("{POLICY_MANAGER}{policy}")
}

/// The policy whose field manager that is, if it is a policy's.
#[must_use]
pub fn policy_of_manager(manager: &str) -> Option<&str> {
    manager.strip_prefix(POLICY_MANAGER)
}

/// Every CRD, in the order in which they are printed and installed.
#[must_use]
pub fn crds() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    [ImageUpdatePolicy::crd(), ImageRollout::crd(), Device::crd(), RegistryWebhook::crd(), DevicePresence::crd()]
        .into_iter()
        .map(|mut crd| {
            let labels = crd.metadata.labels.get_or_insert_default();
            labels.insert("app.kubernetes.io/name".into(), "tranche".into());
            labels.insert("app.kubernetes.io/part-of".into(), "tranche".into());
            crd
        })
        .collect()
}
