//! Policies: ours, or the predecessor's row.

use http::{HeaderMap, Method, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::endpoint::{About, Call, Made, Reply, Table};
use super::flat::Row;
use super::input::{Json, NoBody, Nothing};
use super::page::{self, Pages};
use super::problems::Refusal;
use super::row::time;
use super::verb::{MANAGER, check_revision, person};
use super::wanted::{Wanted, is_news};
use crate::api::act::{Act, LAST_ACT};
use crate::api::time::whole_seconds;
use crate::api::{GROUP, ImageUpdatePolicy, VERSION, condition};
use crate::verbs::Person;

/// How often a policy is read again because somebody else wrote meanwhile.
const ATTEMPTS: u32 = 5;

pub(super) fn endpoints(table: Table) -> Table {
    let about = |id, summary, text| About { id, tag: "policies", summary, text };
    let forms = "Either `spec`, as the ImageUpdatePolicy has it, or the fields of the predecessor's row.";
    table
        .add(Method::GET, "/image-policies", about("listPolicies", "Policies, by name", ""), list)
        .add(Method::POST, "/image-policies", about("createPolicy", "Make a policy", forms), create)
        .add(Method::GET, "/image-policies/{id}", about("getPolicy", "One policy", ""), get)
        .add(
            Method::PUT,
            "/image-policies/{id}",
            about(
                "replacePolicy",
                "Change a policy",
                "`spec` replaces the spec; of a row, each field that says something new changes what it speaks of and the rest \
                 stays. An answer may be sent back with either of them changed; what changes nothing is not written.",
            ),
            put,
        )
        .add(
            Method::DELETE,
            "/image-policies/{id}",
            about("deletePolicy", "Delete a policy", "Its rollouts go with it; devices keep what they run."),
            delete,
        )
}

/// Which policy.
#[derive(JsonSchema, Debug, Deserialize)]
struct Id {
    /// Its name, or its UID.
    id: String,
}

/// A policy.
#[derive(JsonSchema, Debug, Serialize)]
struct PolicyRow {
    /// Its name: what every path here takes.
    id: String,
    /// The same.
    name: String,
    uid: String,
    #[serde(flatten)]
    row: Row,
    /// Whether the controller can follow it; null while it hasn't looked.
    ready: Option<bool>,
    /// Why not, or how it stands.
    message: Option<String>,
    /// The newest image that rolls or rolled out.
    latest_image: Option<String>,
    /// The rollout that runs now.
    active_rollout: Option<String>,
    created_at: Option<String>,
    /// All of it; the row may say less.
    #[schemars(with = "Map<String, Value>")]
    spec: Value,
}

impl From<&ImageUpdatePolicy> for PolicyRow {
    fn from(policy: &ImageUpdatePolicy) -> Self {
        let status = policy.status.clone().unwrap_or_default();
        let ready = condition::find(&status.conditions, condition::READY);
        Self {
            id: policy.name_any(),
            name: policy.name_any(),
            uid: policy.uid().unwrap_or_default(),
            row: Row::of(&policy.spec),
            ready: ready.map(|ready| ready.status == "True"),
            message: ready.map(|ready| ready.message.clone()),
            latest_image: status.latest.map(|latest| latest.image),
            active_rollout: status.active_rollout,
            created_at: policy.creation_timestamp().as_ref().map(time),
            spec: serde_json::to_value(&policy.spec).unwrap_or_default(),
        }
    }
}

#[derive(JsonSchema, Debug, Serialize)]
struct PolicyList {
    policies: Vec<PolicyRow>,
    count: usize,
}

async fn list(call: Call<Nothing, Nothing, NoBody>) -> Result<Reply<PolicyList>, Refusal> {
    let policies = Pages::<ImageUpdatePolicy>::of::<ImageUpdatePolicy>(&call.caller, &[]).all().await?;
    let policies: Vec<PolicyRow> = policies.iter().map(PolicyRow::from).collect();
    Ok(Reply::new(PolicyList { count: policies.len(), policies }))
}

/// A policy by its name or its UID.
pub(super) async fn find(caller: &Caller, id: &str) -> Result<ImageUpdatePolicy, Refusal> {
    let missing = || Refusal::NotFound { kind: "policy", id: id.to_owned(), namespace: caller.namespace().to_owned() };
    let id = id.to_ascii_lowercase();
    if !page::is_name(&id) {
        return Err(missing());
    }
    match caller.api::<ImageUpdatePolicy>().get(&id).await.map_err(Refusal::from) {
        Err(refusal) if refusal.is_missing() && page::is_uid(&id) => {
            let policies = Pages::<ImageUpdatePolicy>::of::<ImageUpdatePolicy>(caller, &[]).all().await?;
            policies.into_iter().find(|policy| policy.uid().as_deref() == Some(&id)).ok_or_else(missing)
        }
        Err(refusal) if refusal.is_missing() => Err(missing()),
        other => other,
    }
}

async fn get(call: Call<Id, Nothing, NoBody>) -> Result<Reply<PolicyRow>, Refusal> {
    let policy = find(&call.caller, &call.path.id).await?;
    Ok(Reply::of_revision(PolicyRow::from(&policy), policy.resource_version().as_deref()))
}

/// What was done to a policy, by whom and why, for its annotations.
fn act(verb: &str, person: &Person, generation: i64) -> Map<String, Value> {
    let act = Act {
        verb: verb.to_owned(),
        by: person.name.clone(),
        reason: person.reason.clone(),
        time: whole_seconds(person.time),
        generation,
    };
    act.annotation().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// Writes an object, unknown fields refused by the API server.
async fn write(caller: &Caller, method: Method, name: Option<&str>, object: &Value) -> Result<Value, Refusal> {
    let namespace = caller.namespace();
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    let path = format!(
        "/apis/{GROUP}/{VERSION}/namespaces/{namespace}/imageupdatepolicies{name}?fieldManager={MANAGER}&fieldValidation=Strict"
    );
    let body = serde_json::to_vec(object).unwrap_or_default();
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", "application/json").body(body);
    let bytes = caller.fetch(request.map_err(|_| Refusal::Unreachable)?).await.map_err(as_invalid)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::Unreadable("the policy".into()))
}

/// The API server calls an unknown field a bad request, and a wrong one invalid. Both are the same mistake.
fn as_invalid(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Server(status) if status.code == 400 => Refusal::Invalid(status.message),
        other => other,
    }
}

