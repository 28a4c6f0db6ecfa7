//! What Kubernetes takes as a label, for texts that become labels only later on: by then nobody is there to mend them.

/// Characters of a name or a value.
const MAX_NAME: usize = 63;
/// Characters of the domain before a key's name.
const MAX_DOMAIN: usize = 253;

/// Whether a label may have that value. An empty one it may.
#[must_use]
pub fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

/// Whether a label may have that key: a name, with a domain and a `/` before it or without.
#[must_use]
pub fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name(text),
        Some((domain, name)) => is_domain(domain) && is_name(name),
    }
}

/// Letters, digits, `-`, `_` and `.`, of which the first and the last are letters or digits.
fn is_name(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= MAX_NAME
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
}

/// Lower-case letters, digits and `-` between dots.
fn is_domain(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_DOMAIN
        && text.split('.').all(|part| {
            part.bytes().next().is_some_and(inner)
                && part.bytes().next_back().is_some_and(inner)
                && part.bytes().all(|byte| inner(byte) || byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_may_be() {
        let (long, too_long) = ("x".repeat(63), "x".repeat(64));
        for value in ["", "a", "plant-a", "A_b.c", "7", &long] {
            assert!(is_value(value), "{value}");
        }
        for value in ["Plant A", "-a", "a-", ".", "a/b", "ä", "a\n", &too_long] {
            assert!(!is_value(value), "{value}");
        }
        for key in ["region", "tranche.dev/fleet", "a/A_b.c", &long] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", "/", "a/", "/a", "a/b/c", "Tranche.dev/fleet", "a..b/c", "-a/b", "a b", &too_long] {
            assert!(!is_key(key), "{key}");
        }
        assert!(!is_key(&format!("{}a/b", "a.".repeat(127))));
    }
}
