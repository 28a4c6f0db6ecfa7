//! What a policy that polls follows in its registry: one tag whose content may change, or the highest version.
//!
//! Decides from the policy and a list of tags; asks nobody.

use crate::api::ImageRef;

use super::validated::{Invalid, ValidatedPolicy};

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// This tag, whatever it stands for.
    Tag(ImageRef),
    /// The highest version among the tags of this repository.
    Versions {
        /// Canonical.
        repository: String,
    },
}

impl ValidatedPolicy {
    /// What the policy follows, if it polls at all.
    ///
    /// # Errors
    /// When it is to poll, and there is no telling what.
    pub fn follow(&self) -> Result<Option<Follow>, Invalid> {
        if self.spec.image.poll_interval.is_none() {
            return Ok(None);
        }
        let Some(repository) = self.pattern.repository() else { return Err(Invalid::Poll("names one repository")) };
        match self.pattern.tag() {
            Some(tag) => {
                let image = ImageRef::new(&repository, Some(tag), None).map_err(Invalid::Image)?;
                Ok(Some(Follow::Tag(image)))
            }
            None if self.tags.has_range() => Ok(Some(Follow::Versions { repository })),
            None => Err(Invalid::Poll("names one tag, or rules in spec.tags.semver that say which tag is the highest")),
        }
    }

    /// The highest version among tags that the policy takes.
    #[must_use]
    pub fn highest<'a>(&self, repository: &str, tags: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        tags.into_iter()
            .filter(|tag| self.pattern.matches(repository, Some(tag)) && self.tags.check(tag).is_ok())
            .filter_map(|tag| Some((self.tags.version(tag)?, tag)))
            .max()
            .map(|(_, tag)| tag)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::policy;
    use super::*;

    fn valid(spec: &Value) -> Result<ValidatedPolicy, Invalid> {
        ValidatedPolicy::new(&policy(spec))
    }

    #[test]
    fn what_is_followed() {
        let polls = |pattern: &str, tags: Value| {
            valid(&json!({"image": {"pattern": pattern, "pollInterval": "1m"}, "tags": tags}))
        };
        let followed = |pattern, tags| polls(pattern, tags).unwrap().follow().unwrap();
        let latest = Follow::Tag("acme/web:latest".parse().unwrap());
        assert_eq!(followed("acme/web:latest", json!({})), Some(latest.clone()));
        assert_eq!(followed("acme/web:latest", json!({"semver": "*"})), Some(latest));
        let versions = Follow::Versions { repository: "registry.local:5000/web".into() };
        assert_eq!(followed("registry.local:5000/web:*", json!({"semver": "^2"})), Some(versions));
        assert_eq!(valid(&json!({})).unwrap().follow(), Ok(None));
        for (pattern, tags) in
            [("acme/*", json!({"semver": "^2"})), ("*/web:latest", json!({})), ("acme/web:*", json!({}))]
        {
            let error = polls(pattern, tags).expect_err(pattern).to_string();
            assert!(error.starts_with("spec.image.pollInterval: "), "{error}");
        }
    }

    #[test]
    fn the_highest_version() {
        let policy = valid(&json!({
            "image": {"pattern": "acme/web:v*", "pollInterval": "1m"}, "tags": {"semver": "<3.0.0", "exclude": ["-rc"]},
        }));
        let policy = policy.unwrap();
        let tags = ["v1.9.0", "v2.10.0", "v2.9.0", "v2.11.0-rc1", "v3.0.0", "2.12.0", "latest", "v2"];
        assert_eq!(policy.highest("docker.io/acme/web", tags), Some("v2.10.0"));
        assert_eq!(policy.highest("docker.io/acme/web", ["latest"]), None);
    }
}
