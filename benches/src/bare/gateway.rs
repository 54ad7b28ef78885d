//! Requests out to the jobs topic, answers in from the replies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::producer::{BaseRecord, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::Common;
use crate::kafka::Deliveries;

/// Longest that a request waits.
const LIMIT: Duration = Duration::from_secs(30);

type Waiting = Arc<Mutex<HashMap<Uuid, oneshot::Sender<Bytes>>>>;

struct State {
    producer: ThreadedProducer<Deliveries>,
    jobs: String,
    waiting: Waiting,
}

pub async fn run(common: &Common, listen: &str) -> anyhow::Result<()> {
    common.create_topics().await?;
    let consumer = common.consumer("gateway")?;
    let mut from_the_end = TopicPartitionList::new();
    from_the_end.add_partition_offset(&common.replies(), 0, Offset::End)?;
    consumer.assign(&from_the_end)?;
    let waiting = Waiting::default();
    tokio::spawn(complete(consumer, Arc::clone(&waiting)));
    let state = Data::new(State {
        producer: common.producer()?,
        jobs: common.jobs(),
        waiting,
    });
    let app = move || {
        App::new()
            .app_data(state.clone())
            .default_service(web::to(submit))
    };
    let server = HttpServer::new(app).bind(listen).context("cannot listen")?;
    eprintln!("bare gateway listens on http://{listen}");
    server.run().await?;
    Ok(())
}

async fn submit(state: Data<State>, body: Bytes) -> HttpResponse {
    let id = Uuid::now_v7();
    let key = id.to_string();
    let (answer, answered) = oneshot::channel();
    lock(&state.waiting).insert(id, answer);
    let record = BaseRecord::to(&state.jobs).key(&key).payload(&body[..]);
    if let Err((error, _)) = state.producer.send(record) {
        lock(&state.waiting).remove(&id);
        return HttpResponse::ServiceUnavailable().body(error.to_string());
    }
    match tokio::time::timeout(LIMIT, answered).await {
        Ok(Ok(body)) => HttpResponse::Ok().body(body),
        _ => {
            lock(&state.waiting).remove(&id);
            HttpResponse::GatewayTimeout().finish()
        }
    }
}

async fn complete(consumer: StreamConsumer, waiting: Waiting) {
    loop {
        match consumer.recv().await {
            Ok(record) => {
                let id = record.key().and_then(|key| Uuid::try_parse_ascii(key).ok());
                if let Some(answer) = id.and_then(|id| lock(&waiting).remove(&id)) {
                    let body = record.payload().unwrap_or_default();
                    // Whoever asked may have gone.
                    let _ = answer.send(Bytes::copy_from_slice(body));
                }
            }
            Err(error) => eprintln!("{error}"),
        }
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Bytes>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
