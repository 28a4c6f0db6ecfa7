//! Rollouts that people make: of an image, or once more of one that ended.

use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::PostParams;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::endpoint::{About, Call, Made, Reply, Table};
use super::input::{Json, Maybe, Nothing};
use super::page::Pages;
use super::policies;
use super::problems::Refusal;
use super::rollouts::{self, Id, find};
use super::row::RolloutRow;
use super::verb::{MANAGER, Reason, check_revision, person};
use crate::api::time::whole_seconds;
use crate::api::{ImageRef, ImageRollout, ImageUpdatePolicy};
use crate::registry::pattern::Pattern;
use crate::verbs::{self, Conflict, Effect, There};

pub(super) fn endpoints(table: Table) -> Table {
    let about = |id, summary, text| About { id, tag: "rollouts", summary, text };
    table
        .add(
            Method::POST,
            "/rollouts",
            about(
                "startRollout",
                "Roll an image out",
                "As a push of it would. Asked twice it makes one rollout; the second answer is 200 instead of 201.",
            ),
            start,
        )
        .add(
            Method::POST,
            "/rollouts/{id}/retry",
            about("retryRollout", "Roll an image out once more", "Of a rollout that ended without success."),
            retry,
        )
}

/// What to roll out.
#[derive(JsonSchema, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// `acme/app:v2`, with or without tag and digest.
    #[schemars(length(min = 1, max = 512))]
    image: String,
    /// The tag, where `image` has none.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128))]
    tag: Option<String>,
    /// By which policy. Absent: the most specific one for the image.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63))]
    policy: Option<String>,
    /// Made paused: look at it first, then resume it.
    #[serde(default)]
    paused: bool,
    /// Nothing is released earlier: `2026-12-01T22:00:00Z`.
    #[serde(default)]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    not_before: Option<String>,
    /// Why, in one line of at most 256 characters.
    #[serde(default)]
    #[schemars(length(max = 256), regex(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"))]
    reason: Option<String>,
}

/// The rollout that was made, or was there.
#[derive(JsonSchema, Debug, Serialize)]
struct Started {
    /// In a few words.
    message: String,
    rollout_id: String,
    /// False when it was there already; it is then as it was, whatever else was asked for.
    created: bool,
    /// What happens now, in a sentence.
    effect: String,
    /// How many devices it concerns; null while they are not counted, which is when it starts.
    devices: Option<i32>,
    rollout: RolloutRow,
}

async fn start(call: Call<Nothing, Nothing, Json<Start>>) -> Result<Made<Started>, Refusal> {
    let Call { rest, caller, body: Json(wanted), .. } = call;
    let Start { image, tag, policy, paused, not_before, reason } = wanted;
    let image = image_of(&image, tag.as_deref())?;
    let not_before = not_before.as_deref().map(a_time).transpose()?;
    let person = person(&rest, &caller, reason.as_deref()).await?;
    let policy = match policy {
        Some(name) => policies::find(&caller, &name).await?,
        None => most_specific(&caller, &image).await?,
    };
    let pattern = Pattern::parse(&policy.spec.image.pattern).map_err(|error| Refusal::Invalid(error.to_string()))?;
    if !pattern.matches(&image.repository, image.tag.as_deref()) {
        let (name, pattern) = (policy.name_any(), &policy.spec.image.pattern);
        return Err(Refusal::Invalid(format!("policy {name} is for {pattern}, which does not match {image}")));
    }
    let mut rollout = verbs::start(&policy, &image, &person);
    rollout.spec.paused = paused;
    rollout.spec.not_before = not_before;
    create(&caller, &rollout).await
}

fn a_time(text: &str) -> Result<Time, Refusal> {
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        Refusal::Body(format!("not_before: {text:?} is no time; write 2026-12-01T22:00:00Z, for example"))
    })?;
    Ok(whole_seconds(time))
}

fn image_of(image: &str, tag: Option<&str>) -> Result<ImageRef, Refusal> {
    let wrong = |error: crate::api::image::ImageError| Refusal::Body(format!("image: {error}"));
    let parsed: ImageRef = image.parse().map_err(wrong)?;
    let (named, tag) = (parsed.tag.clone(), tag);
    if named.is_some() && tag.is_some() && named.as_deref() != tag {
        return Err(Refusal::Body("tag: image has another one".into()));
    }
    let tag = tag.map(str::to_owned).or(named);
    if tag.is_none() && parsed.digest.is_none() {
        return Err(Refusal::Body("image: needs a tag, a digest, or both".into()));
    }
    ImageRef::new(&parsed.repository, tag.as_deref(), parsed.digest.as_deref()).map_err(wrong)
}

