//! When devices may be released.
//!
//! Local times are resolved the way calendars do it: a start that a clock change skips happens just after the gap, one
//! that happens twice counts the first time. Zones come from the bundled database, so every replica agrees.

use jiff::civil::{Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};

use crate::api::policy::{Day, Window as Spec};

/// A parsed window.
#[derive(Clone, Debug)]
pub struct Window {
    days: Vec<Weekday>,
    start: Time,
    end: Time,
    zone: TimeZone,
}

/// Why a window makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not `HH:MM`.
    #[error("{0:?} is not a time of day such as 22:00")]
    Time(String),
    /// Not an IANA name.
    #[error("{0:?} is not a time zone; use an IANA name such as Europe/Berlin or UTC")]
    Zone(String),
}

impl TryFrom<&Spec> for Window {
    type Error = WindowError;

    fn try_from(spec: &Spec) -> Result<Self, WindowError> {
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
        };
        Ok(Self {
            days: spec.days.iter().map(|day| weekday(*day)).collect(),
            start: time(&spec.start).ok_or_else(|| WindowError::Time(spec.start.clone()))?,
            end: time(&spec.end).ok_or_else(|| WindowError::Time(spec.end.clone()))?,
            zone: TimeZoneDatabase::bundled()
                .get(&spec.time_zone)
                .map_err(|_| WindowError::Zone(spec.time_zone.clone()))?,
        })
    }
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

/// Whether a set of windows is open, and until or from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// No windows: always.
    Always,
    /// Open until then (of the window that stays open longest).
    Open(Timestamp),
    /// Shut; opens then, unless it never does.
    Shut(Option<Timestamp>),
}

/// State of `windows` at `now`.
#[must_use]
pub fn opening(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Always;
    }
    let spans = || windows.iter().flat_map(|window| window.spans(now));
    match spans().filter(|(start, end)| *start <= now && now < *end).map(|(_, end)| end).max() {
        Some(end) => Opening::Open(end),
        None => Opening::Shut(spans().map(|(start, _)| start).filter(|start| *start > now).min()),
    }
}

impl Window {
    /// Occurrences from yesterday to a week ahead: every one that can matter now or be the next.
    fn spans(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let today = now.to_zoned(self.zone.clone()).date();
        (-1..=8)
            .filter_map(|offset| today.checked_add(offset.days()).ok())
            .filter(|date| self.days.is_empty() || self.days.contains(&date.weekday()))
            .filter_map(|date| {
                let last = if self.end <= self.start { date.tomorrow().ok()? } else { date };
                let start = date.to_datetime(self.start).to_zoned(self.zone.clone()).ok()?.timestamp();
                let end = last.to_datetime(self.end).to_zoned(self.zone.clone()).ok()?.timestamp();
                Some((start, end))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], start: &str, end: &str, zone: &str) -> Window {
        let spec = Spec { days: days.to_vec(), start: start.into(), end: end.into(), time_zone: zone.into() };
        Window::try_from(&spec).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn across_midnight() {
        // Monday 2026-06-01, Berlin is UTC+2.
        let night = [window(&[Day::Mon], "22:00", "04:00", "Europe/Berlin")];
        assert_eq!(opening(&night, at("2026-06-01T19:59:59Z")), Opening::Shut(Some(at("2026-06-01T20:00:00Z"))));
        assert_eq!(opening(&night, at("2026-06-01T20:00:00Z")), Opening::Open(at("2026-06-02T02:00:00Z")));
        assert_eq!(opening(&night, at("2026-06-02T01:59:59Z")), Opening::Open(at("2026-06-02T02:00:00Z")));
        assert_eq!(opening(&night, at("2026-06-02T02:00:00Z")), Opening::Shut(Some(at("2026-06-08T20:00:00Z"))));
    }

    #[test]
    fn clock_changes() {
        // 2026-03-29 02:00 to 03:00 does not exist in Berlin: the window opens just after the gap.
        let gap = [window(&[Day::Sun], "02:30", "05:00", "Europe/Berlin")];
        assert_eq!(opening(&gap, at("2026-03-29T00:59:00Z")), Opening::Shut(Some(at("2026-03-29T01:30:00Z"))));
        // 2026-10-25 02:30 happens twice: the first counts.
        let fold = [window(&[Day::Sun], "02:30", "05:00", "Europe/Berlin")];
        assert_eq!(opening(&fold, at("2026-10-25T00:00:00Z")), Opening::Shut(Some(at("2026-10-25T00:30:00Z"))));
    }

    #[test]
    fn none_is_always_and_several_unite() {
        assert_eq!(opening(&[], at("2026-06-01T00:00:00Z")), Opening::Always);
        let two = [window(&[], "01:00", "02:00", "UTC"), window(&[], "01:30", "03:00", "UTC")];
        assert_eq!(opening(&two, at("2026-06-01T01:45:00Z")), Opening::Open(at("2026-06-01T03:00:00Z")));
        assert_eq!(opening(&two, at("2026-06-01T03:00:00Z")), Opening::Shut(Some(at("2026-06-02T01:00:00Z"))));
    }

    #[test]
    fn nonsense_is_named() {
        let spec = Spec { days: vec![], start: "22:00".into(), end: "25:00".into(), time_zone: "UTC".into() };
        assert_eq!(Window::try_from(&spec).unwrap_err(), WindowError::Time("25:00".into()));
        let spec = Spec { days: vec![], start: "22:00".into(), end: "23:00".into(), time_zone: "Mars/Base".into() };
        assert_eq!(Window::try_from(&spec).unwrap_err(), WindowError::Zone("Mars/Base".into()));
    }
}
