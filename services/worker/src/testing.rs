//! What the unit tests of several modules need.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_contract::{
    JobId, JobMessage, Pool, RecordHeaders, RequestInfo, Tenant, Tier, now_millis,
};
use tidegate_kafka::Record;

use crate::lane::{Lane, Ready, Room};
use crate::offsets::Read;
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
        serial_key: None,
        not_before: None,
        retry_of: None,
        redrives: 0,
        follow_ups: Vec::new(),
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

/// A record of partition 0 that was just read: a job of that type and tenant.
pub(crate) fn ready(lane: &Arc<Lane>, offset: i64, job_type: &str, tenant: &str) -> Ready {
    let mut job = job(job_type);
    job.tenant = tenant.parse().unwrap();
    let Read::New(place) = lane.deliver(0, offset, None) else {
        panic!("a repeat");
    };
    Ready {
        place,
        bytes: 1,
        work: Work::Run {
            job: Arc::new(job),
            headers: RecordHeaders::new(),
        },
        alone: false,
    }
}

pub(crate) fn lane(records: usize, bytes: usize) -> Arc<Lane> {
    make(Tier::Normal, Room { records, bytes })
}

pub(crate) fn lane_of(tier: Tier) -> Arc<Lane> {
    let (records, bytes) = (64, 1 << 20);
    make(tier, Room { records, bytes })
}

fn make(tier: Tier, room: Room) -> Arc<Lane> {
    let (topic, group) = ("t".to_owned(), "g".to_owned());
    Arc::new(Lane::new(
        Pool::default(),
        tier,
        topic,
        group,
        (7, Arc::default()),
        room,
    ))
}
