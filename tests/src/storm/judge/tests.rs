//! Made-up storms: a good one, and one for each thing that can be wrong.

use super::super::facts::{End, Incident, Message, SaidEnd};
use super::*;

fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(7, number)
}

fn told(number: u64, said: Said) -> Told {
    Told {
        number,
        kind: Kind::Quick,
        tier: Tier::Normal,
        asked_at: 1_000,
        said,
        jobs: vec![id(number)],
        foreign: Vec::new(),
        ends: Vec::new(),
        serial_key: None,
        callback: false,
    }
}

fn run(number: u64, attempt: i32, worker: &str, start: Millis, end: Millis) -> Run {
    Run {
        job: id(number),
        attempt,
        worker: worker.to_owned(),
        start,
        end: Some(end),
    }
}

fn incident(who: &str, what: &'static str, from: Millis, until: Millis) -> Incident {
    Incident {
        who: who.to_owned(),
        what,
        from,
        until,
    }
}

/// Jobs 1 to 4: accepted, answered, refused, unknown but ended.
fn good() -> Facts {
    let mut facts = Facts {
        told: vec![
            told(1, Said::Accepted),
            told(2, Said::Ended(SaidEnd::Completed)),
            told(3, Said::Refused),
            told(4, Said::Unknown),
        ],
        ..Facts::default()
    };
    facts.told[1].ends = vec![Status::Completed];
    for number in [1, 2, 4] {
        end(&mut facts, number, Status::Completed);
        facts.runs.push(run(number, 1, "worker-1.1", 1_200, 1_300));
    }
    facts
}

fn end(facts: &mut Facts, number: u64, status: Status) {
    let (at, attempt) = (1_400, 1);
    facts.written.insert(id(number));
    facts.ends.insert(
        id(number),
        End {
            status,
            at,
            attempt,
        },
    );
    let ended_at = Some(at);
    facts.rows.insert(
        id(number),
        Row {
            status,
            ended_at,
            attempt,
        },
    );
}

fn faults(facts: &Facts) -> Vec<(Fault, Option<Uuid>)> {
    let violations = judge(facts).violations;
    violations.iter().map(|one| (one.fault, one.job)).collect()
}

#[test]
fn a_good_storm_is_counted_and_nothing_is_found() {
    let verdict = judge(&good());
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
    assert_eq!(
        (verdict.accepted, verdict.refused, verdict.unknown),
        (2, 1, 1)
    );
    assert_eq!(verdict.ended, BTreeMap::from([("completed", 3)]));
    let wait = |time, asked_after| BTreeMap::from([("normal", Wait { time, asked_after })]);
    assert_eq!(verdict.worst_wait, wait(200, 0));
    assert!(verdict.repeats.is_empty());
    let mut late = good();
    (late.told[1].asked_at, late.runs[1].start) = (1_050, 1_300);
    assert_eq!(judge(&late).worst_wait, wait(250, 50));
}

#[test]
fn an_accepted_job_without_an_end_is_lost() {
    let mut facts = good();
    facts.ends.remove(&id(1));
    facts.rows.remove(&id(1));
    assert_eq!(faults(&facts), [(Fault::Lost, Some(id(1)))]);
    // Answered, and then never seen again.
    let mut facts = good();
    facts.ends.remove(&id(2));
    facts.rows.remove(&id(2));
    facts.written.remove(&id(2));
    assert_eq!(faults(&facts), [(Fault::Lost, Some(id(2)))]);
    // In the log only: the projection has lost it.
    for row in [
        None,
        Some(Row {
            status: Status::Pending,
            ended_at: None,
            attempt: 0,
        }),
    ] {
        let mut facts = good();
        facts.rows.remove(&id(1));
        facts.rows.extend(row.map(|row| (id(1), row)));
        assert_eq!(faults(&facts), [(Fault::Lost, Some(id(1)))]);
    }
}

