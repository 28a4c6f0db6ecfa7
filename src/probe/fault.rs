//! What an error of the system says about a device, and what about us. Pure.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use super::verdict::{Doubt, Failure, Outcome};

/// No file handles left: the process's (EMFILE), the machine's (ENFILE), and no memory for one (ENOBUFS, as Linux numbers
/// it). The standard library has no kinds for them.
const NO_SOCKETS: [i32; 3] = [24, 23, 105];

/// An attempt to connect. Only what the other side must have caused is its fault; what the system says for reasons that
/// aren't known here is ours.
pub(super) fn of_connect(error: &Error, to: SocketAddr) -> Outcome {
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::failed(Failure::Refused, format!("{to} refused the connection")),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            Outcome::failed(Failure::Broken, format!("{to} broke the connection off"))
        }
        // The system gave up before our own timeout.
        ErrorKind::TimedOut => Outcome::failed(Failure::Unanswered, format!("{to} did not answer in time")),
        // EHOSTUNREACH may be a device that is off in our own network, or a router of ours: it can't be told, and a device
        // that is off is found out by its silence to the gateway anyway.
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Outcome::unknown(Doubt::NoRoute, format!("there is no way to {to} from here: {error}"))
        }
        _ => {
            let known = error.raw_os_error().is_some_and(|number| NO_SOCKETS.contains(&number));
            let what = if known { "no sockets left" } else { "this machine makes no connection" };
            Outcome::unknown(Doubt::NoSockets, format!("{what} for {to}: {error}"))
        }
    }
}

/// A connection that was there, and ended.
pub(super) fn of_stream(error: &Error) -> Outcome {
    Outcome::failed(Failure::Broken, format!("the connection ended before the answer did: {error}"))
}

/// A TLS handshake. As with connections, what the other side didn't cause is ours.
pub(super) fn of_handshake(error: &Error) -> Outcome {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            Outcome::failed(Failure::Certificate, format!("its certificate is not trusted: {reason}"))
        }
        Some(rustls::Error::InvalidMessage(_)) => Outcome::failed(Failure::NotTls, "what it speaks is not TLS"),
        Some(
            other @ (rustls::Error::AlertReceived(_)
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::PeerMisbehaved(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::DecryptError
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::NoApplicationProtocol
            | rustls::Error::PeerSentOversizedRecord),
        ) => Outcome::failed(Failure::NotTls, format!("no TLS was agreed on: {other}")),
        Some(ours) => Outcome::unknown(Doubt::TlsSetup, format!("TLS does not work on this side: {ours}")),
        None => Outcome::failed(Failure::NotTls, format!("the TLS handshake broke off: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux numbers them.
    #[cfg(target_os = "linux")]
    #[test]
    fn whose_fault_it_is() {
        let to = "10.0.0.1:80".parse().expect("an address");
        for (name, number, expected) in [
            ("ECONNREFUSED", 111, "failed (Refused)"),
            ("ECONNRESET", 104, "failed (Broken)"),
            ("ETIMEDOUT", 110, "failed (Unanswered)"),
            ("ENETUNREACH", 101, "unknown (NoRoute)"),
            ("EHOSTUNREACH", 113, "unknown (NoRoute)"),
            ("ENETDOWN", 100, "unknown (NoRoute)"),
            ("EMFILE", 24, "unknown (NoSockets)"),
            ("ENFILE", 23, "unknown (NoSockets)"),
            ("ENOBUFS", 105, "unknown (NoSockets)"),
            ("ENOMEM", 12, "unknown (NoSockets)"),
            ("EADDRNOTAVAIL", 99, "unknown (NoSockets)"),
            ("EACCES", 13, "unknown (NoSockets)"),
            ("EPERM", 1, "unknown (NoSockets)"),
            ("EINVAL", 22, "unknown (NoSockets)"),
            ("EAGAIN", 11, "unknown (NoSockets)"),
        ] {
            let outcome = of_connect(&Error::from_raw_os_error(number), to).to_string();
            assert!(outcome.starts_with(expected), "{name}: {outcome}");
        }
    }

    #[test]
    fn handshakes() {
        use rustls::{CertificateError, Error as Tls};
        for (error, expected) in [
            (Error::other(Tls::InvalidCertificate(CertificateError::Expired)), "failed (Certificate)"),
            (Error::other(Tls::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), "failed (NotTls)"),
            (Error::other(Tls::AlertReceived(rustls::AlertDescription::HandshakeFailure)), "failed (NotTls)"),
            (Error::other(Tls::FailedToGetRandomBytes), "unknown (TlsSetup)"),
            (Error::other(Tls::General("x".into())), "unknown (TlsSetup)"),
            (ErrorKind::UnexpectedEof.into(), "failed (NotTls)"),
        ] {
            let outcome = of_handshake(&error).to_string();
            assert!(outcome.starts_with(expected), "{outcome}");
        }
    }
}
