//! `tidegate jobs cancel`: calls jobs off.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::client::{self, authorization, detail, under};
use crate::cli::CancelArgs;
use crate::exit::{DONE, FAILED, Failure};
use crate::output;

/// Calls jobs off, each by itself.
pub async fn run(args: CancelArgs) -> Result<u8, Failure> {
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
