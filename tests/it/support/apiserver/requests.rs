//! One request, from its path to what it asks for.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, header};

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// `tranche.dev/v1alpha1`
    pub api_version: String,
    pub plural: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub is_status: bool,
    pub query: BTreeMap<String, String>,
    /// Only metadata is wanted.
    pub is_partial: bool,
    pub content_type: String,
    pub user_agent: String,
}

impl Request {
    pub fn parse(method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Self {
        let mut parts = uri.path().trim_matches('/').split('/');
        let api_version = match parts.next() {
            Some("api") => parts.next().unwrap().to_owned(),
            Some("apis") => format!("{}/{}", parts.next().unwrap(), parts.next().unwrap()),
            other => panic!("not served: {other:?} of {uri}"),
        };
        let mut rest: Vec<&str> = parts.collect();
        let namespace =
            (rest.first() == Some(&"namespaces") && rest.len() > 2).then(|| rest.drain(..2).nth(1).unwrap());
        let is_status = rest.get(2) == Some(&"status");
        assert!(rest.len() <= 2 || is_status, "no such subresource: {uri}");
        let query: BTreeMap<String, String> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), percent_decoded(value)))
            .collect();
        for key in query.keys() {
            // Ignoring a selector would answer with too much, and no test would notice.
            assert!(
                matches!(
                    key.as_str(),
                    "watch"
                        | "resourceVersion"
                        | "resourceVersionMatch"
                        | "timeoutSeconds"
                        | "allowWatchBookmarks"
                        | "limit"
                        | "continue"
                        | "fieldManager"
                        | "force"
                        | "fieldValidation"
                ),
                "not served: {uri}"
            );
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Self {
            method: method.clone(),
            api_version,
            plural: rest[0].to_owned(),
            namespace: namespace.map(Into::into),
            name: rest.get(1).map(|name| (*name).to_owned()),
            is_status,
            is_partial: text(header::ACCEPT).contains("as=PartialObjectMetadata"),
            content_type: text(header::CONTENT_TYPE),
            user_agent: text(header::USER_AGENT),
            query,
        }
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        self.query.get(key).and_then(|text| text.parse().ok())
    }

    pub fn flag(&self, key: &str) -> bool {
        self.query.get(key).is_some_and(|text| text == "true")
    }

    /// Who writes.
    pub fn manager(&self) -> String {
        let given = self.query.get("fieldManager").cloned();
        given.unwrap_or_else(|| match self.user_agent.split('/').next() {
            Some(agent) if !agent.is_empty() => agent.to_owned(),
            _ => "unknown".to_owned(),
        })
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [a, b, after @ ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap();
                bytes.push(u8::try_from(digit(a) << 4 | digit(b)).unwrap());
                rest = after;
            }
            (b'+', after) => {
                bytes.push(b' ');
                rest = after;
            }
            (other, after) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
