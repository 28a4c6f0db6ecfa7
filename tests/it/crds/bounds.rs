//! Every bound of every schema is broken once: too long, too many, out of range, not among the known values, missing,
//! twice, of another type. The cases are made from the schemas, so none is forgotten; objects with every field set
//! ([`super::full`]) say where.

use futures::StreamExt as _;
use kube::Client;
use serde_json::{Map, Value, json};

use super::refusal::{Cause, dry_patch, dry_run};
use super::schema::{Constraint, Rule, Step, constraints, locate, shown};
use super::{full, rules};
use crate::support::controlplane::{ControlPlane, User};

/// Requests under way at once.
const CONCURRENCY: usize = 8;

/// A full object with one thing wrong.
struct Broken {
    what: String,
    object: Value,
    field: String,
    says: String,
}

#[tokio::test]
async fn full_objects_are_accepted_and_kept_whole() {
    let (client, namespace) = place("crds-full").await;
    for object in full::all() {
        let kept = ask(&client, &namespace, &object).await;
        let kept = kept.unwrap_or_else(|causes| panic!("{} is refused: {causes:?}", object["metadata"]["name"]));
        let part = if object.get("status").is_some() { "status" } else { "spec" };
        assert_eq!(kept[part], object[part], "{part} of {}", object["kind"]);
    }
}

#[tokio::test]
async fn every_bound_is_kept() {
    let (client, namespace) = place("crds-bounds").await;
    let cases: Vec<Broken> = tranche::api::crds()
        .iter()
        .flat_map(|crd| {
            let kind = crd.spec.names.kind.clone();
            constraints(&kind).into_iter().filter_map(move |constraint| broken(&kind, &constraint))
        })
        .collect();
    assert!(cases.len() > 300, "only {} cases: the schemas are not read", cases.len());
    let wrong: Vec<String> = futures::stream::iter(&cases)
        .map(|case| async {
            match ask(&client, &namespace, &case.object).await {
                Ok(_) => Some(format!("{} is accepted", case.what)),
                Err(causes) if told(&causes, case) => None,
                Err(causes) => Some(format!("{}: expected {}: {}, got {causes:?}", case.what, case.field, case.says)),
            }
        })
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn told(causes: &[Cause], case: &Broken) -> bool {
    causes.iter().any(|cause| cause.field == case.field && cause.message.contains(&case.says))
}

/// A namespace that holds the full objects, without their statuses.
pub async fn place(purpose: &str) -> (Client, String) {
    let plane = ControlPlane::shared();
    let (client, namespace) = (plane.client(User::Admin).await, plane.namespace(purpose).await);
    for object in full::all() {
        rules::create(&client, &namespace, &object).await;
    }
    (client, namespace)
}

/// Asks about an object's status where it has one (its spec is that of the object in the cluster then), else about all of it.
pub async fn ask(client: &Client, namespace: &str, object: &Value) -> Result<Value, Vec<Cause>> {
    let name = object["metadata"]["name"].as_str().expect("a name");
    match object.get("status") {
        Some(_) => dry_patch(client, namespace, name, object).await,
        None => {
            let mut new = object.clone();
            new["metadata"]["name"] = format!("{name}-new").into();
            dry_run(client, namespace, &new).await
        }
    }
}

/// The full object in which a path exists, without its status if the path isn't in there; and where it leads.
pub fn full_at(kind: &str, path: &[Step]) -> (Value, String, String) {
    let found = full::of(kind).into_iter().find_map(|mut object| {
        if path.first() != Some(&Step::Field("status".into())) {
            object.as_object_mut().expect("an object").remove("status");
        }
        let (pointer, field) = locate(&object, path)?;
        Some((object, pointer, field.trim_start_matches('.').to_owned()))
    });
    found.unwrap_or_else(|| panic!("no full {kind} has {}: add it to full.rs", shown(path)))
}

/// The object that breaks a constraint. CEL rules have a table of their own.
fn broken(kind: &str, constraint: &Constraint) -> Option<Broken> {
    let Constraint { path, rule } = constraint;
    if path.is_empty() || path.first() == Some(&Step::Field("metadata".into())) {
        return None;
    }
    let (mut object, pointer, mut field) = full_at(kind, path);
    let node = object.pointer_mut(&pointer).expect("located");
    let says = match rule {
        Rule::Cel { .. } | Rule::Transition { .. } => return None,
        Rule::Type(type_) => {
            // The status of nothing would be asked about.
            if path.len() == 1 {
                return None;
            }
            *node = if type_ == "integer" { json!("seven") } else { json!(7) };
            format!("must be of type {type_}")
        }
        Rule::Required(name) => {
            node.as_object_mut().expect("an object").remove(name);
            field = format!("{field}.{name}");
            "Required value".into()
        }
        Rule::MinLength(length) => {
            *node = "x".repeat(length - 1).into();
            format!("should be at least {length} chars long")
        }
        Rule::MaxLength(length) => {
            *node = "x".repeat(length + 1).into();
            format!("may not be more than {length} bytes")
        }
        Rule::Minimum(least) => {
            *node = (least - 1).into();
            format!("should be greater than or equal to {least}")
        }
        Rule::Maximum(most) => {
            *node = (most + 1).into();
            format!("should be less than or equal to {most}")
        }
        Rule::MaxItems(most) => {
            let items = node.as_array_mut().expect("a list");
            let first = items[0].clone();
            items.resize(most + 1, first);
            format!("must have at most {most} items")
        }
        Rule::MaxProperties(most) => {
            let entries = node.as_object().expect("a map");
            let first = entries.values().next().expect("an entry").clone();
            *node = (0..=*most).map(|index| (index.to_string(), first.clone())).collect::<Map<_, _>>().into();
            format!("must have at most {most} items")
        }
        Rule::OneOf(values) => {
            *node = "Nonsense".into();
            format!("supported values: \"{}\"", values.join("\", \""))
        }
        Rule::UniqueItems => {
            let items = node.as_array_mut().expect("a list");
            items.push(items[0].clone());
            field = format!("{field}[{}]", items.len() - 1);
            "Duplicate value".into()
        }
        Rule::Time => {
            *node = "tomorrow".into();
            "must be of type date-time".into()
        }
    };
    Some(Broken { what: format!("{kind} {} with {rule:?}", shown(path)), object, field, says })
}
