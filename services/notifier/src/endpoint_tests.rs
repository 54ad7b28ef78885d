//! The state of an endpoint, by example and by random histories.

use proptest::prelude::*;

use super::*;

const DAY: Millis = 24 * 3600 * 1000;

fn endpoint() -> Endpoint {
    let settings = EndpointSettings {
        concurrency: 3,
        failures: 2,
        ..EndpointSettings::default()
    };
    Endpoint::new(settings, Record::default())
}

fn go(endpoint: &mut Endpoint, now: Millis) -> Turn {
    match endpoint.admit(now) {
        Admission::Go(turn) => turn,
        other => panic!("{other:?}"),
    }
}

fn attempt(endpoint: &mut Endpoint, delivery: Delivery, now: Millis) -> Option<Change> {
    let turn = go(endpoint, now);
    endpoint.done(turn, delivery, now)
}

#[test]
fn failures_in_a_row_pause_it_and_longer_each_time() {
    let mut it = endpoint();
    assert_eq!(attempt(&mut it, Delivery::Failed, 0), None);
    let paused = attempt(&mut it, Delivery::Failed, 0);
    assert_eq!(paused, Some(Change::Paused(30_000)));
    assert_eq!(it.admit(29_999), Admission::After(30_000));
    let mut now = 30_000;
    for pause in [60, 120, 240, 480, 960, 1800, 1800] {
        let until = now + pause * 1000;
        assert_eq!(
            attempt(&mut it, Delivery::Failed, now),
            Some(Change::Paused(until))
        );
        assert_eq!(it.admit(until - 1), Admission::After(until));
        now = until;
    }
    assert_eq!(attempt(&mut it, Delivery::Made, now), Some(Change::Resumed));
    // All is forgotten: it takes as many failures again, and the first pause is short.
    assert_eq!(attempt(&mut it, Delivery::Failed, now), None);
    assert_eq!(
        attempt(&mut it, Delivery::Failed, now),
        Some(Change::Paused(now + 30_000))
    );
}

#[test]
fn a_success_in_between_keeps_it_going() {
    let mut it = endpoint();
    for now in 0..10 {
        assert_eq!(attempt(&mut it, Delivery::Failed, now), None);
        assert_eq!(attempt(&mut it, Delivery::Made, now), None);
    }
    assert_eq!(it.record(), Record::default());
}

#[test]
fn one_attempt_alone_shows_whether_it_is_back() {
    let mut it = endpoint();
    for _ in 0..2 {
        attempt(&mut it, Delivery::Failed, 0);
    }
    let probe = go(&mut it, 30_000);
    assert_eq!(it.admit(30_000), Admission::Busy);
    assert_eq!(
        it.done(probe, Delivery::Made, 30_001),
        Some(Change::Resumed)
    );
    let turns: Vec<_> = (0..3).map(|_| go(&mut it, 30_002)).collect();
    assert_eq!(it.admit(30_002), Admission::Busy);
    assert_eq!(turns.len(), it.in_flight());
}

#[test]
fn a_probe_that_is_abandoned_leaves_the_next_one_free() {
    let mut it = endpoint();
    for _ in 0..2 {
        attempt(&mut it, Delivery::Failed, 0);
    }
    let probe = go(&mut it, 30_000);
    it.abandon(probe);
    assert_eq!(it.in_flight(), 0);
    assert_eq!(
        attempt(&mut it, Delivery::Failed, 30_000),
        Some(Change::Paused(90_000))
    );
}

#[test]
fn what_was_sent_before_the_pause_does_not_judge_the_probe() {
    let mut it = endpoint();
    let turns: Vec<_> = (0..3).map(|_| go(&mut it, 0)).collect();
    let mut changes = turns.into_iter();
    for expected in [None, Some(Change::Paused(30_000))] {
        let turn = changes.next().unwrap();
        assert_eq!(it.done(turn, Delivery::Failed, 0), expected);
    }
    let late = changes.next().unwrap();
    let probe = go(&mut it, 30_000);
    assert_eq!(it.done(late, Delivery::Failed, 30_001), None);
    assert_eq!(it.admit(30_002), Admission::Busy);
    assert_eq!(
        it.done(probe, Delivery::Made, 30_003),
        Some(Change::Resumed)
    );
}

