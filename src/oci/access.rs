//! How one policy's registry is asked: as whom, trusting whom, over what.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

use super::credentials::Credentials;

/// Companies have a handful of authorities; what has more is the wrong file.
const MAX_CERTIFICATES: usize = 100;

/// By which requests with the same rights are told from others: nothing that was got with one (a token, a connection, a
/// wait that a registry asked for) is used for another.
pub(super) type Id = [u8; 32];

/// How a registry is asked. The default is as everybody, over https, trusting the system's authorities.
#[derive(Clone, Debug, Default)]
pub struct Access {
    credentials: Option<Credentials>,
    authorities: Option<Authorities>,
    plain_http: bool,
}

/// Authorities that are trusted besides the system's.
#[derive(Clone, Debug)]
pub(super) struct Authorities {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) id: Id,
}

/// Why a file of authorities can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritiesError {
    /// Nothing in it.
    #[error("there is no certificate in it: it must be PEM, beginning with -----BEGIN CERTIFICATE-----")]
    Empty,
    /// Not PEM, or not a certificate in it.
    #[error("certificate {number} in it can't be read: {reason}")]
    Unreadable {
        /// Counted from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// Too many.
    #[error("there are more than {MAX_CERTIFICATES} certificates in it")]
    TooMany,
}

impl Access {
    /// As whom.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Option<Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// Trusting these authorities besides the system's: PEM, as the key `ca.crt` of a Secret has it. Besides, because a
    /// registry of one's own may send to a token server or a storage that is somebody else's.
    ///
    /// # Errors
    /// When the content is not certificates.
    pub fn with_authorities(mut self, pem: &[u8]) -> Result<Self, AuthoritiesError> {
        let mut certificates = Vec::new();
        let mut store = RootCertStore::empty();
        for (n, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let unreadable = |reason: String| AuthoritiesError::Unreadable { number: n + 1, reason };
            if n >= MAX_CERTIFICATES {
                return Err(AuthoritiesError::TooMany);
            }
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            store.add(certificate.clone()).map_err(|error| unreadable(error.to_string()))?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        let id = Sha256::digest(pem).into();
        self.authorities = Some(Authorities { certificates, id });
        Ok(self)
    }

    /// Over http instead of https. Everybody in between can then read the credentials and say what is rolled out.
    #[must_use]
    pub fn with_plain_http(mut self, plain_http: bool) -> Self {
        self.plain_http = plain_http;
        self
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub(super) fn authorities(&self) -> Option<&Authorities> {
        self.authorities.as_ref()
    }

    pub(super) fn plain_http(&self) -> bool {
        self.plain_http
    }

    pub(super) fn id(&self) -> Id {
        let parts: [&str; 3] = match &self.credentials {
            None => ["", "", ""],
            Some(Credentials::Password { username, password }) => ["password", username, password.expose()],
            Some(Credentials::IdentityToken(token)) => ["identity", "", token.expose()],
            Some(Credentials::RegistryToken(token)) => ["registry", "", token.expose()],
        };
        let mut hash = Sha256::new();
        for part in parts {
            // With lengths, so that no two divide one text differently.
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.update([u8::from(self.plain_http)]);
        hash.update(self.authorities.as_ref().map_or([0; 32], |authorities| authorities.id));
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret::Secret;
    use super::*;

    fn password(username: &str, password: &str) -> Access {
        let credentials = Credentials::Password { username: username.into(), password: Secret::new(password) };
        Access::default().with_credentials(Some(credentials))
    }

    #[test]
    fn each_has_its_id() {
        let all = [
            Access::default(),
            Access::default().with_plain_http(true),
            password("a", "b"),
            password("ab", ""),
            password("", "ab"),
            password("a", "b").with_plain_http(true),
            Access::default().with_credentials(Some(Credentials::IdentityToken(Secret::new("b")))),
            Access::default().with_credentials(Some(Credentials::RegistryToken(Secret::new("b")))),
        ];
        let ids: std::collections::BTreeSet<Id> = all.iter().map(Access::id).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(password("a", "b").id(), password("a", "b").id());
    }

    #[test]
    fn authorities() {
        let pem = include_bytes!("../../tests/data/tls/certificate.pem");
        let access = Access::default().with_authorities(pem).expect("a certificate");
        assert_ne!(access.id(), Access::default().id());
        for (pem, text) in [
            ("", "there is no certificate in it"),
            ("hello", "there is no certificate in it"),
            ("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "certificate 1 in it can't be read"),
            ("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n", "certificate 1 in it can't be read"),
        ] {
            let error = Access::default().with_authorities(pem.as_bytes()).expect_err(pem);
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert!(!format!("{:?}", password("me", "hunter2")).contains("hunter2"));
    }
}
