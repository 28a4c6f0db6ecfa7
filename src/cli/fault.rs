//! What went wrong, and what to do next; and the exit codes that scripts go by.

use std::error::Error as _;

use kube::core::Status;

/// Exit codes beside 0. Documented in docs/cli.md; they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Anything without a code of its own.
    Error = 1,
    /// The object isn't there.
    NotFound = 3,
    /// The verb does not fit the state that the object is in.
    Conflict = 4,
    /// A rollout that was watched has ended, and is not Completed.
    NotCompleted = 5,
    /// What was waited for did not happen in time.
    TimedOut = 6,
    /// Ctrl-C, as shells have it.
    Interrupted = 130,
}

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    code: Code,
    text: String,
}

impl Fault {
    /// With a code and a text that says what to do.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// What went wrong, without what to do about it.
    #[must_use]
    pub fn brief(&self) -> &str {
        self.text.split("; ").next().unwrap_or_default()
    }
}

/// The exit code of a failed command; `None` when only the reader of its output has gone, as in `… | head`.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> Option<u8> {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<std::io::Error>().is_some_and(gone) {
        return None;
    }
    Some(error.downcast_ref::<Fault>().map_or(Code::Error, |fault| fault.code) as u8)
}

/// What was asked of the API server, for the words of its refusal.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `list`, `get`, `patch`.
    pub verb: &'static str,
    /// `imagerollouts`.
    pub plural: &'a str,
    /// Its API group.
    pub group: &'a str,
    /// The object, if it was about one.
    pub name: Option<&'a str>,
    /// Where.
    pub namespace: &'a str,
}

impl Request<'_> {
    fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The refusal in plain words, with what to do about it.
    #[must_use]
    pub fn refused(&self, error: &kube::Error) -> Fault {
        match error {
            kube::Error::Api(status) => self.answered(status),
            other => Fault::new(Code::Error, unanswered(other)),
        }
    }

    fn answered(&self, status: &Status) -> Fault {
        let Self { verb, plural, group, name, namespace } = self;
        let resource = self.resource();
        if status.is_forbidden() {
            let who = quoted_user(&status.message).map_or_else(|| "you".to_owned(), |user| format!("{user} (you)"));
            // Admission refuses with 403 as well; then its own words are all there is.
            if !status.message.contains(" cannot ") {
                return Fault::new(
                    Code::Error,
                    format!("the API server refuses to {verb} {resource}: {}", status.message),
                );
            }
            return Fault::new(
                Code::Error,
                format!(
                    "{who} may not {verb} {resource} in namespace {namespace}; ask for a role that allows it there, such as\n  \
                     kubectl create role tranche-{verb}-{plural} -n {namespace} --verb={verb} --resource={resource}\n\
                     `tranche doctor` lists everything that is missing"
                ),
            );
        }
        if status.is_not_found() || status.code == 404 {
            return match name {
                // An object that isn't there is told by its name, a kind that isn't by nothing.
                Some(name) if status.details.as_ref().is_some_and(|details| details.name == *name) => Fault::new(
                    Code::NotFound,
                    format!("there is no {} {name} in namespace {namespace}", singular(plural)),
                ),
                Some(_) | None if *group == crate::api::GROUP => Fault::new(
                    Code::Error,
                    format!(
                        "the cluster does not know {resource}: install Tranche's kinds with\n  tranche crds | kubectl apply --server-side -f -"
                    ),
                ),
                Some(_) | None => Fault::new(Code::Error, format!("the cluster does not know {resource}")),
            };
        }
        if status.code == 401 {
            let text = "the API server does not accept your credentials: they are wrong or have expired; \
                        log in again, or choose another --context or --kubeconfig";
            return Fault::new(Code::Error, text);
        }
        if status.is_invalid() {
            return Fault::new(Code::Error, status.message.clone());
        }
        let what = name.map(|name| format!(" {name}")).unwrap_or_default();
        Fault::new(Code::Error, format!("the API server refuses to {verb} {resource}{what}: {}", status.message))
    }
}

