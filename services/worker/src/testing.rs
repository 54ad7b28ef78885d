//! What the unit tests of several modules need.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_contract::{
    JobId, JobMessage, Pool, RecordHeaders, RequestInfo, Tenant, Tier, now_millis,
};
use tidegate_kafka::Record;

use crate::lane::{Lane, Room};
use crate::work::Work;

/// A job of that type, for a minute from now.
pub(crate) fn job(job_type: &str) -> JobMessage {
    let now = now_millis();
    JobMessage {
        job_id: JobId::generate(),
        job_type: job_type.parse().unwrap(),
        pool: Pool::default(),
        tier: Tier::Normal,
        tenant: Tenant::default(),
        attempt: 1,
        created_at: now,
        deadline: now + Duration::from_secs(60).as_millis() as i64,
        reply_partition: 2,
        request: RequestInfo {
            method: "POST".to_owned(),
            path: "/v1/jobs/x".to_owned(),
            ..RequestInfo::default()
        },
        content_type: Some("text/plain".to_owned()),
        body: Bytes::from_static(b"hello"),
    }
}

/// A record with that job's key and headers, and a payload that is not read.
pub(crate) fn record(job: &JobMessage) -> Record {
    Record {
        topic: "t".to_owned(),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: Some(job.job_id.to_string().into()),
        headers: RecordHeaders::of_job(job),
        payload: Some(Bytes::from_static(b"bytes")),
    }
}

pub(crate) fn work() -> Work {
    Work::Run {
        job: Arc::new(job("echo")),
        headers: RecordHeaders::new(),
    }
}

pub(crate) fn lane(records: usize, bytes: usize) -> Arc<Lane> {
    let room = Room { records, bytes };
    let (topic, group) = ("t".to_owned(), "g".to_owned());
    Arc::new(Lane::new(Pool::default(), Tier::Normal, topic, group, room))
}
