//! The event stream of a job, from a gateway.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use tidegate_contract::JobId;
use tokio::time::timeout;

use super::sse::{Event, Reader};
use crate::cli::GatewayArgs;
use crate::commands::client::{LIMIT, authorization, client, detail, under, unreachable};
use crate::exit::Failure;

/// A gateway says every 15 s that it is there, unless it is told otherwise (`gateway.heartbeat`).
const SILENCE: Duration = Duration::from_secs(45);

/// Where the events of a job are.
pub struct Source {
    http: Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

/// Why there is no stream, or none any more.
#[derive(Debug)]
pub enum NoStream {
    /// It may be there later.
    Now(String),
    /// Nor will there be one.
    Ever(String),
    /// The job has ended, and the event that was named was its last.
    Known,
}

impl Source {
    /// # Errors
    /// Arguments that are wrong.
    pub fn new(gateway: &GatewayArgs, id: JobId) -> Result<Self, Failure> {
        Ok(Self {
            // No limit on the whole: a stream lasts as long as its job.
            http: client(None).map_err(Failure::failed)?,
            url: under("--url", &gateway.url, &format!("/v1/jobs/{id}/events"))?,
            authorization: authorization(gateway.api_key.as_deref())?,
        })
    }

    /// The stream, behind the event that is named.
    pub async fn open(&self, last: Option<&str>) -> Result<Stream, NoStream> {
        let mut request = self.http.get(self.url.clone());
        request = request.header(ACCEPT, "text/event-stream");
        if let Some(key) = &self.authorization {
            request = request.header("authorization", key);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let url = &self.url;
        let answer = match timeout(LIMIT, request.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(NoStream::Now(unreachable(url, &error))),
            Err(_) => return Err(NoStream::Now(format!("{url} did not answer in time"))),
        };
        match answer.status() {
            StatusCode::OK if is_event_stream(&answer) => Ok(Stream {
                url: url.clone(),
                answer,
                reader: Reader::default(),
                events: VecDeque::new(),
            }),
            StatusCode::OK => Err(NoStream::Ever(format!(
                "{url} answered without an event stream: is it a gateway?"
            ))),
            StatusCode::NO_CONTENT => Err(NoStream::Known),
            status => Err(refused(url, status, answer).await),
        }
    }
}

fn is_event_stream(answer: &Response) -> bool {
    let media = answer.headers().get(CONTENT_TYPE);
    media.is_some_and(|media| media.as_bytes().starts_with(b"text/event-stream"))
}

async fn refused(url: &Url, status: StatusCode, answer: Response) -> NoStream {
    let text = timeout(LIMIT, answer.text()).await;
    let text = text.ok().and_then(Result::ok).unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let said = detail(&body, status);
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE if !body.is_null() => NoStream::Ever(said),
        StatusCode::UNAUTHORIZED => NoStream::Ever(format!("{said}: give --api-key")),
        StatusCode::TOO_MANY_REQUESTS => NoStream::Now(said),
        _ if status.is_server_error() => NoStream::Now(format!("{url} answered {status}: {said}")),
        _ => NoStream::Ever(format!("{url} answered {status}: {said}")),
    }
}

/// A stream that has begun.
pub struct Stream {
    url: Url,
    answer: Response,
    reader: Reader,
    events: VecDeque<Event>,
}

impl Stream {
    /// The next event.
    ///
    /// # Errors
    /// Why there is none any more.
    pub async fn next(&mut self) -> Result<Event, NoStream> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let broken = match timeout(SILENCE, self.answer.chunk()).await {
                Ok(Ok(Some(piece))) => {
                    self.events.extend(self.reader.push(&piece));
                    continue;
                }
                Ok(Ok(None)) => format!("{} has ended the stream", self.url),
                Ok(Err(_)) => format!("the stream from {} was cut", self.url),
                Err(_) => format!("nothing comes from {} any more", self.url),
            };
            return Err(NoStream::Now(broken));
        }
    }
}
