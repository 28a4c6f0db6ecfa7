//! A policy's image pattern: an anchored glob over `name[:tag]`.
//!
//! Decides whether an image is one that a policy speaks of. `*` stands for any run of characters, none included. The
//! rest follows from how Docker reads names, so that a pattern means what the same words mean in `docker pull`:
//!
//! - **Host.** A first component with a dot, a port, or `localhost` is a registry host; without one, Docker Hub is meant.
//!   `acme*/app` therefore never matches `acme.evil.example/app`: a pattern reaches the registries that its author
//!   named and no other. A `*` in a host stays in the host. Only a pattern that *begins* with `*` where a host isn't
//!   written (`*`, `*/app`, `*-agent`) means any registry.
//! - **Path.** `*` crosses `/`. On Docker Hub `library/` is implied in pattern and image: `redis` is `library/redis`.
//! - **Tag.** After a colon that no slash follows; a colon before a slash belongs to a port. Without a tag part every tag
//!   matches, and so does an image without one.
//!
//! Anchored: `redis:*` is not `redis-stack`, and `nginx*` is not `bitnami/nginx`.

use crate::api::image::{DEFAULT_REGISTRY, split_tag};

/// Longest pattern. The same as in the CRD's schema; repeated because policies can come from files, and because it
/// bounds the work of one match (pattern times name, a few thousand steps).
const MAX_PATTERN: usize = 512;

/// A pattern, ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    written: String,
    host: Host,
    /// Path below the host; with [`Host::Any`] the host and path together.
    path: Glob,
    tag: Option<Glob>,
}

/// Why a text is no pattern, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing there.
    #[error("the pattern is empty: write the image's name, such as acme/app:*")]
    Empty,
    /// Too long.
    #[error("the pattern is longer than 512 characters: shorten it with *")]
    TooLong,
    /// A character that no image name has.
    #[error("{0:?} can't be part of an image name: use letters, digits, dots, dashes, underscores, slashes and *")]
    Character(char),
    /// A digest.
    #[error("a pattern can't name a digest: write name[:tag], such as acme/app:*")]
    Digest,
    /// `name:`
    #[error("the pattern ends with a colon: write the tag after it, such as :*, or remove the colon")]
    EmptyTag,
    /// A colon in the path.
    #[error("the name has a colon that is neither a registry's port nor before a tag: write host:port/name:tag")]
    Colon,
    /// `//`, `/app`, `app/`.
    #[error("the name has an empty part: remove the slash at its start or end, or the doubled one")]
    EmptyComponent,
}

/// Which registries.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Any: the path's glob begins with `*` and runs over host and path.
    Any,
    /// Those that match.
    Of(Glob),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When the text can't be matched by any image; the error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        check_characters(text)?;
        let (name, tag) = split_tag(text);
        if tag == Some("") {
            return Err(PatternError::EmptyTag);
        }
        if name.split('/').any(str::is_empty) {
            return Err(PatternError::EmptyComponent);
        }
        // Registries take names in lower case only, and hosts know no case.
        let name = name.to_ascii_lowercase();
        let (host, path) = split_host(&name);
        if path.contains(':') {
            return Err(PatternError::Colon);
        }
        Ok(Self { written: text.to_owned(), host, path: Glob::new(path), tag: tag.map(Glob::new) })
    }

    /// Whether the pattern speaks of that image. `repository` is canonical, as in [`crate::api::ImageRef`].
    #[must_use]
    pub fn matches(&self, repository: &str, tag: Option<&str>) -> bool {
        self.matches_tag(tag) && self.matches_repository(repository)
    }

    /// Whether the pattern speaks of some tag of that canonical repository.
    #[must_use]
    pub fn matches_repository(&self, repository: &str) -> bool {
        let host_glob = match &self.host {
            Host::Any => return self.path.matches(repository),
            Host::Of(glob) => glob,
        };
        let Some((host, path)) = repository.split_once('/') else { return false };
        if !host_glob.matches(host) {
            return false;
        }
        let short = if host == DEFAULT_REGISTRY { path.strip_prefix("library/") } else { None };
        self.path.matches(path) || short.is_some_and(|short| self.path.matches(short))
    }

    fn matches_tag(&self, tag: Option<&str>) -> bool {
        match (&self.tag, tag) {
            (None, _) => true,
            (Some(glob), Some(tag)) => glob.matches(tag),
            (Some(glob), None) => glob.matches(""),
        }
    }

    /// How specific it is: characters that aren't wildcards, of the name (host included, `docker.io` where it is implied)
    /// and of the tag. Larger is more specific.
    #[must_use]
    pub fn specificity(&self) -> (usize, usize) {
        let host = match &self.host {
            Host::Any => 0,
            Host::Of(glob) => glob.literals(),
        };
        (host + self.path.literals(), self.tag.as_ref().map_or(0, Glob::literals))
    }

    /// The one repository that it is for, canonical; `None` when there may be several.
    #[must_use]
    pub fn repository(&self) -> Option<String> {
        let Host::Of(host) = &self.host else { return None };
        let literal = !host.0.contains('*') && !self.path.0.contains('*');
        literal.then(|| crate::api::image::canonical_repository(&format!("{}/{}", host.0, self.path.0)).ok()).flatten()
    }

    /// The one tag that it is for; `None` when there may be several.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_ref().map(|glob| glob.0.as_str()).filter(|tag| !tag.contains('*'))
    }

    /// The pattern as its author wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written)
    }
}

