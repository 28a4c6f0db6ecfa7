//! Who may tell of pushes: the shared secret and the three ways of proving it.
//!
//! Decides over the raw bytes, before anything is parsed, and always in constant time. Nothing here shows a secret: not
//! in `Debug`, not in an error.
//!
//! - **Signed body:** `X-Hub-Signature-256: sha256=<hex of HMAC-SHA256(secret, body)>`, as GitHub and Gitea send it. Where
//!   this header is there, it alone decides: a sender that signs says what it meant to send, so a body that doesn't fit
//!   was changed under way (or the secret is wrong), and no second credential makes up for that. GitHub's older
//!   `X-Hub-Signature` (SHA-1) is not looked at.
//! - **`Authorization: Bearer <secret>`**, for registries that send a fixed header.
//! - **The secret as the last part of the path**, for those that can do neither, such as Docker Hub.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The signature's header.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// Shorter secrets are worth a warning at the start: the path can be tried by anyone who reaches the port.
pub const SHORT_SECRET: usize = 16;

/// A shared secret. Never shown.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret; `None` when there is nothing but white space. The line end that `kubectl create secret --from-file` and
    /// editors leave behind doesn't count.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.as_bytes().into()))
    }

    /// Whether it is so short that it might be guessed.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.0.len() < SHORT_SECRET
    }

    /// Whether `given` is the secret. Compares digests, so that not even the length shows in the time it takes.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        Sha256::digest(given).ct_eq(&Sha256::digest(&self.0)).into()
    }

    /// Whether `signature` (the header's value) was made with the secret over exactly these bytes.
    #[must_use]
    pub fn signed(&self, signature: &[u8], body: &[u8]) -> bool {
        let Some(signature) = signature.strip_prefix(b"sha256=").and_then(unhex) else { return false };
        // HMAC takes keys of every length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return false };
        mac.update(body);
        mac.verify_slice(&signature).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a delivery isn't authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthentic {
    /// Nothing to go by.
    #[error(
        "the delivery proves nothing: sign the body (X-Hub-Signature-256), send Authorization: Bearer <secret>, or put the secret at the end of the path"
    )]
    NoCredential,
    /// The signature isn't that of this body.
    #[error(
        "X-Hub-Signature-256 is not the signature of this body: it must be sha256= and the hexadecimal HMAC-SHA256 of the bytes as sent, made with the secret"
    )]
    Signature,
    /// Bearer or path.
    #[error("the secret is wrong")]
    Secret,
}

/// What the headers and the path prove before the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Enough: the secret itself was shown.
    Shown,
    /// The body is signed: read it, then ask [`verify_body`].
    Signed,
}

