//! What a breaker does, step by step and against its history.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_contract::BreakerPolicy;

use super::breaker::*;

const POLICY: BreakerPolicy = BreakerPolicy {
    failures: 3,
    pause: Duration::from_secs(5),
    max_pause: Duration::from_secs(60),
};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// An attempt that ends at once, without jitter.
fn attempt(breaker: &mut Breaker, said: Said, at: Duration) -> Option<Change> {
    let pass = breaker.enter(at).unwrap();
    breaker.leave(pass, said, &POLICY, at, 0.5)
}

fn opened(at: Duration) -> Breaker {
    let mut breaker = Breaker::new();
    for failures in 1..=POLICY.failures {
        let change = attempt(&mut breaker, Said::Down, at);
        let expected = (failures == POLICY.failures).then_some(Change::Opened(POLICY.pause));
        assert_eq!(change, expected);
    }
    breaker
}

#[test]
fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
    let mut breaker = opened(secs(100));
    let mut now = secs(100);
    let mut pause = secs(5);
    for expected in [10, 20, 40, 60, 60] {
        assert!(!breaker.lets_in(now + pause - Duration::from_nanos(1)));
        now += pause;
        let change = attempt(&mut breaker, Said::Down, now);
        pause = secs(expected);
        assert_eq!(change, Some(Change::StillDown(pause)));
    }
    now += pause;
    let change = attempt(&mut breaker, Said::Up, now);
    assert_eq!(change, Some(Change::Closed(now - secs(100))));
    let changes: Vec<_> = (0..3)
        .filter_map(|_| attempt(&mut breaker, Said::Down, now))
        .collect();
    assert_eq!(changes, [Change::Opened(secs(5))], "as the first time");
}

#[test]
fn a_probe_that_is_dropped_makes_room_for_the_next_at_once() {
    let mut breaker = opened(secs(0));
    let probe = breaker.enter(secs(5)).unwrap();
    assert!(breaker.enter(secs(5)).is_none());
    assert!(breaker.enter(secs(500)).is_none(), "it may take its time");
    breaker.leave(probe, Said::Nothing, &POLICY, secs(500), 0.5);
    let change = attempt(&mut breaker, Said::Down, secs(500));
    assert_eq!(change, Some(Change::StillDown(secs(10))));
}

#[test]
fn a_timeout_opens_nothing_but_keeps_open_what_is() {
    let mut breaker = Breaker::new();
    for _ in 0..20 {
        assert_eq!(attempt(&mut breaker, Said::NoAnswer, secs(0)), None);
    }
    let mut breaker = opened(secs(0));
    for at in [5, 10] {
        let change = attempt(&mut breaker, Said::NoAnswer, secs(at));
        assert_eq!(
            change,
            Some(Change::StillDown(secs(5))),
            "no longer than before"
        );
    }
    assert!(!breaker.lets_in(secs(14)) && breaker.lets_in(secs(15)));
}

#[test]
fn what_began_before_it_opened_or_closed_tells_nothing() {
    let mut breaker = Breaker::new();
    let mut early: Vec<_> = (0..9).map(|_| breaker.enter(secs(0)).unwrap()).collect();
    let mut leave = |breaker: &mut Breaker, said, at| {
        let pass = early.pop().unwrap();
        breaker.leave(pass, said, &POLICY, at, 0.5)
    };
    for _ in 0..2 {
        assert_eq!(leave(&mut breaker, Said::Down, secs(1)), None);
    }
    assert!(leave(&mut breaker, Said::Down, secs(1)).is_some());
    for said in [Said::Up, Said::Down, Said::NoAnswer, Said::Nothing] {
        assert_eq!(leave(&mut breaker, said, secs(2)), None);
    }
    let probe = breaker.enter(secs(6)).unwrap();
    assert_eq!(leave(&mut breaker, Said::Nothing, secs(6)), None);
    assert!(!breaker.lets_in(secs(6)), "the probe is not theirs");
    assert!(
        breaker
            .leave(probe, Said::Up, &POLICY, secs(7), 0.5)
            .is_some()
    );
    for _ in 0..2 {
        attempt(&mut breaker, Said::Down, secs(7));
    }
    assert_eq!(leave(&mut breaker, Said::Down, secs(7)), None);
    assert!(breaker.lets_in(secs(7)), "two failures are not three");
}

