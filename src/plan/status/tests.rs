use super::*;
use crate::api::rollout::{Halted, Totals};
use crate::plan::fixture::at;

fn base() -> ImageRolloutStatus {
    ImageRolloutStatus {
        observed_generation: Some(1),
        phase: Phase::Progressing,
        plan: None,
        current_batch: 1,
        batches: vec![BatchStatus { size: "100%".into(), ..BatchStatus::default() }],
        ..ImageRolloutStatus::default()
    }
}

#[test]
fn what_is_news() {
    type Change = fn(&mut ImageRolloutStatus);
    let changes: [(&str, Change, StatusWrite); 12] = [
        ("nothing", |_| {}, StatusWrite::None),
        ("message", |s| s.message = "x".into(), StatusWrite::Figures),
        ("totals", |s| s.totals = Some(Totals { devices: 1, ..Totals::default() }), StatusWrite::Figures),
        ("batch figures", |s| s.batches[0].healthy = 1, StatusWrite::Figures),
        ("phase", |s| s.phase = Phase::Paused, StatusWrite::Transition),
        ("batch", |s| s.current_batch = 2, StatusWrite::Transition),
        ("generation", |s| s.observed_generation = Some(2), StatusWrite::Transition),
        ("batch opened", |s| s.batches[0].start_time = Some(whole_seconds(at(0))), StatusWrite::Transition),
        ("batch done", |s| s.batches[0].completion_time = Some(whole_seconds(at(0))), StatusWrite::Transition),
        ("acknowledged", |s| s.batches[0].acknowledged = 1, StatusWrite::Transition),
        (
            "halt",
            |s| s.halted = Some(Halted { time: whole_seconds(at(0)), batch: 1, failures: 1 }),
            StatusWrite::Transition,
        ),
        ("resumed", |s| s.resume_time = Some(whole_seconds(at(0))), StatusWrite::Transition),
    ];
    for (what, change, write) in changes {
        let mut new = base();
        change(&mut new);
        assert_eq!(compare(&base(), &new), write, "{what}");
    }
    let mut new = base();
    new.history.push(HistoryEntry { time: whole_seconds(at(0)), type_: "X".into(), message: String::new() });
    assert_eq!(compare(&base(), &new), StatusWrite::Figures, "history");
}

#[test]
fn before_the_start_others_go_by_the_reason() {
    let waiting = |reason: &str| ImageRolloutStatus {
        conditions: vec![condition::condition(condition::READY, false, reason, "words", Some(1), at(0))],
        ..base()
    };
    assert_eq!(compare(&waiting("PolicySuspended"), &waiting("OlderRollout")), StatusWrite::Transition);
    let mut reworded = waiting("OlderRollout");
    reworded.conditions[0].message = "other words".into();
    assert_eq!(compare(&waiting("OlderRollout"), &reworded), StatusWrite::Figures);
}
