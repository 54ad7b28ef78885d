//! A job's events over a WebSocket. Nothing is expected of the client but pongs.

use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use actix_ws::{
    CloseCode, CloseReason, Closed, Item, Message, MessageStream, ProtocolError, Session,
};
use tidegate_runtime::metrics::OpenStream;
use tokio::time::Instant;
use url::Url;

use super::feed::Feed;
use crate::problem::ApiError;

/// Largest frame that a client may send, in bytes.
const FRAME: usize = 4 << 10;
/// A client that lets so many heartbeats pass without a frame is taken for dead.
const SILENT: u32 = 3;

/// Whether the request asks for a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// A page of another site may not open a socket here: unlike other answers, browsers let it read what comes.
///
/// # Errors
/// [`ApiError::ForeignOrigin`].
pub fn check_origin(headers: &HeaderMap, public_url: Option<&str>) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    let site = origin.split_once("://").map(|(_, site)| site);
    let public = public_url.and_then(|url| Url::parse(url).ok());
    let public = public.map(|url| url.origin().ascii_serialization());
    match site.is_some_and(|site| Some(site) == host) || public.as_deref() == Some(origin) {
        true => Ok(()),
        false => Err(ApiError::ForeignOrigin),
    }
}

/// Takes the connection over; `None` in place of a feed: there is nothing to be told.
///
/// # Errors
/// [`ApiError::MalformedHeader`]: no proper handshake.
pub fn respond(
    req: &HttpRequest,
    payload: Payload,
    feed: Option<Feed>,
    open: OpenStream,
) -> Result<HttpResponse, ApiError> {
    let upgraded = actix_ws::handle(req, payload);
    let (response, session, messages) = upgraded.map_err(|_| ApiError::MalformedHeader {
        name: "Upgrade",
        allowed: "a GET with `Upgrade: websocket`, `Connection: Upgrade`, `Sec-WebSocket-Version: 13` and \
                  `Sec-WebSocket-Key`"
            .to_owned(),
    })?;
    let messages = messages.max_frame_size(FRAME);
    actix_web::rt::spawn(async move {
        match feed {
            Some(feed) => serve(feed, session, messages).await,
            None => {
                let _ = session.close(Some(CloseCode::Normal.into())).await;
            }
        }
        drop(open);
    });
    Ok(response)
}

/// Until the job has ended, somebody closes, or the client is too slow.
async fn serve(mut feed: Feed, mut session: Session, mut messages: MessageStream) {
    let settings = &feed.state().settings;
    let (heartbeat, stalled) = (settings.heartbeat, settings.stalled_after);
    let stop = feed.state().stop.intake.clone();
    let mut beat = Instant::now() + heartbeat;
    let mut heard = Instant::now();
    let reason = loop {
        let sent = tokio::select! {
            biased;
            event = feed.next() => match event {
                Some(event) => within(stalled, session.text(event.message())).await,
                None => break close(CloseCode::Normal, "that was all"),
            },
            () = stop.cancelled() => break close(CloseCode::Away, "this gateway is shutting down"),
            message = messages.recv() => {
                heard = Instant::now();
                match judge(message) {
                    Heard::Fine => Ok(()),
                    Heard::Ping(bytes) => within(stalled, session.pong(&bytes)).await,
                    Heard::Gone => return,
                    Heard::Close(reason) => break reason,
                }
            }
            () = tokio::time::sleep_until(beat) => {
                if heard.elapsed() >= heartbeat * SILENT {
                    break close(CloseCode::Policy, "no answer to pings");
                }
                beat = Instant::now() + heartbeat;
                within(stalled, session.ping(b"")).await
            }
        };
        // A client that takes nothing would take no farewell either.
        if sent.is_err() {
            return;
        }
    };
    let _ = within(stalled, session.close(Some(reason))).await;
}

/// What a client's frame asks for.
enum Heard {
    Fine,
    Ping(bytes::Bytes),
    /// The connection is no more.
    Gone,
    Close(CloseReason),
}

fn judge(message: Option<Result<Message, ProtocolError>>) -> Heard {
    match message {
        None | Some(Err(ProtocolError::Io(_))) => Heard::Gone,
        Some(Ok(Message::Pong(_) | Message::Nop)) => Heard::Fine,
        Some(Ok(Message::Ping(bytes))) => Heard::Ping(bytes),
        Some(Ok(Message::Close(_))) => Heard::Close(CloseCode::Normal.into()),
        Some(Ok(Message::Binary(_) | Message::Continuation(Item::FirstBinary(_)))) => {
            Heard::Close(close(CloseCode::Unsupported, "nothing is taken here"))
        }
        Some(Ok(Message::Text(_) | Message::Continuation(_))) => {
            Heard::Close(close(CloseCode::Policy, "nothing is taken here"))
        }
        Some(Err(ProtocolError::Overflow)) => {
            Heard::Close(close(CloseCode::Size, "frames have 4 KiB at most"))
        }
        Some(Err(_)) => Heard::Close(CloseCode::Protocol.into()),
    }
}

fn close(code: CloseCode, why: &str) -> CloseReason {
    CloseReason {
        code,
        description: Some(why.to_owned()),
    }
}

async fn within(
    limit: Duration,
    sending: impl Future<Output = Result<(), Closed>>,
) -> Result<(), Closed> {
    let sent = tokio::time::timeout(limit, sending).await;
    sent.unwrap_or(Err(Closed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn headers(host: &'static str, origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if !origin.is_empty() {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    #[test]
    fn pages_of_other_sites_open_no_sockets() {
        let public = Some("https://jobs.example.com/tidegate");
        for (host, origin, public, fine) in [
            ("127.0.0.1:8080", "", None, true),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", None, true),
            ("127.0.0.1:8080", "http://127.0.0.1:8081", None, false),
            ("127.0.0.1:8080", "https://evil.example", None, false),
            ("127.0.0.1:8080", "null", None, false),
            ("inside:8080", "https://jobs.example.com", public, true),
            ("inside:8080", "http://jobs.example.com", public, false),
            ("inside:8080", "https://evil.example", public, false),
        ] {
            let checked = check_origin(&headers(host, origin), public);
            assert_eq!(checked.is_ok(), fine, "{host} {origin}");
        }
    }

    #[test]
    fn what_is_not_expected_closes_with_its_code() {
        let code = |message| match judge(Some(message)) {
            Heard::Close(reason) => u16::from(reason.code),
            _ => 0,
        };
        assert_eq!(code(Ok(Message::Text("x".into()))), 1008);
        assert_eq!(code(Ok(Message::Binary("x".into()))), 1003);
        let first = Item::FirstBinary("x".into());
        assert_eq!(code(Ok(Message::Continuation(first))), 1003);
        let first = Item::FirstText("x".into());
        assert_eq!(code(Ok(Message::Continuation(first))), 1008);
        assert_eq!(code(Err(ProtocolError::Overflow)), 1009);
        assert_eq!(code(Err(ProtocolError::UnmaskedFrame)), 1002);
        assert_eq!(code(Ok(Message::Close(None))), 1000);
        assert_eq!(code(Ok(Message::Pong("".into()))), 0);
    }
}