async fn most_specific(caller: &Caller, image: &ImageRef) -> Result<ImageUpdatePolicy, Refusal> {
    let policies = Pages::<ImageUpdatePolicy>::of::<ImageUpdatePolicy>(caller, &[]).all().await?;
    let mut fitting: Vec<_> = policies
        .into_iter()
        .filter_map(|policy| {
            let pattern = Pattern::parse(&policy.spec.image.pattern).ok()?;
            let fits = pattern.matches(&image.repository, image.tag.as_deref());
            fits.then(|| (pattern.specificity(), policy))
        })
        .collect();
    fitting.sort_by_key(|(specificity, _)| std::cmp::Reverse(*specificity));
    let mut fitting = fitting.into_iter();
    match (fitting.next(), fitting.next()) {
        (None, _) => Err(Refusal::Invalid(format!("no policy of namespace {} is for {image}", caller.namespace()))),
        (Some((first, _)), Some((second, _))) if first == second => {
            Err(Refusal::Invalid(format!("several policies are for {image}: name one as `policy`")))
        }
        (Some((_, policy)), _) => Ok(policy),
    }
}

async fn retry(call: Call<Id, Nothing, Maybe<Reason>>) -> Result<Made<Started>, Refusal> {
    let Call { rest, caller, path: Id { id }, body: Maybe(body), headers, .. } = call;
    let person = person(&rest, &caller, body.text()).await?;
    let rollout = find(&caller, &id).await?;
    check_revision(&headers, rollout.resource_version().as_deref())?;
    create(&caller, &verbs::retry(&rollout, &person)?).await
}

/// Makes it, unless it is there.
async fn create(caller: &Caller, rollout: &ImageRollout) -> Result<Made<Started>, Refusal> {
    let api = caller.api::<ImageRollout>();
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    match api.create(&params, rollout).await {
        Ok(made) => answer(&made, true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = api.get(&rollout.name_any()).await?;
            same(&there, rollout)?;
            answer(&there, false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses where the one that is there is no answer to what was asked.
fn same(there: &ImageRollout, wanted: &ImageRollout) -> Result<(), Refusal> {
    let name = there.name_any();
    match verbs::already_there(there, wanted) {
        There::Same => Ok(()),
        There::OtherImage => Err(Refusal::Exists(format!("rollout {name} is there already, and is of another image"))),
        There::Ended(phase) => {
            let text =
                format!("rollout {name} of this image has ended ({phase}): POST {}/rollouts/{name}/retry", super::BASE);
            Err(Conflict { phase, text }.into())
        }
    }
}

fn answer(rollout: &ImageRollout, created: bool) -> Result<Made<Started>, Refusal> {
    let row = rollouts::row(rollout)?;
    let message = if created { "Rollout created" } else { "Rollout was there already" };
    let Effect { devices, text: effect } = verbs::course(rollout);
    let rollout_id = row.rollout_id.clone();
    let body = Started { message: message.into(), rollout_id, created, effect, devices, rollout: row };
    Ok(Made { reply: Reply::of_revision(body, rollout.resource_version().as_deref()), created })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_in_two_ways() {
        let read = |image, tag| image_of(image, tag).map(|image| image.to_string()).map_err(|error| error.to_string());
        assert_eq!(read("acme/app", Some("v2")).unwrap(), "docker.io/acme/app:v2");
        assert_eq!(read("acme/app:v2", None).unwrap(), "docker.io/acme/app:v2");
        assert_eq!(read("acme/app:v2", Some("v2")).unwrap(), "docker.io/acme/app:v2");
        for (image, tag, why) in [
            ("acme/app:v2", Some("v3"), "tag: "),
            ("acme/app", None, "needs a tag"),
            ("Not An Image", None, "image: "),
            ("acme/app", Some("not a tag"), "image: "),
        ] {
            assert!(read(image, tag).unwrap_err().contains(why), "{image} {tag:?}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(a_time("2026-12-01T22:00:00.7+01:00").unwrap().0.to_string(), "2026-12-01T21:00:00Z");
        assert!(a_time("tonight").unwrap_err().to_string().starts_with("not_before: \"tonight\" is no time"));
    }
}
