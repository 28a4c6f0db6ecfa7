//! Headers of a check's requests, some of them from Secrets.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::invalid::InvalidCheck;
use crate::oci::Secret;

/// As many as anybody needs to prove who they are.
const MAX_HEADERS: usize = 32;
/// What is ours to say: how a message is framed, and when a connection ends.
const OURS: [&str; 8] =
    ["connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "proxy-connection"];

/// A header's value, as a policy has it or a Secret that the policy names.
#[derive(Clone, Debug)]
pub enum HeaderText {
    /// For everybody to see.
    Plain(String),
    /// Never shown, and sent to the URL's own origin alone.
    Secret(Secret),
}

/// Reads headers. Secret ones are marked as such: `Debug` of them shows `Sensitive`.
pub(super) fn parse(headers: &[(String, HeaderText)]) -> Result<HeaderMap, InvalidCheck> {
    if headers.len() > MAX_HEADERS {
        return Err(InvalidCheck::Headers(MAX_HEADERS));
    }
    let mut map = HeaderMap::new();
    for (name, text) in headers {
        let wrong = |problem| InvalidCheck::Header { name: name.chars().take(80).collect(), problem };
        let header = name.parse::<HeaderName>().map_err(|_| wrong("is no name of a header"))?;
        if OURS.contains(&header.as_str()) {
            return Err(wrong("can't be set"));
        }
        let (text, sensitive) = match text {
            HeaderText::Plain(text) => (text.as_str(), false),
            HeaderText::Secret(secret) => (secret.expose(), true),
        };
        let mut value = HeaderValue::from_str(text).map_err(|_| wrong("has a value that can't be sent"))?;
        value.set_sensitive(sensitive);
        map.append(header, value);
    }
    Ok(map)
}

/// Without the secret ones: for another origin.
pub(super) fn without_secrets(headers: &HeaderMap) -> HeaderMap {
    let plain = headers.iter().filter(|(_, value)| !value.is_sensitive());
    plain.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, value: &str) -> (String, HeaderText) {
        (name.into(), HeaderText::Plain(value.into()))
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = ("Authorization".to_owned(), HeaderText::Secret(Secret::new("hunter2")));
        let headers = parse(&[secret.clone(), plain("X-Line", "3")]).expect("good ones");
        assert_eq!(headers["authorization"], "hunter2");
        assert!(!format!("{headers:?} {secret:?}").contains("hunter2"));
        assert!(format!("{headers:?}").contains('3'));
        let rest = without_secrets(&headers);
        assert_eq!((rest.len(), &rest["x-line"] == "3"), (1, true));
        let bad = parse(&[("X".into(), HeaderText::Secret(Secret::new("hunter2\n")))]).expect_err("a line break");
        assert!(!format!("{bad} {bad:?}").contains("hunter2"));
    }

    #[test]
    fn refused() {
        for (name, value) in [("", "x"), ("a b", "x"), ("X", "a\r\nY: b"), ("Content-Length", "1"), ("Connection", "x")]
        {
            assert!(matches!(parse(&[plain(name, value)]), Err(InvalidCheck::Header { .. })), "{name}");
        }
        let many = vec![plain("X", "x"); MAX_HEADERS + 1];
        assert_eq!(parse(&many).err(), Some(InvalidCheck::Headers(MAX_HEADERS)));
    }
}
