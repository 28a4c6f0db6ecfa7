//! Entity tags of target states: made from what the device is told, compared with what it says it holds.
//!
//! Pure. A tag has one part for the whole state, and one for each image that came from a rollout:
//! `"<state>-<image>-<image>"`. Equality of the whole says that nothing changed. The parts say which images the device
//! holds already, also when something else in the state has changed since: a device half way to an image must not be
//! sent back and forth because somebody edited its configuration.
//!
//! A tag deliberately doesn't cover the version: a write to the spec that changes nothing for the device must leave
//! it alone.

use std::fmt::Write as _;

use http::HeaderValue;
use sha2::{Digest as _, Sha256};

/// More tags than this in one request are not looked at. Agents send one.
const MAX_TAGS: usize = 4;

/// The part of a tag that stands for one image: 64 bits, so that no two images of one device are taken for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImagePart(u64);

impl ImagePart {
    /// The part of what one repository is told; `None` for what `apps` declares.
    #[must_use]
    pub fn of(repository: &str, image: Option<&str>) -> Self {
        let digest = hash([repository, image.unwrap_or_default()]);
        Self(digest.iter().take(8).fold(0, |part, byte| part << 8 | u64::from(*byte)))
    }

    fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The tag of what `device` is told. Both texts must be in their canonical form: sorted keys, no spaces.
#[must_use]
pub fn etag(device: &str, apps: &str, config: &str, images: impl IntoIterator<Item = ImagePart>) -> HeaderValue {
    let mut text = String::with_capacity(64);
    text.push('"');
    // 128 bits, so nobody can make two states of one device that share a tag.
    for byte in &hash([device, apps, config])[..16] {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    for part in images {
        let _ = write!(text, "-{}", part.text());
    }
    text.push('"');
    // Quotes, dashes and hexadecimal digits always make a header value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn hash<const N: usize>(parts: [&str; N]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // The length goes first, so that no two lists read alike.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// One item of an `If-None-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A tag: what stands between its quotes, if it has any.
    Tag(&'a [u8]),
    /// `*`: whatever there is. Proves nothing about what the device holds.
    Anything,
}

impl Asked<'_> {
    /// Whether it is that tag.
    #[must_use]
    pub fn is(&self, etag: &HeaderValue) -> bool {
        match self {
            Self::Tag(text) => unquoted(etag.as_bytes()) == *text,
            Self::Anything => true,
        }
    }

    /// Whether it says that the device holds that image.
    #[must_use]
    pub fn holds(&self, image: ImagePart) -> bool {
        match self {
            Self::Tag(text) => {
                let image = image.text();
                text.split(|byte| *byte == b'-').skip(1).any(|part| part == image.as_bytes())
            }
            Self::Anything => false,
        }
    }
}

/// The items of `If-None-Match` headers: strong or weak, with quotes or, as some agents echo them, without.
pub fn asked<'a>(headers: impl IntoIterator<Item = &'a HeaderValue>) -> impl Iterator<Item = Asked<'a>> {
    headers
        .into_iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
        .map(|item| match item {
            b"*" => Asked::Anything,
            tag => Asked::Tag(unquoted(tag.strip_prefix(b"W/").unwrap_or(tag))),
        })
        .take(MAX_TAGS)
}

fn unquoted(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(config: &str, images: &[ImagePart]) -> String {
        etag("d", "{}", config, images.iter().copied()).to_str().unwrap().to_owned()
    }

    fn items(headers: &[&str], check: impl Fn(Asked<'_>) -> bool) -> Vec<bool> {
        let headers: Vec<_> = headers.iter().map(|text| HeaderValue::from_str(text).unwrap()).collect();
        asked(&headers).map(check).collect()
    }

    #[test]
    fn a_tag_covers_every_part() {
        let of = |device: &str, apps: &str, config: &str| etag(device, apps, config, []);
        let one = of("d", "{}", "{}");
        assert_eq!(one, of("d", "{}", "{}"));
        assert_ne!(one, of("e", "{}", "{}"));
        assert_ne!(one, of("d", "{\"1\":{}}", "{}"));
        assert_ne!(one, of("d", "{}", "{\"a\":1}"));
        assert_ne!(of("d", "a", "bc"), of("d", "ab", "c"));
        assert!(one.len() == 34 && one.as_bytes().starts_with(b"\"") && one.as_bytes().ends_with(b"\""), "{one:?}");
    }

    #[test]
    fn images_are_told_apart() {
        let part = ImagePart::of("docker.io/acme/web", Some("docker.io/acme/web:v2"));
        assert_eq!(part, ImagePart::of("docker.io/acme/web", Some("docker.io/acme/web:v2")));
        for other in [
            ImagePart::of("docker.io/acme/web", Some("docker.io/acme/web:v1")),
            ImagePart::of("docker.io/acme/web", None),
            ImagePart::of("docker.io/acme/db", Some("docker.io/acme/web:v2")),
        ] {
            assert_ne!(part, other);
        }
    }

    #[test]
    fn every_way_to_say_it() {
        let (a, b) = (tag("a", &[]), tag("b", &[]));
        let expected = etag("d", "{}", "b", []);
        let is_b = |headers: &[&str]| items(headers, |asked| asked.is(&expected));
        let bare = b.trim_matches('"');
        assert_eq!(is_b(&[&b]), [true]);
        assert_eq!(is_b(&[bare]), [true]);
        assert_eq!(is_b(&[&format!("W/{b}")]), [true]);
        assert_eq!(is_b(&[&format!("{a} ,  {b}")]), [false, true]);
        assert_eq!(is_b(&[&a, &b]), [false, true]);
        assert_eq!(is_b(&["*"]), [true]);
        for text in ["\"\"", "undefined", "W/", "\"", &b[..33], &bare[..31], &bare.to_uppercase(), "\u{e9}"] {
            assert_eq!(is_b(&[text]), [false], "{text}");
        }
        assert!(is_b(&["", " , ,"]).is_empty());
        assert!(is_b(&[]).is_empty());
        assert_eq!(is_b(&["x,x,x,x,x,x,x,x"]).len(), MAX_TAGS);
    }

    #[test]
    fn what_a_device_holds_outlives_other_changes() {
        let web = ImagePart::of("web", Some("web:v2"));
        let db = ImagePart::of("db", Some("db:v2"));
        let holds = |text: &str, part| items(&[text], |asked| asked.holds(part)) == [true];
        for config in ["a", "b"] {
            let tag = tag(config, &[web]);
            assert!(holds(&tag, web) && !holds(&tag, db), "{tag}");
        }
        let both = tag("a", &[db, web]);
        assert!(holds(&both, web) && holds(&both, db));
        assert!(!holds("*", web));
        assert!(!holds(&tag("a", &[]), web));
        assert!(!holds(&format!("\"{}\"", web.text()), web), "the first part is the state's");
    }
}