#[test]
fn what_nobody_was_promised_must_end_once_it_is_written() {
    let mut facts = good();
    facts.ends.remove(&id(4));
    facts.rows.remove(&id(4));
    assert_eq!(faults(&facts), [(Fault::Stuck, Some(id(4)))]);
    facts.written.remove(&id(4));
    assert!(faults(&facts).is_empty(), "it was never written");
    facts.rows.insert(
        id(9),
        Row {
            status: Status::Processing,
            ended_at: None,
            attempt: 1,
        },
    );
    assert_eq!(faults(&facts), [(Fault::Stuck, Some(id(9)))]);
}

#[test]
fn an_answer_of_another_job_is_misrouted() {
    let mut facts = good();
    facts.told[1]
        .foreign
        .push("quick-7 in the answer to quick-2".to_owned());
    assert_eq!(faults(&facts), [(Fault::Misrouted, Some(id(2)))]);
}

#[test]
fn an_end_that_changes_is_found_by_client_store_and_log() {
    let mut facts = good();
    facts.told[0].ends = vec![Status::Expired, Status::Completed];
    assert_eq!(faults(&facts), [(Fault::Changed, Some(id(1)))]);
    let mut facts = good();
    facts.told[0].ends = vec![Status::Cancelled];
    assert_eq!(
        faults(&facts),
        [(Fault::Changed, Some(id(1)))],
        "the row says otherwise"
    );
    let mut facts = good();
    facts
        .changed
        .push((id(2), "completed to cancelled".to_owned()));
    assert_eq!(faults(&facts), [(Fault::Changed, Some(id(2)))]);
    for other in [
        End {
            status: Status::Cancelled,
            at: 1_400,
            attempt: 1,
        },
        End {
            status: Status::Completed,
            at: 1_399,
            attempt: 1,
        },
        // A row keeps the largest attempt that it has heard of.
        End {
            status: Status::Completed,
            at: 1_400,
            attempt: 2,
        },
    ] {
        let mut facts = good();
        facts.ends.insert(id(4), other);
        assert_eq!(faults(&facts), [(Fault::Changed, Some(id(4)))]);
    }
}

#[test]
fn one_key_is_one_job() {
    let mut facts = good();
    facts.told[0].jobs = vec![id(4), id(1)];
    assert_eq!(faults(&facts), [(Fault::Doubled, Some(id(1)))]);
    facts.told[0].jobs = vec![id(1), id(1)];
    assert!(faults(&facts).is_empty());
}

#[test]
fn positions_and_what_could_not_be_read_are_told() {
    let mut facts = good();
    facts.set_back.push("partition 3 from 20 to 10".to_owned());
    facts.behind.push("partition 4 at 5 of 6".to_owned());
    facts.unread.push("topic replies".to_owned());
    let found: Vec<_> = faults(&facts).into_iter().map(|(fault, _)| fault).collect();
    assert_eq!(found, [Fault::Position, Fault::Position, Fault::Unread]);
}

#[test]
fn repeats_are_counted_with_their_reasons() {
    let mut facts = good();
    facts.runs = vec![
        run(1, 1, "worker-1.1", 1_000, 3_000),
        run(1, 1, "worker-2.1", 2_500, 4_500),
        // Another attempt is no repeat.
        run(1, 2, "worker-2.1", 60_000, 60_100),
        run(2, 1, "worker-3.1", 200_000, 201_000),
        run(2, 1, "worker-2.1", 205_000, 206_000),
        run(4, 1, "worker-2.1", 300_000, 301_000),
        run(4, 1, "worker-2.1", 302_000, 303_000),
    ];
    facts.incidents = vec![
        incident("worker-1.1", "was killed", 2_000, 2_000),
        incident("worker-9.1", "came", 199_000, 199_000),
        incident("broker-1", "away", 299_000, 299_500),
    ];
    let mut verdict = judge(&facts);
    let counts = BTreeMap::from([
        ("its worker was killed".to_owned(), 1),
        ("another worker came or went".to_owned(), 1),
        ("a broker was away".to_owned(), 1),
    ]);
    assert_eq!(verdict.repeats, counts);
    facts.incidents.clear();
    verdict = judge(&facts);
    assert_eq!(
        verdict.repeats,
        BTreeMap::from([("unexplained".to_owned(), 3)])
    );
    assert_eq!(verdict.unexplained.len(), 3);
    facts.incidents = vec![incident("worker-9.1", "came", 180_000, 180_500)];
    let told = &judge(&facts).unexplained[1];
    let parts = [
        "at worker-3.1 it ran for 1.0 s",
        "at worker-2.1 again 5.0 s after it had begun",
        "worker-9.1 came 24.5 s before that",
    ];
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    facts.copies.insert((id(2), 1), 2);
    let again = "its record was written again".to_owned();
    let counts = BTreeMap::from([(again, 1), ("unexplained".to_owned(), 2)]);
    assert_eq!(judge(&facts).repeats, counts);
}

