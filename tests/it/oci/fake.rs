//! How registries are asked in these tests; they are the kit's own servers.

use tranche::clock::Clock;
use tranche::oci::{Access, Credentials, Registries, Secret};

pub use crate::support::fake::{Fake, Seen, reply};

/// What may be reached in most of these tests.
pub const LOOPBACK: &str = "127.0.0.1";
/// A password that must never be shown.
pub const PASSWORD: &str = "hunter2-hunter2";

pub fn registries(rules: &str) -> Registries {
    Registries::new(rules.parse().unwrap(), Clock::default())
}

/// As everybody, over http.
pub fn plain() -> Access {
    Access::default().with_plain_http(true)
}

pub fn password(user: &str, password: &str) -> Credentials {
    Credentials::Password { username: user.into(), password: Secret::new(password) }
}
