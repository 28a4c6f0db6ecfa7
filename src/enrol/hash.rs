//! Hashes of keys: the only form in which keys are kept.

use sha2::{Digest as _, Sha256};

/// SHA-256 of a key. Keys have 256 bits of chance, so nothing slower is needed.
pub type KeyHash = [u8; 32];

/// What the written form begins with.
const SCHEME: &str = "sha256:";

/// The hash of a key.
#[must_use]
pub fn of(key: impl AsRef<[u8]>) -> KeyHash {
    Sha256::digest(key).into()
}

/// The written form: `sha256:` and 64 hexadecimal digits.
#[must_use]
pub fn written(hash: &KeyHash) -> String {
    format!("{SCHEME}{}", hex(hash))
}

/// The hash in its written form.
#[must_use]
pub fn parse(text: &str) -> Option<KeyHash> {
    let hex = text.strip_prefix(SCHEME)?.as_bytes();
    if hex.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(hash)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_hashes() {
        let hex = "0f".repeat(32);
        assert_eq!(parse(&format!("sha256:{hex}")), Some([0x0f; 32]));
        assert_eq!(written(&[0x0f; 32]), format!("sha256:{hex}"));
        for bad in ["", "sha256:", &hex, &format!("sha256:{}", &hex[1..]), &format!("sha256:{}zz", &hex[2..]), "md5:00"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
