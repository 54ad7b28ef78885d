use proptest::prelude::*;

use super::*;
use crate::endpoint::Why;

const KEY: &str = "acme https://a.example/hook";
const HOST: &str = "https://a.example";

fn endpoints(concurrency: usize, per_host: usize) -> Endpoints {
    let settings = EndpointSettings {
        concurrency,
        failures: 2,
        ..EndpointSettings::default()
    };
    Endpoints::new(settings, per_host)
}

fn go(it: &mut Endpoints, key: &str, now: Millis) -> Turn {
    match it.admit(key, HOST, now) {
        Place::Endpoint(Admission::Go(turn)) => turn,
        other => panic!("{other:?}"),
    }
}

fn ends(it: &mut Endpoints, delivery: Delivery, now: Millis) -> After {
    let turn = go(it, KEY, now);
    it.done(KEY, turn, delivery, now)
}

#[test]
fn what_is_taken_of_an_endpoint_has_room() {
    for concurrency in 1..10 {
        let mut it = endpoints(concurrency, 100);
        let mut open = Vec::new();
        while it.full().is_empty() {
            for _ in 0..it.per_take() {
                open.push(go(&mut it, KEY, 0));
            }
        }
        assert!(open.len() <= concurrency && !open.is_empty());
    }
}

#[test]
fn nothing_is_kept_of_an_endpoint_that_is_well() {
    let mut it = endpoints(8, 100);
    let after = ends(&mut it, Delivery::Made, 0);
    assert_eq!(after, After::default());
    assert!(it.known.is_empty() && it.hosts.is_empty());
    let turn = go(&mut it, KEY, 0);
    assert_eq!(it.abandon(KEY, turn), After::default());
    assert!(it.known.is_empty() && it.hosts.is_empty());
}

#[test]
fn a_change_is_to_be_written_until_it_is() {
    let mut it = endpoints(8, 100);
    ends(&mut it, Delivery::Failed, 5);
    let record = it.unwritten(KEY).unwrap();
    assert_eq!((record.failures, record.failing_since), (1, Some(5)));
    ends(&mut it, Delivery::Failed, 6);
    it.written(KEY, record);
    let record = it.unwritten(KEY).unwrap();
    assert_eq!(record.failures, 2);
    it.written(KEY, record);
    assert_eq!(it.unwritten(KEY), None);
}

#[test]
fn a_success_after_failures_is_written_and_then_forgotten() {
    let mut it = endpoints(8, 100);
    ends(&mut it, Delivery::Failed, 5);
    it.written(KEY, it.unwritten(KEY).unwrap());
    ends(&mut it, Delivery::Made, 6);
    assert_eq!(it.unwritten(KEY), Some(Record::default()));
    it.written(KEY, Record::default());
    assert!(it.known.is_empty());
}

#[test]
fn a_pause_moves_the_others_once_no_attempt_is_open() {
    let mut it = endpoints(8, 100);
    let [one, two, three] = [0; 3].map(|_| go(&mut it, KEY, 0));
    let after = it.done(KEY, one, Delivery::Failed, 0);
    assert_eq!(after.postpone, None);
    let after = it.done(KEY, two, Delivery::Failed, 0);
    assert_eq!(after.change, Some(Change::Paused(30_000)));
    assert_eq!(after.postpone, None);
    assert!(!it.is_idle(KEY));
    let after = it.done(KEY, three, Delivery::Failed, 0);
    assert_eq!(after.postpone, Some(30_000));
    assert!(it.is_idle(KEY));
    assert_eq!(it.troubled(), (1, 0));
}

#[test]
fn while_one_attempt_shows_whether_it_is_back_nothing_is_wanted() {
    let mut it = endpoints(8, 100);
    ends(&mut it, Delivery::Failed, 0);
    ends(&mut it, Delivery::Failed, 0);
    assert!(it.full().is_empty());
    let probe = go(&mut it, KEY, 30_000);
    assert_eq!(it.full(), [KEY]);
    let busy = it.admit(KEY, HOST, 30_000);
    assert_eq!(busy, Place::Endpoint(Admission::Busy));
    let after = it.done(KEY, probe, Delivery::Made, 30_000);
    assert_eq!(after.change, Some(Change::Resumed));
    assert!(after.wake, "others wait for it");
}

