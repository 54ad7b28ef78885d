//! What a callback says: the body and the id of a message. Both are the same at every attempt, whoever makes it, so that
//! a receiver knows a repeat. Pure.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tidegate_contract::media::is_json;
use tidegate_contract::time::rfc3339;
use tidegate_contract::{CallbackEvent, JobError, JobId, JobSummary, Millis, Outcome};
use tidegate_store::JobRow;

/// A job that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Which one.
    pub id: JobId,
    /// How it ended.
    pub event: CallbackEvent,
    /// When it ended.
    pub ended_at: Millis,
    /// The execution it came to, from 1; 0 if it never ran.
    pub attempt: i32,
    /// What it was.
    pub job: &'a JobSummary,
    /// The answer of its handler, if there is one.
    pub outcome: Option<&'a Outcome>,
    /// Why it did not complete.
    pub error: Option<&'a JobError>,
    /// What stands before the paths of its status and result; empty if the operator has set no public URL.
    pub public_url: &'a str,
}

/// The shape that Standard Webhooks recommend.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    /// When it happened, not when it is sent.
    timestamp: String,
    data: Data<'a>,
}

/// The same names as in the status of a job.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    id: JobId,
    r#type: &'a str,
    tenant: &'a str,
    status: &'static str,
    attempt: i32,
    created_at: String,
    ended_at: String,
    /// A JSON result that is small enough to stand here.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    /// Where the result is, with its own status and media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    status_url: String,
}

#[derive(Serialize)]
struct Fault<'a> {
    code: &'a str,
    message: &'a str,
    source: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

impl<'a> Notice<'a> {
    /// Of a job as it is kept. `None`: it has not ended.
    pub fn of(row: &'a JobRow, public_url: Option<&'a str>) -> Option<Self> {
        Some(Self {
            id: row.id,
            event: CallbackEvent::of(row.status)?,
            ended_at: row.ended_at.unwrap_or(row.updated_at),
            attempt: row.attempt,
            job: &row.summary,
            outcome: row.outcome.as_ref(),
            error: row.error.as_ref(),
            public_url: public_url.unwrap_or_default(),
        })
    }

    /// `webhook-id`: from the job and the event alone. A job ends once, so no two messages share one. Without full stops,
    /// which separate the parts of what is signed.
    pub fn message_id(&self) -> String {
        format!("msg_{}_{}", self.id, self.event.end())
    }

    /// Where the receiver can read more.
    pub fn status_url(&self) -> String {
        let base = self.public_url.trim_end_matches('/');
        format!("{base}/v1/jobs/{}", self.id)
    }

    /// The body, as JSON. A result over `inline_limit` bytes, or of another media type, is only pointed to.
    pub fn body(&self, inline_limit: usize) -> Bytes {
        let status_url = self.status_url();
        let result_url = self.outcome.map(|_| format!("{status_url}/result"));
        let body = Body {
            r#type: self.event.to_string(),
            timestamp: rfc3339(self.ended_at),
            data: Data {
                id: self.id,
                r#type: self.job.job_type.as_str(),
                tenant: self.job.tenant.as_str(),
                status: self.event.status().as_str(),
                attempt: self.attempt,
                created_at: rfc3339(self.job.created_at),
                ended_at: rfc3339(self.ended_at),
                result: self.outcome.and_then(|it| inline(it, inline_limit)),
                result_url,
                error: self.error.map(fault),
                retry_of: self.job.retry_of,
                trace_id: self.job.trace_id.as_deref(),
                status_url,
            },
        };
        // Maps with text keys and checked JSON: there is nothing that could fail.
        serde_json::to_vec(&body).unwrap_or_default().into()
    }
}

fn fault(error: &JobError) -> Fault<'_> {
    Fault {
        code: &error.code,
        message: &error.message,
        source: error.source.as_str(),
        retryable: error.retryable,
        // JSON text by contract; whatever else a worker wrote is shown as text.
        details: error.details.as_deref().map(|text| {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }),
    }
}

