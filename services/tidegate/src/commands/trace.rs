//! `tidegate trace`: the spans of a job as a tree.

use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use tidegate_contract::JobId;

use super::client::{self, Told};
use crate::cli::TraceArgs;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::view::spans::{self, Span};
use crate::view::tree;
use crate::{output, settings};

/// Around the time that a job's id carries, in milliseconds: where Jaeger looks for it.
const EARLIER: i64 = 60_000;
const LATER: i64 = 24 * 3_600_000;
/// The attribute that all spans of a job have.
const JOB: &str = "messaging.message.conversation_id";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Job(JobId),
    Trace(String),
}

/// Prints the tree.
pub async fn run(args: TraceArgs) -> Result<(), Failure> {
    let asked = asked(&args.id)?;
    let settings = settings::load(&args.settings)?.value;
    let (trace, spans) = match settings.telemetry.query_url.clone() {
        Some(base) => of_jaeger(&args, &settings, &base, &asked).await?,
        None => of_dev(&args).await?,
    };
    if spans.is_empty() {
        return Err(Failure::failed(format!(
            "trace {trace} has no spans: it was not sampled (telemetry.sample_ratio), or they have not come in yet"
        )));
    }
    if args.json {
        let nodes = tree::order(&spans).into_iter();
        let nodes: Vec<_> = nodes
            .map(|node| json!({"depth": node.depth, "span": node.span}))
            .collect();
        output::line(json!({ "traceId": trace, "spans": nodes }).to_string());
        return Ok(());
    }
    let start = spans.iter().map(|span| span.start_us).min().unwrap_or(0);
    let end = spans
        .iter()
        .map(|span| span.start_us + span.duration_us)
        .max()
        .unwrap_or(0);
    let ms = (end - start) as f64 / 1000.0;
    output::line(format!("trace {trace}: {} spans, {ms:.3} ms", spans.len()));
    let columns = ["span", "kind", "service", "start ms", "ms", "status", ""];
    output::line(output::table(&columns, &tree::rows(&spans)));
    Ok(())
}

fn asked(id: &str) -> Result<Asked, Failure> {
    if let Ok(id) = id.parse() {
        return Ok(Asked::Job(id));
    }
    let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    match hex {
        true => Ok(Asked::Trace(id.to_ascii_lowercase())),
        false => Err(Failure::usage(format!(
            "`{id}` is neither a job id nor a trace id of 32 hexadecimal digits"
        ))),
    }
}

/// From the memory of `dev`.
async fn of_dev(args: &TraceArgs) -> Result<(String, Vec<Span>), Failure> {
    let url = client::under(
        "--url",
        &args.gateway.url,
        &format!("/dev/traces/{}", args.id),
    )?;
    let (status, text) = client::get(&url, None).await.map_err(Failure::failed)?;
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND if body["code"] == "unknown-trace" => {
            return Err(Failure::failed(client::detail(&body, status)));
        }
        _ => {
            return Err(Failure::failed(format!(
                "{} keeps no spans ({status}), only `tidegate dev` does: say where Jaeger is, with --set telemetry.query_url=URL",
                args.gateway.url
            )));
        }
    }
    let spans = spans::of_dev(&text);
    let trace = body["traceId"].as_str().unwrap_or_default().to_owned();
    let spans = spans
        .ok_or_else(|| Failure::failed(format!("{url} does not answer as `tidegate dev` does")))?;
    Ok((trace, spans))
}

/// From Jaeger's query API.
async fn of_jaeger(
    args: &TraceArgs,
    settings: &Settings,
    base: &str,
    asked: &Asked,
) -> Result<(String, Vec<Span>), Failure> {
    let trace = match asked {
        Asked::Trace(id) => id.clone(),
        Asked::Job(id) => match trace_of(args, *id).await? {
            Ok(trace) => trace,
            Err(reason) => {
                // The gateway may be away, or the row gone; the trace may still be there.
                let found = search(settings, base, *id).await?;
                found.ok_or_else(|| {
                    Failure::failed(format!("{reason}; and Jaeger finds no span of job {id}"))
                })?
            }
        },
    };
    let url = client::under("telemetry.query_url", base, &format!("/api/traces/{trace}"))?;
    let answer = ask(&url).await?;
    Ok((trace, answer))
}

/// The trace of a job as its status tells it, or why not.
async fn trace_of(args: &TraceArgs, id: JobId) -> Result<Result<String, String>, Failure> {
    Ok(match client::status(&args.gateway, id).await? {
        Told::Status(status) => match status["traceId"].as_str() {
            Some(trace) => Ok(trace.to_owned()),
            None => Err(format!("job {id} has no trace")),
        },
        Told::None(reason) | Told::Nothing(reason) => Err(reason),
    })
}

/// The id of the trace in which Jaeger finds the job.
async fn search(settings: &Settings, base: &str, id: JobId) -> Result<Option<String>, Failure> {
    let mut url = client::under("telemetry.query_url", base, "/api/traces")?;
    let created = id.created_at();
    url.query_pairs_mut()
        .append_pair(
            "service",
            &format!("{}-gateway", settings.telemetry.service_name),
        )
        .append_pair("tags", &json!({ JOB: id }).to_string())
        .append_pair("start", &((created - EARLIER) * 1000).to_string())
        .append_pair("end", &((created + LATER) * 1000).to_string())
        .append_pair("limit", "1");
    let (_, body) = jaeger(&url).await?;
    Ok(body["data"][0]["traceID"].as_str().map(str::to_owned))
}

async fn ask(url: &Url) -> Result<Vec<Span>, Failure> {
    let (status, body) = jaeger(url).await?;
    if status == StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    spans::of_jaeger(&body).ok_or_else(|| {
        let said = body["errors"][0]["msg"]
            .as_str()
            .unwrap_or("no trace in the answer");
        Failure::failed(format!("{url} answered {status}: {said}"))
    })
}

async fn jaeger(url: &Url) -> Result<(StatusCode, Value), Failure> {
    let (status, text) = client::get(url, None).await.map_err(Failure::failed)?;
    let body = serde_json::from_str(&text).map_err(|_| {
        Failure::failed(format!(
            "{url} answered {status} and no JSON: is it Jaeger's query API?"
        ))
    })?;
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_jobs_and_traces_are_told_apart() {
        let id = JobId::generate();
        assert_eq!(asked(&id.to_string()).unwrap(), Asked::Job(id));
        let trace = "4BF92F3577B34DA6A3CE929D0E0E4736";
        assert_eq!(
            asked(trace).unwrap(),
            Asked::Trace(trace.to_ascii_lowercase())
        );
        assert!(asked("nonsense").is_err());
        assert!(asked("../../../../etc/passwd-----------").is_err());
    }
}
