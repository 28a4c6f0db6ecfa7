//! The webhook's door: whom it opens to, and how it says so.
//!
//! Decides from the settings once, at the start. Three positions: a secret (whoever proves to have it), shut (nobody; no
//! secret is set), open (everybody, for a trial, on loopback only).

use std::net::SocketAddr;
use std::str::FromStr;

use crate::registry::signature::{Secret, Secrets};

/// The variable that holds the secret.
pub const SECRET_VARIABLE: &str = "DOCKER_WEBHOOK_SECRET";

/// How to open a door that is shut; part of several answers.
pub const HOW_TO_OPEN: &str = "set DOCKER_WEBHOOK_SECRET to a long random text (openssl rand -hex 32) and give the registry the same one, \
     or, for a trial on loopback, run with --webhook-auth=none";

/// The setting `--webhook-auth`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// `secret`: deliveries prove that they know the secret.
    #[default]
    Secret,
    /// `none`: everybody may deliver.
    None,
}

impl FromStr for AuthMode {
    type Err = DoorError;

    fn from_str(text: &str) -> Result<Self, DoorError> {
        match text {
            "secret" => Ok(Self::Secret),
            "none" => Ok(Self::None),
            other => Err(DoorError::Mode(other.to_owned())),
        }
    }
}

impl std::fmt::Display for AuthMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::None => "none",
        })
    }
}

/// Settings that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// Not a mode.
    #[error("--webhook-auth is secret or none, not {0:?}")]
    Mode(String),
    /// Open to the world.
    #[error(
        "--webhook-auth=none lets everybody who reaches {0} roll out images: listen on loopback (127.0.0.1 or ::1), or set DOCKER_WEBHOOK_SECRET and leave --webhook-auth=secret"
    )]
    OpenToTheWorld(SocketAddr),
}

/// The door's position.
#[derive(Clone, Debug)]
pub enum WebhookAuth {
    /// For those who have the secret.
    Secret(Secrets),
    /// For everybody.
    Open,
    /// For nobody.
    Shut,
}

impl WebhookAuth {
    /// From the settings. `secret` is what [`SECRET_VARIABLE`] holds; blank counts as not set.
    #[must_use]
    pub fn new(mode: AuthMode, secret: Option<&str>) -> Self {
        match (mode, secret.and_then(Secret::new)) {
            (AuthMode::None, _) => Self::Open,
            (AuthMode::Secret, Some(secret)) => Self::Secret(secret.into()),
            (AuthMode::Secret, None) => Self::Shut,
        }
    }

    /// Whether the door may stand like this where the process listens. Call it with the address that was really bound,
    /// before the first request.
    ///
    /// # Errors
    /// When it stands open and the address isn't loopback.
    pub fn check_listen(&self, listen: SocketAddr) -> Result<(), DoorError> {
        match self {
            Self::Open if !listen.ip().to_canonical().is_loopback() => Err(DoorError::OpenToTheWorld(listen)),
            Self::Open | Self::Secret(_) | Self::Shut => Ok(()),
        }
    }

    /// What to tell whoever starts the process, if anything.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::Secret(secrets) if secrets.current().is_short() => Some(format!(
                "{SECRET_VARIABLE} has fewer than 16 characters and might be guessed: openssl rand -hex 32"
            )),
            Self::Secret(_) => None,
            Self::Open => Some("the registry webhook takes every delivery (--webhook-auth=none)".into()),
            Self::Shut => Some(format!("the registry webhook is shut: {HOW_TO_OPEN}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        for (mode, secret, expected) in [
            ("secret", None, "Shut"),
            ("secret", Some(" \n"), "Shut"),
            ("secret", Some("s3cret"), "Secret(Secrets { current: Secret(…), previous: None })"),
            ("none", None, "Open"),
            ("none", Some("s3cret"), "Open"),
        ] {
            let mode: AuthMode = mode.parse().expect("a mode");
            assert_eq!(format!("{:?}", WebhookAuth::new(mode, secret)), expected, "{mode} {secret:?}");
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("off".parse::<AuthMode>().expect_err("no mode").to_string().contains("secret or none"));
    }

    #[test]
    fn open_on_loopback_only() {
        let open = WebhookAuth::Open;
        for listen in ["127.0.0.1:8080", "127.8.0.1:80", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert_eq!(open.check_listen(listen.parse().expect("an address")), Ok(()), "{listen}");
        }
        for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            let listen = listen.parse().expect("an address");
            assert_eq!(open.check_listen(listen), Err(DoorError::OpenToTheWorld(listen)), "{listen}");
            assert_eq!(WebhookAuth::Shut.check_listen(listen), Ok(()));
        }
    }

    #[test]
    fn warnings_show_no_secret() {
        let warning = WebhookAuth::new(AuthMode::Secret, Some("s3cret")).warning().expect("a warning");
        assert!(!warning.contains("s3cret"));
        assert!(WebhookAuth::new(AuthMode::Secret, Some(&"x".repeat(32))).warning().is_none());
    }
}
