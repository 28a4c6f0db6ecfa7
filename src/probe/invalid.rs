//! Why a check can never work. Found when a policy is validated, before any rollout starts on it.

use super::promql::QueryError;
use super::schedule::ScheduleError;
use super::statuses::StatusesError;
use super::template::TemplateError;
use super::tls::TlsError;

/// What is wrong with a check. Never shows the value of a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheck {
    /// Of several kinds, or of none.
    #[error("a check must be exactly one of http, tcp, container, webhook, job and analysis")]
    Kinds,
    /// Its URL.
    #[error("the url is wrong")]
    Url(#[source] TemplateError),
    /// A webhook's host that is filled in.
    #[error("the host of a webhook must not have placeholders in it: it is asked about devices, and is none")]
    FixedHost,
    /// An analysis' URL that is filled in.
    #[error("the url of an analysis must not have placeholders: they belong into the query, in double braces")]
    FixedUrl,
    /// Its query.
    #[error("the query is wrong")]
    Query(#[source] QueryError),
    /// Its bounds.
    #[error("{0}")]
    Bounds(&'static str),
    /// Its pod template.
    #[error("{0}")]
    Job(&'static str),
    /// Its host.
    #[error("the host is wrong")]
    Host(#[source] TemplateError),
    /// Its port.
    #[error("the port must be from 1 to 65535")]
    Port,
    /// Its method.
    #[error("{0:?} is no method of a check: it must be GET, HEAD, OPTIONS, POST or PUT")]
    Method(String),
    /// A header.
    #[error("the header {name:?} {problem}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong, in words that follow the name.
        problem: &'static str,
    },
    /// A Secret without what is looked for in it.
    #[error("key {key} of Secret {name} {problem}")]
    Secret {
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// What is wrong, in words that follow.
        problem: &'static str,
    },
    /// Too many headers.
    #[error("there are more than {0} headers")]
    Headers(usize),
    /// Its expected statuses.
    #[error("expectedStatus is wrong")]
    Statuses(#[source] StatusesError),
    /// What the body must contain or match.
    #[error("{0}")]
    Body(&'static str),
    /// Its regular expression.
    #[error("bodyMatches is no regular expression, or too large a one: {0}")]
    Regex(String),
    /// Its TLS options.
    #[error("the TLS options are wrong")]
    Tls(#[source] TlsError),
    /// Its times and counts.
    #[error("its schedule is wrong")]
    Schedule(#[source] ScheduleError),
}

impl InvalidCheck {
    /// With what it comes from, in one line for a condition's message.
    #[must_use]
    pub fn sentence(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
