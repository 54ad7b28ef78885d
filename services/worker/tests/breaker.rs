//! An http target that is down costs few attempts: its jobs are parked, and go on when a probe comes through.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use support::{RUNGS, Rig, settings, types, until};
use tidegate_contract::{BreakerPolicy, EventKind, HandlerSpec, JobTypes, RetryPolicy, now_millis};
use tidegate_kafka::{ConsumerEvent, Outgoing, Record};
use tidegate_worker::WorkerSettings;
use tokio::net::TcpSocket;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// A server that does as it is told.
struct Server {
    state: Mutex<State>,
    answers: AsyncMutex<mpsc::UnboundedReceiver<u16>>,
    tell: mpsc::UnboundedSender<u16>,
}

#[derive(Default)]
struct State {
    /// Answers that are given at once; behind them each request waits until it is told its own.
    at_once: Vec<u16>,
    /// From now on all get this at once.
    all: Option<u16>,
    /// When each request came.
    came: Vec<Instant>,
    running: usize,
}

impl Server {
    fn new(at_once: Vec<u16>) -> Arc<Self> {
        let (tell, answers) = mpsc::unbounded_channel();
        Arc::new(Self {
            state: Mutex::new(State {
                at_once,
                ..State::default()
            }),
            answers: answers.into(),
            tell,
        })
    }

    fn serve(self: &Arc<Self>, listener: std::net::TcpListener) {
        let data = web::Data::from(Arc::clone(self));
        let app = move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::post().to(answer))
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        tokio::spawn(server.listen(listener).unwrap().run());
    }

    /// How many requests came so far, and how many of them have no answer yet.
    fn seen(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.came.len(), state.running)
    }
}

async fn answer(server: web::Data<Server>) -> HttpResponse {
    let told = {
        let mut state = server.state.lock().unwrap();
        state.came.push(Instant::now());
        state.running += 1;
        state.all.or_else(|| state.at_once.pop())
    };
    let status = match told {
        Some(status) => status,
        None => server.answers.lock().await.recv().await.unwrap(),
    };
    server.state.lock().unwrap().running -= 1;
    HttpResponse::build(StatusCode::from_u16(status).unwrap()).body("x")
}

/// Does the scheduler's work: moves each record of the ladder to its target when it is due.
fn schedule(rig: &Rig) {
    let cluster = rig.broker.cluster();
    for rung in RUNGS {
        let topic = cluster.topics().delay(rung);
        let reader = cluster.assigned_consumer_of(&topic, "scheduler").unwrap();
        reader.assign(0, 0).unwrap();
        let producer = rig.producer.clone();
        tokio::spawn(async move {
            loop {
                if let ConsumerEvent::Record(record) = reader.next().await {
                    let producer = producer.clone();
                    tokio::spawn(async move {
                        let left = record.headers.due().unwrap() - now_millis();
                        let left = Duration::from_millis(left.try_into().unwrap_or(0));
                        tokio::time::sleep(left).await;
                        producer.send(moved(record)).await.unwrap();
                    });
                }
            }
        });
    }
}

fn moved(record: Record) -> Outgoing {
    let mut headers = record.headers;
    let (topic, partition) = headers.target().unwrap();
    let topic = topic.to_owned();
    headers.undelay();
    Outgoing {
        topic,
        partition,
        key: String::from_utf8(record.key.unwrap().to_vec()).unwrap(),
        headers,
        payload: record.payload.unwrap(),
    }
}

fn http(url: String, failures: u32, pause: Duration) -> HandlerSpec {
    HandlerSpec::Http {
        url,
        max_answer_bytes: 1000,
        breaker: BreakerPolicy {
            failures,
            pause,
            max_pause: pause,
        },
    }
}

/// Failures are tried again soon and often.
fn retried(mut types: JobTypes) -> JobTypes {
    for spec in types.values_mut() {
        spec.retry = RetryPolicy {
            attempts: 100,
            first: Duration::from_millis(20),
            cap: Duration::from_millis(20),
            ..RetryPolicy::default()
        };
    }
    types
}