#[test]
fn serial_jobs_run_in_order_and_one_at_a_time() {
    let facts = |runs: Vec<Run>| {
        let mut facts = Facts::default();
        for number in [1, 2] {
            let mut told = told(number, Said::Accepted);
            (told.kind, told.serial_key) = (Kind::Serial, Some(0));
            facts.told.push(told);
            end(&mut facts, number, Status::Completed);
        }
        facts.runs = runs;
        facts
    };
    let w = "worker-1.1";
    let fine = facts(vec![run(1, 1, w, 10, 20), run(2, 1, w, 20, 30)]);
    assert_eq!((judge(&fine).serial_jobs, faults(&fine)), (2, vec![]));
    let order = facts(vec![run(1, 1, w, 30, 40), run(2, 1, w, 10, 20)]);
    assert_eq!(faults(&order), [(Fault::Serial, Some(id(2)))]);
    let mut beside = facts(vec![run(1, 1, w, 10, 20), run(2, 1, "worker-2.1", 19, 30)]);
    assert_eq!(faults(&beside), [(Fault::Serial, Some(id(2)))]);
    beside.incidents.push(incident(w, "stood still", 5, 30));
    assert!(faults(&beside).is_empty());
    // Not over a short one in between.
    let long = facts(vec![
        run(1, 1, w, 10, 90),
        run(1, 1, w, 12, 20),
        run(2, 1, w, 30, 40),
    ]);
    assert_eq!(faults(&long), [(Fault::Serial, Some(id(2)))]);
}

/// Job 2 asked for a callback and got it.
fn called_back() -> Facts {
    let mut facts = good();
    facts.told[1].callback = true;
    facts.messages.push(Message {
        number: 2,
        id: "msg_2".to_owned(),
        signed: true,
        taken: true,
        job: Some(id(2)),
        status: Some(Status::Completed),
        nonce: Some("quick-2".to_owned()),
    });
    facts
}

#[test]
fn who_asked_for_a_callback_must_get_one_that_is_true() {
    let facts = called_back();
    let verdict = judge(&facts);
    assert_eq!(verdict.violations, []);
    assert_eq!(
        (verdict.callbacks.asked, verdict.callbacks.delivered),
        (1, 1)
    );
    let mut again = facts.clone();
    again.messages.push(facts.messages[0].clone());
    assert_eq!(judge(&again).callbacks.again, 1);

    let found = |change: fn(&mut Facts)| {
        let mut facts = called_back();
        change(&mut facts);
        let found = judge(&facts).violations;
        found.iter().map(|one| one.fault).collect::<Vec<_>>()
    };
    assert_eq!(found(|it| it.messages.clear()), [Fault::Untold]);
    assert_eq!(found(|it| it.messages[0].taken = false), [Fault::Untold]);
    let wrong: [fn(&mut Facts); 6] = [
        |it| it.messages[0].signed = false,
        |it| it.messages[0].status = Some(Status::Failed),
        |it| it.messages[0].nonce = Some("quick-1".to_owned()),
        |it| it.told[1].callback = false,
        |it| it.messages[0].number = 77,
        |it| it.messages[0].job = Some(id(4)),
    ];
    for change in wrong {
        let found = found(change);
        assert_eq!(found.first(), Some(&Fault::Callback), "{found:?}");
    }
}
