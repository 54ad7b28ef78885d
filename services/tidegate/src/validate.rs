//! What no single part of the configuration can know to be wrong: how the parts go together.
//!
//! Each part reads its own keys and refuses unknown ones and values of another shape; this comes after.

use std::time::Duration;

use reqwest::Url;
use tidegate_contract::job_type::nearest_type;
use tidegate_contract::{HandlerSpec, JobType, JobTypeSpec};
use tidegate_gateway::{RouteKind, RouteSettings};
use tidegate_runtime::config::Loaded;

use crate::exit::Failure;
use crate::settings::Settings;

/// What a record holds besides the body: the request's headers, query and parameters, and the frame.
const RECORD_OVERHEAD: usize = 64 << 10;
/// Kafka must keep a job for longer than its deadline; beyond a year that is a mistake rather than a wish.
const LONGEST_DEADLINE: Duration = Duration::from_secs(366 * 24 * 3600);

/// One thing that is wrong, and what is allowed.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    /// Dotted. A route has no key of its own: its problems are those of `routes` and name it.
    key: String,
    message: String,
}

/// Checks the whole configuration.
///
/// # Errors
/// One line a problem, each naming the source of the setting, its key and what is allowed; code 2.
pub fn check(loaded: &Loaded<Settings>) -> Result<(), Failure> {
    let lines: Vec<_> = problems(&loaded.value)
        .iter()
        .flat_map(|problem| loaded.refuse(&problem.key, &problem.message).lines)
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(lines.join("\n")))
}

/// Whether two routes would answer the same requests.
pub fn clash(one: &RouteSettings, other: &RouteSettings) -> bool {
    method(one).eq_ignore_ascii_case(method(other)) && shape(&one.path) == shape(&other.path)
}

fn method(route: &RouteSettings) -> &str {
    match (&route.method, route.kind) {
        (Some(method), _) => method,
        (None, RouteKind::Submit) => "POST",
        (None, RouteKind::Status) => "GET",
    }
}

/// A path without the names of its parameters: `/orders/{id}` and `/orders/{order}` are the same.
fn shape(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => "{}",
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// What is wrong, without where it came from.
#[cfg(test)]
pub fn sentences(settings: &Settings) -> Vec<String> {
    let sentence = |problem: Problem| format!("{}: {}", problem.key, problem.message);
    problems(settings).into_iter().map(sentence).collect()
}

fn problems(settings: &Settings) -> Vec<Problem> {
    let mut found = Problems::default();
    sections(settings, &mut found);
    for (name, spec) in &settings.types {
        job_type(settings, name, spec, &mut found);
        callback(settings, name, spec, &mut found);
    }
    for (index, route) in settings.routes.iter().enumerate() {
        check_route(settings, index, route, &mut found);
    }
    found.0
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            key: key.into(),
            message: message.into(),
        });
    }
}

fn callback(settings: &Settings, name: &JobType, spec: &JobTypeSpec, found: &mut Problems) {
    let Some(callback) = &spec.callback else {
        return;
    };
    let key = || format!("types.{name}.callback.url");
    if let Err(error) = tidegate_callbacks::check_configured(&callback.url) {
        found.add(key(), error.to_string());
    }
    if settings.callbacks.keys.is_empty() {
        found.add(key(), "needs a key to sign with: give callbacks.keys");
    }
}

fn sections(settings: &Settings, found: &mut Problems) {
    if settings.kafka.brokers.trim().is_empty() {
        found.add("kafka.brokers", "is empty: give `host:port`");
    }
    let record = settings.kafka.max_record_bytes;
    let body = settings.gateway.body_limit;
    if body.saturating_add(RECORD_OVERHEAD) > record {
        found.add(
            "gateway.body_limit",
            format!(
                "{body} bytes do not fit a record of kafka.max_record_bytes = {record}: at most {}",
                record.saturating_sub(RECORD_OVERHEAD)
            ),
        );
    }
    if let Err(reason) = http_url(&settings.registry.url) {
        found.add("registry.url", reason);
    }
    let store = settings.store.url.expose();
    if !["sqlite:", "postgres://", "postgresql://"]
        .iter()
        .any(|scheme| store.starts_with(scheme))
    {
        found.add(
            "store.url",
            "is neither `sqlite:PATH` nor `postgres://USER:PASSWORD@HOST/DATABASE`",
        );
    }
    for (key, url) in [
        ("telemetry.otlp_endpoint", &settings.telemetry.otlp_endpoint),
        ("telemetry.query_url", &settings.telemetry.query_url),
    ] {
        if let Some(url) = url
            && let Err(reason) = http_url(url)
        {
            found.add(key, reason);
        }
    }
    if let Err(bad) = settings.callbacks.check() {
        found.add(bad.key, bad.message);
    }
    let ratio = settings.telemetry.sample_ratio;
    if !(0.0..=1.0).contains(&ratio) {
        found.add(
            "telemetry.sample_ratio",
            format!("{ratio} is not a share: 0 to 1"),
        );
    }
    let gateway = settings.gateway.check().map_err(|bad| bad.to_string());
    let worker = settings.worker.check().map_err(|bad| bad.to_string());
    let scheduler = settings.scheduler.check().map_err(|bad| bad.to_string());
    let notifier = settings.notifier.check().map_err(|bad| bad.to_string());
    for text in [gateway, worker, scheduler, notifier]
        .into_iter()
        .filter_map(Result::err)
    {
        // The text begins with the key.
        let (key, problem) = text.split_once(' ').unwrap_or((&text, "cannot be used"));
        found.add(key, problem);
    }
}

