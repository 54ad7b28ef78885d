//! `tidegate jobs list` and `types list`: what a gateway tells of many at once.

use serde_json::{Map, Value, json};

use super::client::{self, Pages, text};
use crate::cli::{ListJobsArgs, ListTypesArgs};
use crate::exit::Failure;
use crate::output;

const JOBS: Pages<'_> = Pages {
    path: "/v1/jobs",
    none: "no jobs",
    columns: &[
        "accepted", "job", "type", "tier", "status", "attempt", "updated",
    ],
    row,
    items: "jobs",
    next: "next",
    page: 200,
};

/// The newest jobs that the filter takes.
pub async fn jobs(args: ListJobsArgs) -> Result<(), Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    JOBS.show(&args.gateway, &filter(&args), limit, args.json)
        .await
}

fn filter(args: &ListJobsArgs) -> Map<String, Value> {
    let status = (!args.status.is_empty()).then(|| args.status.join(","));
    let parts = [
        ("status", &status),
        ("type", &args.job_type),
        ("tier", &args.tier),
        ("since", &args.since),
        ("until", &args.until),
    ];
    let parts = parts.into_iter();
    parts
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
        .collect()
}

fn row(job: &Value) -> Vec<String> {
    vec![
        text(job, "createdAt"),
        text(job, "jobId"),
        text(job, "type"),
        text(job, "tier"),
        text(job, "status"),
        job["attempt"].to_string(),
        text(job, "updatedAt"),
    ]
}

/// The job types that a gateway has in force.
pub async fn types(args: ListTypesArgs) -> Result<(), Failure> {
    let body = client::ask(&args.gateway, "/v1/job-types", Map::new()).await?;
    let none = Vec::new();
    let types = body["types"].as_array().unwrap_or(&none);
    if args.json {
        for job_type in types {
            output::line(job_type.to_string());
        }
        return Ok(());
    }
    let columns = [
        "type", "pool", "tier", "mode", "attempt", "attempts", "handler", "paused",
    ];
    let rows: Vec<_> = types.iter().map(type_row).collect();
    output::rows("no job types", &columns, &rows);
    Ok(())
}

fn type_row(job_type: &Value) -> Vec<String> {
    let mode = match job_type["mode"].as_str() {
        Some("wait") => format!("wait {}", text(job_type, "wait")),
        _ => text(job_type, "mode"),
    };
    let paused = match job_type["paused"].as_bool() {
        Some(true) => format!("until {}", text(job_type, "until")),
        Some(false) => "no".to_owned(),
        None => "not known".to_owned(),
    };
    vec![
        text(job_type, "type"),
        text(job_type, "pool"),
        text(job_type, "tier"),
        mode,
        text(job_type, "attemptTimeout"),
        job_type["retry"]["attempts"].to_string(),
        text(job_type, "handler"),
        paused,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_one_row_whatever_is_known_of_its_pause() {
        let mut job_type = json!({
            "type": "a", "pool": "gpu", "tier": "low", "mode": "wait", "wait": "10s", "attemptTimeout": "1m",
            "retry": { "attempts": 3 }, "handler": "echo", "paused": null,
        });
        let row = [
            "a",
            "gpu",
            "low",
            "wait 10s",
            "1m",
            "3",
            "echo",
            "not known",
        ];
        assert_eq!(type_row(&job_type), row);
        job_type["mode"] = json!("async");
        (job_type["paused"], job_type["until"]) = (json!(true), json!("t"));
        let row = type_row(&job_type);
        assert_eq!((&row[3][..], &row[7][..]), ("async", "until t"));
        job_type["paused"] = json!(false);
        assert_eq!(type_row(&job_type)[7], "no");
    }
}
