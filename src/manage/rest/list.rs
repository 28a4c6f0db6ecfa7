//! Lists of rollouts: filters, and how far one goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::{Call, Reply};
use super::index::{Entry, Whose};
use super::input::{NoBody, Nothing};
use super::page;
use super::problems::Refusal;
use super::rollouts::Policies;
use super::row::RolloutRow;
use super::words::RolloutStatus;

/// Which rollouts.
#[derive(JsonSchema, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only those of this status.
    status: Option<RolloutStatus>,
    /// Only those whose image name has this in it.
    #[schemars(length(min = 1, max = 255))]
    image_name: Option<String>,
    /// Only those of this policy.
    #[schemars(length(min = 1, max = 63))]
    policy: Option<String>,
    /// At most so many.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 500))]
    limit: u32,
    /// Leaves out so many.
    #[schemars(range(min = 0, max = 1_000_000))]
    offset: Option<u32>,
    /// From where another answer stopped: its `pagination.continue`. Not together with `offset`.
    #[serde(rename = "continue")]
    #[schemars(length(min = 1, max = 1024))]
    token: Option<String>,
}

fn fifty() -> u32 {
    50
}

#[derive(JsonSchema, Debug, Serialize)]
pub(super) struct RolloutList {
    rollouts: Vec<RolloutRow>,
    pagination: Pagination,
}

/// How far a list goes.
#[derive(JsonSchema, Debug, Serialize)]
struct Pagination {
    /// Rollouts that match.
    total: usize,
    limit: u32,
    offset: usize,
    /// Where the next page begins; absent after the last.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

pub(super) async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Reply<RolloutList>, Refusal> {
    let Call { rest, caller, query, .. } = call;
    let ListQuery { status, image_name, policy, limit, offset, token } = query;
    if token.is_some() && offset.is_some() {
        let why = "continue and offset exclude each other".into();
        return Err(Refusal::Query { name: "offset".into(), why });
    }
    if policy.as_deref().is_some_and(|policy| !page::is_name(policy)) {
        return Err(Refusal::Query { name: "policy".into(), why: "is not the name of a policy".into() });
    }
    let after = token.as_deref().map(page::unseal).transpose()?;
    let whose = policy.as_deref().map_or(Whose::All, Whose::Of);
    let (mut entries, policies) = futures::try_join!(rest.kept.index(&caller, whose), Policies::read(&caller))?;
    entries.retain(|entry| status.is_none_or(|status| entry.word() == status));
    if let Some(text) = &image_name {
        rest.kept.retain_named(&caller, &mut entries, text).await?;
    }
    entries.sort_by_cached_key(Entry::key);
    let start = match after {
        None => offset.unwrap_or_default() as usize,
        Some(after) => entries.iter().position(|entry| entry.place() > after).unwrap_or(entries.len()),
    };
    let end = start.saturating_add(limit as usize).min(entries.len());
    let page = entries.get(start..end).unwrap_or_default();
    let token = page.last().filter(|_| end < entries.len()).map(|last| page::seal(&last.place()));
    let pagination = Pagination { total: entries.len(), limit, offset: start, token };
    let rollouts = policies.rows(&rest.kept.read(&caller, page).await?);
    Ok(Reply::new(RolloutList { rollouts, pagination }))
}

#[derive(JsonSchema, Debug, Serialize)]
pub(super) struct ActiveRollouts {
    rollouts: Vec<RolloutRow>,
    count: usize,
}

pub(super) async fn active(call: Call<Nothing, Nothing, NoBody>) -> Result<Reply<ActiveRollouts>, Refusal> {
    let Call { rest, caller, .. } = call;
    let (mut entries, policies) = futures::try_join!(rest.kept.index(&caller, Whose::All), Policies::read(&caller))?;
    entries.retain(Entry::is_active);
    entries.sort_by_cached_key(Entry::key);
    let rollouts = policies.rows(&rest.kept.read(&caller, &entries).await?);
    Ok(Reply::new(ActiveRollouts { count: rollouts.len(), rollouts }))
}
