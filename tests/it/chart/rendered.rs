//! What the chart renders, without a cluster.

use serde_json::{Value, json};

use super::helm::{find, folder, helm, render};

/// Sets of values that people have.
pub fn value_sets() -> Vec<(&'static str, Value)> {
    vec![
        ("the defaults", json!({})),
        ("everything", everything()),
        (
            "rights from elsewhere",
            json!({ "rbac": { "create": false }, "serviceAccount": { "create": false, "name": "mine" } }),
        ),
        ("devices that are known already", json!({ "enrolment": { "enabled": false } })),
        ("a load balancer", json!({ "service": { "type": "LoadBalancer", "port": 443, "nodePort": 30443 } })),
    ]
}

fn everything() -> Value {
    let resources = json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "memory": "2Gi" } });
    json!({
        "image": {
            "repository": "registry.local:5000/tranche", "tag": "v1", "digest": format!("sha256:{}", "0f".repeat(32)),
            "pullPolicy": "Always",
        },
        "imagePullSecrets": [{ "name": "pull" }],
        "fullnameOverride": "updates",
        "serviceAccount": { "create": true, "name": "updater", "annotations": { "example.com/role": "updater" } },
        "webhook": { "existingSecret": "hook", "secretKey": "token", "trustedProxies": ["10.0.0.0/8", "fd00::/8"] },
        "registry": { "allowAddresses": ["127.0.0.0/8", "::1/128"] },
        "healthChecks": { "networks": ["10.8.0.0/16"], "allowAddresses": ["169.254.1.0/24"], "jobs": true },
        "tls": {
            "existingSecret": "certificate", "clientCASecret": "authorities",
            "clientURIPrefixes": ["urn:uuid:", "spiffe://fleet.example/device/"],
        },
        "enrolment": { "enabled": true, "keyOverlap": "2h" },
        "service": { "type": "NodePort", "port": 8443, "nodePort": 30444, "annotations": { "example.com/a": "b" } },
        "logFormat": "text",
        "controller": { "resources": resources },
        "gateway": { "presenceInterval": "30s", "resources": resources },
        "podAnnotations": { "prometheus.io/scrape": "true" },
        "podLabels": { "team": "fleet" },
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "tolerations": [{ "key": "edge", "operator": "Exists" }],
        "affinity": { "nodeAffinity": {} },
    })
}

#[test]
fn lint_has_nothing_to_say() {
    for (what, values) in value_sets() {
        let chart = folder();
        let linted = helm(&["lint", chart.to_str().expect("a path"), "--strict", "--values", "-"], &values);
        let text = linted.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!text.contains("[WARNING]") && !text.contains("[ERROR]"), "{what}: {text}");
    }
}

#[test]
fn values_that_are_none_are_refused() {
    for (values, says) in [
        (json!({ "replicas": 2 }), "replicas"),
        (json!({ "image": { "repository": "" } }), "repository"),
        (json!({ "image": { "digest": "sha256:12" } }), "digest"),
        (json!({ "service": { "type": "ExternalName" } }), "type"),
        (json!({ "service": { "port": 0 } }), "port"),
        (json!({ "watchNamespace": "Not a name" }), "watchNamespace"),
        (json!({ "logFormat": "xml" }), "logFormat"),
        (json!({ "gateway": { "presenceInterval": "soon" } }), "presenceInterval"),
        (json!({ "enrolment": { "keyOverlap": "soon" } }), "keyOverlap"),
        (json!({ "tls": { "clientURIPrefixes": ["spiffe://fleet.example/device"] } }), "clientURIPrefixes"),
        (json!({ "webhook": { "trustedProxies": ["proxy.example.com"] } }), "trustedProxies"),
        (json!({ "registry": { "allowAddresses": ["localhost"] } }), "allowAddresses"),
        (json!({ "webhook": { "secret": "in the values, for everybody to read" } }), "secret"),
    ] {
        let chart = folder();
        let rendered = helm(&["template", "fleet", chart.to_str().expect("a path"), "--values", "-"], &values);
        let error = rendered.err().unwrap_or_else(|| panic!("{values} is accepted"));
        assert!(error.contains(says), "{values}: {error}");
    }
}

