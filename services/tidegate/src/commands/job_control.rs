//! `tidegate jobs cancel` and `jobs watch`.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{JobId, Status, now_millis};

use super::client::{self, Told, authorization, detail, under};
use crate::cli::{CancelArgs, WatchArgs};
use crate::exit::{DONE, FAILED, Failure};
use crate::output;

/// How often a watched job is asked for: at first, and at most once it takes long.
const FIRST: Duration = Duration::from_millis(200);
const LAST: Duration = Duration::from_secs(2);
/// So many questions in a row may go without an answer: a gateway that is replaced is back by then.
const SILENT: u32 = 15;

/// Calls jobs off, each by itself.
pub async fn cancel(args: CancelArgs) -> Result<u8, Failure> {
    let mut code = DONE;
    for id in &args.ids {
        let url = under("--url", &args.gateway.url, &format!("/v1/jobs/{id}/cancel"))?;
        let key = authorization(args.gateway.api_key.as_deref())?;
        let said = match client::post(&url, key, &json!({})).await {
            Err(reason) => Err((None, reason)),
            Ok((status, text)) => {
                let body: Value = serde_json::from_str(&text).unwrap_or_default();
                match status {
                    StatusCode::OK => Ok(()),
                    _ => Err((
                        body["jobStatus"].as_str().map(str::to_owned),
                        detail(&body, status),
                    )),
                }
            }
        };
        let (status, reason) = match said {
            Ok(()) => (Some("cancelled".to_owned()), None),
            Err((status, reason)) => (status, Some(reason)),
        };
        if reason.is_some() {
            code = FAILED;
        }
        if args.json {
            let object = json!({ "jobId": id, "cancelled": reason.is_none(), "status": status, "reason": reason });
            output::line(object.to_string());
        } else {
            match reason {
                None => output::line(format!("job {id} is cancelled")),
                Some(reason) => output::complain(format!("job {id} is not cancelled: {reason}")),
            }
        }
    }
    Ok(code)
}

/// Tells what changes about a job until it has ended.
pub async fn watch(args: WatchArgs) -> Result<u8, Failure> {
    let (mut shown, mut pause, mut silent) = (None, FIRST, 0);
    loop {
        match client::status(&args.gateway, args.id).await? {
            Told::Status(body) => {
                silent = 0;
                let state = State::of(&body);
                if shown.as_ref() != Some(&state) {
                    state.say(args.id, &body, args.json);
                    pause = FIRST;
                }
                if state.is_ended() {
                    return Ok(match state.status == Status::Completed.as_str() {
                        true => DONE,
                        false => FAILED,
                    });
                }
                shown = Some(state);
            }
            Told::None(reason) => return Err(Failure::failed(reason)),
            Told::Nothing(reason) => {
                silent += 1;
                if shown.is_none() || silent > SILENT {
                    return Err(Failure::failed(reason));
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5).min(LAST);
    }
}

/// What of a status is worth a line when it changes.
#[derive(Debug, PartialEq)]
struct State {
    status: String,
    attempt: i64,
    progress: Value,
}

impl State {
    fn of(body: &Value) -> Self {
        Self {
            status: body["status"].as_str().unwrap_or_default().to_owned(),
            attempt: body["attempt"].as_i64().unwrap_or_default(),
            progress: body["progress"].clone(),
        }
    }

    fn is_ended(&self) -> bool {
        let status = self.status.parse::<Status>();
        status.is_ok_and(Status::is_terminal)
    }

    fn say(&self, id: JobId, body: &Value, as_json: bool) {
        let at = rfc3339(now_millis());
        if as_json {
            let line = json!({
                "at": at,
                "jobId": id,
                "status": self.status,
                "attempt": self.attempt,
                "progress": self.progress,
                "error": body["error"],
            });
            output::line(line.to_string());
            return;
        }
        let mut line = format!("{at}  {:<20} attempt {}", self.status, self.attempt);
        if let Some(percent) = self.progress["percent"].as_f64() {
            line.push_str(&format!("  {percent} %"));
        }
        for text in [&self.progress["message"], &body["error"]["message"]] {
            if let Some(text) = text.as_str() {
                line.push_str(&format!("  {text}"));
            }
        }
        output::line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_when_status_attempt_or_progress_changes() {
        let body = json!({ "status": "processing", "attempt": 1, "progress": { "percent": 10.0 }, "updatedAt": "x" });
        let mut later = body.clone();
        later["updatedAt"] = json!("y");
        assert_eq!(State::of(&body), State::of(&later));
        for (name, value) in [
            ("status", json!("retrying")),
            ("attempt", json!(2)),
            ("progress", json!({ "percent": 20.0 })),
        ] {
            let mut other = body.clone();
            other[name] = value;
            assert_ne!(State::of(&body), State::of(&other), "{name}");
        }
        assert!(!State::of(&body).is_ended());
        for ended in [
            "completed",
            "failed",
            "dead-lettered",
            "cancelled",
            "expired",
        ] {
            assert!(State::of(&json!({ "status": ended })).is_ended(), "{ended}");
        }
        assert!(!State::of(&json!({})).is_ended());
    }
}