#[test]
fn gone_is_gone_until_somebody_enables_it() {
    let mut it = endpoint();
    let open = go(&mut it, 0);
    assert_eq!(
        attempt(&mut it, Delivery::Gone, 0),
        Some(Change::Ended(Why::Gone))
    );
    assert_eq!(it.admit(100 * DAY), Admission::Ended(Why::Gone));
    it.enable();
    // What was sent before somebody enabled it says nothing.
    assert_eq!(it.done(open, Delivery::Gone, 1), None);
    assert_eq!(it.in_flight(), 0);
    assert_eq!(attempt(&mut it, Delivery::Made, 1), None);
}

#[test]
fn days_of_failures_without_a_success_end_it() {
    let mut it = endpoint();
    attempt(&mut it, Delivery::Failed, 1_000);
    attempt(&mut it, Delivery::Failed, 2_000);
    let almost = 1_000 + 5 * DAY - 1;
    assert!(matches!(
        attempt(&mut it, Delivery::Failed, almost),
        Some(Change::Paused(_))
    ));
    let why = Why::FailingSince(1_000);
    assert_eq!(
        attempt(&mut it, Delivery::Failed, 6 * DAY),
        Some(Change::Ended(why))
    );
    assert_eq!(it.admit(7 * DAY), Admission::Ended(why));
    assert_eq!(
        why.to_string(),
        "it has failed since 1970-01-01T00:00:01.000Z without one success"
    );
}

#[test]
fn two_failures_far_apart_do_not_end_it() {
    let settings = EndpointSettings {
        failures: 3,
        ..EndpointSettings::default()
    };
    let mut it = Endpoint::new(settings, Record::default());
    assert_eq!(attempt(&mut it, Delivery::Failed, 0), None);
    assert_eq!(attempt(&mut it, Delivery::Failed, 9 * DAY), None);
    assert!(matches!(
        attempt(&mut it, Delivery::Failed, 9 * DAY),
        Some(Change::Ended(_))
    ));
}

