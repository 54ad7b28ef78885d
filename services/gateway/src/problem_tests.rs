//! What errors say to clients.

use super::*;
use serde_json::json;
use tidegate_contract::FaultSource;

#[test]
fn a_problem_says_what_where_and_whether_again() {
    let id = JobId::generate();
    let unknown = ApiError::OutcomeUnknown {
        id,
        reason: "timed out".into(),
        keyed: false,
    };
    let doc = unknown.document();
    assert_eq!(doc["type"], "/problems/outcome-unknown");
    assert_eq!(doc["status"], 503);
    assert_eq!(doc["source"], "broker");
    assert_eq!(doc["repeatSafe"], false);
    assert_eq!(doc["jobId"], id.to_string());
    assert_eq!(unknown.outcome_label(), "unknown");
    let response = unknown.error_response();
    assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    assert_eq!(
        response.headers().get("content-type").unwrap(),
        "application/problem+json"
    );
}

#[test]
fn ends_of_jobs_have_their_own_statuses_and_the_jobs_code() {
    for (status, http) in [
        (Status::Failed, 502),
        (Status::DeadLettered, 502),
        (Status::Expired, 504),
        (Status::Cancelled, 409),
    ] {
        let error = JobError {
            code: "timeout".into(),
            message: "took too long".into(),
            source: FaultSource::Job,
            retryable: true,
            retry_after_ms: None,
            details: Some("{\"limit\":5}".into()),
            attempts: None,
        };
        let ended = ApiError::Ended {
            id: JobId::generate(),
            status,
            error: Some(Box::new(error)),
            attempt: 2,
            at: 0,
        };
        let doc = ended.document();
        assert_eq!(
            (&doc["status"], &doc["code"]),
            (&json!(http), &json!("timeout"))
        );
        assert_eq!(doc["error"]["attempt"], 2);
        assert_eq!(doc["error"]["details"]["limit"], 5);
        assert_eq!(doc["jobStatus"], status.as_str());
    }
}