fn check_characters(text: &str) -> Result<(), PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.len() > MAX_PATTERN {
        return Err(PatternError::TooLong);
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '*' | '.' | '_' | ':' | '/' | '-'))) {
        Some('@') => Err(PatternError::Digest),
        Some(other) => Err(PatternError::Character(other)),
        None => Ok(()),
    }
}

/// Docker's rule, with wildcards: see the module's page.
fn split_host(name: &str) -> (Host, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { DEFAULT_REGISTRY } else { host };
            (Host::Of(Glob::new(host)), path)
        }
        Some(_) | None if name.starts_with('*') => (Host::Any, name),
        Some(_) | None => (Host::Of(Glob::new(DEFAULT_REGISTRY)), name),
    }
}

/// An anchored glob; `*` is any run of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(String);

impl Glob {
    fn new(text: &str) -> Self {
        let mut glob = String::with_capacity(text.len());
        for c in text.chars() {
            // A run of stars means one star and would only cost time.
            if c != '*' || !glob.ends_with('*') {
                glob.push(c);
            }
        }
        Self(glob)
    }

    /// Characters that aren't wildcards.
    fn literals(&self) -> usize {
        self.0.bytes().filter(|byte| *byte != b'*').count()
    }

    /// Greedy with one point to fall back to: never worse than pattern times text, whatever the pattern.
    fn matches(&self, text: &str) -> bool {
        let (glob, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut g, mut t) = (0, 0);
        // Where the last star was, and how much of the text it has swallowed so far.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match glob.get(g) {
                Some(b'*') => {
                    star = Some((g, t));
                    g += 1;
                }
                Some(byte) if *byte == text[t] => {
                    g += 1;
                    t += 1;
                }
                Some(_) | None => {
                    let Some((at, swallowed)) = star else { return false };
                    star = Some((at, swallowed + 1));
                    g = at + 1;
                    t = swallowed + 1;
                }
            }
        }
        glob[g..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::ImageRef;

    fn matches(pattern: &str, image: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let image: ImageRef = image.parse().unwrap_or_else(|error| panic!("{image}: {error}"));
        pattern.matches(&image.repository, image.tag.as_deref())
    }

    #[test]
    fn what_matches() {
        for (pattern, image) in [
            ("iotistic/myapp:*", "iotistic/myapp:v2.0.1"),
            ("iotistic/myapp:*", "docker.io/iotistic/myapp:v2.0.1"),
            ("docker.io/iotistic/myapp:*", "iotistic/myapp:v2.0.1"),
            ("index.docker.io/iotistic/myapp", "iotistic/myapp:v2.0.1"),
            ("iotistic/*:latest", "iotistic/sensor-agent:latest"),
            ("iotistic/*", "iotistic/a/b/c:x"),
            ("postgres:1*", "postgres:16"),
            ("postgres:1*", "docker.io/library/postgres:1"),
            ("redis:*", "redis:7"),
            ("library/redis:*", "redis:7"),
            ("docker.io/redis:*", "redis:7"),
            ("docker.io/library/*", "redis:7"),
            ("redis", "redis:7"),
            ("redis", "redis"),
            ("redis:*", "redis"),
            ("nginx*", "nginx:1.29"),
            ("nginx*", "nginx-extra:1"),
            ("registry.local:5000/app:*", "registry.local:5000/app:v1"),
            ("registry.local:5000/app", "registry.local:5000/app:v1"),
            ("registry.local:5000/*", "registry.local:5000/team/app:v1"),
            ("registry.local:*/app", "registry.local:5000/app:v1"),
            ("localhost/app", "localhost/app:v1"),
            ("*.example.com/app", "eu.example.com/app:v1"),
            ("ghcr.io/*/www", "ghcr.io/a/b/www:1"),
            ("GHCR.io/Acme/*", "ghcr.io/acme/www:1"),
            ("*", "ghcr.io/acme/www:1"),
            ("*:v*", "redis:v7"),
            ("*/www", "ghcr.io/acme/www:1"),
            ("*-agent", "registry.local:5000/sensor-agent:1"),
            ("a**b", "a-b:1"),
        ] {
            assert!(matches(pattern, image), "{pattern} must match {image}");
        }
    }

    #[test]
    fn what_does_not() {
        for (pattern, image) in [
            ("redis:*", "redis-stack:7"),
            ("redis:*", "foo/redis:7"),
            ("redis:*", "ghcr.io/library/redis:7"),
            ("redis:*", "registry.local:5000/redis:7"),
            ("nginx*", "bitnami/nginx:1"),
            ("iotistic/myapp:*", "iotistic/myapp2:v1"),
            ("iotistic/myapp:*", "iotistic/myap:v1"),
            ("iotistic/my_pp:*", "iotistic/myapp:v1"),
            ("iotistic/*:latest", "iotistic/myapp:v1"),
            ("iotistic/*:latest", "iotistic/myapp"),
            ("postgres:1*", "postgres:9.1"),
            ("registry.local:5000/app:*", "registry.local:5001/app:v1"),
            ("registry.local:5000/app:*", "app:v1"),
            ("acme*/app", "acme.evil.example/app:1"),
            ("*.example.com/app", "evil.example/x.example.com/app:1"),
            ("ghcr.io/acme/*", "ghcr.io/acme:1"),
            ("app:v1", "app:V1"),
        ] {
            assert!(!matches(pattern, image), "{pattern} must not match {image}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (pattern, error) in [
            ("", PatternError::Empty),
            ("a b", PatternError::Character(' ')),
            ("^acme/.+$", PatternError::Character('^')),
            ("app@sha256:abc", PatternError::Digest),
            ("app:", PatternError::EmptyTag),
            ("/app", PatternError::EmptyComponent),
            ("app/", PatternError::EmptyComponent),
            ("a//b", PatternError::EmptyComponent),
            ("host/a:b/c", PatternError::Colon),
            ("a:b:c", PatternError::Colon),
        ] {
            assert_eq!(Pattern::parse(pattern), Err(error), "{pattern}");
        }
        assert_eq!(Pattern::parse(&"a".repeat(513)), Err(PatternError::TooLong));
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = Pattern::parse(&"*a".repeat(256)).expect("a pattern");
        let image = format!("docker.io/{}b", "a".repeat(240));
        assert!(!pattern.matches(&image, None));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in ".{0,40}", repository in ".{0,40}", tag in proptest::option::of(".{0,20}")) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.matches(&repository, tag.as_deref());
            }
        }

        /// Without a star a pattern is a name, and a name is only itself.
        #[test]
        fn without_a_star_it_is_equality(a in "[ab.-]{1,3}(/[ab]{1,2}){0,2}", b in "[ab.-]{1,3}(/[ab]{1,2}){0,2}") {
            if let (Ok(pattern), Ok(left), Ok(right)) = (Pattern::parse(&a), a.parse::<ImageRef>(), b.parse::<ImageRef>()) {
                prop_assert_eq!(pattern.matches(&right.repository, None), left.repository == right.repository);
            }
        }

        /// The matcher agrees with the anchored regular expression of the same meaning.
        #[test]
        fn agrees_with_a_regular_expression(glob in "[ab*/]{1,8}", text in "[ab/]{0,10}") {
            let regex = format!("^{}$", glob.replace('*', ".*"));
            let expected = regex::Regex::new(&regex).expect("a regex").is_match(&text);
            prop_assert_eq!(Glob::new(&glob).matches(&text), expected);
        }

        /// Cutting a prefix or suffix off a name that matched literally is seen.
        #[test]
        fn anchored(name in "[a-z]{2,8}/[a-z]{2,8}", more in "[a-z]{1,4}") {
            let pattern = Pattern::parse(&format!("{name}:*")).expect("a pattern");
            let yes = format!("docker.io/{name}");
            let longer = format!("docker.io/{name}{more}");
            let other = format!("docker.io/{more}{name}");
            let elsewhere = format!("ghcr.io/{name}");
            prop_assert!(pattern.matches(&yes, Some("1")));
            prop_assert!(!pattern.matches(&longer, Some("1")));
            prop_assert!(!pattern.matches(&other, Some("1")));
            prop_assert!(!pattern.matches(&elsewhere, Some("1")));
        }
    }
}
