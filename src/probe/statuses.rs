//! Which statuses of HTTP are expected: `200`, `200-299`, or several. Pure.

use std::fmt;
use std::ops::RangeInclusive;

/// The statuses that HTTP has.
const ALL: RangeInclusive<u16> = 100..=599;
/// As many ranges as anybody writes.
const MAX_RANGES: usize = 32;

/// Statuses that are expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

/// Why a text is no status or range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusesError {
    /// Not one.
    #[error("{0:?} is no status or range: write 200 or 200-299, from 100 to 599")]
    Unreadable(String),
    /// None, or too many.
    #[error("there must be from 1 to {MAX_RANGES} of them")]
    Count,
}

impl Default for Statuses {
    /// 200
    fn default() -> Self {
        Self(vec![200..=200])
    }
}

impl Statuses {
    /// Reads a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, StatusesError> {
        if texts.is_empty() || texts.len() > MAX_RANGES {
            return Err(StatusesError::Count);
        }
        texts.iter().map(|text| range(text.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this one is expected.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, StatusesError> {
    let number = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse().ok().filter(|number| ALL.contains(number)) } else { None }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first.trim()), number(last.trim())) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(StatusesError::Unreadable(text.chars().take(20).collect())),
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected() {
        for (texts, shown, yes, no) in [
            (&["200"][..], "200", &[200][..], &[199, 201, 500][..]),
            (&["200-299", "404"], "200-299, 404", &[200, 204, 299, 404], &[199, 300, 403, 405]),
            (&[" 301 - 302 "], "301-302", &[301, 302], &[300, 303]),
            (&["100-599"], "100-599", &[100, 599], &[99, 600, 999]),
        ] {
            let statuses = Statuses::parse(texts).expect("good ones");
            assert_eq!(statuses.to_string(), shown);
            assert!(yes.iter().all(|status| statuses.contains(*status)), "{shown}");
            assert!(!no.iter().any(|status| statuses.contains(*status)), "{shown}");
        }
        for text in ["", "20", "2000", "099", "600", "299-200", "200-", "-200", "2xx", "200-299-300", "+20"] {
            assert_eq!(Statuses::parse(&[text]), Err(StatusesError::Unreadable(text.into())), "{text}");
        }
        assert_eq!(Statuses::parse::<&str>(&[]), Err(StatusesError::Count));
        assert_eq!(Statuses::parse(&["200"; MAX_RANGES + 1]), Err(StatusesError::Count));
        assert_eq!(Statuses::default(), Statuses::parse(&["200"]).expect("good"));
    }
}
