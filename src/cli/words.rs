//! How times and images are said to people.

use jiff::Timestamp;

/// How long ago, as kubectl says it; `-` for never.
#[must_use]
pub fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "-".to_owned(), |then| span(now.as_second() - then.as_second()))
}

/// A time span in seconds in two units at most, the finer one only while it matters.
#[must_use]
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, fine: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{fine}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () => two(days / 365, "y", days % 365, "d"),
    }
}

/// An image without what everybody knows of it: the default registry, and most of a digest.
#[must_use]
pub fn short_image(image: &str) -> String {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    match image.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", digest.get(..12).unwrap_or(digest)),
        None => image.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        for (seconds, text) in [
            (-3, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (600, "10m"),
            (3 * 3_600 + 60, "3h1m"),
            (9 * 3_600, "9h"),
            (47 * 3_600, "47h"),
            (50 * 3_600, "2d2h"),
            (9 * 86_400, "9d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn images_are_shown_without_what_everybody_knows() {
        let digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert_eq!(short_image("docker.io/library/redis:7"), "redis:7");
        assert_eq!(short_image(&format!("quay.io/a/b{digest}")), "quay.io/a/b@0123456789ab");
    }
}
