//! The API server: does it answer, does it know the kinds, does its clock agree.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::client::Body;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::Finding;
use crate::cli::cluster::Cluster;
use crate::cli::fault::Request;

/// A difference of clocks that changes nothing: the time of an answer on its way, and the second that HTTP cuts off.
const SMALL: i64 = 5;
/// One by which windows, deadlines and sightings go wrong.
const LARGE: i64 = 60;

const APPLY: &str = "tranche crds | kubectl apply --server-side -f -";

/// Whether the cluster answers.
pub async fn reachable(cluster: &Cluster) -> Finding {
    const CHECK: &str = "cluster";
    match cluster.client.apiserver_version().await {
        Ok(version) => {
            Finding::good(CHECK, format!("Kubernetes {} answers; namespace {}", version.git_version, cluster.namespace))
        }
        Err(error) => {
            let request =
                Request { verb: "get", plural: "version", group: "", name: None, namespace: &cluster.namespace };
            Finding::bad(
                CHECK,
                request.refused(&error).to_string(),
                "kubectl version, and KUBECONFIG, --kubeconfig or --context",
            )
        }
    }
}

/// Whether the kinds are installed, and are those that this binary speaks.
pub async fn kinds(cluster: &Cluster) -> Vec<Finding> {
    const CHECK: &str = "kinds";
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let (mut missing, mut other, mut unready) = (Vec::new(), Vec::new(), Vec::new());
    for wanted in crate::api::crds() {
        let name = wanted.name_any();
        match api.get_opt(&name).await {
            Ok(None) => missing.push(name),
            Ok(Some(there)) => {
                if !is_established(&there) {
                    unready.push(name);
                } else if !same(&wanted, &there) {
                    other.push(name);
                }
            }
            Err(error) => {
                let request = Request {
                    verb: "get",
                    plural: "customresourcedefinitions",
                    group: "apiextensions.k8s.io",
                    name: None,
                    namespace: &cluster.namespace,
                };
                let refused = request.refused(&error);
                let text = format!("can't be compared with this binary's: {}", refused.brief());
                return vec![Finding::unknown(CHECK, text)];
            }
        }
    }
    let mut findings = Vec::new();
    if !missing.is_empty() {
        findings.push(Finding::bad(CHECK, format!("not installed: {}", missing.join(", ")), APPLY));
    }
    if !unready.is_empty() {
        let text = format!("installed and not served: {}", unready.join(", "));
        findings.push(Finding::bad(CHECK, text, format!("kubectl describe crd {}", unready.join(" "))));
    }
    if !other.is_empty() {
        let text =
            format!("of another version than this tranche ({}): {}", env!("CARGO_PKG_VERSION"), other.join(", "));
        findings.push(Finding::warn(
            CHECK,
            text,
            format!("use the tranche that installed them, or install its own: {APPLY}"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, format!("installed, of this version ({})", env!("CARGO_PKG_VERSION"))));
    }
    findings
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Whether two definitions say the same. What the API server adds by itself is no difference.
fn same(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> bool {
    let said = |crd: &CustomResourceDefinition| -> Option<Value> {
        let version = crd.spec.versions.iter().find(|version| version.name == crate::api::VERSION)?;
        let mut value = serde_json::to_value((&version.schema, &version.selectable_fields)).ok()?;
        without_nothing(&mut value);
        Some(value)
    };
    said(ours) == said(theirs)
}

/// Takes out what is there and says nothing: null, and empty lists and objects.
fn without_nothing(value: &mut Value) {
    let nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(without_nothing);
            map.retain(|_, value| !nothing(value));
        }
        Value::Array(list) => list.iter_mut().for_each(without_nothing),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether this machine and the API server have the same time.
pub async fn clock(cluster: &Cluster) -> Finding {
    const CHECK: &str = "clock";
    let Ok(request) = http::Request::get("/version").body(Body::empty()) else {
        return Finding::unknown(CHECK, "the API server can't be asked");
    };
    let answer = cluster.client.send(request).await;
    let now = crate::clock::now();
    let date = answer.ok().and_then(|answer| {
        let date = answer.headers().get(http::header::DATE)?.to_str().ok()?;
        rfc2822::parse(date).ok().map(|date| date.timestamp())
    });
    match date {
        None => Finding::unknown(CHECK, "the API server does not say what time it has"),
        Some(theirs) => judged(theirs, now),
    }
}

fn judged(theirs: Timestamp, ours: Timestamp) -> Finding {
    const CHECK: &str = "clock";
    const ADVICE: &str = "synchronise the clocks (NTP) of this machine and of the cluster's nodes";
    let skew = ours.as_second() - theirs.as_second();
    let side = if skew > 0 { "ahead of" } else { "behind" };
    let text = format!("this machine is {}s {side} the API server", skew.abs());
    match skew.abs() {
        0..=SMALL => Finding::good(CHECK, "this machine and the API server agree"),
        ..=LARGE => Finding::warn(CHECK, text, ADVICE),
        _ => Finding::bad(CHECK, text, ADVICE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn clocks() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(judged(at(1000), at(1003)).grade, Grade::Good);
        assert_eq!(judged(at(1000), at(990)).grade, Grade::Warn);
        let late = judged(at(1000), at(100));
        assert_eq!((late.grade, late.text.as_str()), (Grade::Bad, "this machine is 900s behind the API server"));
    }

    #[test]
    fn definitions_that_say_the_same() {
        let ours = crate::api::crds().remove(0);
        let mut theirs = ours.clone();
        theirs.spec.names.list_kind = Some("ImageUpdatePolicyList".into());
        theirs.spec.versions[0].deprecated = Some(false);
        assert!(same(&ours, &theirs));
        let schema = theirs.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        schema.properties.as_mut().unwrap().remove("status");
        assert!(!same(&ours, &theirs));
        theirs.spec.versions.clear();
        assert!(!same(&ours, &theirs));
    }
}
