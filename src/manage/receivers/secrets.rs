//! The Secret of a receiver: read one by one, when it is asked for.
//!
//! To list and watch Secrets would be the power to read all of them, always. So one is read by name when its receiver
//! changes, every half a minute, and when a delivery fails that the next secret might let in.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as Object;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::registry::signature::{SHORT_SECRET, Secret, Secrets};

/// The key of the secret.
pub const TOKEN: &str = "token";
/// The key of the one before it.
pub const PREVIOUS: &str = "token-previous";
/// For one read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of a receiver's Secret.
#[derive(Clone, Debug)]
pub enum Known {
    /// Not asked yet, or never answered.
    Nothing,
    /// Here it is.
    Secrets(Secrets),
    /// It can't be used.
    Fault(Fault),
}

/// Why a Secret can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none of that name.
    Missing,
    /// It has no key `token`, or nothing in it.
    NoKey,
    /// It might be guessed.
    TooShort,
    /// It may not be read.
    Forbidden,
}

impl Fault {
    /// A condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "SecretMissing",
            Self::NoKey => "SecretKeyMissing",
            Self::TooShort => "SecretTooShort",
            Self::Forbidden => "SecretForbidden",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn message(&self, secret: &str) -> String {
        let create = format!("kubectl create secret generic {secret} --from-literal={TOKEN}=$(openssl rand -hex 32)");
        match self {
            Self::Missing => format!("there is no Secret {secret}: {create}"),
            Self::NoKey => format!("the Secret {secret} has no key {TOKEN}, or it is empty: {create}"),
            Self::TooShort => format!(
                "{TOKEN} in the Secret {secret} has fewer than {SHORT_SECRET} characters and might be guessed: \
                 take a longer one (openssl rand -hex 32)"
            ),
            Self::Forbidden => {
                format!("the Secret {secret} may not be read: grant get on secrets to Tranche's service account")
            }
        }
    }
}

impl Known {
    /// The same again: nothing has to be told anew.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Secrets(ours), Self::Secrets(theirs)) => ours.same(theirs),
            (Self::Fault(ours), Self::Fault(theirs)) => ours == theirs,
            (Self::Nothing | Self::Secrets(_) | Self::Fault(_), _) => false,
        }
    }
}

/// Reads a Secret; `None` when there was no answer: what was known before stays.
pub async fn read(client: &Client, namespace: &str, name: &str) -> Option<Known> {
    let api: Api<Object> = Api::namespaced(client.clone(), namespace);
    match timeout(READ_TIMEOUT, api.get(name)).await {
        Ok(Ok(object)) => Some(judge(&object)),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Some(Known::Fault(Fault::Missing)),
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => Some(Known::Fault(Fault::Forbidden)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a receiver's Secret could not be read");
            None
        }
        Err(_) => None,
    }
}

fn judge(object: &Object) -> Known {
    let value = |key: &str| object.data.as_ref()?.get(key).and_then(|ByteString(bytes)| Secret::new(bytes));
    match value(TOKEN) {
        None => Known::Fault(Fault::NoKey),
        Some(token) if token.is_short() => Known::Fault(Fault::TooShort),
        // A short predecessor would be a way in for as long as it stays there.
        Some(token) => Known::Secrets(Secrets::new(token, value(PREVIOUS).filter(|previous| !previous.is_short()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(pairs: &[(&str, &str)]) -> Object {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Object { data: Some(data.collect()), ..Object::default() }
    }

    #[test]
    fn what_a_secret_holds() {
        let long = "a-token-that-is-long-enough\n";
        for (pairs, expected) in [
            (vec![], Err("SecretKeyMissing")),
            (vec![("Token", long)], Err("SecretKeyMissing")),
            (vec![("token", " \n")], Err("SecretKeyMissing")),
            (vec![("token", "short"), ("token-previous", long)], Err("SecretTooShort")),
            (vec![("token", long)], Ok(1)),
            (vec![("token", long), ("token-previous", "short")], Ok(1)),
            (vec![("token", long), ("token-previous", "")], Ok(1)),
            (vec![("token", long), ("token-previous", "another that is long enough"), ("other", "x")], Ok(2)),
        ] {
            let known = match judge(&object(&pairs)) {
                Known::Secrets(secrets) => Ok(secrets.iter().count()),
                Known::Fault(fault) => Err(fault.reason()),
                Known::Nothing => panic!("it was read"),
            };
            assert_eq!(known, expected, "{pairs:?}");
        }
    }

    #[test]
    fn what_to_do_about_it() {
        for fault in [Fault::Missing, Fault::NoKey, Fault::TooShort, Fault::Forbidden] {
            assert!(fault.message("hook").contains("hook"), "{fault:?}");
            assert!(fault.message("hook").contains(": "), "{fault:?}");
        }
    }
}
