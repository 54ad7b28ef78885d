use std::time::Duration;

use tidegate_contract::tracker::poison::Care;

use super::*;
use crate::testing::lane;

fn place(read: Read) -> Place {
    match read {
        Read::New(place) => place,
        Read::Done => panic!("it is done"),
        Read::Repeat => panic!("it was read before"),
    }
}

fn assign(lane: &Lane, partition: i32, committed: Option<&Position>) -> Restored {
    let committed = committed.map(|position| Committed {
        offset: position.offset,
        metadata: Some(position.metadata.clone()),
    });
    let epoch = lane.assign(&[partition])[0];
    let restored = lane.restore(epoch, committed.as_ref(), None);
    restored.unwrap().unwrap()
}

/// What is to be committed, answered at once.
fn commit(lane: &Lane, all: bool) -> Vec<(i32, i64)> {
    let positions = lane.to_commit(all);
    lane.committed(&positions, true);
    offsets(&positions)
}

fn offsets(positions: &[Position]) -> Vec<(i32, i64)> {
    positions.iter().map(|p| (p.partition, p.offset)).collect()
}

#[test]
fn what_belongs_to_an_earlier_assignment_completes_nothing() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    assign(&lane, 1, None);
    let first = place(lane.deliver(0, 5, Some(70)));
    assert!(matches!(lane.deliver(0, 5, Some(70)), Read::Repeat));
    assert!(!first.start());
    first.begin().unwrap();
    assert_eq!(offsets(&lane.offsets_to_commit(&[0])), [(0, 5)]);
    assert!(!first.is_current());
    assert_eq!(first.begin(), Err(Gone));
    assert_eq!(first.care(), Err(Gone));
    assert_eq!(commit(&lane, true), []);

    assign(&lane, 0, None);
    let again = place(lane.deliver(0, 5, None));
    assert!(again.start(), "this worker knows that it is a repeat");
    first.complete();
    assert_eq!(commit(&lane, false), [(0, 5)], "only the new one counts");
    again.complete();
    assert_eq!(commit(&lane, false), [(0, 6)]);
    assert_eq!(commit(&lane, false), []);
    assert_eq!(commit(&lane, true), [(0, 6)]);
}

#[test]
fn what_was_begun_or_done_here_is_remembered_over_assignments_whose_commits_were_lost() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    let places: Vec<_> = (5..8)
        .map(|offset| place(lane.deliver(0, offset, None)))
        .collect();
    places[2].begin().unwrap();
    places[0].complete();
    assert!(!places[1].start(), "after a later one, but not again");
    for _ in 0..2 {
        lane.offsets_to_commit(&[0]);
        assign(&lane, 0, None);
    }
    let repeats = (5..8).map(|offset| place(lane.deliver(0, offset, None)).start());
    assert_eq!(repeats.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn the_lowest_unfinished_record_holds_the_commit_and_what_is_above_travels_along() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 3, None);
    let places: Vec<_> = (10..13)
        .map(|offset| place(lane.deliver(3, offset, Some(offset * 10))))
        .collect();
    places[0].begin().unwrap();
    assert_eq!(commit(&lane, false), [(3, 10)]);
    places[2].complete();
    places[1].complete();
    let sent = lane.to_commit(false);
    assert_eq!(offsets(&sent), [(3, 10)], "only its metadata has changed");
    assert_eq!(lane.oldest(), Some(100));
    places[0].complete();
    assert_eq!(lane.to_commit(false), [], "one is under way");
    lane.committed(&[], true);
    assert_eq!(lane.to_commit(false), [], "that was another one");
    lane.committed(&sent, false);
    assert_eq!(commit(&lane, false), [(3, 13)]);
    assert_eq!(lane.oldest(), None);

    let next = crate::testing::lane(8, 1 << 20);
    let restored = assign(&next, 3, Some(&sent[0]));
    assert!(restored.unclean);
    assert!(place(next.deliver(3, 10, None)).start(), "it was running");
    assert!(matches!(next.deliver(3, 11, None), Read::Done));
    assert!(matches!(next.deliver(3, 12, None), Read::Done));
    assert!(!place(next.deliver(3, 13, None)).start());
}

#[test]
fn nothing_is_begun_unannounced_before_the_first_acknowledged_commit() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    let first = place(lane.deliver(0, 0, None));
    assert_eq!(first.care(), Ok(Care::Announce));
    commit(&lane, false);
    assert_eq!(first.care(), Ok(Care::None));
}

#[test]
fn nothing_is_committed_of_what_was_not_read_back() {
    let lane = lane(8, 1 << 20);
    lane.assign(&[0]);
    assert_eq!(lane.held_back(), BTreeSet::from([0]));
    assert_eq!(lane.to_commit(true), []);
    assert_eq!(lane.offsets_to_commit(&[0]), []);
    assert_eq!(lane.restore((0, 1), None, None), None, "it has gone");
}

