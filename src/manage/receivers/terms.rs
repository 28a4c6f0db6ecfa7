//! What a receiver's spec says, compiled once and asked for each delivery.

use kube::core::{Expression, Selector, SelectorExt as _};

use crate::api::webhook::{OidcRule, RegistryType, RegistryWebhookSpec};
use crate::registry::pattern::Pattern;
use crate::registry::signature::Rule;
use crate::registry::{Expect, PushEvent, Reason};

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A receiver's terms.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Which proof is asked.
    pub rule: Rule,
    /// What a token must say, where one is asked.
    pub oidc: Option<OidcRule>,
    /// Nothing is made of its deliveries.
    pub suspend: bool,
    /// Name of its Secret.
    pub secret: String,
    type_: RegistryType,
    registry: Option<String>,
    repositories: Vec<Pattern>,
    policies: Option<Selector>,
}

impl Terms {
    /// Compiles a spec.
    ///
    /// # Errors
    /// When it can't be followed, with what to change.
    pub fn of(spec: &RegistryWebhookSpec) -> Result<Self, String> {
        let RegistryWebhookSpec { type_, secret_ref, registry, repositories, policy_selector, oidc, suspend } = spec;
        let repositories = repositories
            .iter()
            .enumerate()
            .map(|(index, text)| Pattern::parse(text).map_err(|error| format!("spec.repositories[{index}]: {error}")));
        let rule = Rule::of(*type_, oidc.is_some());
        if rule == Rule::Token && oidc.is_none() {
            return Err("spec.oidc is missing: Pub/Sub proves itself by a signed token, and by nothing else".into());
        }
        Ok(Self {
            rule,
            oidc: oidc.clone(),
            suspend: *suspend,
            secret: secret_ref.name.clone(),
            type_: *type_,
            registry: registry.clone(),
            repositories: repositories.collect::<Result<_, _>>()?,
            policies: policy_selector.as_ref().map(selector).transpose()?,
        })
    }

    /// What its deliveries are read as.
    #[must_use]
    pub fn expect(&self) -> Expect<'_> {
        Expect { type_: self.type_, registry: self.registry.as_deref() }
    }

    /// Whether it is for one registry only.
    #[must_use]
    pub fn is_of_one_registry(&self) -> bool {
        self.type_ != RegistryType::Auto
    }

    /// What is against a push before any policy is asked: a shared secret of a whole organisation says nothing of whose
    /// repository it is.
    #[must_use]
    pub fn objection(&self, event: &PushEvent) -> Option<Reason> {
        let allowed = self.repositories.is_empty()
            || self.repositories.iter().any(|glob| glob.matches(&event.image.repository, event.image.tag.as_deref()));
        (!allowed).then(|| Reason::RepositoryNotAllowed { image: event.image.to_string() })
    }

    /// Whether a policy with these labels is its business.
    #[must_use]
    pub fn speaks_to(&self, labels: &BTreeMap<String, String>) -> bool {
        self.policies.as_ref().is_none_or(|selector| selector.matches(labels))
    }
}

/// A label selector, with the meaning that Kubernetes gives it.
fn selector(selector: &LabelSelector) -> Result<Selector, String> {
    let equal = |(key, value): (&String, &String)| Expression::Equal(key.clone(), value.clone());
    let mut parsed: Vec<Expression> = selector.match_labels.iter().flatten().map(equal).collect();
    for requirement in selector.match_expressions.iter().flatten() {
        let (key, operator) = (requirement.key.clone(), requirement.operator.as_str());
        let values: BTreeSet<String> = requirement.values.iter().flatten().cloned().collect();
        parsed.push(match (operator, values.is_empty()) {
            ("In", false) => Expression::In(key, values),
            ("NotIn", false) => Expression::NotIn(key, values),
            ("Exists", true) => Expression::Exists(key),
            ("DoesNotExist", true) => Expression::DoesNotExist(key),
            ("In" | "NotIn", true) => return Err(format!("spec.policySelector: {key} {operator} needs values")),
            ("Exists" | "DoesNotExist", false) => {
                return Err(format!("spec.policySelector: {key} {operator} takes no values"));
            }
            (other, _) => {
                return Err(format!("spec.policySelector: {other:?} is not one of In, NotIn, Exists, DoesNotExist"));
            }
        });
    }
    Ok(parsed.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn terms(spec: &Value) -> Result<Terms, String> {
        let mut whole = json!({"secretRef": {"name": "hook"}});
        for (key, value) in spec.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        Terms::of(&serde_json::from_value(whole).expect("a spec"))
    }

    fn push(image: &str) -> PushEvent {
        PushEvent { image: image.parse().expect("an image"), actor: None, delivery_id: None, receiver: "generic" }
    }

    #[test]
    fn whose_repositories() {
        let ours = terms(&json!({"repositories": ["ghcr.io/team-a/*", "redis"]})).expect("terms");
        for (image, allowed) in [
            ("ghcr.io/team-a/app:v1", true),
            ("redis:7", true),
            ("ghcr.io/team-b/app:v1", false),
            ("ghcr.io/team-a-not/app:v1", false),
            ("team-a/app:v1", false),
            ("evil.example/ghcr.io/team-a/app:v1", false),
        ] {
            assert_eq!(ours.objection(&push(image)).is_none(), allowed, "{image}");
        }
        assert!(terms(&json!({})).expect("terms").objection(&push("any/thing:v1")).is_none());
    }

    #[test]
    fn which_policies() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let any = terms(&json!({})).expect("terms");
        assert!(any.speaks_to(&labels(&[])));
        let spec = json!({"policySelector": {
            "matchLabels": {"team": "a"}, "matchExpressions": [{"key": "stage", "operator": "NotIn", "values": ["lab"]}],
        }});
        let some = terms(&spec).expect("terms");
        assert!(some.speaks_to(&labels(&[("team", "a")])));
        assert!(some.speaks_to(&labels(&[("team", "a"), ("stage", "prod")])));
        assert!(!some.speaks_to(&labels(&[("team", "a"), ("stage", "lab")])));
        assert!(!some.speaks_to(&labels(&[("team", "b")])));
        assert!(!some.speaks_to(&labels(&[])));
    }

    #[test]
    fn what_cannot_be_followed() {
        let expression = |operator: &str, values: Value| json!({"policySelector": {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}});
        for (spec, says) in [
            (json!({"repositories": ["acme/app", "a b"]}), "spec.repositories[1]"),
            (json!({"type": "GoogleArtifactRegistry"}), "spec.oidc"),
            (expression("In", json!([])), "needs values"),
            (expression("Exists", json!(["a"])), "takes no values"),
            (expression("Like", json!(["a"])), "In, NotIn"),
        ] {
            let why = terms(&spec).expect_err("it can't be followed");
            assert!(why.contains(says), "{spec}: {why}");
        }
    }
}
