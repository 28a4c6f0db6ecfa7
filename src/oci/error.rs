//! Why a registry gave no answer that could be used.

use std::net::IpAddr;
use std::time::Duration;

use crate::api::image::ImageError;

/// What went wrong with a registry. Says to which host and what to do; never holds a token, a password or a URL, and of
/// what the registry said nothing but words of fixed shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No connection, or one that broke.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host, and port if any.
        host: String,
        /// The last cause, in the system's words.
        reason: String,
    },
    /// Its certificate is not trusted.
    #[error(
        "the certificate of {host} is not trusted ({reason}); if the registry has its own authority, name a Secret with its ca.crt in spec.image.registry.caSecretRef"
    )]
    Certificate {
        /// Host, and port if any.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not speak TLS.
    #[error(
        "{host} does not answer over https; if it is meant to be asked over http, set spec.image.registry.plainHttp"
    )]
    NotTls {
        /// Host, and port if any.
        host: String,
    },
    /// It took too long.
    #[error("{host} did not answer within {} s", .after.as_secs())]
    Timeout {
        /// Host, and port if any.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// It asked to be left alone, now or earlier.
    #[error("{host} asks to wait for {} s before the next request", .retry_after.as_secs())]
    Wait {
        /// Host, and port if any.
        host: String,
        /// How long from now. At most an hour.
        retry_after: Duration,
    },
    /// It failed.
    #[error("{host} failed with status {status}")]
    Server {
        /// Host, and port if any.
        host: String,
        /// HTTP status, 500 to 599 or 408.
        status: u16,
    },
    /// This process can't make requests.
    #[error("the HTTP client can't be set up: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
    /// There is no such image.
    #[error("{image} does not exist in the registry")]
    NoSuchImage {
        /// The image, or the repository.
        image: String,
    },
    /// Credentials are missing, wrong, or not good for this repository.
    #[error("{}", unauthorized(host, image, *had_credentials, code.as_deref()))]
    Unauthorized {
        /// Who said so: the registry, or the server it gets its tokens from.
        host: String,
        /// The image, or the repository.
        image: String,
        /// Whether there were credentials for it.
        had_credentials: bool,
        /// The registry's error code, such as `DENIED`.
        code: Option<String>,
    },
    /// Its address is one that must not be reached.
    #[error(
        "{host} is at {address}, {kind}, which is not reached; an operator of Tranche can allow it by --registry-allow-addresses"
    )]
    Address {
        /// Host, and port if any.
        host: String,
        /// The address.
        address: IpAddr,
        /// What is special about it.
        kind: &'static str,
    },
    /// Plain http would be needed.
    #[error(
        "{what} is only offered over http, which is not used unless spec.image.registry.plainHttp is set, and never after https"
    )]
    PlainHttp {
        /// What, with its host.
        what: String,
    },
    /// The image's name is none.
    #[error("the image can't be asked for")]
    Image(#[source] ImageError),
    /// An answer that makes no sense.
    #[error("{host} answered {what}")]
    Malformed {
        /// Host, and port if any.
        host: String,
        /// What, in words that follow "answered".
        what: String,
    },
    /// Content that is not what its digest says.
    #[error("{host} served content with digest {served} for {expected}")]
    Digest {
        /// Host, and port if any.
        host: String,
        /// What was asked for or announced.
        expected: String,
        /// What came.
        served: String,
    },
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nobody answered. Try again later: after [`RegistryError::retry_after`] where it is set, else with backoff.
    NoAnswer,
    /// The registry answers that there is no such image. It may come yet.
    NoSuchImage,
    /// The registry wants other credentials. A person must act; they may then change without the policy changing.
    Unauthorized,
    /// Our own rules refuse it: an address, or plain http. A person must act.
    Refused,
    /// The answer can't be used, or the question can't be asked.
    Malformed,
}

impl Class {
    /// For metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoAnswer => "no_answer",
            Self::NoSuchImage => "no_such_image",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
        }
    }
}

impl RegistryError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. }
            | Self::Certificate { .. }
            | Self::NotTls { .. }
            | Self::Timeout { .. }
            | Self::Wait { .. }
            | Self::Server { .. }
            | Self::Client { .. } => Class::NoAnswer,
            Self::NoSuchImage { .. } => Class::NoSuchImage,
            Self::Unauthorized { .. } => Class::Unauthorized,
            Self::Address { .. } | Self::PlainHttp { .. } => Class::Refused,
            Self::Image(_) | Self::Malformed { .. } | Self::Digest { .. } => Class::Malformed,
        }
    }

    /// How long the registry asks to be left alone; absent where it doesn't.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Wait { retry_after, .. } => Some(*retry_after),
            Self::Unreachable { .. }
            | Self::Certificate { .. }
            | Self::NotTls { .. }
            | Self::Timeout { .. }
            | Self::Server { .. }
            | Self::Client { .. }
            | Self::NoSuchImage { .. }
            | Self::Unauthorized { .. }
            | Self::Address { .. }
            | Self::PlainHttp { .. }
            | Self::Image(_)
            | Self::Malformed { .. }
            | Self::Digest { .. } => None,
        }
    }
}

fn unauthorized(host: &str, image: &str, had_credentials: bool, code: Option<&str>) -> String {
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    if had_credentials {
        format!(
            "{host} does not let the credentials of spec.image.registry.pullSecretRef read {image}{code}: they are wrong, not for this repository, or it does not exist"
        )
    } else {
        format!(
            "{host} does not let everybody read {image}{code}: name a Secret with credentials for it in spec.image.registry.pullSecretRef, if it exists"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read() {
        let host = || "r.example:5000".to_owned();
        for (error, text) in [
            (
                RegistryError::Timeout { host: host(), after: Duration::from_secs(10) },
                "r.example:5000 did not answer within 10 s",
            ),
            (
                RegistryError::Unauthorized {
                    host: host(),
                    image: "r.example:5000/app:v1".into(),
                    had_credentials: false,
                    code: Some("DENIED".into()),
                },
                "r.example:5000 does not let everybody read r.example:5000/app:v1 (DENIED): name a Secret with credentials for it in spec.image.registry.pullSecretRef, if it exists",
            ),
            (
                RegistryError::Address {
                    host: host(),
                    address: IpAddr::from([127, 0, 0, 1]),
                    kind: "a loopback address",
                },
                "r.example:5000 is at 127.0.0.1, a loopback address, which is not reached; an operator of Tranche can allow it by --registry-allow-addresses",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
