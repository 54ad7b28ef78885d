//! The HTTP side on a fake engine: every answer, in milliseconds.

mod callbacks;
mod cancelling;
mod catalog;
mod dead_letters;
mod deadlines;
mod fake;
mod follow_ups;
mod inputs;
mod jobs;
mod keys;
mod listing;
mod outages;
mod pausing;
mod polling;
mod sockets;
mod streams;
mod waiting;
mod watching;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::dev::ServiceResponse;
use actix_web::http::header::HeaderMap;
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web::Data;
use actix_web::{App, http::StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tidegate_callbacks::CallbackSettings;
use tidegate_contract::{
    DeadLetterPlace, EventKind, HandlerSpec, JobError, JobEvent, JobId, JobMessage, JobSummary,
    JobType, JobTypeSpec, JobTypes, Millis, Mode, Outcome, Pool, RequestInfo, Status, Tenant, Tier,
    Timings, Topics, now_millis,
};
use tidegate_kafka::{CodecError, DecodeError, Delivered, KafkaError, Outgoing, ProduceError};
use tidegate_runtime::metrics::Metrics;
use tidegate_runtime::ops::OpsState;
use tidegate_runtime::readiness::Readiness;
use tidegate_store::{
    Attempt, EndpointRow, FollowUp, FollowUpState, Glimpse, JobRow, KeyState, Listed, Listing,
    Lookup, NewJob, NewKey, NewRetry, Recover, Reserved, Retry, StoreError, Tombstone,
};
use tokio::sync::Semaphore;

use crate::auth::Auth;
use crate::callbacks::Callbacks;
use crate::dead_letters::filter::Cursor;
use crate::dead_letters::read::{Ask, Found, Page};
use crate::docs::{Docs, openapi};
use crate::engine::{Ack, Engine};
use crate::observe::observe;
use crate::pauses::Pause;
use crate::problem::ApiError;
use crate::routes::Routes;
use crate::server;
use crate::settings::{AuthSettings, GatewaySettings, RouteKind, RouteSettings};
use crate::state::{AppState, Stop, Tasks};
use crate::streams::Streams;
use crate::waits::Waits;
use crate::watch::Watcher;

pub use callbacks::Known;
pub use fake::*;

/// A job of that tenant.
pub fn a_job(tenant: &str) -> JobMessage {
    JobMessage {
        job_id: JobId::generate(),
        job_type: "echo".parse().unwrap(),
        pool: Pool::default(),
        tier: Tier::High,
        tenant: tenant.parse().unwrap(),
        attempt: 1,
        created_at: 0,
        deadline: 1,
        reply_partition: HOME,
        request: RequestInfo::default(),
        content_type: None,
        serial_key: None,
        not_before: None,
        retry_of: None,
        redrives: 0,
        follow_ups: Vec::new(),
        body: Bytes::new(),
    }
}

/// The same as the store is told of it.
pub fn new_job(job: &JobMessage) -> NewJob {
    NewJob {
        id: job.job_id,
        summary: JobSummary::of(job, None),
        reply_partition: HOME,
        not_before: None,
    }
}

/// The row of a job that was just accepted.
pub fn pending(job: &NewJob) -> JobRow {
    JobRow {
        id: job.id,
        summary: job.summary.clone(),
        reply_partition: job.reply_partition,
        status: match job.not_before {
            Some(_) => Status::Scheduled,
            None => Status::Pending,
        },
        attempt: 0,
        updated_at: job.summary.created_at,
        started_at: None,
        ended_at: None,
        progress: None,
        outcome: None,
        error: None,
        error_attempt: None,
        error_at: None,
        timings: None,
        next_attempt_at: job.not_before,
        dead_letter: None,
        retried_as: None,
        events: 0,
        history: Vec::new(),
    }
}

/// The end of a job in this way.
pub fn end(job: &JobMessage, kind: EventKind) -> JobEvent {
    JobEvent {
        job_id: job.job_id,
        kind,
        at: now_millis(),
        attempt: 1,
        job: JobSummary::of(job, None),
        source: "worker-1".into(),
        outcome: None,
        error: None,
        progress: None,
        timings: Some(Timings {
            queue_us: 1_000,
            handler_us: 2_000,
        }),
        next_attempt_at: None,
        dead_letter: None,
    }
}

/// Completed with the body it came with.
pub fn echo(job: &JobMessage) -> JobEvent {
    JobEvent {
        outcome: Some(Outcome {
            status: 200,
            content_type: job.content_type.clone(),
            headers: vec![],
            body: job.body.clone(),
        }),
        ..end(job, EventKind::Completed)
    }
}

/// Ended with this error.
pub fn ended_with(job: &JobMessage, kind: EventKind, error: JobError) -> JobEvent {
    JobEvent {
        error: Some(error),
        ..end(job, kind)
    }
}

/// A gateway's HTTP side, its fake, and what its answers are asked with.
pub struct Bench {
    pub fake: Arc<Fake>,
    pub state: Data<AppState>,
    docs: Data<Docs>,
    ops: OpsState,
}

/// An answer, read.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Checks status, media type and the members that every problem has; gives the document.
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        let doc = self.json();
        assert_eq!(self.status, status, "{doc}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(doc["type"], format!("/problems/{kind}"), "{doc}");
        assert_eq!(doc["status"], status);
        for member in ["title", "detail", "code", "source"] {
            assert!(doc[member].is_string(), "{member}: {doc}");
        }
        assert!(doc["repeatSafe"].is_boolean(), "{doc}");
        if status == 503 || status == 429 {
            assert!(!self.header("retry-after").is_empty(), "{doc}");
        }
        doc
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(GatewaySettings::default(), AuthSettings::default())
    }

    pub fn with(settings: GatewaySettings, auth: AuthSettings) -> Self {
        let callbacks = Callbacks::new(CallbackSettings::default()).unwrap();
        Self::made(settings, auth, callbacks)
    }

    pub fn with_callbacks(callbacks: Callbacks, auth: AuthSettings) -> Self {
        Self::made(GatewaySettings::default(), auth, callbacks)
    }

    fn made(settings: GatewaySettings, auth: AuthSettings, callbacks: Callbacks) -> Self {
        let mut types = JobTypes::new();
        let echo = JobTypeSpec::new(HandlerSpec::Echo);
        let mut later = echo.clone();
        later.mode = Mode::Async;
        later.content = tidegate_contract::Content::Any;
        later.allowed_tiers = vec![Tier::High];
        later.pass_headers = vec!["accept".into(), "authorization".into()];
        types.insert("echo".parse().unwrap(), echo);
        types.insert("later".parse().unwrap(), later);
        let submit = RouteSettings {
            method: None,
            path: "/shops/{shop}/report".into(),
            kind: RouteKind::Submit,
            job_type: "later".parse().ok(),
        };
        let status = RouteSettings {
            path: "/jobs/{id}".into(),
            kind: RouteKind::Status,
            job_type: None,
            ..submit.clone()
        };
        let routes = Routes::new(&[submit, status], &types).unwrap();
        let waits = Waits::new(settings.max_waits);
        let fake = Arc::new(Fake::new(waits.clone()));
        let docs = Docs::new(&openapi(&routes, &types, None));
        let metrics = Metrics::new(types.keys().map(|name| name.as_str()));
        let tasks = Tasks::on_this_runtime();
        let state = AppState {
            watcher: Watcher::new(
                fake.clone(),
                tasks.clone(),
                settings.max_waits,
                settings.inline_result_limit,
            ),
            streams: Streams::new(settings.max_streams, settings.tenant_streams),
            usual: Arc::default(),
            key_lease: LEASE,
            engine: fake.clone(),
            waits,
            types: tidegate_runtime::LiveTypes::new(types),
            routes: Arc::new(routes),
            auth: Auth::new(&auth).unwrap(),
            callbacks,
            metrics: metrics.clone(),
            topics: Topics::new("t."),
            ladder: tidegate_contract::Ladder::default(),
            instance: "gateway-1".into(),
            // The fake writes bodies as arrays of numbers.
            max_record_bytes: 16 << 20,
            body_memory: Semaphore::new(settings.body_memory / 1024),
            settings,
            stop: Stop::default(),
            tasks,
            requests: AtomicUsize::new(0),
        };
        Self {
            fake,
            state: Data::new(state),
            docs: Data::new(docs),
            ops: OpsState {
                readiness: Readiness::new(),
                metrics,
                recent_spans: None,
            },
        }
    }

    /// Asks, and reads the whole answer.
    pub async fn ask(&self, request: TestRequest) -> Answer {
        let (state, docs, ops) = (self.state.clone(), self.docs.clone(), self.ops.clone());
        let app = App::new()
            .wrap(from_fn(observe))
            .configure(move |app| server::configure(app, &state, &docs, ops));
        let app = init_service(app).await;
        let response: ServiceResponse<_> = call_service(&app, request.to_request()).await;
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: read_body(response).await,
        }
    }

    /// `POST` of a JSON body to a job type.
    pub async fn post(&self, job_type: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = TestRequest::post().uri(&format!("/v1/jobs/{job_type}"));
        for header in headers {
            request = request.append_header(*header);
        }
        self.ask(request.set_payload(body.to_owned())).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(TestRequest::get().uri(path)).await
    }
}

/// Polls until it holds, or fails after five seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < limit, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
