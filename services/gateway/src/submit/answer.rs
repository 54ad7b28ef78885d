//! The response to a submit.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use tidegate_contract::{EventKind, JobError, JobId, Millis, Outcome, Status, Timings};
use tidegate_runtime::telemetry;
use tidegate_store::JobRow;

use super::pipeline::{Pending, Submitted};
use super::visible::Visible;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::status::AcceptedBody;

/// Headers of an outcome that are not a handler's to set: of the connection (RFC 9110, 7.6.1), of this server, and
/// what would act on the client beyond this one answer.
const NOT_PASSED: [&str; 22] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-type",
    "date",
    "server",
    "server-timing",
    "preference-applied",
    "set-cookie",
    "alt-svc",
    "clear-site-data",
    "strict-transport-security",
    "public-key-pins",
    "refresh",
    "x-content-type-options",
];

/// What the answer to one submit needs to know.
pub struct Context<'a> {
    pub state: &'a AppState,
    /// `Preference-Applied`.
    pub applied: Option<String>,
    /// It came in on a configured route.
    pub configured: bool,
    /// It is not due yet.
    pub scheduled: bool,
}

impl Context<'_> {
    /// The response.
    ///
    /// # Errors
    /// The end of a job that has no answer of its own, as a problem.
    pub fn respond(&self, submitted: Submitted) -> Result<HttpResponse, ApiError> {
        match submitted {
            Submitted::Ended {
                ended,
                produce,
                total,
            } => {
                let event = &ended.event;
                let mut response = outcome_response(End {
                    id: event.job_id,
                    status: status_of(event.kind),
                    outcome: event.outcome.as_ref(),
                    error: event.error.as_ref(),
                    attempt: event.attempt,
                    at: event.at,
                })?;
                let headers = response.headers_mut();
                let timing = server_timing(produce, event.timings.unwrap_or_default(), total);
                set(headers, "server-timing", &timing);
                self.finish(headers);
                Ok(response)
            }
            Submitted::Known { row } => {
                let mut response = outcome_response(End::of(&row))?;
                self.finish(response.headers_mut());
                Ok(response)
            }
            Submitted::Pending(pending) => Ok(self.accepted(pending)),
        }
    }

    /// What is of this request, and not of the job.
    fn finish(&self, headers: &mut header::HeaderMap) {
        if let Some(applied) = &self.applied {
            set(headers, "preference-applied", applied);
        }
        set(headers, "cache-control", "no-store");
    }

    fn accepted(&self, pending: Pending) -> HttpResponse {
        let Pending {
            id,
            retry_after,
            reason,
            produce,
            visible,
            waited,
        } = pending;
        let status_url = self.state.status_url(id, self.configured);
        let status = match self.scheduled {
            true => Status::Scheduled,
            false => Status::Pending,
        };
        let mut response = HttpResponse::Accepted();
        response
            .insert_header((header::LOCATION, status_url.as_str()))
            .insert_header((header::RETRY_AFTER, retry_after.to_string()))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header(("Tidegate-Job-Id", id.to_string()));
        if let Some(applied) = &self.applied {
            response.insert_header(("Preference-Applied", applied.as_str()));
        }
        if let Some(produce) = produce.filter(|_| waited) {
            response.insert_header(("Server-Timing", format!("produce;dur={}", ms(produce))));
        }
        let note = match visible {
            Visible::Now => None,
            Visible::Soon => Some("the status shows once the status store answers again"),
            Visible::Later(_) => {
                Some("the status shows once the status store or the broker answers again")
            }
        };
        response.json(AcceptedBody {
            job_id: id,
            status: status.as_str(),
            status_url,
            trace_id: telemetry::current_trace_id(),
            reason,
            note: note.map(str::to_owned),
        })
    }
}

/// The status that a terminal event leaves.
fn status_of(kind: EventKind) -> Status {
    match Status::Processing.on(kind) {
        tidegate_contract::Transition::To(status) => status,
        // Not terminal: no wait ends with it.
        _ => Status::Processing,
    }
}

/// How a job ended.
pub struct End<'a> {
    pub id: JobId,
    pub status: Status,
    pub outcome: Option<&'a Outcome>,
    pub error: Option<&'a JobError>,
    pub attempt: i32,
    pub at: Millis,
}

impl<'a> End<'a> {
    /// What a row says of a job that has ended.
    pub fn of(row: &'a JobRow) -> Self {
        Self {
            id: row.id,
            status: row.status,
            outcome: row.outcome.as_ref(),
            error: row.error.as_ref(),
            attempt: row.attempt,
            at: row.ended_at.unwrap_or(row.updated_at),
        }
    }
}

