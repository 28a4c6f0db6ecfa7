//! What a person did last to an object, and why: an annotation, for whoever looks at the object, and for its history.
//!
//! The API server's audit log is the proof of who did what; this is its short form, where people look. Whoever may change
//! the object may write anything into it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

/// The annotation; its value is an [`Act`] as JSON.
pub const LAST_ACT: &str = "tranche.dev/last-act";
/// Longest reason that is taken, characters.
pub const MAX_REASON: usize = 256;
/// What is read of an annotation; nobody but us writes it, but anybody may.
const MAX_ANNOTATION: usize = 4096;
/// Longest name of a person that is shown, bytes. Names of service accounts have up to 150.
const MAX_NAME: usize = 200;

/// One act of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// What, as a line of history is typed: `RolloutPaused`.
    pub verb: String,
    /// The person, as the API server knows them.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, by their clock.
    pub time: Time,
    /// `metadata.generation` that the act made; 0 where the object has none. It tells the act from a later change that
    /// left the annotation as it was.
    #[serde(default)]
    pub generation: i64,
}

impl Act {
    /// The last act on an object, if it is recorded and can be read.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let text = metadata.annotations.as_ref()?.get(LAST_ACT).filter(|text| text.len() <= MAX_ANNOTATION)?;
        serde_json::from_str(text).ok()
    }

    /// The annotation that records it.
    #[must_use]
    pub fn annotation(&self) -> BTreeMap<&'static str, String> {
        // A struct of strings and numbers can't fail to be written.
        BTreeMap::from([(LAST_ACT, serde_json::to_string(self).unwrap_or_default())])
    }

    /// Who and why, for a line of history: `jane: too slow`.
    #[must_use]
    pub fn who_and_why(&self) -> String {
        let by = super::condition::truncate(plain(&self.by), MAX_NAME);
        let reason = self.reason.as_deref().map(plain).filter(|reason| !reason.is_empty());
        match reason {
            Some(reason) => format!("{by}: {}", reason.chars().take(MAX_REASON).collect::<String>()),
            None => by,
        }
    }
}

/// Without what could forge a second line or a colour.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

/// A person's reason as it is kept: trimmed, absent if empty.
///
/// # Errors
/// When it is too long or has control characters; the text says so.
pub fn reason(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err("a reason is one line of text".into());
    }
    match text.chars().count() {
        0 => Ok(None),
        1..=MAX_REASON => Ok(Some(text.to_owned())),
        length => Err(format!("a reason has at most {MAX_REASON} characters, and this one has {length}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(by: &str, reason: Option<&str>) -> Act {
        let time = Time("2026-01-02T03:04:05Z".parse().unwrap());
        Act { verb: "RolloutPaused".into(), by: by.into(), reason: reason.map(Into::into), time, generation: 3 }
    }

    #[test]
    fn what_is_written_is_read() {
        let act = act("jane", Some("too slow"));
        let annotations = act.annotation().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut metadata = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
        assert_eq!(Act::of(&metadata), Some(act));
        metadata.annotations = Some([(LAST_ACT.to_owned(), "{".to_owned())].into());
        assert_eq!(Act::of(&metadata), None);
        assert_eq!(Act::of(&ObjectMeta::default()), None);
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(act("jane", Some("too slow")).who_and_why(), "jane: too slow");
        assert_eq!(act("jane", None).who_and_why(), "jane");
        assert_eq!(act("ja\nne", Some("a\n\u{1b}[31mb ")).who_and_why(), "jane: a[31mb");
        assert_eq!(act("jane", Some(&"x".repeat(300))).who_and_why().len(), "jane: ".len() + MAX_REASON);
        assert_eq!(act(&"j".repeat(300), None).who_and_why().len(), MAX_NAME);
    }

    #[test]
    fn reasons() {
        assert_eq!(reason("  "), Ok(None));
        assert_eq!(reason(" too slow "), Ok(Some("too slow".into())));
        assert!(reason("a\nb").is_err());
        assert_eq!(reason(&"ü".repeat(256)).map(|reason| reason.is_some()), Ok(true));
        assert!(reason(&"x".repeat(257)).unwrap_err().contains("257"));
    }
}