fn quick() -> WorkerSettings {
    WorkerSettings {
        concurrency: 4,
        park_after: Duration::from_millis(100),
        park_at_most: Duration::from_millis(200),
        ..settings()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_target_is_down_one_job_at_a_time_tries_it_and_the_others_lose_nothing() {
    const JOBS: usize = 20;
    let pause = Duration::from_millis(300);
    // Three failures open it, while up to four jobs run: at most six are begun until then.
    let server = Server::new(vec![503; 6]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    server.serve(listener);
    let rig = Rig::start().await;
    schedule(&rig);
    let types = retried(types([("post", http(format!("{target}/x"), 3, pause))]));
    let worker = rig.worker(types, quick()).await;
    let mut ids = Vec::new();
    for _ in 0..JOBS {
        ids.push(rig.submit(&rig.job("post", "x")).await);
    }
    let parked = || {
        let text = worker.metrics.encode();
        let line = r#"jobs_parked_total{type="post",reason="target-down"} "#;
        let count = text
            .lines()
            .find_map(|l| l.split(line).nth(1)?.parse().ok());
        count.unwrap_or(0usize)
    };
    // The seventh is a probe for sure, and has no answer yet; nor has the eighth, after that has failed.
    let mut failed = Instant::now();
    for probe in [7, 8] {
        until("a probe comes", || (server.seen().0 >= probe).then_some(())).await;
        let came = server.state.lock().unwrap().came[probe - 1];
        if probe == 8 {
            assert!(came - failed >= pause.mul_f64(0.79), "{:?}", came - failed);
        }
        let before = parked();
        until("all others came by twice", || {
            (parked() >= before + 2 * JOBS).then_some(())
        })
        .await;
        assert_eq!(server.seen(), (probe, 1), "one alone");
        let down = format!(r#"http_target_down{{target="{target}"}} 1"#);
        assert!(worker.metrics.encode().contains(&down));
        if probe == 7 {
            failed = Instant::now();
            server.tell.send(503).unwrap();
        }
    }
    server.state.lock().unwrap().all = Some(200);
    server.tell.send(200).unwrap();
    let mut attempts = Vec::new();
    for id in ids {
        let end = rig.ended(id).await.pop().unwrap().event;
        assert_eq!(end.kind, EventKind::Completed);
        attempts.push(end.attempt);
    }
    let spent: i32 = attempts.iter().map(|attempt| attempt - 1).sum();
    assert_eq!(spent, 7, "only those that met the target: {attempts:?}");
    let first = attempts.iter().filter(|attempt| **attempt == 1).count();
    assert!(first >= JOBS - 7, "{attempts:?}");
    assert_eq!(server.seen(), (JOBS + 7, 0));
    for line in [
        format!(r#"http_target_down{{target="{target}"}} 0"#),
        format!(r#"http_target_downs_total{{target="{target}"}} 1"#),
    ] {
        worker.counted(&line).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_types_of_a_server_that_refuses_connections_wait_but_those_without_a_breaker() {
    // Long enough that none of the first is the probe.
    let pause = Duration::from_secs(5);
    // Bound and not listening: the port is ours and refuses.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let target = format!("http://{}", socket.local_addr().unwrap());
    let rig = Rig::start().await;
    schedule(&rig);
    let opens = types([("opens", http(format!("{target}/a"), 2, pause))]);
    let mut types = types([
        ("waits", http(format!("{target}/b"), 50, pause)),
        ("bare", http(format!("{target}/c"), 0, pause)),
    ]);
    types.extend(retried(opens));
    let worker = rig.worker(types, quick()).await;
    let opens = rig.submit(&rig.job("opens", "x")).await;
    let down = format!(r#"http_target_down{{target="{target}"}} 1"#);
    worker.counted(&down).await;

    let bare = rig.submit(&rig.job("bare", "x")).await;
    let (code, _) = rig.failed(bare).await;
    assert_eq!(code, "http-connect");
    let plain = rig.submit(&rig.job("waits", "plain")).await;
    let mut serial = rig.job("waits", "serial");
    serial.serial_key = Some("key".to_owned());
    let serial = rig.submit(&serial).await;
    let key = plain.to_string();
    let limit = Instant::now() + support::LIMIT;
    let copy = loop {
        let copies = rig.delayed(RUNGS[0]).await;
        let mut copies = copies.into_iter();
        if let Some(copy) = copies.find(|r| r.key.as_deref() == Some(key.as_bytes())) {
            break copy;
        }
        assert!(Instant::now() < limit, "{key} is not parked");
    };
    // What was read from partition 0 comes back to the other one.
    assert_eq!(copy.headers.target().unwrap().1, Some(1));
    assert_eq!((copy.headers.parked(), copy.headers.attempt()), (1, Ok(1)));
    assert!(rig.said(plain).is_empty(), "nothing is told of it");
    // For the sake of its order this one is not parked, whatever becomes of it.
    let (code, _) = rig.failed(serial).await;
    assert_eq!(code, "http-connect");

    let server = Server::new(Vec::new());
    server.state.lock().unwrap().all = Some(200);
    let listener = socket.listen(64).unwrap().into_std().unwrap();
    server.serve(listener);
    for (id, attempt) in [(opens, 3), (plain, 1)] {
        let end = rig.ended(id).await.pop().unwrap().event;
        assert_eq!((end.kind, end.attempt), (EventKind::Completed, attempt));
    }
    worker.stop().await;
}
