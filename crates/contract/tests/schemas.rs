//! Holds the Rust types and `schemas/*.avsc` together: whatever the types can say, the schemas can carry.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Schema, from_value, to_value};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_contract::schema::{self, MessageSchema};
use tidegate_contract::*;

fn parse(schema: MessageSchema) -> Schema {
    Schema::parse_str(schema.text).expect("the compiled-in schema parses")
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    schema: MessageSchema,
    message: &T,
) {
    let schema = parse(schema);
    let datum = GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_ser_to_vec(message)
        .unwrap();
    assert_eq!(&read::<T>(&schema, &schema, &datum), message);
}

fn read<T: DeserializeOwned>(writer: &Schema, reader: &Schema, datum: &[u8]) -> T {
    let reading = GenericDatumReader::builder(writer)
        .reader_schema(reader)
        .build()
        .unwrap();
    from_value(&reading.read_value(&mut &datum[..]).unwrap()).unwrap()
}

fn job() -> JobMessage {
    JobMessage {
        job_id: JobId::generate(),
        job_type: "process-report".parse().unwrap(),
        pool: "gpu".parse().unwrap(),
        tier: Tier::Low,
        tenant: "acme".parse().unwrap(),
        attempt: 2,
        created_at: 1_738_315_800_123,
        deadline: 1_738_319_400_123,
        reply_partition: 63,
        request: RequestInfo {
            method: "POST".into(),
            path: "/process-report".into(),
            path_params: BTreeMap::from([("id".into(), "7".into())]),
            query: vec![Pair::new("a", "1"), Pair::new("a", "2")],
            headers: vec![Pair::new("accept", "text/csv")],
        },
        content_type: Some("application/json".into()),
        body: Bytes::from_static(b"{\"a\":1}\x00\xff"),
        serial_key: Some("shop-7".into()),
        not_before: Some(1_738_315_900_000),
        retry_of: Some(JobId::generate()),
        redrives: 2,
        follow_ups: vec![FollowUpSpec::new(
            FollowUpKind::Callback,
            "https://a.example/hook".into(),
            EventFilter::default(),
        )],
    }
}

fn event(kind: EventKind) -> JobEvent {
    JobEvent {
        job_id: JobId::generate(),
        kind,
        at: 1,
        attempt: 1,
        job: JobSummary::of(&job(), Some("0af7651916cd43dd8448eb211c80319c".into())),
        source: "worker-1".into(),
        outcome: None,
        error: None,
        progress: None,
        timings: None,
        next_attempt_at: None,
        dead_letter: None,
    }
}

#[test]
fn jobs_fit_their_schema() {
    round_trip(schema::JOB, &job());
    for tier in Tier::ALL {
        let bare = JobMessage {
            tier,
            content_type: None,
            body: Bytes::new(),
            request: RequestInfo::default(),
            follow_ups: Vec::new(),
            ..job()
        };
        round_trip(schema::JOB, &bare);
    }
}

#[test]
fn events_of_every_kind_fit_their_schema() {
    for kind in EventKind::ALL {
        round_trip(schema::EVENT, &event(kind));
    }
    for source in [
        FaultSource::Client,
        FaultSource::Gateway,
        FaultSource::Broker,
        FaultSource::Store,
        FaultSource::Worker,
        FaultSource::Job,
    ] {
        let full = JobEvent {
            outcome: Some(Outcome {
                status: 200,
                content_type: Some("text/csv".into()),
                headers: vec![Pair::new("x-rows", "12")],
                body: Bytes::from_static(b"a,b\n"),
            }),
            error: Some(JobError {
                code: "timeout".into(),
                message: "attempt ran longer than 60 s".into(),
                source,
                retryable: true,
                retry_after_ms: Some(500),
                details: Some("{}".into()),
                attempts: Some(3),
            }),
            progress: Some(Progress {
                percent: 12.5,
                message: Some("reading".into()),
                partial: Some(Bytes::from_static(b"[1]")),
            }),
            timings: Some(Timings {
                queue_us: 5,
                handler_us: 7,
            }),
            next_attempt_at: Some(9),
            dead_letter: Some(DeadLetterPlace {
                partition: 3,
                offset: 99,
            }),
            ..event(EventKind::Failed)
        };
        round_trip(schema::EVENT, &full);
    }
}

#[test]
fn dead_letters_fit_their_schema() {
    let letter = DeadLetter {
        job_id: Some(JobId::generate()),
        reason: "unreadable-record".into(),
        message: "no magic byte".into(),
        at: 5,
        source: "worker-1".into(),
        topic: "tidegate.jobs.normal".into(),
        partition: 3,
        offset: 99,
        attempt: 0,
        key: Some(Bytes::from_static(b"k")),
        headers: vec![Pair::new("job-id", "?")],
        value: Some(Bytes::from_static(&[1, 2, 3])),
        job_type: Some("process-report".into()),
        tenant: Some("acme".into()),
        attempts: 3,
        redrives: 1,
        first_error: Some("timeout: too long".into()),
        last_error: Some(JobError {
            code: "timeout".into(),
            message: "too long".into(),
            source: FaultSource::Job,
            retryable: true,
            retry_after_ms: None,
            details: None,
            attempts: Some(3),
        }),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
    };
    round_trip(schema::DEAD_LETTER, &letter);
    round_trip(
        schema::DEAD_LETTER,
        &DeadLetter {
            job_id: None,
            key: None,
            value: None,
            last_error: None,
            ..letter
        },
    );
}

