use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn commit(tracker: &OffsetTracker, farewell: Farewell) -> (i64, String) {
    let snapshot = tracker.snapshot(7, farewell).unwrap();
    (snapshot.offset, snapshot.metadata)
}

#[test]
fn one_open_record_holds_the_watermark() {
    let mut tracker = OffsetTracker::new();
    assert_eq!(tracker.watermark(), None);
    for offset in [10, 11, 14] {
        assert_eq!(tracker.deliver(offset), Delivery::New);
    }
    assert_eq!(tracker.complete(11), None);
    assert_eq!(tracker.complete(14), None);
    assert_eq!(tracker.watermark(), Some(10));
    assert_eq!(tracker.complete(10), Some(15));
    assert_eq!(tracker.open(), 0);
}

#[test]
fn repeats_are_told() {
    let mut tracker = OffsetTracker::new();
    assert_eq!(tracker.deliver(5), Delivery::New);
    assert_eq!(tracker.deliver(5), Delivery::Repeat);
    assert_eq!(tracker.deliver(4), Delivery::Repeat);
    assert_eq!(tracker.complete(5), Some(6));
    assert_eq!(tracker.complete(5), None);
    assert_eq!(tracker.deliver(5), Delivery::Repeat);
}

#[test]
fn ten_thousand_done_behind_one_open_take_a_few_bytes() {
    let mut tracker = OffsetTracker::new();
    for offset in 0..10_001 {
        assert_eq!(tracker.deliver(offset), Delivery::New);
        tracker.start(offset);
    }
    for offset in 1..10_001 {
        tracker.complete(offset);
    }
    let (offset, metadata) = commit(&tracker, Farewell::No);
    assert_eq!(offset, 0);
    assert!(metadata.len() < 64, "{metadata}");

    let mut next = OffsetTracker::new();
    let restored = next.restore(offset, &metadata, Some(10_001)).unwrap();
    let expected = Restored {
        owner: Some(7),
        unclean: true,
        done: 10_000,
        running: 1,
        falls: 1,
    };
    assert_eq!(restored, expected);
    assert!(next.begun_before(0));
    let new = (0..10_001).filter(|offset| next.deliver(*offset) == Delivery::New);
    assert_eq!(new.collect::<Vec<_>>(), [0]);
    assert_eq!(next.complete(0), Some(10_001));
    assert!(!next.begun_before(0));
}

#[test]
fn a_log_that_begins_anew_is_handled_from_its_beginning() {
    let mut tracker = OffsetTracker::new();
    for offset in 100..110 {
        assert_eq!(tracker.deliver(offset), Delivery::New);
    }
    tracker.complete(105);
    let (offset, metadata) = commit(&tracker, Farewell::RunsOn);
    let mut next = OffsetTracker::new();
    next.restore(offset, &metadata, None).unwrap();
    for offset in [0, 1, 99, 100, 105] {
        assert_eq!(next.deliver(offset), Delivery::New, "{offset}");
    }
}

#[test]
fn texts_that_are_not_ours_are_told_apart() {
    let mut tracker = OffsetTracker::new();
    assert_eq!(tracker.deliver(3), Delivery::New);
    let (_, metadata) = commit(&tracker, Farewell::No);
    let restore = |offset, text: &str| OffsetTracker::new().restore(offset, text, None);
    assert_eq!(restore(3, "").unwrap(), Restored::default());
    assert!(restore(3, &metadata).unwrap().unclean);
    assert_eq!(
        restore(4, &metadata),
        Err(MetadataError::OtherOffset(3)),
        "somebody has moved the offset"
    );
    let version = restore(3, &metadata.replace("tg1", "tg2")).unwrap_err();
    assert_eq!(
        version.to_string(),
        "it is of another version: `tg2`, not `tg1`"
    );
    for foreign in ["consumer-7", "tg", "tgx.AAAA", "{\"a\": 1}", "é"] {
        let error = restore(3, foreign).unwrap_err();
        assert_eq!(error, MetadataError::Foreign(foreign.to_owned()));
    }
    for damaged in [
        "tg1.",
        "tg1.====",
        "tg1.AAAAAAAAAAAAAAAA",
        &metadata[..metadata.len() - 4],
    ] {
        assert_eq!(
            restore(3, damaged),
            Err(MetadataError::Damaged),
            "{damaged}"
        );
    }
}

