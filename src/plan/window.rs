//! When devices may be released.
//!
//! Local times are resolved the way calendars do it: a start that a clock change skips happens just after the gap, one
//! that happens twice counts the first time. Zones come from the bundled database, so every replica agrees.

use jiff::civil::{Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::api::policy::{Day, Window as Spec};

/// A parsed window.
#[derive(Clone, Debug)]
pub struct Window {
    days: Vec<Weekday>,
    start: Time,
    end: Time,
    zone: TimeZone,
    deny: bool,
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
            deny: spec.deny,
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

/// How far ahead occurrences are looked for: a week, and a day for clock changes.
const AHEAD: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Whether a set of windows is open, and until or from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// No windows: always.
    Always,
    /// Open until then at least.
    Open(Timestamp),
    /// Shut; opens then, unless it never does.
    Shut(Option<Timestamp>),
}

/// State of `windows` at `now`: open while one of those that allow is, if there are any, and none of those that deny.
#[must_use]
pub fn opening(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Always;
    }
    let spans = |deny: bool| -> Vec<(Timestamp, Timestamp)> {
        windows.iter().filter(|window| window.deny == deny).flat_map(|window| window.spans(now)).collect()
    };
    let (allowed, denied) = (spans(false), spans(true));
    let within = |spans: &[(Timestamp, Timestamp)], at: Timestamp| {
        spans.iter().filter(|(start, end)| *start <= at && at < *end).map(|(_, end)| *end).max()
    };
    let all_deny = windows.iter().all(|window| window.deny);
    let is_open = |at| within(&denied, at).is_none() && (all_deny || within(&allowed, at).is_some());
    if is_open(now) {
        let shut_by_denial = denied.iter().map(|(start, _)| *start).filter(|start| *start > now);
        return match shut_by_denial.chain(within(&allowed, now)).min() {
            Some(end) => Opening::Open(end),
            None => Opening::Always,
        };
    }
    let starts = allowed.iter().map(|(start, _)| *start);
    let ends = denied.iter().map(|(_, end)| *end);
    // What lies further ahead than the spans reach looks open and may not be; what opens at all opens within a week.
    let horizon = now.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
    Opening::Shut(starts.chain(ends).filter(|at| *at > now && *at <= horizon && is_open(*at)).min())
}

/// Whether windows never let anything through, as when one that denies covers all that allow.
#[must_use]
pub fn never_open(windows: &[Window]) -> bool {
    // Any week will do: clock changes move windows, and take none away.
    let start =
        jiff::civil::date(2026, 6, 1).to_zoned(TimeZone::UTC).map_or(Timestamp::UNIX_EPOCH, |day| day.timestamp());
    opening(windows, start) == Opening::Shut(None)
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
        let spec =
            Spec { days: days.to_vec(), start: start.into(), end: end.into(), time_zone: zone.into(), deny: false };
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
    fn what_denies_goes_first() {
        let deny = |days: &[Day], start: &str, end: &str| Window { deny: true, ..window(days, start, end, "UTC") };
        // Monday 2026-06-01. Nothing on weekends, otherwise always.
        let weekend = [deny(&[Day::Sat, Day::Sun], "00:00", "00:00")];
        assert_eq!(opening(&weekend, at("2026-06-01T12:00:00Z")), Opening::Open(at("2026-06-06T00:00:00Z")));
        assert_eq!(opening(&weekend, at("2026-06-06T12:00:00Z")), Opening::Shut(Some(at("2026-06-08T00:00:00Z"))));
        // Nights, but not while the backup runs.
        let nights = [window(&[], "22:00", "04:00", "UTC"), deny(&[], "23:00", "01:00")];
        assert_eq!(opening(&nights, at("2026-06-01T22:30:00Z")), Opening::Open(at("2026-06-01T23:00:00Z")));
        assert_eq!(opening(&nights, at("2026-06-01T23:00:00Z")), Opening::Shut(Some(at("2026-06-02T01:00:00Z"))));
        assert_eq!(opening(&nights, at("2026-06-02T05:00:00Z")), Opening::Shut(Some(at("2026-06-02T22:00:00Z"))));
        assert!(!never_open(&nights) && !never_open(&weekend) && !never_open(&[]));
        let shut = [window(&[], "22:00", "23:00", "UTC"), deny(&[], "21:00", "23:30")];
        assert_eq!(opening(&shut, at("2026-06-01T22:30:00Z")), Opening::Shut(None));
        assert!(never_open(&shut) && never_open(&[deny(&[], "00:00", "12:00"), deny(&[], "12:00", "00:00")]));
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
        let spec =
            Spec { days: vec![], start: "22:00".into(), end: "25:00".into(), time_zone: "UTC".into(), deny: false };
        assert_eq!(Window::try_from(&spec).unwrap_err(), WindowError::Time("25:00".into()));
        let spec = Spec {
            days: vec![],
            start: "22:00".into(),
            end: "23:00".into(),
            time_zone: "Mars/Base".into(),
            deny: false,
        };
        assert_eq!(Window::try_from(&spec).unwrap_err(), WindowError::Zone("Mars/Base".into()));
    }
}
