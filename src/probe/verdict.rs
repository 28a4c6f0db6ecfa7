//! What one look at a device, or a whole check, says. Pure: the words and their meaning, no IO.
//!
//! Three answers, not two. *Passed* and *Failed* are about the device; *Unknown* is about us: a look that could not be
//! taken. Unknown never fails a device and never lets a batch go on. Where it can't be told whose fault something is, it
//! is Unknown.

use std::fmt;

/// The longest message; it ends in the status of objects.
const MAX_MESSAGE: usize = 300;

/// What is known after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device is as the check wants it.
    Passed,
    /// The device is not: its own fault, as far as can be seen.
    Failed {
        /// In one word.
        reason: Failure,
        /// In a sentence, without secrets.
        message: Box<str>,
    },
    /// It could not be seen, for reasons of ours.
    Unknown {
        /// In one word.
        reason: Doubt,
        /// In a sentence, without secrets.
        message: Box<str>,
    },
}

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Something at the device's address said that nobody listens at the port.
    Refused,
    /// Nothing answered the attempt to connect within the timeout.
    Unanswered,
    /// It took the connection, but didn't answer within the timeout.
    Timeout,
    /// It ended the connection before the answer was complete.
    Broken,
    /// What it speaks is not HTTP.
    NotHttp,
    /// It was asked over https and doesn't speak TLS, or not so that an agreement was found.
    NotTls,
    /// Its certificate is not trusted.
    Certificate,
    /// A status that is not expected.
    Status,
    /// The body is not as it must be.
    Body,
    /// It sends elsewhere, or in circles.
    Redirect,
    /// Who was asked says so: a webhook, a Job, or Prometheus.
    Judged,
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// The device has reported no address, or none that is one.
    NoAddress,
    /// The check makes no address for this device, such as from a name that can't be in one.
    NoTarget,
    /// From here there is no way to the address.
    NoRoute,
    /// The name was not resolved. A name says nothing about the device, whoever's fault it is.
    Dns,
    /// This machine has no files, ports or memory left for a connection, or doesn't let us connect.
    NoSockets,
    /// The address is one that must not be reached.
    AddressRefused,
    /// TLS could not be set up on our side.
    TlsSetup,
    /// Who was asked, a webhook, a Job or Prometheus, did not say: it is somebody's own, and when it breaks, no device must
    /// fail.
    NotJudged,
    /// All devices fell silent at once, so it is most likely us.
    AllAtOnce,
    /// A defect of ours: the look never ended, or ended badly.
    Internal,
}

impl Outcome {
    /// The device's fault.
    #[must_use]
    pub fn failed(reason: Failure, message: impl AsRef<str>) -> Self {
        Self::Failed { reason, message: clean(message.as_ref()) }
    }

    /// Ours.
    #[must_use]
    pub fn unknown(reason: Doubt, message: impl AsRef<str>) -> Self {
        Self::Unknown { reason, message: clean(message.as_ref()) }
    }

    /// Nothing came back at all, which may be the device's fault or ours.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Failed { reason, .. } => reason.might_be_ours(),
            Self::Passed | Self::Unknown { .. } => false,
        }
    }

    /// In one word: `Passed`, or the reason.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Passed => "Passed",
            Self::Failed { reason, .. } => reason.as_str(),
            Self::Unknown { reason, .. } => reason.as_str(),
        }
    }
}

impl Failure {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::Unanswered => "Unanswered",
            Self::Timeout => "Timeout",
            Self::Broken => "Broken",
            Self::NotHttp => "NotHttp",
            Self::NotTls => "NotTls",
            Self::Certificate => "Certificate",
            Self::Status => "Status",
            Self::Body => "Body",
            Self::Redirect => "Redirect",
            Self::Judged => "Judged",
        }
    }

    /// Whether it would look the same if it were our own network that is cut: nothing came back at all. A refusal is an
    /// answer, and a bad image that doesn't listen is refused on every device of a batch at the same moment.
    #[must_use]
    pub fn might_be_ours(self) -> bool {
        match self {
            Self::Unanswered => true,
            Self::Refused
            | Self::Timeout
            | Self::Broken
            | Self::NotHttp
            | Self::NotTls
            | Self::Certificate
            | Self::Status
            | Self::Body
            | Self::Redirect
            | Self::Judged => false,
        }
    }
}

impl Doubt {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAddress => "NoAddress",
            Self::NoTarget => "NoTarget",
            Self::NoRoute => "NoRoute",
            Self::Dns => "Dns",
            Self::NoSockets => "NoSockets",
            Self::AddressRefused => "AddressRefused",
            Self::TlsSetup => "TlsSetup",
            Self::NotJudged => "NotJudged",
            Self::AllAtOnce => "AllAtOnce",
            Self::Internal => "Internal",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed { reason, message } => write!(f, "failed ({}): {message}", reason.as_str()),
            Self::Unknown { reason, message } => write!(f, "unknown ({}): {message}", reason.as_str()),
        }
    }
}

/// What others wrote, so that it can be shown: one line, of a bounded length.
pub(super) fn clean(text: &str) -> Box<str> {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(MAX_MESSAGE).collect::<String>().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown() {
        assert_eq!(Outcome::Passed.to_string(), "passed");
        let failed = Outcome::failed(Failure::Status, "status 500,\nnot 200");
        assert_eq!(failed.to_string(), "failed (Status): status 500, not 200");
        assert_eq!(failed.label(), "Status");
        let unknown = Outcome::unknown(Doubt::Dns, "x".repeat(10 * MAX_MESSAGE));
        assert!(unknown.to_string().len() < MAX_MESSAGE + 30);
        assert_eq!(unknown.label(), "Dns");
    }
}