/// The answer of a handler as a response: that of a completed job, or of a failed one where the handler gave one.
///
/// # Errors
/// [`ApiError::Ended`] for every other end, [`ApiError::BadOutcome`] for an answer that HTTP does not know.
pub fn outcome_response(end: End<'_>) -> Result<HttpResponse, ApiError> {
    let outcome = match (end.status, end.outcome) {
        (Status::Completed, Some(outcome)) => outcome,
        (Status::Failed, Some(outcome)) if (400..=599).contains(&outcome.status) => outcome,
        (Status::Completed, None) => {
            return Err(ApiError::BadOutcome {
                id: end.id,
                reason: "there is none".to_owned(),
            });
        }
        (status, _) => {
            return Err(ApiError::Ended {
                id: end.id,
                status,
                error: end.error.cloned().map(Box::new),
                attempt: end.attempt,
                at: end.at,
            });
        }
    };
    let status = final_status(outcome.status).ok_or_else(|| ApiError::BadOutcome {
        id: end.id,
        reason: format!("its status is {}", outcome.status),
    })?;
    let mut response = HttpResponseBuilder::new(status);
    for pair in &outcome.headers {
        let name = pair.name.to_ascii_lowercase();
        if NOT_PASSED.contains(&name.as_str()) || name.starts_with("tidegate-") {
            continue;
        }
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&pair.value),
        ) {
            response.append_header((name, value));
        }
    }
    response
        .insert_header(("Tidegate-Job-Id", end.id.to_string()))
        // The bytes are a handler's: no browser is to guess at what they are.
        .insert_header(("X-Content-Type-Options", "nosniff"));
    let content_type = outcome.content_type.as_deref();
    let content_type = content_type.and_then(|value| HeaderValue::from_str(value).ok());
    if let Some(value) = content_type {
        response.insert_header((header::CONTENT_TYPE, value));
    } else if !outcome.body.is_empty() {
        response.insert_header((header::CONTENT_TYPE, "application/octet-stream"));
    }
    Ok(response.body(outcome.body.clone()))
}

/// A status that may end an exchange: `1xx` may not.
fn final_status(number: i32) -> Option<StatusCode> {
    let number = u16::try_from(number)
        .ok()
        .filter(|n| (200..=599).contains(n))?;
    StatusCode::from_u16(number).ok()
}

/// `Server-Timing`: four parts that follow one another, in milliseconds. The worker's `queue` begins at acceptance
/// and so holds the produce; what is left of the whole is the way back.
fn server_timing(produce: Option<Duration>, timings: Timings, total: Duration) -> String {
    let micros = |us: i64| Duration::from_micros(u64::try_from(us).unwrap_or(0));
    let produce = produce.unwrap_or_default().min(total);
    let queue = micros(timings.queue_us).saturating_sub(produce);
    let handler = micros(timings.handler_us);
    let reply = total.saturating_sub(produce + queue + handler);
    format!(
        "produce;dur={}, queue;dur={}, handler;dur={}, reply;dur={}",
        ms(produce),
        ms(queue),
        ms(handler),
        ms(reply)
    )
}

fn ms(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64() * 1000.0)
}

fn set(headers: &mut header::HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tidegate_contract::Pair;

    fn end(status: i32, headers: Vec<Pair>) -> Result<HttpResponse, ApiError> {
        let outcome = Outcome {
            status,
            content_type: Some("text/csv".into()),
            headers,
            body: Bytes::from_static(b"a,b"),
        };
        outcome_response(End {
            id: JobId::generate(),
            status: Status::Completed,
            outcome: Some(&outcome),
            error: None,
            attempt: 1,
            at: 0,
        })
    }

    #[test]
    fn only_headers_that_do_no_harm_are_passed() {
        let pair = |name: &str| Pair::new(name, "x");
        let response = end(
            201,
            [
                "X-Report",
                "ETag",
                "Transfer-Encoding",
                "Set-Cookie",
                "Tidegate-Job-Id",
                "b\nd",
                "Content-Length",
            ]
            .map(pair)
            .to_vec(),
        )
        .unwrap();
        assert_eq!(response.status(), 201);
        let names: Vec<_> = response
            .headers()
            .keys()
            .map(|n| n.as_str().to_owned())
            .collect();
        for name in ["x-report", "etag", "content-type", "tidegate-job-id"] {
            assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
        }
        for name in ["transfer-encoding", "set-cookie", "content-length"] {
            assert!(!names.iter().any(|n| n == name), "{name}: {names:?}");
        }
        assert_ne!(response.headers().get("tidegate-job-id").unwrap(), "x");
    }

    #[test]
    fn statuses_that_http_does_not_know_are_a_workers_fault() {
        for status in [-1, 0, 100, 199, 600, 70_000] {
            let error = end(status, vec![]).unwrap_err();
            assert!(matches!(error, ApiError::BadOutcome { .. }), "{status}");
        }
    }

    #[test]
    fn timings_follow_one_another_and_add_up() {
        let timings = Timings {
            queue_us: 5_000,
            handler_us: 20_000,
        };
        let text = server_timing(
            Some(Duration::from_millis(2)),
            timings,
            Duration::from_millis(30),
        );
        assert_eq!(
            text,
            "produce;dur=2.000, queue;dur=3.000, handler;dur=20.000, reply;dur=5.000"
        );
        let skewed = Timings {
            queue_us: -7,
            handler_us: i64::MAX,
        };
        assert!(server_timing(None, skewed, Duration::ZERO).ends_with("reply;dur=0.000"));
    }
}
