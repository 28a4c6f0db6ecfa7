//! What a verified client certificate says of its holder: names, which somebody else weighs.

use webpki::EndEntityCert;

use rustls::pki_types::CertificateDer;

/// DER tags of what a subject's name is made of.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
/// UTF8String and PrintableString, which all that is issued today uses.
const TEXTS: [u8; 2] = [0x0c, 0x13];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The names on a certificate that was verified, in a request's extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// URIs among its alternative names.
    pub uris: Vec<String>,
    /// The first common name of its subject.
    pub common_name: Option<String>,
}

impl ClientCertificate {
    /// Reads a certificate. One that was verified can be read.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(der).ok()?;
        Some(Self {
            uris: certificate.valid_uri_names().map(str::to_owned).collect(),
            common_name: common_name(certificate.subject()),
        })
    }
}

/// The first common name among the relative names of a subject.
fn common_name(mut subject: &[u8]) -> Option<String> {
    while let Some((SET, mut attributes, rest)) = element(subject) {
        subject = rest;
        while let Some((SEQUENCE, attribute, rest)) = element(attributes) {
            attributes = rest;
            if let Some((OID, COMMON_NAME, value)) = element(attribute)
                && let Some((tag, text, _)) = element(value)
                && TEXTS.contains(&tag)
            {
                return std::str::from_utf8(text).ok().map(str::to_owned);
            }
        }
    }
    None
}

/// Tag and contents of the first element, and what follows it. Longer ones than 255 bytes are no names.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, length, rest) = match der {
        [tag, 0x81, length, rest @ ..] => (tag, length, rest),
        [tag, length @ 0..=0x7f, rest @ ..] => (tag, length, rest),
        [] | [_] | [_, ..] => return None,
    };
    let (contents, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((*tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names() {
        // O=acme, CN=web: as a subject's contents, without its own head.
        let organisation = [0x31, 0x0d, 0x30, 0x0b, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x0c, 0x04, b'a', b'c', b'm', b'e'];
        let name = [0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x04, 0x03, 0x13, 0x03, b'w', b'e', b'b'];
        let both = [organisation.as_slice(), &name].concat();
        assert_eq!(common_name(&both).as_deref(), Some("web"));
        assert_eq!(common_name(&organisation), None);
        for end in 0..name.len() {
            assert_eq!(common_name(&name[..end]), None, "cut at {end}");
        }
        let not_text = [0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x04, 0x03, 0x13, 0x03, 0xff, 0xff, 0xff];
        assert_eq!(common_name(&not_text), None);
    }
}
