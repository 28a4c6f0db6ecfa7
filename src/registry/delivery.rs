//! A delivery before it is understood: its headers, its bytes, and an outline of its payload to recognise it by.
//!
//! Decides nothing about registries. The outline is made in one pass and holds names and short texts only, so a stranger's
//! megabyte costs no tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use http::HeaderMap;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::ParseError;

/// Names of one object that are remembered to recognise a dialect by. No registry sends half as many.
const MAX_NAMES: usize = 64;
/// Longest text of the top level that is remembered: an image reference is not longer.
const MAX_REMEMBERED: usize = 512;
/// Longest text that is taken over from a delivery into a rollout's `spec.trigger`; the CRD's own limit.
pub(super) const MAX_TEXT: usize = 253;

/// A delivery: a JSON object whose outline is known.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// As they came in.
    pub headers: &'a HeaderMap,
    /// As they came in.
    pub body: &'a [u8],
    /// Host that devices pull from, where the receiver names it. It goes before whatever the payload says.
    pub registry: Option<&'a str>,
    outline: Outline,
}

impl<'a> Delivery<'a> {
    /// Reads the outline of a delivery.
    ///
    /// # Errors
    /// When the body is no JSON object.
    pub fn read(headers: &'a HeaderMap, body: &'a [u8], registry: Option<&'a str>) -> Result<Self, ParseError> {
        let content_type = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if content_type.to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded") && !is_object(body) {
            return Err(ParseError::Form);
        }
        let outline =
            serde_json::from_slice(body).map_err(|error| ParseError::Json { what: "a JSON object", error })?;
        Ok(Self { headers, body, registry, outline })
    }

    /// Whether the payload has that name at its top level (`repository`), or one level below (`repository.name`), and
    /// something else than null there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.outline.names.contains(path)
    }

    /// A text of the payload's top level.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.outline.texts.get(name).map(String::as_str)
    }

    /// Text of a header, where it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The payload as a type.
    pub(super) fn payload<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, ParseError> {
        serde_json::from_slice(self.body).map_err(|error| ParseError::Json { what, error })
    }
}

fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// Text from a stranger that people will see in a terminal: without control characters, and bounded. `None` when nothing
/// is left.
pub(super) fn tidy(text: &str) -> Option<String> {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// A field that only people read: whatever else than text stands there is as good as nothing.
pub(super) fn for_people<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Field::deserialize(deserializer)? {
        Field::Text(text) => tidy(&text),
        Field::Null | Field::Object(_) | Field::Other => None,
    })
}

#[derive(Debug, Default)]
struct Outline {
    names: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

/// What stands at a name. Everything within is checked to be JSON and skipped, without recursion.
enum Field {
    Null,
    Text(String),
    Object(Vec<String>),
    Other,
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Outline;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Outline, M::Error> {
                let mut outline = Outline::default();
                let mut room = MAX_NAMES;
                while let Some(name) = map.next_key::<String>()? {
                    let field = map.next_value::<Field>()?;
                    if room > 0 && !matches!(field, Field::Null) {
                        room -= 1;
                        outline.add(name, field);
                    }
                }
                Ok(outline)
            }
        }

        deserializer.deserialize_map(Names)
    }
}

impl Outline {
    fn add(&mut self, name: String, field: Field) {
        match field {
            Field::Null | Field::Other => {}
            Field::Text(text) if text.len() > MAX_REMEMBERED => {}
            Field::Text(text) => drop(self.texts.insert(name.clone(), text)),
            Field::Object(below) => self.names.extend(below.into_iter().map(|below| format!("{name}.{below}"))),
        }
        self.names.insert(name);
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(text.to_owned()))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Field, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Field, M::Error> {
                let mut names = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value::<Option<IgnoredAny>>()?;
                    if names.len() < MAX_NAMES && value.is_some() {
                        names.push(name);
                    }
                }
                Ok(Field::Object(names))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(body: &str) -> Outline {
        serde_json::from_str(body).expect("an object")
    }

    #[test]
    fn names_of_two_levels_and_texts_of_one() {
        let outline = outline(r#"{"a": 1, "b": {"c": {"d": 1}, "n": null}, "e": [{"f": 1}], "n": null, "t": "x"}"#);
        assert_eq!(outline.names.into_iter().collect::<Vec<_>>(), ["a", "b", "b.c", "e", "t"]);
        assert_eq!(outline.texts.into_iter().collect::<Vec<_>>(), [("t".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn bounded() {
        let many: Vec<String> = (0..1000).map(|n| format!("\"{n}\": {{\"x\": 1}}")).collect();
        assert_eq!(outline(&format!("{{{}}}", many.join(","))).names.len(), 2 * MAX_NAMES);
        let long = outline(&format!("{{\"t\": \"{}\"}}", "x".repeat(MAX_REMEMBERED + 1)));
        assert!(long.names.contains("t") && long.texts.is_empty());
    }

    #[test]
    fn depth_costs_no_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{{\"a\":{}1{}}}", open.repeat(200_000), close.repeat(200_000));
            assert!(outline(&deep).names.contains("a"));
        }
    }

    #[test]
    fn text_of_strangers() {
        assert_eq!(tidy("ann"), Some("ann".into()));
        assert_eq!(tidy("\u{1b}[31mann\r\n"), Some("[31mann".into()));
        assert_eq!(tidy(" \n"), None);
        assert_eq!(tidy(&"ä".repeat(400)).expect("text").chars().count(), MAX_TEXT);
    }
}
