//! Records as Tidegate writes them, and as it should never see them.

use std::time::Duration;

use rdkafka::Message;
use tidegate_contract::{
    DeadLetter, JobId, JobMessage, RecordHeaders, RequestInfo, Tier, now_millis, schema,
};
use tidegate_kafka::{Codec, RegistrySettings};

use crate::{Stack, kafka};

/// A codec that can read and write.
pub async fn codec(stack: &Stack) -> Codec {
    let codec = Codec::new(&RegistrySettings {
        url: stack.servers.registry.clone(),
        ..RegistrySettings::default()
    });
    codec.warm_up().await.expect("schemas");
    codec
}

/// A job of a type, with `7` as its body.
pub fn job(job_type: &str, reply_partition: i32) -> JobMessage {
    let now = now_millis();
    JobMessage {
        job_id: JobId::generate(),
        job_type: job_type.parse().expect("a name"),
        pool: Default::default(),
        tier: Tier::Normal,
        tenant: Default::default(),
        attempt: 1,
        created_at: now,
        deadline: now + 3_600_000,
        reply_partition,
        request: RequestInfo::default(),
        content_type: Some("application/json".to_owned()),
        body: "7".into(),
        serial_key: None,
        not_before: None,
        retry_of: None,
        redrives: 0,
        follow_ups: Vec::new(),
    }
}

/// Headers as texts.
pub fn texts(headers: &RecordHeaders) -> Vec<(&str, &str)> {
    headers.iter().collect()
}

/// All dead letters of an installation.
pub async fn dead_letters(stack: &Stack) -> Vec<DeadLetter> {
    let codec = codec(stack).await;
    let topic = format!("{}dead-letters", stack.prefix);
    let mut letters = Vec::new();
    for message in kafka::read_all(&stack.servers.kafka, &topic) {
        let value = message.payload().expect("a value");
        letters.push(
            codec
                .decode_dead_letter(value)
                .await
                .expect("a dead letter"),
        );
    }
    letters
}

/// Registers a newer version of a schema, under a subject of its own, and gives its id: records that begin with it are
/// what an installation sees while another version of Tidegate is rolled out beside it.
pub async fn newer_schema(registry: &str, message: schema::MessageSchema, subject: &str) -> u32 {
    let mut newer: serde_json::Value = serde_json::from_str(message.text).expect("JSON");
    // What sets it apart is at the end, so that records of the old version with its default's byte behind are valid.
    let field = serde_json::json!({ "name": subject.replace(['.', '-'], "_"), "type": "int", "default": 0 });
    newer["fields"].as_array_mut().expect("fields").push(field);
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .expect("client");
    let answer = http
        .post(format!("{registry}/subjects/{subject}/versions"))
        .json(&serde_json::json!({ "schema": newer.to_string() }))
        .send()
        .await
        .expect("an answer");
    let document: serde_json::Value = answer.json().await.expect("JSON");
    let id = document["id"].as_u64();
    id.unwrap_or_else(|| panic!("no id in {document}")) as u32
}

/// The value of a record, as written with that newer schema.
pub fn as_newer(value: &[u8], id: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(&value[5..]);
    bytes.push(0);
    bytes
}