#[test]
fn every_object_says_whose_it_is() {
    for (what, values) in value_sets() {
        for object in render("somewhere", &values) {
            let labels = &object["metadata"]["labels"];
            for (label, expected) in [
                ("app.kubernetes.io/name", "tranche"),
                ("app.kubernetes.io/instance", "fleet"),
                ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
                ("app.kubernetes.io/part-of", "tranche"),
                ("app.kubernetes.io/managed-by", "Helm"),
                ("helm.sh/chart", "tranche-0.1.0"),
            ] {
                assert_eq!(labels[label], expected, "{what}: {} {label}", object["kind"]);
            }
            assert_eq!(object["metadata"]["namespace"], "somewhere", "{what}: {}", object["kind"]);
        }
    }
}

#[test]
fn one_pod_that_may_do_nothing_to_its_node() {
    for (what, values) in value_sets() {
        let objects = render("somewhere", &values);
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        assert_eq!(deployment["spec"]["replicas"], 1, "{what}");
        assert_eq!(deployment["spec"]["strategy"], json!({ "type": "Recreate" }), "{what}");
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{what}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{what}");
        let containers = pod["containers"].as_array().expect("containers");
        let names: Vec<&Value> = containers.iter().map(|container| &container["name"]).collect();
        assert_eq!(names, ["controller", "gateway"], "{what}");
        for container in containers {
            let name = &container["name"];
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                }),
                "{what}: {name}"
            );
            assert!(container["resources"]["limits"]["memory"].is_string(), "{what}: {name} has no limit");
            for (probe, path) in
                [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
            {
                let get = &container[probe]["httpGet"];
                assert_eq!(get["path"], path, "{what}: {name} {probe}");
                let ports = container["ports"].as_array().expect("ports");
                assert!(ports.iter().any(|port| port["name"] == get["port"]), "{what}: {name} {probe} has no port");
            }
        }
        let ports: Vec<&Value> = containers.iter().flat_map(|c| c["ports"].as_array().expect("ports")).collect();
        let mut numbers: Vec<&Value> = ports.iter().map(|port| &port["containerPort"]).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len(), "{what}: containers of one pod share their ports");
    }
}

/// The binary knows every argument and variable that the pod gives it.
#[test]
fn the_binary_takes_its_arguments() {
    let objects = render("somewhere", &everything());
    let pod = &find(&objects, "Deployment", "updates")["spec"]["template"]["spec"];
    for container in pod["containers"].as_array().expect("containers") {
        let args = container["args"].as_array().expect("arguments").iter().map(|arg| arg.as_str().expect("text"));
        let parsed = <tranche::cli::Cli as clap::Parser>::try_parse_from(std::iter::once("tranche").chain(args));
        assert!(parsed.is_ok(), "{}: {parsed:?}", container["name"]);
        let help = <tranche::cli::Cli as clap::CommandFactory>::command();
        let run = help.find_subcommand("run").expect("tranche run");
        for variable in container["env"].as_array().expect("variables") {
            let name = variable["name"].as_str().expect("a name");
            let known = run.get_arguments().any(|arg| arg.get_env().is_some_and(|env| env == name));
            assert!(
                known || ["HOSTNAME", tranche::manage::door::SECRET_VARIABLE].contains(&name),
                "{}: {name} means nothing to tranche run",
                container["name"]
            );
        }
    }
    let gateway = &pod["containers"][1];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "certificate");
    assert_eq!(pod["volumes"][1]["secret"]["secretName"], "authorities");
    let secret = gateway["env"].as_array().expect("variables").iter().find(|v| v["name"] == "DOCKER_WEBHOOK_SECRET");
    assert_eq!(secret.expect("the secret")["valueFrom"]["secretKeyRef"], json!({ "name": "hook", "key": "token" }));
}

#[test]
fn rights_end_at_the_watched_namespace() {
    let objects = render("here", &json!({ "watchNamespace": "there" }));
    for kind in ["Role", "RoleBinding"] {
        for component in ["controller", "gateway", "api"] {
            let object = find(&objects, kind, &format!("fleet-tranche-{component}"));
            assert_eq!(object["metadata"]["namespace"], "there");
        }
    }
    let subject = &find(&objects, "RoleBinding", "fleet-tranche-api")["subjects"][0];
    assert_eq!((&subject["name"], &subject["namespace"]), (&json!("fleet-tranche"), &json!("here")));
    assert!(objects.iter().all(|object| !object["kind"].as_str().unwrap_or_default().starts_with("Cluster")));
    assert!(!json!(objects).to_string().contains("\"*\""), "no right to everything");
}
