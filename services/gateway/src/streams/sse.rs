//! A job's events as an event stream.
//!
//! The stream is asked for its next piece only when the connection has room: nothing is queued for a client that is slow.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use bytes::Bytes;
use futures::Stream;
use tidegate_runtime::metrics::OpenStream;
use tokio::time::Instant;

use super::feed::Feed;

/// For browsers: how long to wait before connecting again, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";
const HEARTBEAT: &[u8] = b": still here\n\n";
const STOPPING: &[u8] = b": this gateway is shutting down\n\n";

/// The response, whose body is sent as things happen.
pub fn respond(feed: Feed, open: OpenStream) -> HttpResponse {
    let heartbeat = feed.state().settings.heartbeat;
    let stream = Sse {
        feed,
        heartbeat,
        beat: Instant::now() + heartbeat,
        at: At::Beginning,
        _open: open,
    };
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        // Neither kept, nor packed, nor held back by anybody on the way.
        .insert_header((header::CACHE_CONTROL, "no-store, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(stream.pieces())
}

struct Sse {
    feed: Feed,
    heartbeat: Duration,
    beat: Instant,
    at: At,
    _open: OpenStream,
}

#[derive(PartialEq, Eq)]
enum At {
    Beginning,
    Middle,
    End,
}

impl Sse {
    fn pieces(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(self, |mut this| async move {
            let piece = this.next().await?;
            this.beat = Instant::now() + this.heartbeat;
            Some((Ok(piece), this))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        match self.at {
            At::Beginning => {
                self.at = At::Middle;
                return Some(Bytes::from_static(RETRY.as_bytes()));
            }
            At::Middle => {}
            At::End => return None,
        }
        let stop = self.feed.state().stop.intake.clone();
        tokio::select! {
            biased;
            event = self.feed.next() => event.map(|event| event.sse()),
            () = stop.cancelled() => {
                self.at = At::End;
                Some(Bytes::from_static(STOPPING))
            }
            () = tokio::time::sleep_until(self.beat) => Some(Bytes::from_static(HEARTBEAT)),
        }
    }
}
