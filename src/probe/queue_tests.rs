//! The queue by hand, and by chance: what is added is looked at, in whatever order things happen.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn queue(at_once: usize, per_host: usize) -> Queue<u32, &'static str> {
    Queue::new(Limits { checks: 5, at_once, per_host })
}

fn starts(queue: &mut Queue<u32, &'static str>, now: Instant) -> Vec<Start<&'static str>> {
    queue.promote(now);
    std::iter::from_fn(|| queue.start(now, |job| Some((*job).into()))).collect()
}

#[tokio::test(start_paused = true)]
async fn by_time_and_host() {
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let mut queue = queue(3, 1);
    for (key, host, at) in [(1, "a", 0), (2, "a", 0), (3, "b", 0), (4, "c", 5), (5, "d", 1)] {
        assert_eq!(queue.add(key, Arc::new(host), now + at * second), Added::New);
    }
    assert_eq!(queue.add(1, Arc::new("z"), now), Added::Known);
    assert_eq!(queue.add(6, Arc::new("z"), now), Added::Full);
    let begun = starts(&mut queue, now);
    assert_eq!(begun.iter().map(|start| *start.job).collect::<Vec<_>>(), ["a", "b"], "the second of a stands aside");
    assert_eq!(queue.next_due(), Some(now + second));
    assert_eq!(starts(&mut queue, now + second).len(), 1, "d has the third place");
    assert!(starts(&mut queue, now + 5 * second).is_empty(), "no place");
    let over = queue.over(begun[0].id).expect("it was there");
    assert_eq!((over.key, over.attempts, over.begun), (1, 1, Some(now)));
    queue.ended(Some("a"));
    let next = starts(&mut queue, now + 5 * second);
    assert_eq!((next.len(), *next[0].job), (1, "a"), "it was in line before c");
    assert!(queue.remove(&2));
    assert_eq!(queue.take_cancelled(), [next[0].id]);
    assert!(starts(&mut queue, now + 5 * second).is_empty(), "its place is free only once it has ended");
    queue.ended(Some("a"));
    assert!(!queue.hosts.contains_key("a"));
    assert_eq!(*starts(&mut queue, now + 5 * second)[0].job, "c");
}

#[tokio::test(start_paused = true)]
async fn removed() {
    let now = Instant::now();
    let mut queue = queue(1, 1);
    assert_eq!(queue.add(1, Arc::new("a"), now), Added::New);
    assert_eq!(queue.add(2, Arc::new("b"), now), Added::New);
    assert!(queue.remove(&1) && !queue.remove(&1));
    assert_eq!(*starts(&mut queue, now)[0].job, "b");
    assert_eq!(queue.add(3, Arc::new("b"), now), Added::New);
    assert!(starts(&mut queue, now).is_empty());
    assert!(queue.remove(&3), "in line");
    queue.ended(Some("b"));
    assert!(starts(&mut queue, now).is_empty());
    assert!(queue.remove(&2));
    assert_eq!((queue.len(), queue.due.len(), queue.hosts.len()), (0, 0, 0));
}

/// The next of a host goes away just when a place was handed on to it.
#[tokio::test(start_paused = true)]
async fn handed_on() {
    let now = Instant::now();
    let mut queue = queue(3, 1);
    for key in 1..=4 {
        assert_eq!(queue.add(key, Arc::new("a"), now), Added::New);
    }
    let first = starts(&mut queue, now);
    assert_eq!(first.len(), 1);
    assert!(queue.over(first[0].id).is_some());
    queue.ended(Some("a"));
    assert!(queue.remove(&2) && queue.remove(&3));
    let next = starts(&mut queue, now);
    assert_eq!(next.len(), 1);
    assert_eq!(queue.over(next[0].id).map(|over| over.key), Some(4));
    queue.ended(Some("a"));
    assert_eq!((queue.len(), queue.hosts.len(), queue.ready.len()), (0, 0, 0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u32, u64),
    Remove(u32),
    /// Begin what there are places for.
    Start,
    /// One of the looks ends; its check is over, or goes on later.
    End(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12_u32, 0..2_u64).prop_map(|(key, at)| Step::Add(key, at)),
        3 => (0..12_u32).prop_map(Step::Remove),
        2 => Just(Step::Start),
        3 => (0..100_usize, any::<bool>()).prop_map(|(n, over)| Step::End(n, over)),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Bounds hold at every step; and once nothing is added any more, everything comes to an end and nothing is left.
    #[test]
    fn nobody_is_forgotten(steps in steps()) {
        let (begin, second) = (Instant::from_std(std::time::Instant::now()), Duration::from_secs(1));
        let mut queue: Queue<u32, u32> = Queue::new(Limits { checks: 1000, at_once: 4, per_host: 1 });
        let mut now = begin;
        let mut running: Vec<Start<u32>> = Vec::new();
        let mut alive: HashSet<u32> = HashSet::new();
        let begin_all = |queue: &mut Queue<u32, u32>, running: &mut Vec<Start<u32>>, now: Instant| {
            queue.promote(now);
            // Two hosts, and some that have none.
            let host_of = |job: &u32| (!job.is_multiple_of(3)).then(|| (job % 3).to_string().into());
            while let Some(start) = queue.start(now, host_of) {
                running.push(start);
            }
            assert!(running.len() <= 4);
            for host in ["1", "2"] {
                assert!(running.iter().filter(|start| start.host.as_deref() == Some(host)).count() <= 1);
            }
        };
        for step in steps {
            match step {
                Step::Add(key, at) => {
                    let added = queue.add(key, Arc::new(key), now + second * u32::try_from(at).expect("few"));
                    assert_eq!(added, if alive.insert(key) { Added::New } else { Added::Known });
                }
                Step::Remove(key) => assert_eq!(queue.remove(&key), alive.remove(&key)),
                Step::Start => {
                    now += second;
                    begin_all(&mut queue, &mut running, now);
                }
                Step::End(_, _) if running.is_empty() => {}
                Step::End(n, over) => {
                    let look = running.swap_remove(n % running.len());
                    queue.ended(look.host.as_deref());
                    if over {
                        if let Some(over) = queue.over(look.id) {
                            assert!(alive.remove(&over.key));
                        }
                    } else {
                        queue.again(look.id, now + second);
                    }
                }
            }
            assert_eq!(queue.len(), alive.len());
        }
        for _ in 0..100 {
            now += second;
            begin_all(&mut queue, &mut running, now);
            for look in running.drain(..) {
                queue.ended(look.host.as_deref());
                if let Some(over) = queue.over(look.id) {
                    assert!(alive.remove(&over.key));
                }
            }
        }
        assert!(alive.is_empty(), "forgotten: {alive:?}");
        assert_eq!((queue.len(), queue.due.len(), queue.ready.len(), queue.hosts.len()), (0, 0, 0, 0));
    }
}