#[tokio::test]
async fn an_announcement_waits_for_the_answer_and_ends_with_the_assignment() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    let first = place(lane.deliver(0, 0, None));
    let before = lane.to_commit(false);
    first.begin().unwrap();
    let announced = tokio::spawn(async move { first.announced().await });
    lane.commit_wanted.notified().await;
    assert_eq!(lane.to_commit(false), [], "one is under way");
    lane.committed(&before, true);
    lane.commit_wanted.notified().await;
    assert!(!announced.is_finished());
    assert_eq!(commit(&lane, false), [(0, 0)]);
    assert_eq!(announced.await.unwrap(), Ok(()));

    let second = place(lane.deliver(0, 1, None));
    let announced = tokio::spawn(async move { second.announced().await });
    lane.commit_wanted.notified().await;
    lane.revoke(&[0]);
    assert_eq!(announced.await.unwrap(), Err(Gone));
}

#[test]
fn a_partition_whose_commit_is_nearly_full_is_held_back_until_it_is_not() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    let places: Vec<_> = (0..30_000)
        .map(|offset| place(lane.deliver(0, offset, None)))
        .collect();
    // Neither in runs nor evenly.
    for (at, place) in places.iter().enumerate() {
        if (at * at / 7) % 3 > 0 {
            place.complete();
        }
    }
    commit(&lane, false);
    assert_eq!(lane.held_back(), BTreeSet::from([0]));
    for place in &places {
        place.complete();
    }
    commit(&lane, false);
    assert_eq!(lane.held_back(), BTreeSet::new());
}

#[tokio::test]
async fn a_commit_is_asked_for_before_its_reserve_is_used_up() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    place(lane.deliver(0, 0, None));
    commit(&lane, false);
    for offset in 1..RESERVE / 2 {
        place(lane.deliver(0, offset, None));
    }
    let nothing = tokio::time::timeout(Duration::ZERO, lane.commit_wanted.notified()).await;
    assert!(nothing.is_err(), "half of it is there");
    for offset in RESERVE / 2..=RESERVE / 2 + 1 {
        place(lane.deliver(0, offset, None));
    }
    lane.commit_wanted.notified().await;
}

#[tokio::test]
async fn a_commit_is_asked_for_when_many_records_are_done() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    let wanted = || tokio::time::timeout(Duration::ZERO, lane.commit_wanted.notified());
    let complete = |range: std::ops::Range<i64>| {
        range.for_each(|offset| place(lane.deliver(0, offset, None)).complete());
    };
    let many = COMMIT_AFTER as i64;
    complete(0..many - 1);
    assert!(wanted().await.is_err());
    complete(many - 1..many);
    assert!(wanted().await.is_ok());
    let under_way = lane.to_commit(false);
    complete(many..3 * many);
    assert!(wanted().await.is_ok());
    assert_eq!(lane.to_commit(false), [], "one is under way");
    lane.committed(&under_way, true);
    assert!(wanted().await.is_ok(), "the next follows at once");
    assert_eq!(offsets(&lane.to_commit(false)), [(0, 3 * many)]);
}

#[test]
fn a_partition_is_certainly_ours_for_a_while_after_a_commit_was_taken() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    let hour = Duration::from_secs(3600);
    let first = place(lane.deliver(0, 5, None));
    assert!(!first.was_ours(hour));
    let positions = lane.to_commit(false);
    lane.committed(&positions, false);
    assert!(!first.was_ours(hour), "it was refused");
    commit(&lane, false);
    assert!(first.was_ours(hour) && !first.was_ours(Duration::ZERO));
    lane.offsets_to_commit(&[0]);
    assert!(!first.was_ours(hour));
}

#[test]
fn what_runs_when_a_partition_is_given_up_is_named_until_it_ends() {
    let lane = lane(8, 1 << 20);
    assign(&lane, 0, None);
    let places: Vec<_> = (5..8)
        .map(|offset| place(lane.deliver(0, offset, None)))
        .collect();
    places[0].begin().unwrap();
    places[1].begin().unwrap();
    let said = lane.offsets_to_commit(&[0]);
    let at = ("t".to_owned(), 0);
    let beat = || {
        let beat = lane.given.beat(Duration::from_secs(1), Instant::now());
        let beat = beat.unwrap();
        let counts = [beat.running.get(&at), beat.done.get(&at)];
        counts.map(|offsets| offsets.map_or(0, |offsets| offsets.count()))
    };
    assert_eq!(beat(), [2, 0]);

    // The next owner, which happens to be this process again, leaves those alone.
    assign(&lane, 0, said.first());
    let again: Vec<_> = (5..8)
        .map(|offset| place(lane.deliver(0, offset, None)))
        .collect();
    let away = || {
        again
            .iter()
            .map(Place::may_run_elsewhere)
            .collect::<Vec<_>>()
    };
    assert_eq!(away(), [true, true, false]);
    places[0].complete();
    places[1].let_go();
    assert_eq!(beat(), [0, 1]);
    again[1].begin().unwrap();
    assert_eq!(away(), [true, false, false]);

    // A stop in order says that nothing runs, if that is so wherever the partition has been.
    let last = lane.farewell();
    assert_eq!(lane.offsets_to_commit(&[0]), last);
    assign(&lane, 0, last.first());
    let last: Vec<_> = (5..7)
        .map(|offset| place(lane.deliver(0, offset, None)))
        .collect();
    assert!(last[0].may_run_elsewhere());
    last[0].complete();
    last[1].begin().unwrap();
    let last = lane.farewell();
    lane.revoke(&[0]);
    assign(&lane, 0, last.first());
    let cut_off = place(lane.deliver(0, 6, None));
    assert!(cut_off.start() && !cut_off.may_run_elsewhere());
}
