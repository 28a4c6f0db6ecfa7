//! How long a registry asks to be left alone. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// The longest wait that a registry's word is taken for. What asks for more is a mistake or a trick, and a release would
/// wait for days unseen.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// Where a registry says "too many" and not for how long: limits are counted by the minute at least.
pub(super) const UNSAID: Duration = Duration::from_secs(60);

/// The wait that a `Retry-After` asks for, in seconds or as a date; absent where it is neither. At most [`LONGEST`].
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds is longer than the longest.
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    // A date that has passed is no wait.
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now: Timestamp = "2026-11-06T08:49:00Z".parse().expect("a time");
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Fri, 06 Nov 2026 08:49:37 GMT", Some(37)),
            ("Fri, 06 Nov 2026 07:00:00 GMT", Some(0)),
            ("Fri, 06 Nov 2099 07:00:00 GMT", Some(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