#[test]
fn a_later_version_may_add_to_the_end() {
    let mut tracker = OffsetTracker::new();
    assert_eq!(tracker.deliver(3), Delivery::New);
    let (_, metadata) = commit(&tracker, Farewell::RunsOn);
    let mut body = URL_SAFE_NO_PAD.decode(&metadata[4..]).unwrap().split_off(4);
    body.extend_from_slice(b"something new");
    let restored = OffsetTracker::new().restore(3, &text_of(&body), None);
    assert!(!restored.unwrap().unclean);
}

/// A text whose checksum is right.
fn text_of(body: &[u8]) -> String {
    let sum = body.iter().fold(0x811c_9dc5u32, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let bytes = [&sum.to_le_bytes()[..], body].concat();
    format!("tg1.{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    Start(Index),
    Complete(Index),
    Commit,
    /// The owner leaves in order.
    Leave,
    /// The owner is killed.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..8).prop_map(Step::Deliver),
        4 => any::<Index>().prop_map(Step::Start),
        6 => any::<Index>().prop_map(Step::Complete),
        2 => Just(Step::Commit),
        1 => Just(Step::Leave),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..200)
}

#[test]
fn what_runs_where_a_partition_comes_from_is_handed_on_until_it_is_done() {
    let mut tracker = OffsetTracker::new();
    for offset in 5..8 {
        assert_eq!(tracker.deliver(offset), Delivery::New);
        tracker.start(offset);
    }
    let restored = |tracker: &OffsetTracker, farewell| {
        let (offset, metadata) = commit(tracker, farewell);
        let mut next = OffsetTracker::new();
        next.restore(offset, &metadata, None).unwrap();
        next
    };
    let running = |tracker: &OffsetTracker| {
        let all = (5..8).map(|offset| tracker.may_run_elsewhere(offset));
        all.collect::<Vec<_>>()
    };
    // Neither of a process that died nor of one that saw their end.
    for farewell in [Farewell::No, Farewell::AllEnded] {
        let next = restored(&tracker, farewell);
        assert_eq!(running(&next), [false; 3]);
        assert!(next.begun_before(5), "a repeat all the same");
    }
    let mut next = restored(&tracker, Farewell::RunsOn);
    assert_eq!(running(&next), [true; 3]);
    for offset in 5..7 {
        assert_eq!(next.deliver(offset), Delivery::New);
    }
    next.complete(5);
    // It gives the partition up in its turn, while they run on where they are.
    let last = restored(&next, Farewell::RunsOn);
    assert_eq!(running(&last), [false, true, true]);
}

proptest! {
    /// Against plain sets: whatever happens in whatever order, no record is passed over that is not done, and none is
    /// done again that was done when its owner left in order, or last committed.
    #[test]
    fn nothing_open_is_passed_over_and_nothing_done_is_repeated(
        gaps in prop::collection::vec(1i64..4, 1..150),
        steps in steps(),
    ) {
        let log: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let mut tracker = OffsetTracker::new();
        let mut committed: Option<(i64, String)> = None;
        let mut farewell = false;
        let mut at = 0;
        let mut open: Vec<i64> = Vec::new();
        // Done, as far as the owner knows; and as far as the last commit knows.
        let (mut done, mut committed_done) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Deliver(count) => for _ in 0..count {
                    let Some(&offset) = log.get(at) else { break };
                    at += 1;
                    match tracker.deliver(offset) {
                        Delivery::New => {
                            prop_assert!(!done.contains(&offset), "{} again", offset);
                            open.push(offset);
                        }
                        Delivery::Done => prop_assert!(done.contains(&offset), "{} lost", offset),
                        Delivery::Repeat => prop_assert!(false, "{} was not delivered yet", offset),
                    }
                },
                Step::Start(pick) if !open.is_empty() => tracker.start(open[pick.index(open.len())]),
                Step::Complete(pick) if !open.is_empty() => {
                    let offset = open.swap_remove(pick.index(open.len()));
                    tracker.complete(offset);
                    done.insert(offset);
                }
                Step::Start(_) | Step::Complete(_) => {}
                Step::Commit => {
                    committed = tracker.snapshot(7, Farewell::No).map(|s| (s.offset, s.metadata)).or(committed);
                    committed_done = done.clone();
                    farewell = false;
                }
                Step::Leave | Step::Kill => {
                    if matches!(step, Step::Leave) {
                        committed = tracker.snapshot(7, Farewell::RunsOn).map(|s| (s.offset, s.metadata)).or(committed);
                        committed_done = done;
                        farewell = true;
                    }
                    done = committed_done.clone();
                    tracker = OffsetTracker::new();
                    at = 0;
                    if let Some((offset, metadata)) = &committed {
                        prop_assert_eq!(tracker.restore(*offset, metadata, None).map(|r| r.unclean), Ok(!farewell));
                        at = log.partition_point(|o| o < offset);
                    }
                    open.clear();
                }
            }
            let lowest = open.iter().min().copied();
            if let Some(lowest) = lowest {
                prop_assert_eq!(tracker.watermark(), Some(lowest));
            }
            prop_assert_eq!(tracker.open(), open.len());
            prop_assert!(!tracker.is_crowded());
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*", offset in 0i64..100) {
        let _ = OffsetTracker::new().restore(offset, &text, None);
        let _ = OffsetTracker::new().restore(offset, &format!("tg1.{text}"), None);
    }

    /// Behind a right checksum too: what is read is used without harm.
    #[test]
    fn any_bytes_are_read_or_refused(
        tail in prop::collection::vec(any::<u8>(), 0..80),
        offset in prop_oneof![0i64..100, Just(i64::MAX)],
    ) {
        let mut body = vec![0];
        wire::put(&mut body, offset.unsigned_abs());
        body.extend_from_slice(&[1; 8]);
        body.extend_from_slice(&tail);
        let mut tracker = OffsetTracker::new();
        if tracker.restore(offset, &text_of(&body), None).is_ok() {
            let _ = tracker.deliver(offset);
            tracker.start(offset);
            let snapshot = tracker.snapshot(1, Farewell::No).unwrap();
            prop_assert!(snapshot.metadata.len() <= BUDGET);
        }
    }

    #[test]
    fn a_changed_text_is_refused(at in any::<Index>(), to in 0u8..64) {
        let mut tracker = OffsetTracker::new();
        for offset in 5..60 {
            let _ = tracker.deliver(offset);
            if offset % 3 > 0 { tracker.complete(offset); }
        }
        let (offset, metadata) = commit(&tracker, Farewell::No);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = metadata.clone().into_bytes();
        let at = 4 + at.index(bytes.len() - 4);
        bytes[at] = alphabet[usize::from(to)];
        let changed = String::from_utf8(bytes).unwrap();
        if changed != metadata {
            let refused = OffsetTracker::new().restore(offset, &changed, None);
            prop_assert_eq!(refused, Err(MetadataError::Damaged));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However much there is to say, it fits, and what is left out is left out on the safe side.
    #[test]
    fn it_always_fits(
        base in prop_oneof![Just(0i64), 0..1i64 << 40, Just(i64::MAX - 200_000)],
        pieces in prop::collection::vec((1i64..20, 1i64..20, 1i64..9), 1..1200),
        farewell in prop_oneof![Just(Farewell::No), Just(Farewell::RunsOn), Just(Farewell::AllEnded)],
    ) {
        let mut tracker = OffsetTracker::new();
        let mut at = base;
        let mut started = BTreeSet::new();
        let mut open = BTreeSet::new();
        for (open_for, done_for, jump) in pieces {
            for offset in at..at + open_for + done_for {
                prop_assert_eq!(tracker.deliver(offset), Delivery::New);
                tracker.start(offset);
                if offset < at + open_for {
                    open.insert(offset);
                    started.insert(offset);
                } else {
                    tracker.complete(offset);
                }
            }
            at += open_for + done_for + jump;
        }
        let snapshot = tracker.snapshot(u64::MAX, farewell).unwrap();
        prop_assert!(snapshot.metadata.len() <= BUDGET, "{}", snapshot.metadata.len());
        prop_assert!(snapshot.metadata.is_ascii());
        let mut next = OffsetTracker::new();
        next.restore(snapshot.offset, &snapshot.metadata, None).unwrap();
        prop_assert!(started.iter().all(|offset| next.begun_before(*offset)));
        prop_assert!(open.iter().all(|offset| next.deliver(*offset) == Delivery::New));
    }
}
