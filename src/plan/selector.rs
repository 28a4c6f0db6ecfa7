//! Label selectors, with the meaning that Kubernetes gives them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, Selector, SelectorExt as _};

/// A parsed label selector.
#[derive(Clone, Debug, Default)]
pub struct Labels(Option<Selector>);

impl Labels {
    /// Matches everything.
    #[must_use]
    pub fn everything() -> Self {
        Self(None)
    }

    /// Parses a selector.
    ///
    /// # Errors
    /// When an expression has an operator that does not exist, or values where there must be none; the text says which.
    pub fn parse(selector: &LabelSelector) -> Result<Self, String> {
        let mut parsed: Vec<Expression> = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            parsed.push(Expression::Equal(key.clone(), value.clone()));
        }
        for requirement in selector.match_expressions.iter().flatten() {
            let key = requirement.key.clone();
            let values: std::collections::BTreeSet<String> = requirement.values.iter().flatten().cloned().collect();
            parsed.push(match (requirement.operator.as_str(), values.is_empty()) {
                ("In", false) => Expression::In(key, values),
                ("NotIn", false) => Expression::NotIn(key, values),
                ("Exists", true) => Expression::Exists(key),
                ("DoesNotExist", true) => Expression::DoesNotExist(key),
                ("In" | "NotIn", true) => return Err(format!("selector: {key} {} needs values", requirement.operator)),
                ("Exists" | "DoesNotExist", false) => {
                    return Err(format!("selector: {key} {} takes no values", requirement.operator));
                }
                (other, _) => {
                    return Err(format!("selector: {other:?} is not one of In, NotIn, Exists, DoesNotExist"));
                }
            });
        }
        Ok(Self(if parsed.is_empty() { None } else { Some(parsed.into_iter().collect()) }))
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.as_ref().is_none_or(|selector| selector.matches(labels))
    }
}