/// Looks at headers and path only, so that a stranger without any credential costs no body.
///
/// # Errors
/// When there is no credential, or a wrong one.
pub fn knock(secret: &Secret, headers: &HeaderMap, path_secret: Option<&[u8]>) -> Result<Proof, Unauthentic> {
    if headers.contains_key(SIGNATURE_HEADER) {
        return Ok(Proof::Signed);
    }
    let bearers = headers.get_all(http::header::AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
    let mut given = false;
    for candidate in bearers.chain(path_secret) {
        given = true;
        if secret.is(candidate) {
            return Ok(Proof::Shown);
        }
    }
    Err(if given { Unauthentic::Secret } else { Unauthentic::NoCredential })
}

/// Checks the signature of a body. Of several signatures each must be right: there is no telling which one a proxy in
/// between looked at.
///
/// # Errors
/// When there is none or a wrong one.
pub fn verify_body(secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<(), Unauthentic> {
    let mut signatures = headers.get_all(SIGNATURE_HEADER).iter().peekable();
    if signatures.peek().is_some() && signatures.all(|signature| secret.signed(signature.as_bytes(), body)) {
        Ok(())
    } else {
        Err(Unauthentic::Signature)
    }
}

/// The token of `Bearer <token>`; the scheme's case is of no matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// 64 hexadecimal digits.
fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The header's value for a body: what a sender computes. For the simulator, the demo and tests.
#[must_use]
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut signature = String::from("sha256=");
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&secret.0) {
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            // Writing to a String can't fail.
            let _ = write!(signature, "{byte:02x}");
        }
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"Hello, World!";
    /// GitHub's published example: secret "It's a Secret to Everybody", body "Hello, World!".
    const GITHUBS_OWN: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secret() -> Secret {
        Secret::new("It's a Secret to Everybody\n").expect("a secret")
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn githubs_example() {
        assert_eq!(sign(&secret(), BODY), GITHUBS_OWN);
        assert!(secret().signed(GITHUBS_OWN.as_bytes(), BODY));
        assert!(secret().signed(GITHUBS_OWN.to_uppercase().replace("SHA256", "sha256").as_bytes(), BODY));
    }

    #[test]
    fn wrong_signatures() {
        for signature in [
            "",
            "sha256=",
            "sha256=00",
            &GITHUBS_OWN[..70],
            &GITHUBS_OWN.replace("sha256=", ""),
            &GITHUBS_OWN.replace("sha256", "sha1"),
            &GITHUBS_OWN.replace('7', "8"),
            &GITHUBS_OWN.replace('7', "g"),
            &format!("{GITHUBS_OWN}0"),
        ] {
            assert!(!secret().signed(signature.as_bytes(), BODY), "{signature}");
        }
        assert!(!secret().signed(GITHUBS_OWN.as_bytes(), b"Hello, World"));
        assert!(!Secret::new("another").expect("a secret").signed(GITHUBS_OWN.as_bytes(), BODY));
    }

    #[test]
    fn who_is_let_in() {
        let secret = Secret::new("s3cret").expect("a secret");
        for (sent, path, expected) in [
            (vec![], None, Err(Unauthentic::NoCredential)),
            (vec![], Some("s3cret"), Ok(Proof::Shown)),
            (vec![], Some("s3cres"), Err(Unauthentic::Secret)),
            (vec![], Some(""), Err(Unauthentic::Secret)),
            (vec![("authorization", "Bearer s3cret")], None, Ok(Proof::Shown)),
            (vec![("authorization", "bearer  s3cret ")], None, Ok(Proof::Shown)),
            (vec![("authorization", "Bearer s3cret2")], None, Err(Unauthentic::Secret)),
            (vec![("authorization", "Basic s3cret")], None, Err(Unauthentic::NoCredential)),
            (vec![("authorization", "s3cret")], None, Err(Unauthentic::NoCredential)),
            // A proxy's own credential doesn't hide ours.
            (vec![("authorization", "Basic eDp5"), ("authorization", "Bearer s3cret")], None, Ok(Proof::Shown)),
            (vec![("authorization", "Bearer wrong")], Some("s3cret"), Ok(Proof::Shown)),
            // Who signs is judged by the signature alone.
            (vec![("x-hub-signature-256", "x"), ("authorization", "Bearer s3cret")], Some("s3cret"), Ok(Proof::Signed)),
            // SHA-1 proves nothing.
            (vec![("x-hub-signature", "sha1=00")], None, Err(Unauthentic::NoCredential)),
        ] {
            assert_eq!(knock(&secret, &headers(&sent), path.map(str::as_bytes)), expected, "{sent:?} {path:?}");
        }
    }

    #[test]
    fn every_signature_must_be_right() {
        let one = headers(&[("x-hub-signature-256", GITHUBS_OWN)]);
        let twice = headers(&[("x-hub-signature-256", GITHUBS_OWN), ("x-hub-signature-256", GITHUBS_OWN)]);
        let mixed = headers(&[("x-hub-signature-256", GITHUBS_OWN), ("x-hub-signature-256", "sha256=00")]);
        assert_eq!(verify_body(&secret(), &one, BODY), Ok(()));
        assert_eq!(verify_body(&secret(), &twice, BODY), Ok(()));
        assert_eq!(verify_body(&secret(), &mixed, BODY), Err(Unauthentic::Signature));
        assert_eq!(verify_body(&secret(), &HeaderMap::new(), BODY), Err(Unauthentic::Signature));
        assert_eq!(verify_body(&secret(), &one, b"Hello, World! "), Err(Unauthentic::Signature));
    }

    #[test]
    fn never_shown() {
        assert_eq!(format!("{:?}", secret()), "Secret(…)");
        assert!(Secret::new(" \n").is_none());
        assert!(Secret::new("short").expect("a secret").is_short());
        assert!(!secret().is_short());
    }
}
