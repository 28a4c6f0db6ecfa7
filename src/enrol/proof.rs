//! Public keys of devices, and signatures that prove them: Ed25519 and P-256, nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};

/// What a SubjectPublicKeyInfo of each kind begins with; the key itself follows to the end.
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// Bytes of a P-256 signature as two numbers side by side; the other form is longer or, rarely, shorter.
const P256_FIXED: usize = 64;

/// A P-256 signature in base64 has 96 characters at most.
pub const MAX_SIGNATURE: usize = 256;

/// With padding or without: agents differ.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A device's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// An uncompressed point.
    P256(Vec<u8>),
}

impl PublicKey {
    /// Reads a PEM of a SubjectPublicKeyInfo. `None` where it is none, or of another algorithm.
    #[must_use]
    pub fn from_pem(pem: &str) -> Option<Self> {
        let inner = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let text: String = inner.split_ascii_whitespace().collect();
        let der = LENIENT.decode(text).ok()?;
        match (der.strip_prefix(ED25519_SPKI), der.strip_prefix(P256_SPKI)) {
            (Some(key), _) if key.len() == 32 => Some(Self::Ed25519(key.to_vec())),
            (_, Some(key)) if key.len() == 65 && key[0] == 4 => Some(Self::P256(key.to_vec())),
            _ => None,
        }
    }

    /// The one form in which it is kept, whatever line ends it came with.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let (prefix, key) = match self {
            Self::Ed25519(key) => (ED25519_SPKI, key),
            Self::P256(key) => (P256_SPKI, key),
        };
        let text = STANDARD.encode([prefix, key].concat());
        let mut pem = format!("{BEGIN}\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem + END + "\n"
    }

    /// Whether `signature`, in base64, is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &str, signature: &str) -> bool {
        let Ok(signature) = LENIENT.decode(signature.trim()) else { return false };
        let message = message.as_bytes();
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, &signature),
            Self::P256(key) if signature.len() == P256_FIXED => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, &signature)
            }
            Self::P256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(message, &signature),
        }
        .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by `openssl genpkey -algorithm ed25519`, and by `openssl ecparam -name prime256v1 -genkey`, each with a
    // signature of `openssl pkeyutl -sign` and `openssl dgst -sha256 -sign` over "7f0c:challenge".
    const ED_PEM: &str = include_str!("../../tests/data/enrolment/ed25519.pem");
    const ED_SIGNATURE: &str = include_str!("../../tests/data/enrolment/ed25519.sig");
    const P256_PEM: &str = include_str!("../../tests/data/enrolment/p256.pem");
    const P256_SIGNATURE: &str = include_str!("../../tests/data/enrolment/p256.sig");
    const MESSAGE: &str = "7f0c:challenge";

    #[test]
    fn signatures_of_others_tools() {
        for (pem, signature) in [(ED_PEM, ED_SIGNATURE), (P256_PEM, P256_SIGNATURE)] {
            let key = PublicKey::from_pem(pem).expect("a key");
            assert!(key.verifies(MESSAGE, signature));
            assert!(key.verifies(MESSAGE, signature.trim().trim_end_matches('=')));
            assert!(!key.verifies("7f0c:challengf", signature));
            assert!(!key.verifies(MESSAGE, ""));
            assert!(!key.verifies(MESSAGE, "not base64!"));
            assert!(!key.verifies(MESSAGE, &STANDARD.encode([0; 64])));
            assert_eq!(key.to_pem(), pem);
            assert_eq!(PublicKey::from_pem(&pem.replace('\n', "\r\n")), Some(key));
        }
        let ed = PublicKey::from_pem(ED_PEM).expect("a key");
        assert!(!ed.verifies(MESSAGE, P256_SIGNATURE));
    }

    #[test]
    fn p256_as_two_numbers_side_by_side() {
        use ring::rand::SystemRandom;
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
        let signature = pair.sign(&random, MESSAGE.as_bytes()).expect("a signature");
        let key = PublicKey::P256(pair.public_key().as_ref().to_vec());
        assert!(key.verifies(MESSAGE, &STANDARD.encode(signature)));
    }

    #[test]
    fn what_is_no_key() {
        let rsa = format!("{BEGIN}\n{}\n{END}", STANDARD.encode([0x30; 294]));
        let short = format!("{BEGIN}\n{}\n{END}", STANDARD.encode(ED25519_SPKI));
        let empty = format!("{BEGIN}{END}");
        for pem in ["", BEGIN, END, &empty, &rsa, &short, &ED_PEM.replace("PUBLIC", "PRIVATE"), "\u{1f511}"] {
            assert_eq!(PublicKey::from_pem(pem), None, "{pem}");
        }
    }
}
