//! What the codec owes, on whatever registry. Called by `codec_embedded.rs` and `codec_registry.rs`.

use std::time::{Duration, Instant};

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use reqwest::Url;
use serde_json::{Value, json};
use tidegate_contract::schema::{self, MessageSchema};
use tidegate_contract::*;
use tidegate_kafka::{
    Codec, CodecError, DecodeError, RegistryError, RegistrySettings, check_schemas,
    register_schemas,
};

use super::proxy::Proxy;

/// A registry behind a proxy.
struct Registry {
    proxy: Proxy,
    settings: RegistrySettings,
    /// Past the proxy.
    direct: String,
}

impl Registry {
    async fn behind_proxy(url: &str) -> Self {
        let mut url = Url::parse(url).unwrap();
        let direct = url.to_string().trim_end_matches('/').to_owned();
        let target = format!("{}:{}", url.host().unwrap(), url.port().unwrap());
        let proxy = Proxy::start(target).await;
        url.set_port(Some(proxy.addr.port())).unwrap();
        let settings = RegistrySettings {
            url: url.to_string(),
            timeout: Duration::from_millis(1500),
            ..Default::default()
        };
        Self {
            proxy,
            settings,
            direct,
        }
    }

    /// Registers something else under a subject of this test alone.
    async fn register(&self, text: &str) -> (u16, Value) {
        let subject = format!("test.{}", JobId::generate());
        self.post(&format!("subjects/{subject}/versions"), text)
            .await
    }