fn parsed(object: &Value) -> Result<ImageUpdatePolicy, Refusal> {
    serde_json::from_value(object.clone()).map_err(|_| Refusal::Unreadable("the policy".into()))
}

async fn create(call: Call<Nothing, Nothing, Json<Wanted>>) -> Result<Made<PolicyRow>, Refusal> {
    let Call { rest, caller, body: Json(wanted), .. } = call;
    let (name, spec) = (wanted.name()?, wanted.spec(None)?);
    let person = person(&rest, &caller, wanted.reason.as_deref()).await?;
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "ImageUpdatePolicy",
        "metadata": wanted.metadata(&name, act("PolicyCreated", &person, 1)),
        "spec": spec,
    });
    match write(&caller, Method::POST, None, &object).await {
        Ok(made) => answer(&parsed(&made)?, true),
        Err(Refusal::Server(status)) if status.is_already_exists() => {
            let there = find(&caller, &name).await?;
            // As it would be read back, with the defaults that the API server has filled in.
            let wanted = parsed(&json!({ "metadata": {}, "spec": spec })).map_err(|_| taken(&name))?;
            if wanted.spec == there.spec { answer(&there, false) } else { Err(taken(&name)) }
        }
        Err(refusal) => Err(refusal),
    }
}

fn taken(name: &str) -> Refusal {
    Refusal::Exists(format!("policy {name} is there already, and is another one: PUT it, or give yours a name"))
}

fn answer(policy: &ImageUpdatePolicy, created: bool) -> Result<Made<PolicyRow>, Refusal> {
    let reply = Reply::of_revision(PolicyRow::from(policy), policy.resource_version().as_deref());
    Ok(Made { reply, created })
}

