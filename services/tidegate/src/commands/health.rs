//! `tidegate health`: readiness as an exit code, for scripts and for containers that have no curl.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Url;
use serde_json::Value;

use crate::cli::HealthArgs;
use crate::exit::Failure;
use crate::output;

/// One question takes no longer: readiness is known, not looked for.
const LIMIT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(250);

/// Asks once, or until the answer is yes or the time is up.
pub async fn run(args: &HealthArgs) -> Result<(), Failure> {
    let url = address(&args.url)?;
    let client = reqwest::Client::builder()
        .timeout(LIMIT)
        // A health check is about the address that was given.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot make an HTTP client")?;
    let wait = Duration::from_secs(u64::from(args.wait));
    let begun = Instant::now();
    loop {
        match ask(&client, &url).await {
            Ok(said) => {
                output::line(said);
                return Ok(());
            }
            Err(reason) if begun.elapsed() >= wait => return Err(Failure::failed(reason)),
            Err(_) => tokio::time::sleep(PAUSE.min(wait)).await,
        }
    }
}

fn address(given: &str) -> Result<Url, Failure> {
    let mut url: Url = given
        .parse()
        .map_err(|error| Failure::usage(format!("{given}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::usage(format!(
            "{given}: give a URL with http:// or https://"
        )));
    }
    if url.path() == "/" {
        url.set_path("/readyz");
    }
    Ok(url)
}

/// What there is to say of a role that is ready, or why it is not.
async fn ask(client: &reqwest::Client, url: &Url) -> Result<String, String> {
    let answer = client.get(url.clone()).send().await;
    let answer = answer.map_err(|error| {
        // The innermost cause says what is wrong.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        format!("cannot reach {url}: {cause}")
    })?;
    let status = answer.status();
    let report: Value = answer.json().await.unwrap_or_default();
    if status.is_success() {
        return Ok(ready(&report));
    }
    Err(match reasons(&report) {
        reasons if reasons.is_empty() => format!("{url} answered {status}"),
        reasons => format!("not ready: {reasons}"),
    })
}

fn ready(report: &Value) -> String {
    let notes = report["notes"].as_array().into_iter().flatten();
    let notes: Vec<_> = notes.filter_map(Value::as_str).collect();
    match notes.as_slice() {
        [] => "ready".to_owned(),
        notes => format!("ready; {}", notes.join("; ")),
    }
}

fn reasons(report: &Value) -> String {
    let conditions = report["conditions"].as_array().into_iter().flatten();
    let unmet = conditions.filter(|condition| condition["ok"] == false);
    let reasons = unmet.map(|condition| {
        let text = |key: &str| condition[key].as_str().unwrap_or("unknown").to_owned();
        format!("{}: {}", text("name"), text("reason"))
    });
    reasons.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_url_without_a_path_stands_for_readiness() {
        let path = |given| address(given).unwrap().path().to_owned();
        assert_eq!(path("http://127.0.0.1:8080"), "/readyz");
        assert_eq!(path("http://127.0.0.1:8080/"), "/readyz");
        assert_eq!(path("http://127.0.0.1:8080/healthz"), "/healthz");
        for wrong in ["127.0.0.1:8080", "ftp://127.0.0.1", "nonsense"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reports_become_one_line() {
        let report = json!({"ready": false, "conditions": [
            {"name": "broker", "ok": false, "reason": "not available"},
            {"name": "store", "ok": true},
            {"name": "intake", "ok": false, "reason": "starting"},
        ]});
        assert_eq!(reasons(&report), "broker: not available; intake: starting");
        assert_eq!(ready(&json!({"notes": []})), "ready");
        assert_eq!(
            ready(&json!({"notes": ["one replica"]})),
            "ready; one replica"
        );
        assert_eq!(ready(&Value::Null), "ready");
    }
}