#[test]
fn what_is_known_survives_a_restart() {
    let mut it = endpoint();
    attempt(&mut it, Delivery::Failed, 1_000);
    attempt(&mut it, Delivery::Failed, 1_000);
    let text = serde_json::to_string(&it.record()).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    let mut again = Endpoint::new(it.settings.clone(), record);
    // Not paused: it is tried once.
    assert_eq!(
        attempt(&mut again, Delivery::Failed, 6 * DAY),
        Some(Change::Ended(Why::FailingSince(1_000)))
    );
    let ended = Endpoint::new(it.settings, again.record()).admit(0);
    assert_eq!(ended, Admission::Ended(Why::FailingSince(1_000)));
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    Done(usize, Delivery),
    Abandon(usize),
    Pass(Millis),
    Enable,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let delivery = prop_oneof![
        4 => Just(Delivery::Made),
        8 => Just(Delivery::Failed),
        1 => Just(Delivery::Gone),
    ];
    let step = prop_oneof![
        8 => Just(Step::Admit),
        6 => (any::<usize>(), delivery).prop_map(|(index, it)| Step::Done(index, it)),
        1 => any::<usize>().prop_map(Step::Abandon),
        3 => (0..120_000i64).prop_map(Step::Pass),
        1 => (0..2 * DAY).prop_map(Step::Pass),
        1 => Just(Step::Enable),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What a history may say of the endpoint, kept beside it.
#[derive(Default)]
struct Seen {
    open: Vec<Turn>,
    paused_until: Option<Millis>,
    ended: bool,
    /// Failures since the last success, of attempts that count.
    failures: u32,
    /// The first turn that counts.
    first: u64,
}

impl Seen {
    fn done(&mut self, turn: u64, delivery: Delivery) {
        if turn < self.first || self.ended {
            return;
        }
        match delivery {
            Delivery::Made => self.failures = 0,
            Delivery::Failed => self.failures += 1,
            Delivery::Gone => {}
        }
    }
}

proptest! {
    #[test]
    fn no_history_breaks_the_rules(steps in steps()) {
        let mut it = endpoint();
        let (mut seen, mut now) = (Seen::default(), 0);
        for step in steps {
            match step {
                Step::Pass(ms) => now += ms,
                Step::Enable => {
                    it.enable();
                    let open = std::mem::take(&mut seen.open);
                    seen = Seen { open, first: it.next_turn, ..Seen::default() };
                }
                Step::Abandon(index) if !seen.open.is_empty() => {
                    let index = index % seen.open.len();
                    it.abandon(seen.open.swap_remove(index));
                }
                Step::Done(index, delivery) if !seen.open.is_empty() => {
                    let index = index % seen.open.len();
                    let turn = seen.open.swap_remove(index);
                    seen.done(turn.0, delivery);
                    match it.done(turn, delivery, now) {
                        Some(Change::Paused(until)) => {
                            prop_assert!(seen.failures >= 2, "paused after {} failures", seen.failures);
                            prop_assert!(until > now);
                            seen.paused_until = Some(until);
                        }
                        Some(Change::Resumed) => {
                            prop_assert_eq!(delivery, Delivery::Made);
                            prop_assert!(seen.paused_until.take().is_some());
                        }
                        Some(Change::Ended(Why::Gone)) => {
                            prop_assert_eq!(delivery, Delivery::Gone);
                            seen.ended = true;
                        }
                        Some(Change::Ended(Why::FailingSince(at))) => {
                            prop_assert!(now - at >= 5 * DAY && seen.failures >= 2);
                            seen.ended = true;
                        }
                        None => {}
                    }
                }
                Step::Admit => match it.admit(now) {
                    Admission::Go(turn) => {
                        prop_assert!(!seen.ended);
                        prop_assert!(seen.paused_until.is_none_or(|until| until <= now));
                        seen.open.push(turn);
                    }
                    Admission::Busy => prop_assert!(!seen.open.is_empty() && !seen.ended),
                    Admission::After(until) => {
                        prop_assert!(until > now);
                        prop_assert_eq!(seen.paused_until, Some(until));
                    }
                    Admission::Ended(_) => prop_assert!(seen.ended),
                },
                Step::Abandon(_) | Step::Done(..) => {}
            }
            prop_assert_eq!(it.in_flight(), seen.open.len());
            prop_assert!(it.in_flight() <= 3);
            prop_assert!(seen.ended || seen.failures < 2 || seen.paused_until.is_some());
            prop_assert_eq!(it.record().failures == 0, it.record().failing_since.is_none());
        }
        // Nothing is stuck: when all that is open has come back and the pause is over, the next one goes.
        for turn in seen.open {
            it.abandon(turn);
        }
        let later = seen.paused_until.unwrap_or(now).max(now);
        prop_assert_eq!(matches!(it.admit(later), Admission::Go(_)), !seen.ended);
        prop_assert!(seen.ended || it.in_flight() == 1);
    }

    #[test]
    fn at_most_one_probe_is_open(rounds in 1usize..20) {
        let mut it = endpoint();
        for _ in 0..2 {
            attempt(&mut it, Delivery::Failed, 0);
        }
        let mut now = 0;
        for _ in 0..rounds {
            let Admission::After(until) = it.admit(now) else { panic!("not paused") };
            now = until;
            let probe = go(&mut it, now);
            for ms in 0..1000 {
                prop_assert_eq!(it.admit(now + ms * 1000), Admission::Busy);
            }
            if !matches!(it.done(probe, Delivery::Failed, now), Some(Change::Paused(_))) {
                break;
            }
        }
    }
}

#[test]
fn what_another_process_has_kept_counts_here() {
    let mut it = endpoint();
    attempt(&mut it, Delivery::Failed, 50);
    it.learn(Record {
        failures: 7,
        failing_since: Some(20),
        ended: None,
    });
    let record = it.record();
    assert_eq!((record.failures, record.failing_since), (7, Some(20)));
    it.learn(Record {
        ended: Some(Why::Gone),
        ..Record::default()
    });
    assert_eq!(it.admit(60), Admission::Ended(Why::Gone));
    it.learn(Record::default());
    assert_eq!(it.record(), Record::default());
    assert!(it.is_forgettable());
}
