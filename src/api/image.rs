//! Image references: parse, display, compare.
//!
//! The grammar is that of the CNCF Distribution project (`reference` package): an optional registry host, a path of
//! lower-case components, an optional tag, an optional digest. What Docker implies is made explicit in the canonical
//! form (`redis` is `docker.io/library/redis`), because devices, people and registries each spell one image in
//! their own way and all of them must compare equal.

use std::fmt;
use std::str::FromStr;

/// The registry that a reference without host means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The namespace that a Docker Hub reference of one component means.
const DEFAULT_NAMESPACE: &str = "library";
/// Distribution's own limit on the length of a repository name.
const MAX_REPOSITORY: usize = 255;
/// Distribution's own limit on the length of a tag.
const MAX_TAG: usize = 128;

/// A parsed reference. `repository` is canonical; `tag` and `digest` are as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    /// Host and path: `docker.io/library/redis`, `registry.local:5000/app`.
    pub repository: String,
    /// Tag; absent where none was written.
    pub tag: Option<String>,
    /// `sha256:…`; absent where none was written.
    pub digest: Option<String>,
}

/// Why a text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Nothing there.
    #[error("the image reference is empty")]
    Empty,
    /// The path is not as registries accept it.
    #[error(
        "{0:?} is not an image reference: the name must be lower-case letters, digits and separators, such as registry.local:5000/team/app"
    )]
    Name(String),
    /// The tag is not as registries accept it.
    #[error("{0:?} is not an image reference: a tag is at most 128 letters, digits, dots, dashes and underscores")]
    Tag(String),
    /// The digest is not as registries make it.
    #[error("{0:?} is not an image reference: a digest is sha256: and 64 hexadecimal digits in lower case")]
    Digest(String),
    /// Too long.
    #[error("the image name is longer than 255 characters")]
    TooLong,
}

impl ImageRef {
    /// A reference from parts, each checked.
    ///
    /// # Errors
    /// When a part is not as registries accept it.
    pub fn new(repository: &str, tag: Option<&str>, digest: Option<&str>) -> Result<Self, ImageError> {
        let repository = canonical_repository(repository)?;
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ImageError::Tag(shown(tag)));
        }
        if let Some(digest) = digest
            && !is_digest(digest)
        {
            return Err(ImageError::Digest(shown(digest)));
        }
        Ok(Self { repository, tag: tag.map(Into::into), digest: digest.map(Into::into) })
    }

    /// The part after the name: `:tag`, `@sha256:…`, both, or nothing.
    #[must_use]
    pub fn suffix(&self) -> String {
        let mut suffix = String::new();
        if let Some(tag) = &self.tag {
            suffix.push(':');
            suffix.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            suffix.push('@');
            suffix.push_str(digest);
        }
        suffix
    }

    /// The tag that a container engine takes: the one written, else `latest` where no digest decides.
    #[must_use]
    fn effective_tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// Whether both mean the same image: same repository and, where both name one, the same digest, else the same tag.
    /// A digest on one side only can't be compared with a tag: that is not the same.
    #[must_use]
    pub fn same_image(&self, other: &Self) -> bool {
        if self.repository != other.repository {
            return false;
        }
        match (&self.digest, &other.digest) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.effective_tag() == other.effective_tag(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, self.suffix())
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        Self::new(name, tag, digest).map_err(|error| match error {
            // Show what the person wrote, not the part.
            ImageError::Name(_) => ImageError::Name(shown(text)),
            ImageError::Tag(_) => ImageError::Tag(shown(text)),
            ImageError::Digest(_) => ImageError::Digest(shown(text)),
            other @ (ImageError::Empty | ImageError::TooLong) => other,
        })
    }
}

/// Name and tag of a reference without digest. A colon before the last slash belongs to the registry's port.
#[must_use]
pub fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (text, None),
    }
}

/// The name as written, without tag and digest: what a new image of the same repository keeps when it is named to a
/// device in that device's own spelling.
#[must_use]
pub fn written_name(text: &str) -> &str {
    split_tag(text.split_once('@').map_or(text, |(rest, _)| rest)).0
}