/// A result that may stand in the body: small, and JSON in truth as by its media type.
fn inline(outcome: &Outcome, limit: usize) -> Option<&RawValue> {
    let media_type = outcome.content_type.as_deref().unwrap_or_default();
    if !is_json(media_type) || outcome.body.len() > limit {
        return None;
    }
    serde_json::from_slice(&outcome.body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidegate_contract::{FaultSource, Tier};

    const ID: &str = "018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f";
    const STATUS_URL: &str = "https://jobs.example/v1/jobs/018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f";

    fn result_url() -> String {
        format!("{STATUS_URL}/result")
    }

    fn job() -> JobSummary {
        JobSummary {
            job_type: "invoice".parse().unwrap(),
            pool: "default".parse().unwrap(),
            tier: Tier::Normal,
            tenant: "acme".parse().unwrap(),
            created_at: 1_738_315_800_000,
            deadline: 1_738_315_900_000,
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
            retry_of: None,
            follow_ups: Vec::new(),
        }
    }

    fn notice(job: &JobSummary) -> Notice<'_> {
        Notice {
            id: ID.parse().unwrap(),
            event: CallbackEvent::Completed,
            ended_at: 1_738_315_800_123,
            attempt: 2,
            job,
            outcome: None,
            error: None,
            public_url: "https://jobs.example/",
        }
    }

    fn outcome(content_type: &str, body: &'static str) -> Outcome {
        Outcome {
            status: 200,
            content_type: Some(content_type.to_owned()),
            headers: Vec::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn data(notice: Notice<'_>, inline_limit: usize) -> Value {
        let body: Value = serde_json::from_slice(&notice.body(inline_limit)).unwrap();
        body["data"].clone()
    }

    #[test]
    fn a_completed_job_in_the_recommended_shape() {
        let (job, outcome) = (job(), outcome("application/json", r#"{"n": 1.0}"#));
        let notice = Notice {
            outcome: Some(&outcome),
            ..notice(&job)
        };
        let expected = json!({
            "type": "job.completed",
            "timestamp": "2025-01-31T09:30:00.123Z",
            "data": {
                "id": ID,
                "type": "invoice",
                "tenant": "acme",
                "status": "completed",
                "attempt": 2,
                "createdAt": "2025-01-31T09:30:00.000Z",
                "endedAt": "2025-01-31T09:30:00.123Z",
                "result": { "n": 1.0 },
                "resultUrl": result_url(),
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                "statusUrl": STATUS_URL,
            },
        });
        let body = notice.body(1024);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        assert_eq!(body, notice.body(1024));
    }

    #[test]
    fn a_failed_job_says_why() {
        let mut error = JobError {
            code: "busy".to_owned(),
            message: "no printer".to_owned(),
            source: FaultSource::Job,
            retryable: true,
            retry_after_ms: None,
            details: Some(r#"{"printer":7}"#.to_owned()),
            attempts: None,
        };
        let job = job();
        let failed = |error: &JobError| {
            let notice = Notice {
                event: CallbackEvent::DeadLettered,
                error: Some(error),
                ..notice(&job)
            };
            data(notice, 1024)
        };
        let shown = failed(&error);
        assert_eq!(shown["status"], "dead-lettered");
        assert_eq!(
            shown["error"],
            json!({
                "code": "busy", "message": "no printer", "source": "job", "retryable": true,
                "details": { "printer": 7 },
            })
        );
        assert!(shown.get("resultUrl").is_none());
        error.details = Some("not {json".to_owned());
        assert_eq!(failed(&error)["error"]["details"], "not {json");
    }

    #[test]
    fn a_job_as_it_is_kept_is_told_of_once_it_has_ended() {
        let mut row = crate::testing::row(ID.parse().unwrap());
        row.attempt = 3;
        let notice = Notice::of(&row, None).unwrap();
        assert_eq!(
            (notice.event, notice.attempt),
            (CallbackEvent::Completed, 3)
        );
        assert_eq!(Some(notice.ended_at), row.ended_at);
        assert_eq!(notice.status_url(), format!("/v1/jobs/{ID}"));
        let public = Notice::of(&row, Some("https://jobs.example/"));
        assert_eq!(public.unwrap().status_url(), STATUS_URL);
        row.status = tidegate_contract::Status::Processing;
        assert!(Notice::of(&row, None).is_none());
    }

    #[test]
    fn only_small_json_stands_in_the_body() {
        let job = job();
        for (content_type, body, limit, stands) in [
            ("application/json", "[1]", 3, true),
            ("application/json", "[1]", 2, false),
            ("application/problem+json; charset=utf-8", "{}", 9, true),
            ("Application/JSON", "{}", 9, true),
            ("text/plain", "[1]", 9, false),
            ("application/json", "[1", 9, false),
            ("application/json", "", 9, false),
        ] {
            let outcome = outcome(content_type, body);
            let notice = Notice {
                outcome: Some(&outcome),
                ..notice(&job)
            };
            let data = data(notice, limit);
            assert_eq!(
                data.get("result").is_some(),
                stands,
                "{content_type} {body}"
            );
            assert_eq!(data["resultUrl"], result_url());
        }
    }

    #[test]
    fn the_message_id_is_of_the_job_and_its_end() {
        let job = job();
        let mut ids: Vec<String> = Vec::new();
        for event in CallbackEvent::ALL {
            let notice = Notice {
                event,
                ..notice(&job)
            };
            let later = Notice {
                attempt: 9,
                ended_at: 0,
                ..notice
            };
            assert_eq!(notice.message_id(), later.message_id());
            assert!(!notice.message_id().contains('.'));
            ids.push(notice.message_id());
        }
        assert_eq!(ids[0], format!("msg_{ID}_completed"));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CallbackEvent::ALL.len());
    }
}
