//! Decoding of job records: at once where the schema is known, else as soon as the registry has answered.

use std::pin::Pin;
use std::task::Poll;

use tidegate_contract::JobMessage;
use tidegate_kafka::{Codec, DecodeError, Record};
use tidegate_runtime::backoff::Backoff;
use tokio::sync::mpsc;

use crate::held::Held;
use crate::lane::Place;

pub(crate) type Decoding = Pin<Box<dyn Future<Output = Result<JobMessage, DecodeError>> + Send>>;

/// A record whose schema has come, or will not.
pub(crate) struct Decoded {
    pub place: Place,
    pub record: Record,
    pub result: Result<JobMessage, DecodeError>,
}

/// Begins to decode.
pub(crate) fn decoding(codec: &Codec, record: &Record) -> Decoding {
    let codec = codec.clone();
    let payload = record.payload.clone().unwrap_or_default();
    // Outside tokio's budget, which would make it look pending now and then.
    Box::pin(tokio::task::unconstrained(async move {
        codec.decode_job(&payload).await
    }))
}

/// Polls a future that is mostly ready at once. What it returns as pending must be polled on.
pub(crate) fn poll_once(decoding: &mut Decoding) -> Option<Result<JobMessage, DecodeError>> {
    let waker = std::task::Waker::noop();
    match decoding
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker))
    {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Asks until the registry answers.
pub(crate) async fn wait_for_schema(
    first: Decoding,
    codec: Codec,
    place: Place,
    record: Record,
    held: Held,
    tell: mpsc::UnboundedSender<Decoded>,
) {
    // The first try has seen a waker that wakes nobody; it is begun anew.
    drop(first);
    let backoff = Backoff::default();
    let mut failures = 0;
    let result = loop {
        match decoding(&codec, &record).await {
            Err(DecodeError::RegistryUnavailable(problem)) => {
                if !place.is_current() {
                    return;
                }
                held.hold(&place.lane.topic, record.partition, &problem);
                let pause = backoff.delay(failures, rand::random_range(0.5..1.0));
                failures = failures.saturating_add(1);
                tokio::time::sleep(pause).await;
            }
            result => break result,
        }
    };
    let _ = tell.send(Decoded {
        place,
        record,
        result,
    });
}
