//! Entity tags of target states: made from what the device is told, compared with what it says it holds.
//!
//! Pure. A tag covers the device, its applications and its configuration, and deliberately not the version: a write
//! to the spec that changes nothing for the device must leave the tag alone, since "it holds the image already" is
//! read from it.

use std::fmt::Write as _;

use http::HeaderValue;
use sha2::{Digest as _, Sha256};

/// The tag of one target state: 128 bits of SHA-256, so nobody can make two states of one device that share a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Etag([u8; 16]);

impl Etag {
    /// The tag of what `device` is told. Both texts must be in their canonical form: sorted keys, no spaces.
    #[must_use]
    pub fn of(device: &str, apps: &str, config: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [device, apps, config] {
            // The length goes first, so that no two triples read alike.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut tag = [0; 16];
        tag.copy_from_slice(&digest[..16]);
        Self(tag)
    }

    /// As header: quoted hexadecimal.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        let mut text = String::with_capacity(34);
        text.push('"');
        for byte in self.0 {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('"');
        // Quotes and hexadecimal digits always make a header value.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }

    /// The tag that a text means: with quotes or, as some agents echo it, without; weak or strong.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(b"W/").unwrap_or(text);
        let text = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(text);
        if text.len() != 32 {
            return None;
        }
        let mut tag = [0; 16];
        for (byte, pair) in tag.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex(pair[0])? << 4 | hex(pair[1])?;
        }
        Some(Self(tag))
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What the `If-None-Match` of a poll says of some states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It names none of them.
    Nothing,
    /// It names the state with this index.
    State(usize),
    /// `*`: whatever there is. Proves nothing about what the device holds.
    Anything,
}

/// Which of `states` the `If-None-Match` headers name; the first of them where they name several.
pub fn held<'a>(headers: impl IntoIterator<Item = &'a HeaderValue>, states: &[Etag]) -> Held {
    let mut found: Option<usize> = None;
    let mut anything = false;
    for header in headers {
        for item in header.as_bytes().split(|byte| *byte == b',') {
            let item = item.trim_ascii();
            anything |= item == b"*";
            let named = Etag::parse(item).and_then(|tag| states.iter().position(|state| *state == tag));
            found = match (found, named) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    match found {
        Some(index) => Held::State(index),
        None if anything => Held::Anything,
        None => Held::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(headers: &[&str], states: &[Etag]) -> Held {
        let headers: Vec<_> = headers.iter().map(|text| HeaderValue::from_str(text).unwrap()).collect();
        held(&headers, states)
    }

    #[test]
    fn a_tag_covers_every_part() {
        let tag = Etag::of("d", "{}", "{}");
        assert_eq!(tag, Etag::of("d", "{}", "{}"));
        assert_ne!(tag, Etag::of("e", "{}", "{}"));
        assert_ne!(tag, Etag::of("d", "{\"1\":{}}", "{}"));
        assert_ne!(tag, Etag::of("d", "{}", "{\"a\":1}"));
        assert_ne!(Etag::of("d", "a", "bc"), Etag::of("d", "ab", "c"));
        let header = tag.header();
        let text = header.to_str().unwrap();
        assert!(text.len() == 34 && text.starts_with('"') && text.ends_with('"'), "{text}");
    }

    #[test]
    fn every_way_to_say_it() {
        let (a, b) = (Etag::of("d", "a", ""), Etag::of("d", "b", ""));
        let states = [a, b];
        let quoted = |tag: Etag| tag.header().to_str().unwrap().to_owned();
        let bare = |tag: Etag| quoted(tag).trim_matches('"').to_owned();
        assert_eq!(ask(&[&quoted(a)], &states), Held::State(0));
        assert_eq!(ask(&[&bare(b)], &states), Held::State(1));
        assert_eq!(ask(&[&format!("W/{}", quoted(b))], &states), Held::State(1));
        assert_eq!(ask(&[&format!("\"x\" ,  {}", quoted(b))], &states), Held::State(1));
        assert_eq!(ask(&["\"x\"", &quoted(b)], &states), Held::State(1));
        assert_eq!(ask(&[&format!("{},{}", quoted(b), quoted(a))], &states), Held::State(0), "the first state wins");
        assert_eq!(ask(&[&format!("*, {}", quoted(b))], &states), Held::State(1));
        assert_eq!(ask(&["*"], &states), Held::Anything);
        for text in ["", "\"\"", "\"x\"", "undefined", "W/", "\"", &quoted(a)[..33], &bare(a)[..31], "\u{e9}"] {
            assert_eq!(ask(&[text], &states), Held::Nothing, "{text}");
        }
        assert_eq!(ask(&[&bare(a).to_uppercase()], &states), Held::Nothing, "tags are compared byte by byte");
        assert_eq!(ask(&[], &states), Held::Nothing);
        assert_eq!(ask(&[&quoted(a)], &[]), Held::Nothing);
    }
}
