//! TLS as a check wants it: whom to trust, and as whom the device answers.
//!
//! By default the system's authorities; with authorities of its own, a check trusts those alone, since devices have their
//! certificates from whoever runs them. No session is resumed: every look proves the whole handshake.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault;
use super::template::Host;
use super::verdict::{Doubt, Failure, Outcome};

/// As for registries: what has more is the wrong file.
const MAX_CERTIFICATES: usize = 100;

/// TLS as a policy has it.
#[derive(Clone, Debug, Default)]
pub struct TlsSpec {
    /// Authorities, in PEM, that are trusted instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Any certificate will do. The connection is secret still, but who is at its other end isn't known.
    pub insecure_skip_verify: bool,
    /// The name that the certificate must be for, instead of the host. A device that is reached by its address rarely has
    /// one for its address.
    pub server_name: Option<String>,
}

/// What is wrong with a check's TLS options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Not certificates.
    #[error("its authorities can't be read: they must be PEM, beginning with -----BEGIN CERTIFICATE-----")]
    Authorities,
    /// Too many.
    #[error("it has more than {MAX_CERTIFICATES} authorities")]
    TooMany,
    /// Not a name.
    #[error("{0:?} can't be the name in a certificate")]
    ServerName(String),
    /// Both to trust some and to trust anybody.
    #[error("with insecureSkipVerify no authorities are looked at: leave one of them out")]
    Both,
    /// None of the above.
    #[error("TLS can't be set up: {0}")]
    Setup(String),
}

/// TLS, ready for use. Clones share it.
#[derive(Clone)]
pub struct Tls {
    /// Absent: as the system has it.
    config: Option<Arc<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the options.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(spec: &TlsSpec) -> Result<Self, TlsError> {
        let TlsSpec { ca_pem, insecure_skip_verify, server_name } = spec;
        let server_name = match server_name {
            Some(name) => {
                let wrong = || TlsError::ServerName(name.chars().take(253).collect());
                Some(ServerName::try_from(name.clone()).map_err(|_| wrong())?)
            }
            None => None,
        };
        let config = match (ca_pem, insecure_skip_verify) {
            (Some(_), true) => return Err(TlsError::Both),
            (Some(pem), false) => {
                let roots = Arc::new(authorities(pem)?);
                Some(finish(
                    builder().map_err(|error| setup(&error))?.with_root_certificates(roots).with_no_client_auth(),
                ))
            }
            (None, true) => {
                let anybody = Arc::new(Anybody(provider()));
                let builder =
                    builder().map_err(|error| setup(&error))?.dangerous().with_custom_certificate_verifier(anybody);
                Some(finish(builder.with_no_client_auth()))
            }
            (None, false) => None,
        };
        Ok(Self { config, server_name })
    }

    /// Speaks TLS over a connection to a host, by `deadline`.
    ///
    /// # Errors
    /// What the lack of it says about the device.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        host: &Host,
        deadline: Instant,
    ) -> Result<TlsStream<TcpStream>, Outcome> {
        let config = match &self.config {
            Some(config) => Arc::clone(config),
            None => system().map_err(|reason| Outcome::unknown(Doubt::TlsSetup, reason))?,
        };
        let name = match (&self.server_name, host) {
            (Some(name), _) => name.clone(),
            (None, Host::Address(address)) => ServerName::from(*address),
            (None, Host::Name(name)) => ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| {
                Outcome::unknown(Doubt::TlsSetup, format!("{name:?} can't be the name in a certificate"))
            })?,
        };
        match timeout_at(deadline, TlsConnector::from(config).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(fault::of_handshake(&error)),
            Err(_) => Err(Outcome::failed(Failure::Timeout, "the TLS handshake took too long")),
        }
    }
}

/// The system's authorities, read once: they are many, and thousands of checks share them. Where they can't be read now,
/// the process won't get them later, either.
fn system() -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let make = || {
        let builder = builder().and_then(|builder| builder.with_platform_verifier());
        let cannot = |error: rustls::Error| format!("the system's authorities can't be read: {error}");
        Ok(finish(builder.map_err(cannot)?.with_no_client_auth()))
    };
    SYSTEM.get_or_init(make).clone()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn setup(error: &rustls::Error) -> TlsError {
    TlsError::Setup(error.to_string())
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        if store.len() >= MAX_CERTIFICATES {
            return Err(TlsError::TooMany);
        }
        let certificate = certificate.map_err(|_| TlsError::Authorities)?;
        store.add(certificate).map_err(|_| TlsError::Authorities)?;
    }
    if store.is_empty() { Err(TlsError::Authorities) } else { Ok(store) }
}

/// Trusts any certificate, but sees that the other end has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let good = include_bytes!("../../tests/data/tls/certificate.pem").to_vec();
        let spec = TlsSpec::default;
        for (what, spec, expected) in [
            ("nothing", spec(), None),
            ("authorities", TlsSpec { ca_pem: Some(good.clone()), ..spec() }, None),
            ("a name", TlsSpec { server_name: Some("line-3.example".into()), ..spec() }, None),
            ("anybody", TlsSpec { insecure_skip_verify: true, ..spec() }, None),
            ("none in it", TlsSpec { ca_pem: Some(Vec::new()), ..spec() }, Some(TlsError::Authorities)),
            (
                "nonsense",
                TlsSpec {
                    ca_pem: Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
                    ..spec()
                },
                Some(TlsError::Authorities),
            ),
            (
                "too many",
                TlsSpec { ca_pem: Some(good.repeat(MAX_CERTIFICATES + 1)), ..spec() },
                Some(TlsError::TooMany),
            ),
            ("both", TlsSpec { ca_pem: Some(good), insecure_skip_verify: true, ..spec() }, Some(TlsError::Both)),
            (
                "no name",
                TlsSpec { server_name: Some("a b".into()), ..spec() },
                Some(TlsError::ServerName("a b".into())),
            ),
        ] {
            assert_eq!(Tls::parse(&spec).err(), expected, "{what}");
        }
    }
}
