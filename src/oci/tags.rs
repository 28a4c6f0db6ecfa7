//! One page of a list of tags, and where the next one is. Pure.

use serde::Deserialize;

/// The most tags that are looked at. A repository with more has no order by which the newest could be had without all of
/// them; it needs a webhook, or a clean-up.
pub(super) const MAX_TAGS: usize = 10_000;
/// How many are asked for at once: the most that the large registries serve.
pub(super) const PAGE: usize = 1000;
/// The most pages that are fetched: registries that serve 100 at once reach [`MAX_TAGS`] just so.
pub(super) const MAX_PAGES: usize = 100;

/// The tags of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// As they were when [`Known`] was had: nothing was sent.
    Unchanged,
    /// All of them, in the registry's order, without those that are no tags by the grammar.
    List {
        /// The tags.
        tags: Vec<String>,
        /// There are more, which were not looked at: a repository may have 10,000.
        truncated: bool,
        /// To ask with next time; absent where the registry can't tell whether anything changed.
        known: Option<Known>,
    },
}

/// By what a registry tells whether a list has changed (an `ETag`). Only registries that serve the list in one page can:
/// a later page may change while the first one doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub(super) etag: String,
}

#[derive(Deserialize)]
struct Body {
    // Registries say null for none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// The tags of one page; absent where the body is none.
pub(super) fn page(body: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice::<Body>(body).ok().map(|body| body.tags.unwrap_or_default())
}

/// The query by which the next page is asked for, from `Link: <url>; rel="next"`. Only the query is taken: whatever host
/// and path a registry behind a proxy thinks to have, the list goes on where it began.
pub(super) fn next_query(link: &str) -> Option<String> {
    link.split(',').find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        let (_, query) = url.split_once('?')?;
        let query = query.split('#').next().unwrap_or_default();
        (is_next && !query.is_empty()).then(|| query.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        for (body, tags) in [
            (r#"{"name":"a","tags":["v1","v2"]}"#, Some(vec!["v1", "v2"])),
            (r#"{"name":"a","tags":null}"#, Some(vec![])),
            (r#"{"name":"a"}"#, Some(vec![])),
            (r#"{"tags":"v1"}"#, None),
            ("<html>", None),
        ] {
            let tags = tags.map(|tags| tags.into_iter().map(String::from).collect::<Vec<_>>());
            assert_eq!(page(body.as_bytes()), tags, "{body}");
        }
    }

    #[test]
    fn links() {
        for (link, query) in [
            (r#"</v2/a/tags/list?last=v2&n=2>; rel="next""#, Some("last=v2&n=2")),
            (r#"<https://elsewhere/v2/a/tags/list?n=2&last=v2#x>;rel=next"#, Some("n=2&last=v2")),
            (r#"<?next_page=abc>; title="x"; REL="Next""#, Some("next_page=abc")),
            (r#"</a?p=1>; rel="prev", </a?p=3>; rel="next""#, Some("p=3")),
            (r#"</v2/a/tags/list>; rel="next""#, None),
            (r#"</v2/a/tags/list?last=v2>; rel="prev""#, None),
            ("</v2/a?x=y", None),
            ("", None),
        ] {
            assert_eq!(next_query(link).as_deref(), query, "{link}");
        }
    }
    proptest::proptest! {
        #[test]
        fn nothing_in_a_link_breaks_it(link in r#"(<|>|\?|;|,|=|"|rel|next|[\x20-\x7e]){0,40}"#) {
            let _ = next_query(&link);
        }
    }
}