async fn put(call: Call<Id, Nothing, Json<Wanted>>) -> Result<Reply<PolicyRow>, Refusal> {
    let Call { rest, caller, path: Id { id }, body: Json(wanted), headers, .. } = call;
    let person = person(&rest, &caller, wanted.reason.as_deref()).await?;
    for _ in 0..ATTEMPTS {
        let before = find(&caller, &id).await?;
        let Some(replaced) = replacement(&before, &wanted, &headers, &person)? else {
            return Ok(Reply::of_revision(PolicyRow::from(&before), before.resource_version().as_deref()));
        };
        match write(&caller, Method::PUT, Some(&before.name_any()), &replaced).await {
            Ok(written) => {
                let policy = parsed(&written)?;
                return Ok(Reply::of_revision(PolicyRow::from(&policy), policy.resource_version().as_deref()));
            }
            Err(refusal) if refusal.is_stale() => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Err(Refusal::Contended)
}

/// The policy as it is to be, with the revision that was looked at; `None` if it is so already.
fn replacement(
    before: &ImageUpdatePolicy,
    wanted: &Wanted,
    headers: &HeaderMap,
    person: &Person,
) -> Result<Option<Value>, Refusal> {
    check_revision(headers, before.resource_version().as_deref())?;
    let other = |name: &Option<String>| name.as_ref().is_some_and(|name| *name != before.name_any());
    if other(&wanted.name) || wanted.metadata.as_ref().is_some_and(|metadata| other(&metadata.name)) {
        return Err(Refusal::Invalid("name: a policy can't be renamed: make another one".into()));
    }
    let mut object = serde_json::to_value(before).unwrap_or_default();
    let spec = wanted.spec(Some(&before.spec))?;
    let changed = is_news(&spec, &before.spec);
    object["spec"] = Value::Object(spec);
    object["metadata"].as_object_mut().map(|metadata| metadata.remove("managedFields"));
    let had = |member: &str| object["metadata"][member].as_object().cloned().unwrap_or_default();
    let (had_labels, mut had_annotations) = (had("labels"), had("annotations"));
    let meta = wanted.metadata.as_ref();
    let labels = meta.and_then(|metadata| metadata.labels.clone()).unwrap_or_else(|| had_labels.clone());
    let mut annotations =
        meta.and_then(|metadata| metadata.annotations.clone()).unwrap_or_else(|| had_annotations.clone());
    // Who acted last is ours to say.
    annotations.remove(LAST_ACT);
    had_annotations.remove(LAST_ACT);
    if !changed && labels == had_labels && annotations == had_annotations {
        return Ok(None);
    }
    // Only another spec makes another generation.
    let generation = before.metadata.generation.unwrap_or_default() + i64::from(changed);
    annotations.extend(act("PolicyChanged", person, generation));
    object["metadata"]["labels"] = Value::Object(labels);
    object["metadata"]["annotations"] = Value::Object(annotations);
    Ok(Some(object))
}

/// What was deleted.
#[derive(JsonSchema, Debug, Serialize)]
struct Deleted {
    message: &'static str,
    id: String,
    /// When it is asked for; its rollouts may hold it back until their devices are told what to run without them.
    requested_at: String,
}

async fn delete(call: Call<Id, Nothing, NoBody>) -> Result<Reply<Deleted>, Refusal> {
    let Call { rest, caller, path: Id { id }, headers, .. } = call;
    let policy = find(&caller, &id).await?;
    check_revision(&headers, policy.resource_version().as_deref())?;
    // If-Match names the very revision; without it the very object, not another one of its name.
    let conditional = headers.contains_key(http::header::IF_MATCH);
    let resource_version = policy.resource_version().filter(|_| conditional);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: policy.uid(), resource_version }),
        ..DeleteParams::default()
    };
    match caller.api::<ImageUpdatePolicy>().delete(&policy.name_any(), &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => {}
        Err(error) => return Err(error.into()),
    }
    let requested_at = time(&Time(rest.clock.now()));
    Ok(Reply::new(Deleted { message: "Policy deleted", id: policy.name_any(), requested_at }))
}
