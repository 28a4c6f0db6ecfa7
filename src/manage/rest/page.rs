//! Lists of the API server, read in pages and only as far as they are needed; and how far a caller has come in a list of
//! ours.

use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::caller::Caller;
use super::problems::Refusal;
use crate::api::{GROUP, VERSION, table};

/// Objects of one page: some megabytes. The API server counts all that are left for each page, so small pages of a long list
/// cost it more than large ones.
pub(super) const PAGE: u32 = 1000;
/// A list that changes faster than it can be read is given up after so many tokens that were too old.
const MAX_EXPIRED: u32 = 20;

/// A kind of ours.
pub(super) trait Kind: Resource<Scope = NamespaceResourceScope, DynamicType = ()> {}
impl<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>> Kind for K {}

/// One object of a list.
#[derive(Debug)]
pub(super) enum Listed<T> {
    /// As wanted.
    Read(T),
    /// It is there, and isn't what its kind says. One bad object must not hide the others.
    Unreadable {
        /// Its name.
        name: String,
    },
}

impl<T> Listed<T> {
    /// If it could be read.
    pub(super) fn read(self) -> Option<T> {
        match self {
            Self::Read(object) => Some(object),
            Self::Unreadable { name } => {
                tracing::debug!(name, "an object is left out of an answer of the REST API: it can't be read");
                None
            }
        }
    }
}

/// A list of the API server, page by page. `T` is what is read of each object, which may be less than the whole.
pub(super) struct Pages<T> {
    caller: Caller,
    path: String,
    size: u32,
    token: Option<String>,
    at_end: bool,
    expired: u32,
    /// How many objects come after those that were read, as far as the API server says.
    pub(super) remaining: Option<i64>,
    what: PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default, rename = "continue")]
    token: Option<String>,
    #[serde(default)]
    remaining_item_count: Option<i64>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: NamedMeta,
}

#[derive(Default, Deserialize)]
struct NamedMeta {
    #[serde(default)]
    name: String,
}

impl<T: DeserializeOwned> Pages<T> {
    /// Of the kind `K`, with selectors as the API server wants them.
    pub(super) fn of<K: Kind>(caller: &Caller, selectors: &[(&str, &str)]) -> Self {
        Self {
            caller: caller.clone(),
            path: path::<K>(caller, selectors),
            size: PAGE,
            token: None,
            at_end: false,
            expired: 0,
            remaining: None,
            what: PhantomData,
        }
    }

    /// Pages of that size from here on.
    pub(super) fn resize(&mut self, size: u32) {
        self.size = size;
    }

    /// With pages of that size, from where another list stopped.
    pub(super) fn from(self, size: u32, token: Option<String>) -> Self {
        Self { size, token, ..self }
    }

    /// Where the next page begins; `None` after the last.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The next page; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Listed<T>>>, Refusal> {
        while !self.at_end {
            let request = self.request()?;
            let bytes = match self.caller.fetch(request).await {
                Ok(bytes) => bytes,
                // The rest of the list as it is now: what changed meanwhile may be missing or twice, which a list that is
                // this long can't be without.
                Err(Refusal::Server(status)) if status.code == 410 && self.expired < MAX_EXPIRED => {
                    self.expired += 1;
                    self.token =
                        status.metadata.and_then(|metadata| metadata.continue_).filter(|token| !token.is_empty());
                    if self.token.is_none() {
                        return Err(Refusal::Contended);
                    }
                    continue;
                }
                Err(refusal) => return Err(refusal),
            };
            return self.read(&bytes).map(Some);
        }
        Ok(None)
    }

    fn request(&self) -> Result<http::Request<Vec<u8>>, Refusal> {
        let mut query = form_urlencoded::Serializer::new(self.path.clone());
        query.append_pair("limit", &self.size.to_string());
        if let Some(token) = &self.token {
            query.append_pair("continue", token);
        }
        http::Request::get(query.finish()).body(Vec::new()).map_err(|_| Refusal::Unreachable)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Vec<Listed<T>>, Refusal> {
        let page: Page<'_> = serde_json::from_slice(bytes).map_err(|_| unreadable())?;
        self.token = page.metadata.token.filter(|token| !token.is_empty());
        self.at_end = self.token.is_none();
        self.remaining = page.metadata.remaining_item_count;
        Ok(page.items.into_iter().map(listed).collect())
    }

    /// All of it.
    pub(super) async fn all(mut self) -> Result<Vec<T>, Refusal> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page.into_iter().filter_map(Listed::read));
        }
        Ok(all)
    }
}

fn path<K: Kind>(caller: &Caller, parameters: &[(&str, &str)]) -> String {
    let (namespace, plural) = (caller.namespace(), K::plural(&()));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}?{}", query.finish())
}

fn unreadable() -> Refusal {
    Refusal::Unreadable("the list".into())
}

/// These columns of every object of the kind `K`. `None` if the cluster's kind is of a version that doesn't have all of them.
pub(super) async fn columns<K: Kind, const N: usize>(
    caller: &Caller,
    selectors: &[(&str, &str)],
    columns: [&str; N],
) -> Result<Option<Vec<table::Cells<N>>>, Refusal> {
    let path = path::<K>(caller, &[selectors, &[table::WITHOUT_OBJECTS]].concat());
    let request = http::Request::get(path).header(header::ACCEPT, table::ACCEPT);
    let bytes = caller.fetch(request.body(Vec::new()).map_err(|_| Refusal::Unreachable)?).await?;
    let table = table::Table::read(&bytes).map_err(|_| unreadable())?;
    Ok(table.cells(columns).map(Iterator::collect))
}

fn listed<T: DeserializeOwned>(raw: &RawValue) -> Listed<T> {
    match serde_json::from_str(raw.get()) {
        Ok(object) => Listed::Read(object),
        Err(_) => {
            let name = serde_json::from_str::<Named>(raw.get()).map(|named| named.metadata.name).unwrap_or_default();
            Listed::Unreadable { name }
        }
    }
}

/// Whether something can be the name of an object. It is put into a path of the API server, so nothing else may pass.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.')
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// Whether it has the form of a UID: 8-4-4-4-12 hexadecimal digits.
pub(super) fn is_uid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A place in a list, in a form that means nothing to its reader.
pub(super) fn seal(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// The place again.
///
/// # Errors
/// When it is none.
pub(super) fn unseal(token: &str) -> Result<String, Refusal> {
    let wrong = || Refusal::Query { name: "continue".into(), why: "is not what an answer has said".into() };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    String::from_utf8(bytes).ok().filter(|place| !place.contains('\0')).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "myapp-0011223344", "a.b", "0e8f3c1e-0000-4000-8000-000000000000"] {
            assert!(is_name(name), "{name}");
        }
        for other in ["", "-a", "a-", "A", "a/b", "..", "a?b", "a b", "ä", &"a".repeat(254)] {
            assert!(!is_name(other), "{other}");
        }
        assert!(is_uid("0e8f3c1e-0000-4000-8000-00000000000A"));
        assert!(!is_uid("0e8f3c1e-0000-4000-8000-00000000000") && !is_uid(&"0".repeat(36)));
    }

    #[test]
    fn places_are_sealed() {
        assert_eq!(unseal(&seal("2026|a")).unwrap(), "2026|a");
        assert!(unseal("!").is_err());
        assert!(unseal(&URL_SAFE_NO_PAD.encode([0xff])).is_err());
    }
}
