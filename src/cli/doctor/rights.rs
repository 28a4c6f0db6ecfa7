//! Who may do what: the person who types, and the controller where the chart runs it.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::{Finding, few};
use crate::api::GROUP;
use crate::cli::cluster::Cluster;
use crate::cli::fault::Request;
use crate::cli::person::{self, SayArgs};

/// A right: API group, resource (with its subresource), verb.
type Right = (&'static str, &'static str, &'static str);

/// What looking takes.
const LOOK: &[(&str, &[&str])] = &[
    ("imagerollouts", &["get", "list", "watch"]),
    ("imageupdatepolicies", &["get", "list", "watch"]),
    ("devices", &["get", "list", "watch"]),
    ("devicepresences", &["list"]),
    ("registrywebhooks", &["list"]),
];
/// What acting takes.
const ACT: &[(&str, &[&str])] =
    &[("imagerollouts", &["create", "patch"]), ("imageupdatepolicies", &["patch"]), ("devices", &["patch"])];

/// What the controller calls, as in charts/tranche/templates/rbac.yaml; a test compares the two.
const CONTROLLER: &[Right] = &[
    (GROUP, "imageupdatepolicies", "list"),
    (GROUP, "imageupdatepolicies", "watch"),
    (GROUP, "devicepresences", "list"),
    (GROUP, "devicepresences", "watch"),
    (GROUP, "imagerollouts", "get"),
    (GROUP, "imagerollouts", "list"),
    (GROUP, "imagerollouts", "watch"),
    (GROUP, "imagerollouts", "create"),
    (GROUP, "imagerollouts", "patch"),
    (GROUP, "imagerollouts", "delete"),
    ("", "secrets", "get"),
    (GROUP, "devices", "list"),
    (GROUP, "devices", "watch"),
    (GROUP, "devices", "patch"),
    (GROUP, "imageupdatepolicies/status", "patch"),
    (GROUP, "imagerollouts/status", "patch"),
    (GROUP, "devices/status", "patch"),
    (GROUP, "imageupdatepolicies/finalizers", "update"),
    ("events.k8s.io", "events", "create"),
    ("events.k8s.io", "events", "patch"),
];

/// What the person who types may do.
pub async fn of_user(cluster: &Cluster) -> Vec<Finding> {
    const CHECK: &str = "your rights";
    let who = person::of(cluster, &SayArgs::default()).await.name;
    let (look, act) = tokio::join!(refused_to_me(cluster, LOOK), refused_to_me(cluster, ACT));
    match (look, act) {
        (Err(why), _) | (_, Err(why)) => {
            vec![Finding::unknown(CHECK, format!("the API server does not say what {who} may do: {why}"))]
        }
        (Ok(look), Ok(act)) => vec![match (look.as_slice(), act.as_slice()) {
            ([], []) => Finding::good(CHECK, format!("{who} may look and act")),
            ([], act) => Finding::warn(
                CHECK,
                format!("{who} may look, and may not {}", act.join(", ")),
                format!(
                    "if {who} is to pause, approve or roll back, bind a role with these verbs in namespace {}",
                    cluster.namespace
                ),
            ),
            (look, _) => Finding::bad(
                CHECK,
                format!("{who} may not {}", look.join(", ")),
                format!("ask for a role with these verbs in namespace {}, or choose another by -n", cluster.namespace),
            ),
        }],
    }
}

async fn refused_to_me(
    cluster: &Cluster,
    rights: &[(&'static str, &'static [&'static str])],
) -> Result<Vec<String>, String> {
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let questions = rights.iter().flat_map(|(resource, verbs)| verbs.iter().map(move |verb| (GROUP, *resource, *verb)));
    let answers = join_all(questions.map(async |right: Right| {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes(right, &cluster.namespace)),
            ..Default::default()
        };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        Ok((right, answer.status.is_some_and(|status| status.allowed)))
    }))
    .await;
    refused(answers)
}

fn refused(answers: Vec<Result<(Right, bool), String>>) -> Result<Vec<String>, String> {
    let answers: Vec<(Right, bool)> = answers.into_iter().collect::<Result<_, String>>()?;
    Ok(answers
        .into_iter()
        .filter(|(_, allowed)| !allowed)
        .map(|((_, resource, verb), _)| format!("{verb} {resource}"))
        .collect())
}

fn attributes((group, resource, verb): Right, namespace: &str) -> ResourceAttributes {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..Default::default()
    }
}

/// What the controller may do, where the chart has bound its ServiceAccount.
pub async fn of_controller(cluster: &Cluster) -> Option<Finding> {
    const CHECK: &str = "controller's rights";
    let account = match account(cluster).await {
        Ok(Some(account)) => account,
        // It runs by hand, or with rights of a wider scope: there is nobody to ask for.
        Ok(None) => return None,
        Err(error) => {
            let request = Request {
                verb: "list",
                plural: "rolebindings",
                group: "rbac.authorization.k8s.io",
                name: None,
                namespace: &cluster.namespace,
            };
            return Some(Finding::unknown(CHECK, format!("can't be seen: {}", request.refused(&error).brief())));
        }
    };
    let api: Api<LocalSubjectAccessReview> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let answers = join_all(CONTROLLER.iter().map(async |right: &Right| {
        let review = LocalSubjectAccessReview {
            metadata: kube::api::ObjectMeta { namespace: Some(cluster.namespace.clone()), ..Default::default() },
            spec: SubjectAccessReviewSpec {
                user: Some(account.clone()),
                resource_attributes: Some(attributes(*right, &cluster.namespace)),
                ..Default::default()
            },
            ..Default::default()
        };
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        Ok((*right, answer.status.is_some_and(|status| status.allowed)))
    }))
    .await;
    Some(match refused(answers) {
        Err(_) => Finding::unknown(CHECK, format!("you may not ask what {account} may do")),
        Ok(missing) if missing.is_empty() => Finding::good(CHECK, format!("{account} may do all that it has to")),
        Ok(missing) => Finding::bad(
            CHECK,
            format!("{account} may not {}", few(&missing)),
            "helm upgrade the chart, or restore its Role: the controller stands still without them",
        ),
    })
}

/// The user that the chart's binding for the controller names.
async fn account(cluster: &Cluster) -> Result<Option<String>, kube::Error> {
    let api: Api<RoleBinding> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let list = api.list(&ListParams::default().labels("app.kubernetes.io/name=tranche")).await?;
    let binding = list.items.into_iter().find(|binding| binding.role_ref.name.ends_with("-controller"));
    let subjects = binding.and_then(|binding| binding.subjects).unwrap_or_default();
    Ok(subjects
        .into_iter()
        .find(|subject| subject.kind == "ServiceAccount")
        .map(|subject| format!("system:serviceaccount:{}:{}", subject.namespace.unwrap_or_default(), subject.name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_controller_is_asked_for_what_the_chart_grants() {
        let chart = include_str!("../../../charts/tranche/templates/rbac.yaml");
        let rules = chart.split("define \"tranche.rules.controller\" -}}").nth(1).unwrap();
        // Jobs are granted where a policy has some.
        let rules = rules.split("{{-").next().unwrap();
        let rules: serde_json::Value = serde_yaml::from_str(rules).unwrap();
        let texts = |value: &serde_json::Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let mut granted = BTreeSet::new();
        for rule in rules.as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        granted.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
        let asked: BTreeSet<_> = CONTROLLER
            .iter()
            .map(|(group, resource, verb)| ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()))
            .collect();
        assert_eq!(asked, granted);
    }
}
