//! An image as a registry names it, in pieces or in one text, to the canonical reference.
//!
//! This is the one place where the receiver's `spec.registry` is put before what a payload says, where names are written
//! in lower case, and where a digest in the place of a tag is seen for what it is.

use super::delivery::{Delivery, tidy};
use super::error::ParseError;
use crate::api::ImageRef;
use crate::api::image::{is_host, split_tag};

/// An image in the words of a payload. Nothing of it is checked yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named<'a> {
    host: Option<&'a str>,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// In pieces: the host, where the registry tells it, and the path below it.
    pub fn parts(host: Option<&'a str>, path: &'a str) -> Self {
        Self { host: host.map(without_scheme), path: path.trim_matches('/'), tag: None, digest: None }
    }

    /// In one text, `host/path:tag@digest`; with a scheme, or a colon and no tag behind it, as some registries write.
    pub fn written(text: &'a str) -> Self {
        let text = without_scheme(text);
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        let (name, tag) = split_tag(rest);
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (Some(host), path),
            Some(_) | None => (None, name),
        };
        Self { host, path, tag: None, digest: None }.tag(tag).digest(digest)
    }

    /// With that tag, where it is one. Several registries put the digest of a manifest without tag there.
    #[must_use]
    pub fn tag(self, tag: Option<&'a str>) -> Self {
        match tag {
            None | Some("") => self,
            // Artifactory keeps such manifests in folders, whose names can't hold a colon on every file system.
            Some(tag) if tag.starts_with("sha256:") || tag.starts_with("sha256__") => self.digest(Some(tag)),
            Some(tag) => Self { tag: Some(tag), ..self },
        }
    }

    /// With that digest, where it is one; anything else that a registry puts there is as good as none.
    #[must_use]
    pub fn digest(self, digest: Option<&'a str>) -> Self {
        match digest.filter(|text| ImageRef::new("digest", None, Some(text)).is_ok()) {
            Some(digest) => Self { digest: Some(digest), ..self },
            None => self,
        }
    }

    /// On that host, where none was named.
    #[must_use]
    pub fn or_host(self, host: Option<&'a str>) -> Self {
        Self { host: self.host.or(host.map(without_scheme)), ..self }
    }

    /// With the digest of another name, where that is the same name.
    #[must_use]
    pub fn digest_of(self, other: Self) -> Self {
        let same = self.host == other.host && self.path == other.path;
        Self { digest: self.digest.or(other.digest.filter(|_| same)), ..self }
    }

    /// The host, where one was named.
    pub fn host(self) -> Option<&'a str> {
        self.host
    }

    /// The path below the host.
    pub fn path(self) -> &'a str {
        self.path
    }

    /// The tag, where one was named.
    pub fn tag_name(self) -> Option<&'a str> {
        self.tag
    }

    /// The canonical reference, on the receiver's host where it names one.
    ///
    /// # Errors
    /// When nobody names a host, or one that isn't one, or when there can be no such image.
    pub fn image(self, delivery: &Delivery<'_>, dialect: &'static str) -> Result<ImageRef, ParseError> {
        let Self { host, path, tag, digest } = self;
        let Some(host) = delivery.registry.or(host).filter(|host| !host.is_empty()) else {
            return Err(ParseError::NoHost { dialect });
        };
        if !is_host(host) {
            return Err(ParseError::Host { host: tidy(host).unwrap_or_default() });
        }
        // The host is written out: nothing that stands in the path can then be taken for one.
        Ok(ImageRef::new(&format!("{host}/{path}").to_ascii_lowercase(), tag, digest)?)
    }
}

fn without_scheme(text: &str) -> &str {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    text.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn image(named: Named<'_>, registry: Option<&str>) -> Result<String, ParseError> {
        let headers = HeaderMap::new();
        let delivery = Delivery::read(&headers, b"{}", registry).expect("a delivery");
        named.image(&delivery, "Somebody").map(|image| image.to_string())
    }

    #[test]
    fn in_one_text() {
        let both = format!("Registry.local:5000/Team/app:v2@{DIGEST}");
        let digest = format!("registry.local/app@{DIGEST}");
        let written = format!("registry.local/app:{DIGEST}");
        for (text, expected) in [
            ("ghcr.io/acme/app:v2", "ghcr.io/acme/app:v2".to_owned()),
            ("ghcr.io/Acme/App:V2", "ghcr.io/acme/app:V2".to_owned()),
            ("ghcr.io/acme/app:", "ghcr.io/acme/app".to_owned()),
            ("https://quay.io/acme/app", "quay.io/acme/app".to_owned()),
            ("localhost/app:v2", "localhost/app:v2".to_owned()),
            (&both, both.to_lowercase()),
            (&digest, digest.clone()),
            ("registry.local/app@sha256:short", "registry.local/app".to_owned()),
            ("registry.local/app:v2@sha256:short", "registry.local/app:v2".to_owned()),
        ] {
            assert_eq!(image(Named::written(text), None).expect(text), expected, "{text}");
        }
        assert!(image(Named::written(&written), None).is_err(), "no registry writes that");
        assert!(matches!(image(Named::written("acme/app:v2"), None), Err(ParseError::NoHost { dialect: "Somebody" })));
        assert!(image(Named::written("registry.local/../app:v2"), None).is_err());
    }

    #[test]
    fn a_digest_is_no_tag() {
        let named = Named::parts(Some("http://h:3000/"), "/acme/app").tag(Some(DIGEST));
        assert_eq!(image(named, None).expect("an image"), format!("h:3000/acme/app@{DIGEST}"));
        for tag in ["", "sha256:short", "sha256__0123"] {
            let named = Named::parts(Some("h:3000"), "acme/app").digest(Some(DIGEST)).tag(Some(tag));
            assert_eq!(image(named, None).expect("an image"), format!("h:3000/acme/app@{DIGEST}"), "{tag}");
        }
    }

    #[test]
    fn the_receivers_host_goes_first() {
        for named in [
            Named::written("ghcr.io/acme/app:v2"),
            Named::written("acme/app:v2"),
            Named::parts(None, "acme/app").tag(Some("v2")),
            Named::parts(Some("10.0.0.1:5000"), "acme/app").tag(Some("v2")),
        ] {
            assert_eq!(image(named, Some("Mirror.local:5000")).expect("an image"), "mirror.local:5000/acme/app:v2");
        }
    }

    #[test]
    fn a_host_that_would_be_read_as_a_name() {
        for (host, registry) in [(Some("registry"), None), (Some("h.example"), Some("registry"))] {
            let error = image(Named::parts(host, "app"), registry).expect_err("no host").to_string();
            assert!(error.contains("\"registry\"") && error.contains("spec.registry"), "{error}");
        }
        assert!(matches!(image(Named::parts(Some(""), "app"), None), Err(ParseError::NoHost { .. })));
    }
}
