//! Rows from inserts and events.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_contract::{EventKind, JobId, Outcome, Pair, Progress, Status, Timings, Transition};

use super::Subject;
use super::samples::{CREATED, event, expected_row, new_job, project, row};
use crate::inserter::Inserter;
use crate::merge::{fold, pending};
use crate::types::{JobRow, Lookup, NewJob};

pub async fn inserted_jobs_are_read_back(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let jobs: Vec<NewJob> = (0..300).map(|_| new_job()).collect();
    let twice: Vec<NewJob> = jobs.iter().chain(&jobs[..7]).cloned().collect();
    a.insert(&twice).await.unwrap();
    b.insert(&jobs[..150]).await.unwrap();
    a.insert(&[]).await.unwrap();
    for job in &jobs {
        assert_eq!(row(&*b, job.id).await, pending(job));
    }
    assert_eq!(a.job(JobId::generate()).await, Ok(Lookup::Absent));
}

pub async fn events_may_come_before_the_insert(subject: Subject) {
    let Subject { a, b, .. } = subject;
    // The insert only adds what the event did not know.
    let late = new_job();
    let mut started = event(late.id, EventKind::Started, 1, CREATED + 5);
    started.job.trace_id = None;
    project(&*a, 3, vec![started.clone()]).await;
    assert_eq!(row(&*a, late.id).await.summary.trace_id, None);
    b.insert(std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(row(&*a, late.id).await, expected_row(&late, &[started]));

    // An ended job is told nothing.
    let ended = new_job();
    let mut end = event(ended.id, EventKind::Failed, 2, CREATED + 9);
    end.job.trace_id = None;
    project(&*a, 3, vec![end.clone()]).await;
    b.insert(std::slice::from_ref(&ended)).await.unwrap();
    let only = fold(None, 3, [&end]).row.unwrap();
    assert_eq!(row(&*b, ended.id).await, only);
    assert_eq!(only.summary.trace_id, None);

    // And the other way round.
    let mut early = new_job();
    early.summary.trace_id = None;
    a.insert(std::slice::from_ref(&early)).await.unwrap();
    let accepted = event(early.id, EventKind::Accepted, 0, CREATED + 1);
    project(&*b, 3, vec![accepted]).await;
    let found = row(&*a, early.id).await;
    assert_eq!(found.summary.trace_id, super::summary().trace_id);
    assert_eq!(
        (found.status, found.updated_at),
        (Status::Pending, CREATED + 1)
    );
}

pub async fn every_status_and_event_agree_with_the_contract(subject: Subject) {
    let store = subject.a;
    for before in EventKind::ALL {
        for kind in EventKind::ALL {
            let job = new_job();
            let first = event(job.id, before, 1, CREATED + 1);
            let applied = project(&*store, 3, vec![first]).await;
            let status = match Status::Pending.on(before) {
                Transition::Skip => {
                    assert_eq!(
                        (applied.skipped, store.job(job.id).await),
                        (1, Ok(Lookup::Absent))
                    );
                    continue;
                }
                Transition::Merge => Status::Pending,
                Transition::To(status) => status,
                Transition::Late => unreachable!("nothing is late for a new job"),
            };
            assert_eq!(row(&*store, job.id).await.status, status);

            let applied = project(&*store, 3, vec![event(job.id, kind, 1, CREATED + 2)]).await;
            let (after, late, skipped) = match status.on(kind) {
                Transition::To(after) => (after, 0, 0),
                Transition::Merge => (status, 0, 0),
                Transition::Late => (status, 1, 0),
                Transition::Skip => (status, 0, 1),
            };
            let found = row(&*store, job.id).await;
            assert_eq!(found.status, after, "{status} on {kind:?}");
            assert_eq!(found.ended_at.is_some(), after.is_terminal());
            assert_eq!(
                (applied.late, applied.skipped),
                (late, skipped),
                "{status} on {kind:?}"
            );
        }
    }
}

pub async fn the_first_end_wins_and_later_events_are_counted(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let job = new_job();
    let kinds = [
        EventKind::Started,
        EventKind::Cancelled,
        EventKind::Completed,
        EventKind::Progress,
    ];
    let events: Vec<_> = (1..)
        .zip(kinds)
        .map(|(n, kind)| event(job.id, kind, 1, CREATED + n))
        .collect();
    assert_eq!(project(&*a, 3, events.clone()).await.late, 2);
    let ended = row(&*b, job.id).await;
    assert_eq!(ended, fold(None, 3, &events).row.unwrap());
    assert_eq!(
        (ended.status, ended.ended_at),
        (Status::Cancelled, Some(CREATED + 2))
    );

    // Neither later batches, nor another partition, nor an insert change anything.
    for kind in EventKind::ALL {
        let applied = project(&*b, 3, vec![event(job.id, kind, 9, CREATED + 99)]).await;
        assert_eq!(applied.late, u64::from(kind != EventKind::Unknown));
    }
    let stray = event(job.id, EventKind::Failed, 9, CREATED + 99);
    assert_eq!(project(&*b, 4, vec![stray]).await.late, 1);
    a.insert(std::slice::from_ref(&job)).await.unwrap();
    assert_eq!(row(&*a, job.id).await, ended);
}

pub async fn large_and_hostile_values_come_back(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let text = "ünï\0cødé 🦀 '; DROP TABLE jobs; -- \\u0000 \u{202e}\r\n";
    let mut events = Vec::new();
    for (times, percent) in [(i64::MAX, f64::NAN), (i64::MIN, f64::INFINITY), (0, -0.0)] {
        let id = JobId::generate();
        let mut progress = event(id, EventKind::Progress, i32::MAX, times);
        progress.job.created_at = times;
        progress.job.deadline = times;
        progress.job.trace_id = Some(text.to_owned());
        progress.source = text.to_owned();
        progress.progress = Some(Progress {
            percent,
            message: Some(text.to_owned()),
            partial: Some(Bytes::from_static(b"\0\xff\0")),
        });
        let mut failed = event(id, EventKind::Failed, i32::MIN, times);
        failed.job = progress.job.clone();
        failed.outcome = Some(Outcome {
            status: i32::MAX,
            content_type: Some(text.to_owned()),
            headers: vec![Pair::new(text, text)],
            body: (0..2 << 20).map(|n| (n % 251) as u8).collect(),
        });
        let error = failed.error.as_mut().unwrap();
        error.message = text.repeat(1000);
        error.details = Some(text.to_owned());
        error.retry_after_ms = Some(times);
        failed.timings = Some(Timings {
            queue_us: times,
            handler_us: i64::MIN,
        });
        events.extend([progress, failed]);
    }
    let applied = project(&*a, 3, events.clone()).await;
    assert_eq!(applied.refused, []);
    for pair in events.chunks(2) {
        let found = row(&*b, pair[0].job_id).await;
        assert_eq!(found, fold(None, 3, pair).row.unwrap());
        let error = found.error.unwrap();
        assert_eq!(error.message, text.repeat(1000).replace('\0', "\u{fffd}"));
        assert_eq!(
            found.outcome.unwrap().body,
            pair[1].outcome.as_ref().unwrap().body
        );
        assert_eq!(found.progress.unwrap().partial.unwrap(), &b"\0\xff\0"[..]);
    }
    // The same in what an insert brings.
    let mut job = new_job();
    job.summary.trace_id = Some(text.to_owned());
    job.summary.deadline = i64::MAX;
    a.insert(std::slice::from_ref(&job)).await.unwrap();
    assert_eq!(row(&*b, job.id).await, pending(&job));
}

pub async fn many_rows_go_into_one_batch(subject: Subject) {
    let store = subject.a;
    let jobs: Vec<NewJob> = (0..1_300).map(|_| new_job()).collect();
    let mut events = Vec::new();
    for (at, job) in (CREATED..).zip(&jobs) {
        let mut end = event(job.id, EventKind::Completed, 1, at);
        if let Some(outcome) = &mut end.outcome {
            outcome.body = Bytes::from(vec![b'x'; 20_000]);
        }
        events.push(end);
    }
    let started = std::time::Instant::now();
    project(&*store, 3, events.clone()).await;
    println!("{} large rows in {:?}", events.len(), started.elapsed());
    for (job, end) in jobs.iter().zip(&events).step_by(97) {
        assert_eq!(
            row(&*store, job.id).await,
            expected_row(job, std::slice::from_ref(end))
        );
    }
}

pub async fn a_refused_row_holds_up_nobody(subject: Subject) {
    let Subject { a, fixture, .. } = subject;
    let breaking: &[&'static str] = match a.kind() {
        "sqlite" => &[
            "CREATE TRIGGER poison BEFORE INSERT ON jobs WHEN NEW.tenant = 'poison' \
                       BEGIN SELECT RAISE(ABORT, 'poison'); END",
        ],
        _ => &[
            "CREATE FUNCTION poison() RETURNS trigger AS $$ BEGIN RAISE 'poison'; END $$ LANGUAGE plpgsql",
            "CREATE TRIGGER poison BEFORE INSERT ON jobs FOR EACH ROW \
             WHEN (NEW.tenant = 'poison') EXECUTE FUNCTION poison()",
        ],
    };
    for sql in breaking {
        if !fixture.execute(sql).await {
            return;
        }
    }
    let jobs: Vec<NewJob> = (0..20).map(|_| new_job()).collect();
    let mut events = Vec::new();
    for (n, job) in jobs.iter().enumerate() {
        let mut end = event(job.id, EventKind::Completed, 1, CREATED + 1);
        if n % 7 == 3 {
            end.job.tenant = "poison".parse().unwrap();
        }
        events.push(end);
    }
    let applied = project(&*a, 3, events).await;
    let mut refused: Vec<_> = applied.refused.iter().map(|(id, _)| *id).collect();
    refused.sort_unstable();
    assert_eq!(refused, [jobs[3].id, jobs[10].id, jobs[17].id]);
    assert!(
        applied
            .refused
            .iter()
            .all(|(_, reason)| reason.contains("poison"))
    );
    for job in &jobs {
        let found = a.job(job.id).await.unwrap().row();
        assert_eq!(found.is_none(), refused.contains(&job.id));
    }
    assert_eq!(a.position(3).await.unwrap().unwrap().next_offset, 20);

    // An insert of such a row fails alone, too.
    let inserter = Inserter::spawn(Arc::clone(&a));
    let mut poison = new_job();
    poison.summary.tenant = "poison".parse().unwrap();
    let good = new_job();
    let (bad, fine) = tokio::join!(inserter.insert(poison), inserter.insert(good.clone()));
    assert!(!bad.unwrap_err().is_transient());
    fine.unwrap();
    assert_eq!(row(&*a, good.id).await, pending(&good));
}

pub async fn open_jobs_are_found_by_their_deadline(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let mut jobs: Vec<NewJob> = (0..9).map(|_| new_job()).collect();
    for (n, job) in (0..).zip(&mut jobs) {
        // Three at each time.
        job.summary.deadline = CREATED + 1_000 * (n / 3);
    }
    a.insert(&jobs).await.unwrap();
    let started = event(jobs[1].id, EventKind::Progress, 2, CREATED);
    let ended = event(jobs[4].id, EventKind::Completed, 1, CREATED);
    project(&*a, 3, vec![started, ended]).await;
    let mut expected: Vec<_> = jobs[..6]
        .iter()
        .filter(|job| job.id != jobs[4].id)
        .collect();
    expected.sort_by_key(|job| (job.summary.deadline, job.id));

    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = b.overdue(CREATED + 1_999, after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some((last.summary.deadline, last.id));
        found.extend(page);
    }
    let ids = |rows: &[JobRow]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(
        ids(&found),
        expected.iter().map(|job| job.id).collect::<Vec<_>>()
    );
    let mut row = row(&*a, jobs[1].id).await;
    row.progress = None;
    row.history.clear();
    assert!(
        found.contains(&row),
        "all but the progress and the history: {found:?}"
    );
    assert_eq!(b.overdue(CREATED - 1, None, 100).await, Ok(Vec::new()));
}

pub async fn the_inserter_joins_callers(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let inserter = Inserter::spawn(a);
    let started = std::time::Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let inserter = inserter.clone();
        callers.spawn(async move {
            let job = new_job();
            inserter.insert(job.clone()).await.unwrap();
            job
        });
    }
    let jobs = callers.join_all().await;
    println!(
        "2000 inserts by callers of their own in {:?}",
        started.elapsed()
    );
    for job in jobs.iter().step_by(101) {
        assert_eq!(row(&*b, job.id).await, pending(job));
    }
}