#[test]
fn a_host_has_its_share_over_all_its_endpoints() {
    let mut it = endpoints(8, 2);
    let keys = ["acme a", "acme b", "acme c"];
    let first = go(&mut it, keys[0], 0);
    let _ = go(&mut it, keys[1], 0);
    assert_eq!(it.admit(keys[2], HOST, 0), Place::HostFull);
    assert!(!it.known.contains_key(keys[2]), "nothing is known of it");
    let elsewhere = it.admit("acme d", "https://b.example", 0);
    assert!(matches!(elsewhere, Place::Endpoint(Admission::Go(_))));
    let mut full = it.full();
    full.sort_unstable();
    assert_eq!(full, keys[..2]);
    assert!(it.done(keys[0], first, Delivery::Made, 0).wake);
    let _ = go(&mut it, keys[2], 0);
}

#[test]
fn an_end_that_others_found_counts_and_so_does_that_it_was_taken_back() {
    let mut it = endpoints(8, 100);
    let ended = Record {
        ended: Some(Why::Gone),
        ..Record::default()
    };
    let asked = it.asking();
    it.learn(KEY, HOST, Some(ended), asked);
    let place = it.admit(KEY, HOST, 0);
    assert_eq!(place, Place::Endpoint(Admission::Ended(Why::Gone)));
    assert_eq!(it.troubled(), (0, 1));
    let asked = it.asking();
    it.learn(KEY, HOST, None, asked);
    let _ = go(&mut it, KEY, 0);
}

#[test]
fn what_was_asked_before_a_change_says_nothing_of_it() {
    let mut it = endpoints(8, 100);
    let asked = it.asking();
    let after = ends(&mut it, Delivery::Gone, 0);
    assert_eq!(after.change, Some(Change::Ended(Why::Gone)));
    let is_ended = |it: &mut Endpoints| {
        let place = it.admit(KEY, HOST, 0);
        place == Place::Endpoint(Admission::Ended(Why::Gone))
    };
    it.learn(KEY, HOST, None, asked);
    assert!(is_ended(&mut it));
    // Not written yet.
    let asked = it.asking();
    it.learn(KEY, HOST, None, asked);
    assert!(is_ended(&mut it));
    let asked = it.asking();
    it.written(KEY, it.unwritten(KEY).unwrap());
    it.learn(KEY, HOST, None, asked);
    assert!(is_ended(&mut it));
    let asked = it.asking();
    it.learn(KEY, HOST, None, asked);
    let _ = go(&mut it, KEY, 0);
}

#[test]
fn failures_of_other_notifiers_count_towards_the_end() {
    let mut it = endpoints(8, 100);
    let day = 24 * 3600 * 1000;
    let record = Record {
        failures: 7,
        failing_since: Some(0),
        ended: None,
    };
    let asked = it.asking();
    it.learn(KEY, HOST, Some(record), asked);
    let after = ends(&mut it, Delivery::Failed, 5 * day);
    assert_eq!(after.change, Some(Change::Ended(Why::FailingSince(0))));
}

#[test]
fn no_more_endpoints_are_known_than_the_bound() {
    let mut it = endpoints(8, 100);
    let busy = go(&mut it, "busy", 0);
    for n in 0..MOST + 10 {
        let key = format!("acme {n}");
        let turn = go(&mut it, &key, 0);
        it.done(&key, turn, Delivery::Failed, 0);
        it.written(&key, it.unwritten(&key).unwrap());
    }
    assert!(it.known.len() <= MOST);
    assert!(it.known.contains_key("busy"));
    it.done("busy", busy, Delivery::Made, 0);
}

proptest! {
    /// However attempts come and go, what is counted is what is open.
    #[test]
    fn what_is_open_is_counted(steps in proptest::collection::vec((0usize..4, 0usize..4), 0..200)) {
        let mut it = endpoints(3, 4);
        let mut open: Vec<(String, Turn)> = Vec::new();
        for (now, (step, which)) in (0i64..).step_by(20_000).zip(steps) {
            if step == 0 && !open.is_empty() {
                let (key, turn) = open.swap_remove(which % open.len());
                it.abandon(&key, turn);
            } else if step == 1 && !open.is_empty() {
                let (key, turn) = open.swap_remove(which % open.len());
                let delivery = if which == 0 { Delivery::Failed } else { Delivery::Made };
                it.done(&key, turn, delivery, now);
            } else {
                let key = format!("acme {which}");
                if let Place::Endpoint(Admission::Go(turn)) = it.admit(&key, HOST, now) {
                    open.push((key, turn));
                }
            }
            let counted = it.hosts.get(HOST).copied().unwrap_or_default();
            prop_assert_eq!(counted, open.len());
            prop_assert!(open.len() <= 4);
            prop_assert!(it.full().len() <= open.len());
        }
    }
}