/// Every enum of the contract has the symbols of its Avro twin, in the same order.
#[test]
fn symbols_agree() {
    let text = schema::EVENT.text;
    let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(symbols(text, "EventKind"), kinds);
    let tiers: Vec<_> = Tier::ALL.iter().map(|tier| tier.as_str()).collect();
    assert_eq!(symbols(text, "Tier"), tiers);
    assert_eq!(symbols(schema::JOB.text, "Tier"), tiers);
}

fn symbols(schema: &str, name: &str) -> Vec<String> {
    fn find<'a>(node: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
        match node {
            serde_json::Value::Object(map)
                if map.get("name").is_some_and(|n| n == name) && map.contains_key("symbols") =>
            {
                map.get("symbols")
            }
            serde_json::Value::Object(map) => map.values().find_map(|value| find(value, name)),
            serde_json::Value::Array(items) => items.iter().find_map(|value| find(value, name)),
            _ => None,
        }
    }
    let node = serde_json::from_str(schema).unwrap();
    serde_json::from_value(find(&node, name).unwrap().clone()).unwrap()
}

/// An older reader passes over a kind that a newer writer knows.
#[test]
fn a_newer_kind_reads_as_unknown() {
    let newer = schema::EVENT
        .text
        .replace("\"dead_lettered\"", "\"dead_lettered\",\n \"teleported\"");
    let writer = Schema::parse_str(&newer).unwrap();
    let reader = parse(schema::EVENT);
    let mut value = to_value(event(EventKind::DeadLettered))
        .unwrap()
        .resolve(&writer)
        .unwrap();
    let apache_avro::types::Value::Record(fields) = &mut value else {
        panic!("a record")
    };
    let kind = fields.iter_mut().find(|(name, _)| name == "kind").unwrap();
    kind.1 = apache_avro::types::Value::Enum(11, "teleported".into());
    let writing = GenericDatumWriter::builder(&writer).build().unwrap();
    let datum = writing.write_value_to_vec(value).unwrap();
    assert_eq!(
        read::<JobEvent>(&writer, &reader, &datum).kind,
        EventKind::Unknown
    );
}

fn compatible(old: &str, new: &str) -> bool {
    let (old, new) = (
        Schema::parse_str(old).unwrap(),
        Schema::parse_str(new).unwrap(),
    );
    SchemaCompatibility::mutual_read(&old, &new).is_ok()
}

/// Whoever has the schemas of an earlier version reads what we write, and the other way round.
#[test]
fn earlier_versions_stay_readable_both_ways() {
    let earlier = [
        include_str!("schemas-0.1/job.avsc"),
        include_str!("schemas-0.1/job-event.avsc"),
        include_str!("schemas-0.1/dead-letter.avsc"),
    ];
    for (message, earlier) in schema::ALL.into_iter().zip(earlier) {
        assert!(compatible(earlier, message.text), "{}", message.subject);
        assert_ne!(earlier, message.text);
    }
    // Not only by the rules: a job of before is read, with the defaults of what it does not say.
    let (old, new) = (Schema::parse_str(earlier[0]).unwrap(), parse(schema::JOB));
    let mut value = to_value(job()).unwrap();
    let apache_avro::types::Value::Record(fields) = &mut value else {
        panic!("a record")
    };
    let added = ["serialKey", "notBefore", "retryOf", "redrives", "followUps"];
    fields.retain(|(name, _)| !added.contains(&name.as_str()));
    let writing = GenericDatumWriter::builder(&old).build().unwrap();
    let datum = writing
        .write_value_to_vec(value.resolve(&old).unwrap())
        .unwrap();
    let read = read::<JobMessage>(&old, &new, &datum);
    assert_eq!((read.attempt, read.redrives, read.retry_of), (2, 0, None));
    assert_eq!(read.follow_ups, []);
}

/// The check that guards releases refuses what it should: a required field more, a field less, a type changed.
#[test]
fn the_compatibility_check_refuses_a_break() {
    for MessageSchema { text, .. } in schema::ALL {
        assert!(compatible(text, text));
    }
    let text = schema::JOB.text;
    let added = text.replacen(
        "\"fields\": [",
        "\"fields\": [{\"name\": \"must\", \"type\": \"string\"},",
        1,
    );
    assert!(
        !compatible(text, &added),
        "a field without a default cannot be read from old records"
    );
    let optional = text.replacen(
        "\"fields\": [",
        "\"fields\": [{\"name\": \"may\", \"type\": \"string\", \"default\": \"\"},",
        1,
    );
    assert!(compatible(text, &optional));
    let changed = text.replacen(
        "\"name\": \"body\",\n      \"type\": \"bytes\"",
        "\"name\": \"body\",\n      \"type\": \"int\"",
        1,
    );
    assert_ne!(changed, text);
    assert!(!compatible(text, &changed));
}
