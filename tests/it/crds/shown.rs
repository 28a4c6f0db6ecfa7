//! What people see and type: columns, short names, the category.

use std::collections::BTreeMap;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tranche::api::{Device, ImageRollout, ImageUpdatePolicy};

use super::bounds::place;
use super::full;
use crate::support::controlplane::{ControlPlane, User};

async fn get(client: &Client, url: &str, accept: &str) -> Value {
    let request = http::Request::get(url).header(http::header::ACCEPT, accept).body(Vec::new());
    client.request(request.expect("a request")).await.expect(url)
}

#[tokio::test]
async fn names_that_people_type() {
    let client = ControlPlane::shared().client(User::Admin).await;
    let resources = get(&client, "/apis/tranche.dev/v1alpha1", "application/json").await;
    let found: BTreeMap<&str, (Value, Value, Value)> = resources["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|resource| !resource["name"].as_str().unwrap_or_default().contains('/'))
        .map(|r| {
            (
                r["name"].as_str().unwrap_or_default(),
                (r["shortNames"].clone(), r["categories"].clone(), r["kind"].clone()),
            )
        })
        .collect();
    let tranche = json!(["tranche"]);
    let expected = BTreeMap::from([
        ("devicepresences", (Value::Null, Value::Null, json!("DevicePresence"))),
        ("devices", (json!(["idev"]), tranche.clone(), json!("Device"))),
        ("imagerollouts", (json!(["iro"]), tranche.clone(), json!("ImageRollout"))),
        ("imageupdatepolicies", (json!(["iup"]), tranche.clone(), json!("ImageUpdatePolicy"))),
        ("registrywebhooks", (json!(["rwh"]), tranche, json!("RegistryWebhook"))),
    ]);
    assert_eq!(found, expected);
}

#[tokio::test]
async fn columns_of_kubectl_get() {
    let (client, namespace) = place("crds-columns").await;
    store_status::<ImageUpdatePolicy>(&client, &namespace, "ImageUpdatePolicy").await;
    store_status::<ImageRollout>(&client, &namespace, "ImageRollout").await;
    store_status::<Device>(&client, &namespace, "Device").await;
    let image = "docker.io/iotistic/myapp:v2";
    for (plural, columns) in [
        (
            "imageupdatepolicies",
            vec![
                ("Name", json!("full")),
                ("Pattern", json!("iotistic/myapp:*")),
                ("Strategy", json!("Staged")),
                ("Latest", json!(image)),
                ("Active", json!("myapp-1")),
                ("Ready", json!("True")),
                ("Suspended", json!(false)),
                ("Age", Value::Null),
            ],
        ),
        (
            "imagerollouts",
            vec![
                ("Name", json!("full")),
                ("Image", json!("docker.io/iotistic/myapp:v2.0.1")),
                ("Phase", json!("Halted")),
                ("Batch", json!("1/3")),
                ("Updated", json!(1)),
                ("Healthy", json!(1)),
                ("Failed", json!(1)),
                // With -o wide.
                ("Message", json!("waiting for a person")),
                ("Age", Value::Null),
                // Likewise, and read by lists that are long.
                ("Created", Value::Null),
                ("Revision", Value::Null),
            ],
        ),
        (
            "devices",
            vec![
                ("Name", json!("full")),
                ("Fleet", Value::Null),
                ("Images", json!(image)),
                ("Connected", Value::Null),
                ("InSync", Value::Null),
                ("LastSeen", Value::Null),
                ("Age", Value::Null),
                // With -o wide, and read by lists that are long.
                ("Held", json!(false)),
                ("Failure", json!("DeadlineExceeded")),
                ("Repository", json!("docker.io/iotistic/myapp")),
                ("Also", Value::Null),
            ],
        ),
    ] {
        let url = format!("/apis/tranche.dev/v1alpha1/namespaces/{namespace}/{plural}/full");
        let table = get(&client, &url, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
        let names: Vec<&str> = texts(&table["columnDefinitions"], "name");
        assert_eq!(names, columns.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{plural}");
        let wide: Vec<&Value> = table["columnDefinitions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|column| column["priority"] != 0)
            .map(|column| &column["name"])
            .collect();
        let expected = match plural {
            "imagerollouts" => vec!["Message", "Created", "Revision"],
            "devices" => vec!["Held", "Failure", "Repository", "Also"],
            _ => vec![],
        };
        assert_eq!(wide, expected, "{plural}: columns of -o wide only");
        for ((name, expected), cell) in columns.iter().zip(table["rows"][0]["cells"].as_array().expect("cells")) {
            // Ages are of now; those without a value here are empty or a matter of the moment.
            assert!(expected.is_null() || cell == expected, "{plural} {name}: {cell}, not {expected}");
        }
    }
}

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().into_iter().flatten().filter_map(|item| item[key].as_str()).collect()
}

async fn store_status<K>(client: &Client, namespace: &str, kind: &str)
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let status = full::of(kind)[0]["status"].clone();
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status("full", &PatchParams::default(), &patch).await.expect("the status is stored");
}
