//! Tranche's own Deployment, where the chart has made one: what its pod template says of how it runs.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, EnvVar};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::Finding;
use crate::cli::cluster::Cluster;
use crate::cli::fault::Request;
use crate::manage::door::SECRET_VARIABLE;

/// What is known of it.
pub(super) type Read = Result<Vec<Deployment>, String>;

/// Reads them.
pub(super) async fn read(cluster: &Cluster) -> Read {
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let request =
        Request { verb: "list", plural: "deployments", group: "apps", name: None, namespace: &cluster.namespace };
    let list = api.list(&ListParams::default().labels("app.kubernetes.io/name=tranche")).await;
    list.map(|list| list.items).map_err(|error| request.refused(&error).brief().to_owned())
}

/// Whether devices are to enrol by themselves, as far as can be told.
pub(super) fn enrols(read: &Read) -> bool {
    let says_no = |container: &Container| container.args.iter().flatten().any(|arg| arg == "--no-enrolment");
    !read.as_ref().is_ok_and(|all| all.iter().flat_map(containers).any(says_no))
}

/// Whether the first webhook URL has a secret. The Secret itself is not read.
pub(super) fn webhook_secret(read: &Read) -> Finding {
    const CHECK: &str = "webhook secret";
    let deployments = match read {
        Ok(deployments) => deployments,
        Err(why) => return Finding::unknown(CHECK, format!("can't be seen: {why}")),
    };
    let Some(first) = deployments.first() else {
        let text = format!(
            "the chart has made no Deployment here; where `tranche run api` has no {SECRET_VARIABLE}, the first URL is shut"
        );
        return Finding::unknown(CHECK, text);
    };
    let all = || deployments.iter().flat_map(containers);
    let named = all().flat_map(|container| container.env.iter().flatten()).find(|env| env.name == SECRET_VARIABLE);
    let name = first.name_any();
    match named {
        Some(EnvVar { value: Some(value), .. }) if !value.is_empty() => Finding::warn(
            CHECK,
            format!("Deployment {name} has {SECRET_VARIABLE} in its pod template, for whoever may read that"),
            "put it into a Secret, and that into webhook.existingSecret of the chart",
        ),
        Some(EnvVar { value_from: Some(from), .. }) => {
            let secret = from.secret_key_ref.as_ref().map(|secret| format!(" Secret {}", secret.name));
            let secret = secret.unwrap_or_else(|| " elsewhere".into());
            Finding::good(CHECK, format!("Deployment {name} takes {SECRET_VARIABLE} from{secret}"))
        }
        None if all().any(|container| container.env_from.iter().flatten().next().is_some()) => {
            let text = format!("whether Deployment {name} has {SECRET_VARIABLE} is said by what its envFrom names");
            Finding::unknown(CHECK, text)
        }
        Some(_) | None => {
            let text = format!(
                "Deployment {name} has no {SECRET_VARIABLE}: the first URL is shut; webhook.existingSecret of the chart opens it"
            );
            Finding::unknown(CHECK, text)
        }
    }
}

fn containers(deployment: &Deployment) -> impl Iterator<Item = &Container> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.into_iter().flat_map(|pod| &pod.containers)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Grade;
    use super::*;

    fn deployed(container: &Value) -> Read {
        let deployment = json!({
            "metadata": {"name": "tranche"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "controller"}, container]}}},
        });
        Ok(vec![serde_json::from_value(deployment).expect("a deployment")])
    }

    #[test]
    fn the_secret_of_the_first_url() {
        let with = |env: Value| webhook_secret(&deployed(&json!({"name": "gateway", "env": env})));
        let from = json!([{"name": SECRET_VARIABLE, "valueFrom": {"secretKeyRef": {"name": "hook", "key": "secret"}}}]);
        let found = with(from);
        assert_eq!((found.grade, found.text.ends_with("from Secret hook")), (Grade::Good, true), "{}", found.text);
        let found = with(json!([{"name": SECRET_VARIABLE, "value": "hunter2"}]));
        assert_eq!(found.grade, Grade::Warn);
        assert!(!found.text.contains("hunter2"), "a secret is shown");
        assert!(with(json!([])).text.contains("the first URL is shut"));
        let elsewhere = json!({"name": "gateway", "envFrom": [{"configMapRef": {"name": "c"}}]});
        assert!(webhook_secret(&deployed(&elsewhere)).text.contains("envFrom"));
        for unknown in [Ok(Vec::new()), Err("you may not list deployments".to_owned())] {
            assert_eq!(webhook_secret(&unknown).grade, Grade::Unknown);
        }
    }

    #[test]
    fn whether_devices_enrol() {
        assert!(enrols(&deployed(&json!({"name": "gateway", "args": ["run", "gateway"]}))));
        assert!(!enrols(&deployed(&json!({"name": "gateway", "args": ["run", "gateway", "--no-enrolment"]}))));
        assert!(enrols(&Err("nobody knows".into())));
    }
}
