//! Every way to get a job's answer, in Rust.
//!
//! `tidegate-example-client hold|poll|long-poll|events|websocket|webhook TYPE BODY [CALLBACK-URL]`; `TIDEGATE_URL` and
//! `TIDEGATE_API_KEY` say where and as whom. [`gateway`] submits jobs and reads answers, [`polling`] asks for the status,
//! [`events`] follows a stream and [`socket`] a WebSocket.

// What it is told is what it prints.
#![allow(clippy::print_stdout)]

mod events;
mod gateway;
mod polling;
mod socket;
mod sse;

use std::process::ExitCode;

use anyhow::{Result, bail};
use reqwest::StatusCode;
use reqwest::header::LOCATION;

use crate::gateway::{Gateway, document};

const USAGE: &str = "usage: tidegate-example-client hold|poll|long-poll|events|websocket|webhook TYPE BODY [CALLBACK-URL]";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let gateway = Gateway::from_environment()?;
    match arguments[..] {
        ["hold", job_type, body] => hold(&gateway, job_type, body).await,
        ["poll", job_type, body] => {
            let job = gateway.accept(job_type, body).await?;
            polling::poll(&gateway, &job.status_url).await
        }
        ["long-poll", job_type, body] => {
            let job = gateway.accept(job_type, body).await?;
            polling::long_poll(&gateway, &job.status_url).await
        }
        ["events", job_type, body] => {
            let job = gateway.accept(job_type, body).await?;
            events::follow(&gateway, &job.id).await
        }
        ["websocket", job_type, body] => {
            let job = gateway.accept(job_type, body).await?;
            socket::follow(&gateway, &job.id).await
        }
        ["webhook", job_type, body, callback] => webhook(&gateway, job_type, body, callback).await,
        _ => bail!(USAGE),
    }
}

/// Waits for the answer in the request itself.
async fn hold(gateway: &Gateway, job_type: &str, body: &str) -> Result<()> {
    let request = gateway.submit(job_type, body).header("prefer", "wait=25");
    let answer = request.send().await?;
    let location = answer.headers().get(LOCATION);
    let location = location.and_then(|url| url.to_str().ok().map(str::to_owned));
    match location {
        // It takes longer than that, and goes on.
        Some(url) if answer.status() == StatusCode::ACCEPTED => {
            println!("accepted");
            polling::poll(gateway, &url).await
        }
        _ => {
            println!("completed: {}", document(answer, StatusCode::OK).await?);
            Ok(())
        }
    }
}

/// Nothing is waited for: the end goes to a URL, such as that of a receiver in `examples/webhooks`.
async fn webhook(gateway: &Gateway, job_type: &str, body: &str, callback: &str) -> Result<()> {
    let request = gateway
        .submit(job_type, body)
        .header("prefer", "respond-async")
        .header("tidegate-callback-url", callback);
    let accepted = document(request.send().await?, StatusCode::ACCEPTED).await?;
    let id = accepted["jobId"].as_str().unwrap_or_default();
    println!("accepted: job {id}, its end goes to {callback}");
    Ok(())
}
