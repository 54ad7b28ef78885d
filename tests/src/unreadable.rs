//! Records that nobody can read, and what must become of them.

use std::collections::BTreeMap;

use tidegate_contract::{
    DeadLetter, EventKind, JobEvent, JobId, JobMessage, JobSummary, Outcome, RecordHeaders,
};

use crate::records::{dead_letters, texts};
use crate::{Client, Stack, kafka, secs, until};

/// Stands in every payload and may stand in no log.
pub const MARK: &[u8] = b"do-not-log-this";
/// No text, and nothing that a terminal or a log should be given.
pub const HOSTILE: &[u8] = b"\xff\xfe\x00\x1b[2J\r\n{}%s";

pub struct Bad {
    pub name: &'static str,
    pub key: Vec<u8>,
    pub headers: RecordHeaders,
    pub value: Vec<u8>,
    /// The job that ends by it.
    pub ends: Option<JobId>,
}

/// Values that no schema of ours explains, given one that is fine.
pub fn unreadable(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let frame = |id: u32, datum: &[u8]| [&[0], &id.to_be_bytes()[..], datum].concat();
    let ours = u32::from_be_bytes(good[1..5].try_into().unwrap());
    vec![
        ("not Avro", MARK.to_vec()),
        ("empty", Vec::new()),
        (
            "unknown schema id",
            frame(2_000_000_000, &[MARK, &good[5..]].concat()),
        ),
        ("cut off", good[..good.len() / 2].to_vec()),
        // The length of a text of two exabytes.
        (
            "boasting",
            frame(
                ours,
                &[
                    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f],
                    MARK,
                ]
                .concat(),
            ),
        ),
    ]
}

pub fn completed(job: &JobMessage) -> JobEvent {
    JobEvent {
        job_id: job.job_id,
        kind: EventKind::Completed,
        at: job.created_at,
        attempt: 1,
        job: JobSummary::of(job, None),
        source: "tests".to_owned(),
        outcome: Some(Outcome {
            status: 200,
            content_type: None,
            headers: Vec::new(),
            body: MARK.into(),
        }),
        error: None,
        progress: None,
        timings: None,
        next_attempt_at: None,
        dead_letter: None,
    }
}

/// Writes them all to one partition each in turn, and gives where each lies.
pub async fn write(stack: &Stack, topic: &str, partitions: &[i32], bad: &[Bad]) -> Vec<(i32, i64)> {
    let mut places = Vec::new();
    for (record, partition) in bad.iter().zip(partitions.iter().cycle()) {
        let headers = texts(&record.headers);
        let kafka = &stack.servers.kafka;
        places.push(
            kafka::write(
                kafka,
                topic,
                Some(*partition),
                &record.key,
                &headers,
                &record.value,
            )
            .await,
        );
    }
    places
}

/// Each is among the dead letters once, whole.
pub async fn assert_kept(stack: &Stack, topic: &str, bad: &[Bad], places: &[(i32, i64)]) {
    let letters = until("every record is a dead letter", secs(30), || async {
        let letters = dead_letters(stack).await;
        (letters.len() >= bad.len()).then_some(letters)
    })
    .await;
    assert_eq!(letters.len(), bad.len(), "no record twice");
    let by_place: BTreeMap<_, &DeadLetter> = letters
        .iter()
        .map(|l| ((l.partition, l.offset), l))
        .collect();
    for (record, place) in bad.iter().zip(places) {
        let letter = by_place[place];
        let name = record.name;
        assert_eq!(
            (letter.reason.as_str(), letter.topic.as_str()),
            ("unreadable-record", topic),
            "{name}"
        );
        assert_eq!(
            letter.value.as_deref().unwrap_or_default(),
            record.value,
            "{name}"
        );
        assert_eq!(letter.key.as_deref(), Some(&record.key[..]), "{name}");
        let kept: Vec<_> = letter
            .headers
            .iter()
            .map(|p| (p.name.as_str(), p.value.as_str()))
            .collect();
        assert_eq!(kept, texts(&record.headers), "{name}");
        println!("{name}: {}", letter.message);
    }
}

pub async fn assert_failed(client: &Client, id: JobId, name: &str) {
    let ended = client
        .until_status(&id.to_string(), &["failed"], secs(10))
        .await;
    assert_eq!(
        ended["error"]["code"], "unreadable-record",
        "{name}: {ended}"
    );
}

/// As many waits as there are partitions to hit, and more.
pub async fn assert_goes_on(client: &Client) {
    for number in 0..16 {
        let answer = client
            .wait("echo", number.to_string(), 20)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.text().await.unwrap(), number.to_string());
    }
}

/// How many lines say that a record is set aside, and that none of them holds what it held.
pub fn told(log: &str, sentence: &str) -> usize {
    assert!(
        !log.contains(std::str::from_utf8(MARK).unwrap()),
        "a payload in the log:\n{log}"
    );
    assert!(
        !log.contains("\u{1b}[2J"),
        "a hostile byte in the log:\n{log}"
    );
    log.lines().filter(|line| line.contains(sentence)).count()
}
