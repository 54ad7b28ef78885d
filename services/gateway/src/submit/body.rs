//! Reading a request's body, within limits of size, time and memory.

use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::problem::{ApiError, clip};

/// Reads the whole body. What is announced as too large is refused before any of it is read, anything else as soon
/// as it goes over the limit. `memory` counts KiB over all requests; the permit is held as long as the body is.
pub async fn read<'a>(
    headers: &HeaderMap,
    payload: Payload,
    limit: usize,
    within: Duration,
    memory: &'a Semaphore,
) -> Result<(Bytes, Option<SemaphorePermit<'a>>), ApiError> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let given = String::from_utf8_lossy(encoding.as_bytes());
        return Err(ApiError::ContentEncoding(clip(&given)));
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    tokio::time::timeout(within, collect(payload, limit, memory))
        .await
        .unwrap_or(Err(ApiError::BodyTimeout(within)))
}

async fn collect(
    mut payload: Payload,
    limit: usize,
    memory: &Semaphore,
) -> Result<(Bytes, Option<SemaphorePermit<'_>>), ApiError> {
    let mut body = BytesMut::new();
    let mut held: Option<SemaphorePermit<'_>> = None;
    let mut room = 0;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::BodyBroken)?;
        if body.len() + chunk.len() > limit {
            return Err(ApiError::BodyTooLarge { limit });
        }
        let missing = (body.len() + chunk.len())
            .saturating_sub(room)
            .div_ceil(1024);
        if missing > 0 {
            let more = u32::try_from(missing)
                .ok()
                .and_then(|kib| memory.try_acquire_many(kib).ok())
                .ok_or(ApiError::Overloaded)?;
            room += missing * 1024;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), held))
}
