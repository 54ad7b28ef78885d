//! `tidegate submit`: a small client, for trying things out and for scripts.

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use tidegate_contract::JobType;

use super::client;
use crate::cli::SubmitArgs;
use crate::exit::{self, Failure};
use crate::output;

/// Longest that a gateway lets a request wait unless it is configured otherwise, in seconds.
const USUAL_WAIT_CAP: u32 = 30;
/// What a request may take besides its wait.
const SLACK: Duration = Duration::from_secs(15);

/// Submits the job, prints the body of the answer, and gives the exit code.
pub async fn run(args: SubmitArgs) -> Result<u8, Failure> {
    let url = address(&args.url, &args.job_type)?;
    let headers = headers(
        args.wait,
        args.r#async,
        args.api_key.as_deref(),
        &args.header,
    )?;
    let body = body(&args.data)?;
    let limit = Duration::from_secs(u64::from(args.wait.unwrap_or(USUAL_WAIT_CAP))) + SLACK;
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(limit)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot make an HTTP client")?;
    let answer = client
        .request(Method::POST, url.clone())
        .headers(headers)
        .body(body)
        .send()
        .await
        .map_err(|error| Failure::failed(client::unreachable(&url, &error)))?;
    let code = code(answer.status(), answer.headers());
    if code == exit::FAILED {
        output::complain(format!("{url} answered {}", answer.status()));
    }
    let bytes = answer
        .bytes()
        .await
        .map_err(|error| Failure::failed(client::unreachable(&url, &error)))?;
    output::bytes(&bytes);
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        output::line("");
    }
    Ok(code)
}

/// What an answer means to a script. A `202` with a `Location` is the gateway's: the job has not ended. One without
/// is the job's own answer.
fn code(status: StatusCode, headers: &HeaderMap) -> u8 {
    if status == StatusCode::ACCEPTED && headers.contains_key(LOCATION) {
        exit::PENDING
    } else if status.is_success() {
        exit::DONE
    } else {
        exit::FAILED
    }
}

/// Where a job of a type is posted to.
pub fn address(base: &str, job_type: &str) -> Result<Url, Failure> {
    let job_type: JobType = job_type.parse().map_err(Failure::usage)?;
    let url: Url = format!("{}/v1/jobs/{job_type}", base.trim_end_matches('/'))
        .parse()
        .map_err(|error| Failure::usage(format!("--url {base}: {error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(Failure::usage(format!(
            "--url {base}: `{other}` is not a scheme to submit with: http or https"
        ))),
    }
}

/// The headers of a submit; those given by hand, `Name: value`, replace the others.
pub fn headers(
    wait: Option<u32>,
    is_async: bool,
    api_key: Option<&str>,
    given: &[String],
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = wait {
        let prefer = HeaderValue::from_str(&format!("wait={seconds}")).map_err(Failure::usage)?;
        headers.insert("prefer", prefer);
    } else if is_async {
        headers.insert("prefer", HeaderValue::from_static("respond-async"));
    }
    if let Some(value) = client::authorization(api_key)? {
        headers.insert("authorization", value);
    }
    for given in given {
        let malformed = || Failure::usage(format!("--header `{given}`: expected `Name: value`"));
        let (name, value) = given.split_once(':').ok_or_else(malformed)?;
        let name: HeaderName = name.trim().parse().map_err(|_| malformed())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| malformed())?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The text itself, `@FILE`, or `-` for standard input.
pub fn body(data: &str) -> Result<Vec<u8>, Failure> {
    if data == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
        return Ok(bytes);
    }
    match data.strip_prefix('@') {
        Some(file) => {
            std::fs::read(file).map_err(|error| Failure::usage(format!("--data @{file}: {error}")))
        }
        None => Ok(data.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_a_pending_job_from_an_answer() {
        let none = HeaderMap::new();
        let mut location = HeaderMap::new();
        location.insert(LOCATION, HeaderValue::from_static("/v1/jobs/x"));
        assert_eq!(code(StatusCode::OK, &none), 0);
        assert_eq!(code(StatusCode::ACCEPTED, &location), 3);
        assert_eq!(code(StatusCode::ACCEPTED, &none), 0);
        assert_eq!(code(StatusCode::BAD_GATEWAY, &none), 1);
        assert_eq!(code(StatusCode::SERVICE_UNAVAILABLE, &location), 1);
    }

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        let url = address("http://127.0.0.1:8080/", "echo").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:8080/v1/jobs/echo");
        assert!(address("ftp://127.0.0.1", "echo").is_err());
        assert!(address("http://127.0.0.1", "No Such").is_err());
        assert!(address("127.0.0.1:8080", "echo").is_err());
    }
}