/// `imagerollout` of `imagerollouts`, as kubectl writes one.
#[must_use]
pub fn singular(plural: &str) -> &str {
    match plural {
        "imageupdatepolicies" => "imageupdatepolicy",
        other => other.strip_suffix('s').unwrap_or(other),
    }
}

fn quoted_user(message: &str) -> Option<String> {
    let rest = message.split_once("User \"")?.1;
    Some(rest.split_once('"')?.0.to_owned())
}

/// Of a server that gave no answer that can be understood.
fn unanswered(error: &kube::Error) -> String {
    let mut text = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if text.last() != Some(&said) {
            text.push(said);
        }
        cause = inner.source();
    }
    // The outermost words are those of a library, the innermost ones the machine's.
    let why = text.pop().unwrap_or_else(|| error.to_string());
    match error {
        kube::Error::SerdeError(inner) => format!("the API server's answer can't be read: {inner}"),
        kube::Error::HyperError(_) | kube::Error::Service(_) => format!(
            "the cluster can't be reached: {why}; is it running, and is it the right one? \
             `kubectl config current-context` says which it is, --context and --kubeconfig choose another"
        ),
        other => format!("the API server can't be asked: {other}"),
    }
}

/// Of `names` the one that was probably meant.
#[must_use]
pub fn close_to<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let close = |name: &&String| name.starts_with(wanted) || distance(wanted, name) <= 2.max(wanted.len() / 6);
    names.iter().filter(close).min_by_key(|name| distance(wanted, name)).map(String::as_str)
}

/// Letters to insert, remove or exchange (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = exchanged.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str, name: &str) -> kube::Error {
        let status = serde_json::json!({
            "status": "Failure", "code": code, "reason": reason, "message": message, "details": {"name": name},
        });
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    fn said(verb: &'static str, name: Option<&str>, error: &kube::Error) -> (String, Code) {
        let request = Request { verb, plural: "imagerollouts", group: "tranche.dev", name, namespace: "plant" };
        let fault = request.refused(error);
        (fault.to_string(), fault.code)
    }

    #[test]
    fn a_refusal_names_the_right_that_is_missing() {
        let message = r#"imagerollouts.tranche.dev is forbidden: User "eve" cannot patch resource "imagerollouts""#;
        let (text, code) = said("patch", Some("r"), &status(403, "Forbidden", message, "r"));
        assert!(text.starts_with("eve (you) may not patch imagerollouts.tranche.dev in namespace plant"), "{text}");
        assert!(text.contains("--verb=patch --resource=imagerollouts.tranche.dev"), "{text}");
        assert_eq!(code, Code::Error);
        let (text, _) = said("create", None, &status(403, "Forbidden", "exceeded quota: iro", ""));
        assert!(text.ends_with("exceeded quota: iro"), "{text}");
    }

    #[test]
    fn an_object_that_is_not_there_is_no_kind_that_is_not() {
        let (text, code) = said("get", Some("r"), &status(404, "NotFound", "not found", "r"));
        assert_eq!((text.as_str(), code), ("there is no imagerollout r in namespace plant", Code::NotFound));
        let (text, code) = said("get", Some("r"), &status(404, "NotFound", "page not found", ""));
        assert!(text.contains("tranche crds | kubectl apply --server-side"), "{text}");
        assert_eq!(code, Code::Error);
    }

    #[test]
    fn names_that_are_meant() {
        let names = ["myapp-9c07d57162", "other-0123456789"].map(str::to_owned);
        assert_eq!(close_to("myapp", &names), Some("myapp-9c07d57162"));
        assert_eq!(close_to("myap-9c07d57162", &names), Some("myapp-9c07d57162"));
        assert_eq!(close_to("web", &names), None);
    }

    #[test]
    fn a_reader_that_goes_is_no_failure() {
        let gone = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(exit_code(&gone), None);
        let conflict = anyhow::Error::from(Fault::new(Code::Conflict, "x")).context("y");
        assert_eq!(exit_code(&conflict), Some(4));
        assert_eq!(exit_code(&anyhow::anyhow!("z")), Some(1));
    }
}
