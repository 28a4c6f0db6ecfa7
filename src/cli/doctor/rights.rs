//! Who may do what: the person who types, and controller and gateway where the chart runs them.

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

/// What the gateway calls.
const GATEWAY: &[Right] = &[
    (GROUP, "devices", "list"),
    (GROUP, "devices", "watch"),
    (GROUP, "imagerollouts", "list"),
    (GROUP, "imagerollouts", "watch"),
    (GROUP, "devices/status", "patch"),
    (GROUP, "devicepresences", "get"),
    (GROUP, "devicepresences", "list"),
    (GROUP, "devicepresences", "create"),
    (GROUP, "devicepresences", "update"),
    (GROUP, "devicepresences", "delete"),
];
/// What it calls when devices enrol.
const ENROLMENT: &[Right] = &[
    (GROUP, "devices", "get"),
    (GROUP, "devices", "create"),
    (GROUP, "devices", "patch"),
    ("", "secrets", "get"),
    ("", "secrets", "patch"),
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

/// What controller and gateway may do, where the chart has bound their ServiceAccount. `enrols`: devices are to enrol.
pub async fn of_components(cluster: &Cluster, enrols: bool) -> Vec<Finding> {
    let (controller, gateway, enrolment) = tokio::join!(
        of_component(
            cluster,
            "controller's rights",
            "-controller",
            CONTROLLER,
            "the controller stands still without them"
        ),
        of_component(cluster, "gateway's rights", "-gateway", GATEWAY, "devices are told nothing without them"),
        async {
            if !enrols {
                return None;
            }
            of_component(cluster, "enrolment's rights", "-gateway", ENROLMENT, "no device enrols without them").await
        },
    );
    [controller, gateway, enrolment].into_iter().flatten().collect()
}

async fn of_component(
    cluster: &Cluster,
    check: &'static str,
    role: &str,
    rights: &[Right],
    without: &str,
) -> Option<Finding> {
    let account = match account(cluster, role).await {
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
            return Some(Finding::unknown(check, format!("can't be seen: {}", request.refused(&error).brief())));
        }
    };
    let api: Api<LocalSubjectAccessReview> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let answers = join_all(rights.iter().map(async |right: &Right| {
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
        Err(_) => Finding::unknown(check, format!("you may not ask what {account} may do")),
        Ok(missing) if missing.is_empty() => Finding::good(check, format!("{account} may do all that it has to")),
        Ok(missing) => Finding::bad(
            check,
            format!("{account} may not {}", few(&missing)),
            format!("helm upgrade the chart, or restore its Role: {without}"),
        ),
    })
}

/// The user that the chart's binding for a component names.
async fn account(cluster: &Cluster, role: &str) -> Result<Option<String>, kube::Error> {
    let api: Api<RoleBinding> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let list = api.list(&ListParams::default().labels("app.kubernetes.io/name=tranche")).await?;
    let binding = list.items.into_iter().find(|binding| binding.role_ref.name.ends_with(role));
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

    const CHART: &str = include_str!("../../../charts/tranche/templates/rbac.yaml");

    type Written = BTreeSet<(String, String, String)>;

    fn granted(rules: &str) -> Written {
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
        granted
    }

    fn asked(rights: &[Right]) -> Written {
        let written = |(group, resource, verb): &Right| ((*group).into(), (*resource).into(), (*verb).into());
        rights.iter().map(written).collect()
    }

    /// The rules of a component: those that it always has, and those that it has under a condition.
    fn rules(component: &str) -> (&'static str, &'static str) {
        let define = format!("define \"tranche.rules.{component}\" -}}}}");
        let text = CHART.split(define.as_str()).nth(1).unwrap();
        let (always, rest) = text.split_once("{{-").unwrap();
        (always, rest.split_once("}}").unwrap().1.split_once("{{-").unwrap().0)
    }

    #[test]
    fn the_components_are_asked_for_what_the_chart_grants() {
        // Jobs are granted where a policy has some.
        assert_eq!(asked(CONTROLLER), granted(rules("controller").0));
        let (always, enrolment) = rules("gateway");
        assert_eq!(asked(GATEWAY), granted(always));
        assert_eq!(asked(ENROLMENT), granted(enrolment));
    }
}
