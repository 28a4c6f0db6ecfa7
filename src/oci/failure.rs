//! Requests that got no answer, in words that help.

use std::error::Error as StdError;
use std::io;

use super::error::RegistryError;
use super::http::{CONNECT_TIMEOUT, REQUEST_TIMEOUT};
use super::resolver::Refused;

/// What became of a request that got no answer. The library's own error would show the URL.
pub(super) fn failed(host: &str, error: reqwest::Error) -> RegistryError {
    let host = host.to_owned();
    let error = error.without_url();
    for cause in causes(&error) {
        if let Some(Refused { address, kind }) = cause.downcast_ref::<Refused>() {
            return RegistryError::Address { host, address: *address, kind };
        }
        match cause.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                return RegistryError::Certificate { host, reason: reason.to_string() };
            }
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                return RegistryError::NotTls { host };
            }
            Some(_) | None => {}
        }
    }
    if error.is_timeout() {
        return RegistryError::Timeout {
            host,
            after: if error.is_connect() { CONNECT_TIMEOUT } else { REQUEST_TIMEOUT },
        };
    }
    RegistryError::Unreachable { host, reason: last_cause(&error) }
}

/// Whether the connection ended before an answer began.
pub(super) fn is_broken(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        let closed =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
            || cause.downcast_ref::<io::Error>().is_some_and(closed)
    })
}

/// An error and what it comes from, down to the first. What is wrapped as an I/O error is a cause, too.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    fn next<'a>(error: &&'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
        let error = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), next)
}

pub(super) fn last_cause(error: &(dyn StdError + 'static)) -> String {
    let text = causes(error).last().unwrap_or(error).to_string();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
