//! What only a real connection shows: limits while reading, clients that go away, spans and their ids.

use super::*;
use std::net::{SocketAddr, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The bench on a port of its own.
pub fn serve(bench: &Bench) -> (SocketAddr, actix_web::dev::ServerHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = server::serve(
        listener,
        bench.state.clone(),
        bench.docs.clone(),
        bench.ops.clone(),
        Duration::from_secs(1),
    )
    .unwrap();
    let handle = server.handle();
    tokio::spawn(server);
    (addr, handle)
}

pub async fn send(addr: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(head.replace('\n', "\r\n").as_bytes())
        .await
        .unwrap();
    stream
}

pub async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let bench = Bench::new();
    let (addr, handle) = serve(&bench);
    // Announced: not a byte of it is sent.
    let mut stream = send(
        addr,
        "POST /v1/jobs/echo HTTP/1.1\nHost: x\nContent-Length: 917505\n\n",
    )
    .await;
    let answer = read(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(
        answer.contains("/problems/body-too-large") && answer.contains("917504"),
        "{answer}"
    );
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    // Not announced: refused while it comes.
    let mut stream = send(
        addr,
        "POST /v1/jobs/echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n",
    )
    .await;
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let (mut from, mut to) = stream.split();
    let sending = async {
        for _ in 0..200 {
            if to.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
    };
    let mut start = [0; 12];
    let reading = from.read_exact(&mut start);
    let limit = Duration::from_secs(5);
    let (_, start_read) = tokio::time::timeout(limit, async { tokio::join!(sending, reading) })
        .await
        .unwrap();
    start_read.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    assert!(bench.fake.jobs().is_empty());
    handle.stop(false).await;
}

#[tokio::test]
async fn a_large_body_that_is_sent_whole_gets_its_answer() {
    let bench = Bench::new();
    let (addr, handle) = serve(&bench);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = vec![b'x'; 4 << 20];
    let response = client
        .post(format!("http://{addr}/v1/jobs/later"))
        .body(body)
        .send()
        .await;
    assert_eq!(response.unwrap().status(), 413);
    let body = format!("\"{}\"", "x".repeat((896 << 10) - 2));
    let response = client
        .post(format!("http://{addr}/v1/jobs/echo"))
        .body(body.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), body);
    assert_eq!(
        bench.state.body_memory.available_permits(),
        256 << 10,
        "given back"
    );
    handle.stop(false).await;
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_wait_and_leaves_a_status() {
    let bench = Bench::new();
    bench.fake.handle(|_| None);
    let (addr, handle) = serve(&bench);
    let stream = send(
        addr,
        "POST /v1/jobs/echo HTTP/1.1\nHost: x\nPrefer: wait=30\nContent-Length: 2\n\n{}",
    )
    .await;
    until("wait", || bench.state.waits.len() == 1).await;
    drop(stream);
    until("freed", || bench.state.waits.is_empty()).await;
    until("row", || bench.fake.inserted.lock().unwrap().len() == 1).await;
    until("request", || bench.state.requests_open() == 0).await;
    let id = bench.fake.jobs()[0].job_id;
    assert_eq!(bench.get(&format!("/v1/jobs/{id}")).await.status, 200);
    let text = String::from_utf8(bench.get("/metrics").await.body.to_vec()).unwrap();
    assert!(
        text.contains("tidegate_waits_ended_total{reason=\"disconnected\"} 1"),
        "{text}"
    );
    handle.stop(false).await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_job_if_it_said_so() {
    let bench = Bench::new();
    bench.fake.handle(|_| None);
    let (addr, handle) = serve(&bench);
    let head = "POST /v1/jobs/echo HTTP/1.1\nHost: x\nPrefer: wait=30\nTidegate-On-Disconnect: cancel\nContent-Length: 2\n\n{}";
    let stream = send(addr, head).await;
    until("wait", || bench.state.waits.len() == 1).await;
    drop(stream);
    let topics = || {
        let sent = bench.fake.sent.lock().unwrap();
        let topics = sent.iter().map(|out| {
            (
                out.topic.clone(),
                out.headers.get("event").map(str::to_owned),
            )
        });
        topics.collect::<Vec<_>>()
    };
    until("event and order", || topics().len() == 3).await;
    let cancelled = |topic: &str| (topic.to_owned(), Some("cancelled".to_owned()));
    assert_eq!(
        topics()[1..],
        [cancelled("t.replies"), cancelled("t.control")]
    );
    // Whoever has its answer has no say in that any more.
    bench.fake.handle(|job| Some(echo(job)));
    let mut stream = send(addr, &head.replace("Host: x", "Host: x\nConnection: close")).await;
    assert!(read(&mut stream).await.starts_with("HTTP/1.1 200"));
    drop(stream);
    until("request", || bench.state.requests_open() == 0).await;
    handle.stop(true).await;
    bench.state.tasks.ended().await;
    assert_eq!(topics().len(), 4, "one more job and nothing else");
}

#[tokio::test]
async fn a_stopping_gateway_closes_its_connections_after_the_answer() {
    let bench = Bench::new();
    let (addr, handle) = serve(&bench);
    bench.state.stop.intake.cancel();
    let mut stream = send(addr, "GET /healthz HTTP/1.1\nHost: x\n\n").await;
    assert!(
        read(&mut stream)
            .await
            .to_lowercase()
            .contains("connection: close")
    );
    let mut stream = send(
        addr,
        "POST /v1/jobs/echo HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
    )
    .await;
    let answer = read(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("shutting-down"),
        "{answer}"
    );
    handle.stop(true).await;
}

#[tokio::test]
async fn a_request_belongs_to_the_trace_that_it_names() {
    // Only the first call in a process has an effect, and needs none of its own.
    let settings = tidegate_runtime::TelemetrySettings {
        log: "off".into(),
        ..Default::default()
    };
    let _telemetry = tidegate_runtime::telemetry::init(&settings, "gateway", "test").unwrap();
    let bench = Bench::new();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let answer = bench.post("echo", &[("traceparent", &parent)], "{}").await;
    assert_eq!(answer.header("tidegate-trace-id"), trace);
    let sent = bench.fake.sent.lock().unwrap().remove(0);
    let forwarded = sent.headers.get("traceparent").unwrap();
    assert!(
        forwarded.starts_with(&format!("00-{trace}-")) && forwarded != parent,
        "{forwarded}"
    );

    let answer = bench
        .post("later", &[("traceparent", "nonsense")], "x")
        .await;
    let id = answer.header("tidegate-trace-id");
    assert_eq!(
        (id.len(), answer.json()["traceId"].as_str()),
        (32, Some(id))
    );
    let status = bench.get(answer.header("location")).await.json();
    assert_eq!(status["traceId"], id);
    let answer = bench.get("/nowhere").await;
    assert_eq!(answer.header("tidegate-trace-id").len(), 32);
}