/// Canonical repository of a name as people write it.
///
/// # Errors
/// When the name is not as registries accept it.
pub fn canonical_repository(name: &str) -> Result<String, ImageError> {
    if name.is_empty() {
        return Err(ImageError::Empty);
    }
    if name.len() > MAX_REPOSITORY {
        return Err(ImageError::TooLong);
    }
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        Some(_) | None => (DEFAULT_REGISTRY, name),
    };
    let host = host.to_ascii_lowercase();
    let host = if host == "index.docker.io" || host == "registry-1.docker.io" { DEFAULT_REGISTRY } else { &host };
    if !valid_host(host) || path.is_empty() || !path.split('/').all(is_component) {
        return Err(ImageError::Name(shown(name)));
    }
    Ok(if host == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{host}/{DEFAULT_NAMESPACE}/{path}")
    } else {
        format!("{host}/{path}")
    })
}

/// Docker's rule: the first component is a host when it has a dot or a port, or is `localhost`. (That engines also take
/// one with capitals for a host would make the canonical form, in lower case, mean something else.)
#[must_use]
pub fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':'])
}

fn valid_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let port_is_fine = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_is_fine && name.split('.').all(label)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(plain) || !bytes.last().is_some_and(plain) {
        return false;
    }
    bytes.split(plain).all(|separator| match separator {
        b"" | b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|b| *b == b'-'),
    })
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= MAX_TAG
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

/// Errors quote what they were given; what they were given may be anything.
fn shown(text: &str) -> String {
    super::condition::truncate(text.to_owned(), 120)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parse(text: &str) -> ImageRef {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn canonical_forms() {
        for (written, canonical) in [
            ("redis", "docker.io/library/redis"),
            ("redis:7", "docker.io/library/redis:7"),
            ("acme/web:v1", "docker.io/acme/web:v1"),
            ("docker.io/redis", "docker.io/library/redis"),
            ("index.docker.io/acme/web", "docker.io/acme/web"),
            ("localhost/web:v1", "localhost/web:v1"),
            ("localhost:5000/web", "localhost:5000/web"),
            ("registry.local:5000/team/web:v1", "registry.local:5000/team/web:v1"),
            ("GHCR.io/acme/web", "ghcr.io/acme/web"),
            ("a__b/c--d.e_f:x", "docker.io/a__b/c--d.e_f:x"),
        ] {
            assert_eq!(parse(written).to_string(), canonical, "{written}");
            assert_eq!(parse(canonical).to_string(), canonical, "canonical forms are fixed points");
        }
        assert_eq!(parse(&format!("redis:7@{DIGEST}")).to_string(), format!("docker.io/library/redis:7@{DIGEST}"));
    }

    #[test]
    fn refused() {
        for text in [
            "",
            ":",
            "@",
            "a:",
            "a/",
            "/a",
            "a//b",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "Acme",
            "a b",
            "a:b:c/",
            "a:-x",
            "h:0/x",
            "h:99999/x",
            "a@sha256:xyz",
            "ä",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?} must be refused");
        }
        assert!(format!("a:{}", "t".repeat(129)).parse::<ImageRef>().is_err());
        assert!("a/".repeat(200).parse::<ImageRef>().is_err());
    }

    #[test]
    fn sameness() {
        assert!(parse("redis").same_image(&parse("docker.io/library/redis:latest")));
        assert!(!parse("redis:7").same_image(&parse("redis:7.2")));
        assert!(!parse("redis:7").same_image(&parse("acme/redis:7")));
        let by_digest = parse(&format!("redis@{DIGEST}"));
        assert!(by_digest.same_image(&parse(&format!("redis:7@{DIGEST}"))), "the digest decides");
        assert!(!by_digest.same_image(&parse("redis")), "a tag proves no digest");
    }

    #[test]
    fn keeps_the_spelling() {
        assert_eq!(written_name("acme/web:v1"), "acme/web");
        assert_eq!(written_name(&format!("h:5000/web@{DIGEST}")), "h:5000/web");
        assert_eq!(written_name("h:5000/web"), "h:5000/web");
    }
}