fn job_type(settings: &Settings, name: &JobType, spec: &JobTypeSpec, found: &mut Problems) {
    // Names with dots are quoted, as in TOML.
    let key = match name.as_str().contains('.') {
        true => format!("types.\"{name}\""),
        false => format!("types.{name}"),
    };
    match &spec.handler {
        HandlerSpec::Http { url, breaker, .. } => {
            if let Err(reason) = http_url(url) {
                found.add(format!("{key}.handler.url"), reason);
            }
            if let Err((setting, problem)) = breaker.check() {
                found.add(format!("{key}.handler.breaker.{setting}"), problem);
            }
        }
        HandlerSpec::Command { program, .. } => {
            if program.first().is_none_or(String::is_empty) {
                found.add(
                    format!("{key}.handler.program"),
                    "is empty: give the program and its arguments, such as [\"wc\", \"-w\"]",
                );
            }
        }
        HandlerSpec::Custom { name } if name.is_empty() => {
            found.add(format!("{key}.handler.name"), "is empty");
        }
        HandlerSpec::Custom { .. } | HandlerSpec::Echo => {}
    }
    let cap = settings.gateway.max_wait;
    if spec.wait > cap {
        found.add(
            format!("{key}.wait"),
            format!(
                "{} is over the cap gateway.max_wait = {}",
                humantime::format_duration(spec.wait),
                humantime::format_duration(cap)
            ),
        );
    }
    if spec.attempt_timeout.is_zero() {
        found.add(
            format!("{key}.attempt_timeout"),
            "is zero: nothing could run",
        );
    }
    if spec.deadline.is_zero() || spec.deadline > LONGEST_DEADLINE {
        found.add(
            format!("{key}.deadline"),
            format!(
                "{} is not from 1ms to 366days",
                humantime::format_duration(spec.deadline)
            ),
        );
    }
    if let Err((setting, problem)) = spec.retry.check() {
        found.add(format!("{key}.retry.{setting}"), problem);
    }
    for header in &spec.pass_headers {
        let is_name = reqwest::header::HeaderName::from_bytes(header.as_bytes()).is_ok();
        if !is_name || header.bytes().any(|b| b.is_ascii_uppercase()) {
            found.add(
                format!("{key}.pass_headers"),
                format!("`{header}` is not a header name in lower case"),
            );
        }
    }
}

/// What the gateway would refuse too, but only the gateway: a worker with the same file says it as well.
fn check_route(settings: &Settings, index: usize, route: &RouteSettings, found: &mut Problems) {
    let name = format!("{} {}", method(route), route.path);
    let mut add = |problem: String| found.add("routes", format!("{name}: {problem}"));
    let earlier = settings.routes.iter().take(index);
    if let Some(first) = earlier.into_iter().find(|other| clash(other, route)) {
        add(format!(
            "is the same as {} {}: take one away",
            method(first),
            first.path
        ));
    }
    match (route.kind, &route.job_type) {
        (RouteKind::Submit, None) => add("type is missing: name a job type".to_owned()),
        (RouteKind::Submit, Some(wanted)) if !settings.types.contains_key(wanted) => {
            let mend = match nearest_type(&settings.types, wanted.as_str()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add [types.{wanted}]"),
            };
            add(format!("there is no job type `{wanted}`: {mend}"));
        }
        (RouteKind::Status, _) if !route.path.contains("{id}") => {
            add("a status route names the job by `{id}`, such as /jobs/{id}".to_owned());
        }
        _ => {}
    }
}

fn http_url(text: &str) -> Result<(), String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        // The text may hold a password, so it is not repeated.
        Ok(url) => Err(format!(
            "`{}:` is not the scheme of an HTTP URL: http://… or https://…",
            url.scheme()
        )),
        Err(error) => Err(format!("is not a URL ({error}): http://… or https://…")),
    }
}