    async fn post(&self, path: &str, text: &str) -> (u16, Value) {
        let answer = reqwest::Client::new()
            .post(format!("{}/{path}", self.direct))
            .header("content-type", "application/json")
            .body(json!({ "schema": text }).to_string())
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

/// Everything, in the order in which one registry can show it.
pub async fn run(url: &str, fresh: bool) {
    let registry = Registry::behind_proxy(url).await;
    cold_start(&registry).await;
    if fresh {
        look_up_registers_nothing(&registry).await;
    }
    registering(&registry).await;
    breaking_schema(&registry).await;
    let codec = Codec::new(&registry.settings);
    codec.warm_up().await.unwrap();
    round_trips(&codec).await;
    malformed(&codec).await;
    unknown_id(&codec).await;
    newer_writer(&registry, &codec).await;
    away_after_warm_up(&registry, &codec).await;
    away_for_a_new_id(&registry, &codec).await;
}

pub fn job() -> JobMessage {
    JobMessage {
        job_id: JobId::generate(),
        job_type: "process-report".parse().unwrap(),
        pool: Pool::default(),
        tier: Tier::Low,
        tenant: Tenant::default(),
        attempt: 1,
        created_at: 1_738_315_800_123,
        deadline: 1_738_319_400_123,
        reply_partition: 63,
        request: RequestInfo {
            method: "POST".into(),
            path: "/process-report".into(),
            path_params: [("id".to_owned(), "7".to_owned())].into(),
            query: vec![Pair::new("a", "1"), Pair::new("a", "2")],
            headers: vec![Pair::new("accept", "text/csv")],
        },
        content_type: Some("application/json".into()),
        body: Bytes::from_static(b"{\"a\":1}\x00\xff"),
        serial_key: None,
        not_before: None,
        retry_of: None,
        redrives: 0,
        follow_ups: vec![FollowUpSpec::new(
            FollowUpKind::Callback,
            "https://a.example/hook".into(),
            EventFilter::default(),
        )],
    }
}

pub fn event() -> JobEvent {
    JobEvent {
        job_id: JobId::generate(),
        kind: EventKind::Completed,
        at: 1,
        attempt: 1,
        job: JobSummary::of(&job(), Some("0af7651916cd43dd8448eb211c80319c".into())),
        source: "worker-1".into(),
        outcome: Some(Outcome {
            status: 200,
            content_type: Some("text/csv".into()),
            headers: vec![Pair::new("x-rows", "12")],
            body: Bytes::from(vec![7; 70_000]),
        }),
        error: None,
        progress: Some(Progress {
            percent: 12.5,
            message: None,
            partial: Some(Bytes::from_static(b"[1]")),
        }),
        timings: Some(Timings {
            queue_us: 5,
            handler_us: 7,
        }),
        next_attempt_at: None,
        dead_letter: None,
    }
}

pub fn letter() -> DeadLetter {
    DeadLetter {
        job_id: None,
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
        job_type: None,
        tenant: None,
        attempts: 0,
        redrives: 0,
        first_error: None,
        last_error: None,
        trace_id: None,
    }
}

/// With the registry away nothing can be encoded, and the reason is told within the timeout.
async fn cold_start(registry: &Registry) {
    registry.proxy.cut(true);
    let codec = Codec::new(&registry.settings);
    let begun = Instant::now();
    assert!(matches!(
        codec.warm_up().await,
        Err(RegistryError::Unavailable(_))
    ));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!codec.is_warm());
    assert_eq!(codec.encode_job(&job()), Err(CodecError::NotReady));
    registry.proxy.cut(false);
}

async fn look_up_registers_nothing(registry: &Registry) {
    let codec = Codec::new(&registry.settings);
    for _ in 0..2 {
        let error = codec.warm_up().await.unwrap_err();
        assert_eq!(
            error,
            RegistryError::NotRegistered("tidegate.v1.Job".into())
        );
        assert!(error.to_string().contains("tidegate schemas register"));
    }
    for found in check_schemas(&registry.settings).await.unwrap() {
        assert_eq!((found.id, found.compatible), (None, true), "{found:?}");
    }
}

async fn registering(registry: &Registry) {
    let ids = register_schemas(&registry.settings).await.unwrap();
    assert_eq!(register_schemas(&registry.settings).await.unwrap(), ids);
    let checked = check_schemas(&registry.settings).await.unwrap();
    for ((subject, id), found) in ids.iter().zip(checked) {
        assert_eq!((&found.subject, found.id), (subject, Some(*id)));
        assert!(found.compatible, "{found:?}");
    }
    // `dev` registers by itself, which changes nothing here.
    let codec = Codec::new(&RegistrySettings {
        register: true,
        ..registry.settings.clone()
    });
    codec.warm_up().await.unwrap();
    codec.warm_up().await.unwrap();
    assert!(codec.is_warm());
}

/// A schema that could not read old records is refused: by the check, and by registration.
async fn breaking_schema(registry: &Registry) {
    for MessageSchema { subject, text } in schema::ALL {
        let breaking = text.replacen(
            "\"fields\": [",
            "\"fields\": [{\"name\": \"must\", \"type\": \"string\"},",
            1,
        );
        let path = format!("compatibility/subjects/{subject}/versions");
        let (status, answer) = registry.post(&path, &breaking).await;
        assert_eq!(
            (status, &answer["is_compatible"]),
            (200, &json!(false)),
            "{answer}"
        );
        let path = format!("subjects/{subject}/versions");
        let (status, _) = registry.post(&path, &breaking).await;
        assert_eq!(status, 409);
    }
}

async fn round_trips(codec: &Codec) {
    let (job, event, letter) = (job(), event(), letter());
    let bytes = codec.encode_job(&job).unwrap();
    assert_eq!(bytes[0], 0);
    assert_eq!(codec.decode_job(&bytes).await.unwrap(), job);
    let bytes = codec.encode_event(&event).unwrap();
    assert_eq!(codec.decode_event(&bytes).await.unwrap(), event);
    let bytes = codec.encode_dead_letter(&letter).unwrap();
    assert_eq!(codec.decode_dead_letter(&bytes).await.unwrap(), letter);
}

async fn malformed(codec: &Codec) {
    let good = codec.encode_event(&event()).unwrap();
    // Cut off anywhere, also right before a field that may be null.
    let small = codec
        .encode_event(&JobEvent {
            outcome: None,
            progress: None,
            timings: None,
            ..event()
        })
        .unwrap();
    let mut cases: Vec<Vec<u8>> = (0..small.len()).map(|end| small[..end].to_vec()).collect();
    cases.push(good[..good.len() - 1].to_vec());
    cases.push([&good[..], &[0]].concat());
    cases.push([&[1], &good[1..]].concat());
    cases.push(b"{\"not\": \"avro\"}".to_vec());
    // A text of 2^60 bytes.
    let huge = [
        &good[..5],
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f],
    ]
    .concat();
    cases.push(huge);
    // A job where an event should be.
    cases.push(codec.encode_job(&job()).unwrap().to_vec());
    for case in cases {
        match codec.decode_event(&case).await {
            // The reason goes into logs, the payload must not.
            Err(DecodeError::Malformed(reason)) => assert!(reason.len() < 60, "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn unknown_id(codec: &Codec) {
    let mut bytes = codec.encode_job(&job()).unwrap().to_vec();
    bytes[1..5].copy_from_slice(&987_654_321u32.to_be_bytes());
    let all = futures::future::join_all((0..50).map(|_| codec.decode_job(&bytes))).await;
    for answer in all {
        assert_eq!(answer, Err(DecodeError::UnknownSchema(987_654_321)));
    }
}

/// The schema of events with one field more, and a record written with it.
async fn newer(registry: &Registry, field: &str) -> (JobEvent, Vec<u8>) {
    let added = format!("\"fields\": [{{\"name\":\"{field}\",\"type\":\"long\",\"default\":1}},");
    let text = schema::EVENT.text.replacen("\"fields\": [", &added, 1);
    let (status, answer) = registry.register(&text).await;
    assert_eq!(status, 200, "{answer}");
    let id = u32::try_from(answer["id"].as_u64().unwrap()).unwrap();

    let event = event();
    let schema = Schema::parse_str(&text).unwrap();
    let mut value = apache_avro::to_value(&event).unwrap();
    let apache_avro::types::Value::Record(fields) = &mut value else {
        panic!("a record");
    };
    fields.push((field.to_owned(), apache_avro::types::Value::Long(5)));
    let value = value.resolve(&schema).unwrap();
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value(&mut bytes, value)
        .unwrap();
    (event, bytes)
}

async fn newer_writer(registry: &Registry, codec: &Codec) {
    let (event, bytes) = newer(registry, "added").await;
    let all = futures::future::join_all((0..50).map(|_| codec.decode_event(&bytes))).await;
    for answer in all {
        assert_eq!(answer.as_ref(), Ok(&event));
    }
}

async fn away_after_warm_up(registry: &Registry, codec: &Codec) {
    registry.proxy.cut(true);
    round_trips(codec).await;
    codec.warm_up().await.unwrap();
    registry.proxy.cut(false);
}

async fn away_for_a_new_id(registry: &Registry, codec: &Codec) {
    let (event, bytes) = newer(registry, "later").await;
    registry.proxy.cut(true);
    for _ in 0..2 {
        let answer = codec.decode_event(&bytes).await;
        assert!(
            matches!(answer, Err(DecodeError::RegistryUnavailable(_))),
            "{answer:?}"
        );
    }
    registry.proxy.cut(false);
    assert_eq!(codec.decode_event(&bytes).await, Ok(event));
}