#[test]
fn failures_that_lie_far_apart_do_not_count_together() {
    let mut breaker = Breaker::new();
    for n in 0..20 {
        assert_eq!(attempt(&mut breaker, Said::Down, secs(n * 31)), None);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Enter,
    /// The pass of this number among those that are out.
    Leave(usize, Said),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let said = prop_oneof![
        1 => Just(Said::Up),
        1 => Just(Said::Nothing),
        1 => Just(Said::NoAnswer),
        4 => Just(Said::Down),
    ];
    let step = prop_oneof![
        (0u64..30_000).prop_map(Step::Wait),
        Just(Step::Enter),
        Just(Step::Enter),
        (any::<usize>(), said.clone()).prop_map(|(n, said)| Step::Leave(n, said)),
        (any::<usize>(), said).prop_map(|(n, said)| Step::Leave(n, said)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Against a model that keeps the whole history instead of a state.
    #[test]
    fn it_does_what_the_history_says(
        steps in steps(),
        failures in 1u32..5,
        random in prop_oneof![0.0..=1.0, any::<f64>()],
    ) {
        let policy = BreakerPolicy { failures, ..POLICY };
        let mut breaker = Breaker::new();
        let mut now = secs(0);
        // Passes that are out, and at which change they were given.
        let mut out: Vec<(Pass, usize)> = Vec::new();
        // Changes with their times; and what has been said since the last opening or closing.
        let mut changes: Vec<(Duration, Change)> = Vec::new();
        let mut heard: Vec<(Duration, Said)> = Vec::new();
        let eras = |changes: &[(Duration, Change)]| {
            changes.iter().filter(|(_, c)| !matches!(c, Change::StillDown(_))).count()
        };
        for step in steps {
            let era = eras(&changes);
            let pause = changes.last().and_then(|(at, change)| match change {
                Change::Opened(pause) | Change::StillDown(pause) => Some((*at, *pause)),
                Change::Closed(_) => None,
            });
            match step {
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Enter => {
                    let probes = out.iter().filter(|(_, of)| *of == era).count();
                    let may = pause.is_none_or(|(at, pause)| now >= at + pause && probes == 0);
                    prop_assert_eq!(breaker.lets_in(now), may);
                    let pass = breaker.enter(now);
                    prop_assert_eq!(pass.is_some(), may);
                    out.extend(pass.map(|pass| (pass, era)));
                }
                Step::Leave(_, _) if out.is_empty() => {}
                Step::Leave(n, said) => {
                    let (pass, of) = out.swap_remove(n % out.len());
                    let change = breaker.leave(pass, said, &policy, now, random);
                    if of != era {
                        prop_assert_eq!(change, None);
                        continue;
                    }
                    heard.push((now, said));
                    let expected = match (pause, said) {
                        (_, Said::Nothing) => None,
                        (Some(_), Said::Up) => Some("closed"),
                        (Some(_), Said::Down | Said::NoAnswer) => Some("still down"),
                        (None, Said::Up | Said::NoAnswer) => None,
                        (None, Said::Down) => {
                            let told = heard.iter().rev().filter(|(_, s)| matches!(s, Said::Up | Said::Down));
                            let row = told.take_while(|(at, s)| *s == Said::Down && now - *at <= WINDOW);
                            (row.count() >= failures as usize).then_some("opened")
                        }
                    };
                    let got = change.map(|change| match change {
                        Change::Opened(_) => "opened",
                        Change::StillDown(_) => "still down",
                        Change::Closed(_) => "closed",
                    });
                    prop_assert_eq!(got, expected);
                    if let Some(Change::Opened(pause) | Change::StillDown(pause)) = change {
                        prop_assert!(pause >= policy.pause.mul_f64(0.7999));
                        prop_assert!(pause <= policy.max_pause.mul_f64(1.2001));
                    }
                    if let Some(change) = change {
                        changes.push((now, change));
                        heard.clear();
                    }
                }
            }
        }
        // Whatever happened: once all passes are back and time goes by, a success closes it.
        for (pass, _) in out {
            breaker.leave(pass, Said::Nothing, &policy, now, random);
        }
        now += policy.max_pause * 2;
        let pass = breaker.enter(now);
        prop_assert!(pass.is_some());
        breaker.leave(pass.unwrap(), Said::Up, &policy, now, random);
        let (first, second) = (breaker.enter(now), breaker.enter(now));
        prop_assert!(first.is_some() && second.is_some());
    }
}
