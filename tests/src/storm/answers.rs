//! What an answer says of a job. Pure.

use serde_json::Value;
use tidegate_contract::Status;
use uuid::Uuid;

use super::facts::{Said, SaidEnd};

/// An answer to a submit, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub said: Said,
    pub job: Option<Uuid>,
    /// What it has of another job.
    pub foreign: Option<String>,
    /// An answer that should not have been given at all.
    pub strange: Option<String>,
}

/// Reads the answer to the submit of a job with that nonce. `id`: the header `Tidegate-Job-Id`.
pub fn submit(status: u16, id: Option<&str>, body: &[u8], nonce: &str) -> Read {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let id = id.or(document["jobId"].as_str());
    let job = id.and_then(|id| id.parse().ok());
    let ended = document["jobStatus"]
        .as_str()
        .and_then(|text| text.parse().ok());
    let mut read = Read {
        said: Said::Refused,
        job,
        foreign: None,
        strange: None,
    };
    read.said = match (status, ended.and_then(SaidEnd::of)) {
        (_, Some(end)) if job.is_some() => Said::Ended(end),
        (200, _) => Said::Ended(SaidEnd::Completed),
        (422, _) if document["nonce"].is_string() => Said::Ended(SaidEnd::Failed),
        (202, _) => Said::Accepted,
        (429 | 503, _)
            if document["repeatSafe"] == true && document["code"] != "outcome-unknown" =>
        {
            Said::Refused
        }
        // A gateway that stood still gives up what it had read half of.
        (408, _) => Said::Refused,
        (503, _) => Said::Unknown,
        _ => {
            read.strange = Some(format!(
                "{nonce}: {status} {}",
                String::from_utf8_lossy(body)
            ));
            Said::Unknown
        }
    };
    // The handler's own answer has to be the one to this very job.
    let handlers = matches!((status, read.said), (200 | 422, Said::Ended(_))) && ended.is_none();
    if handlers {
        read.foreign = foreign(&document, nonce);
    }
    if matches!(read.said, Said::Accepted | Said::Ended(_)) && job.is_none() {
        read.strange = Some(format!("{nonce}: {status} without a job id"));
    }
    read
}

/// What a document has of another job.
pub fn foreign(document: &Value, nonce: &str) -> Option<String> {
    match document["nonce"].as_str() {
        Some(found) if found == nonce => None,
        Some(found) => Some(format!("the answer to {found} came to {nonce}")),
        None => Some(format!("an answer without a nonce came to {nonce}")),
    }
}

/// What a status document says: the status, and what it has of another job.
pub fn status(document: &Value, job: Uuid, nonce: &str) -> (Option<Status>, Option<String>) {
    let status: Option<Status> = document["status"]
        .as_str()
        .and_then(|text| text.parse().ok());
    let other = document["jobId"].as_str().and_then(|id| id.parse().ok()) != Some(job);
    let foreign = match other {
        true => Some(format!("the status of {} came to {job}", document["jobId"])),
        false if document["result"].is_object() => foreign(&document["result"], nonce),
        false => None,
    };
    (status, foreign)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn read(status: u16, body: Value) -> Read {
        submit(status, None, body.to_string().as_bytes(), "quick-1")
    }

    #[test]
    fn every_sort_of_answer_is_told_apart() {
        let own = submit(200, Some(ID), br#"{"nonce":"quick-1"}"#, "quick-1");
        assert_eq!(own.said, Said::Ended(SaidEnd::Completed));
        assert_eq!((own.foreign, own.strange), (None, None));
        let other = submit(200, Some(ID), br#"{"nonce":"quick-2"}"#, "quick-1");
        assert!(other.foreign.is_some_and(|text| text.contains("quick-2")));
        assert!(submit(200, Some(ID), b"x", "quick-1").foreign.is_some());
        assert!(
            submit(200, None, br#"{"nonce":"quick-1"}"#, "quick-1")
                .strange
                .is_some()
        );
        let refused = submit(422, Some(ID), br#"{"nonce":"quick-1"}"#, "quick-1");
        assert_eq!(refused.said, Said::Ended(SaidEnd::Failed));

        let said = |status, body| read(status, body).said;
        assert_eq!(said(202, json!({ "jobId": ID })), Said::Accepted);
        assert_eq!(
            said(503, json!({ "repeatSafe": true, "code": "broker" })),
            Said::Refused
        );
        assert_eq!(
            said(503, json!({ "repeatSafe": false, "jobId": ID })),
            Said::Unknown
        );
        // With a key a repeat is safe, and still nobody knows.
        let keyed = json!({ "repeatSafe": true, "code": "outcome-unknown", "jobId": ID });
        assert_eq!(said(503, keyed), Said::Unknown);
        let dead = json!({ "jobId": ID, "jobStatus": "dead-lettered" });
        assert_eq!(said(502, dead), Said::Ended(SaidEnd::DeadLettered));
        assert!(read(400, json!({ "code": "x" })).strange.is_some());
    }

    #[test]
    fn a_status_is_of_its_job() {
        let job: Uuid = ID.parse().unwrap();
        let good = json!({ "jobId": ID, "status": "completed", "result": { "nonce": "quick-1" } });
        assert_eq!(
            status(&good, job, "quick-1"),
            (Some(Status::Completed), None)
        );
        assert!(status(&good, job, "quick-2").1.is_some());
        assert!(status(&good, Uuid::nil(), "quick-1").1.is_some());
        let open = json!({ "jobId": ID, "status": "retrying" });
        assert_eq!(
            status(&open, job, "quick-1"),
            (Some(Status::Retrying), None)
        );
    }
}
