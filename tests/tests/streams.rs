//! Every way to follow a job, on the gateway that did not take it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;
use tidegate_contract::now_millis;
use tidegate_contract::time::parse_rfc3339;
use tidegate_tests::{Client, Process, Stack, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Jobs that are followed in each way, and how many at once.
const JOBS: usize = 200;
const AT_ONCE: usize = 40;
/// Longest that any of them may take.
const LIMIT: Duration = secs(60);

/// One event of a stream: its number, its name, its data.
type Event = (i64, String, Value);

/// The events of a job until the stream ends, after the one with that number.
async fn sse(client: &Client, id: &str, after: Option<i64>) -> Vec<Event> {
    let mut request = client.get(&format!("/v1/jobs/{id}/events"));
    if let Some(after) = after {
        request = request.header("last-event-id", after.to_string());
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    events(&answer.text().await.unwrap())
}

fn events(text: &str) -> Vec<Event> {
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    let read = blocks.map(|block| {
        let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
        let data = serde_json::from_str(field("data: ").unwrap()).unwrap();
        let id = field("id: ").unwrap().parse().unwrap();
        (id, field("event: ").unwrap().to_owned(), data)
    });
    read.collect()
}

/// The messages of a WebSocket until it is closed, and the code of that.
async fn websocket(client: &Client, id: &str) -> (Vec<Value>, u16) {
    let address = client.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    let mut messages = Vec::new();
    loop {
        let opcode = stream.read_u8().await.unwrap() & 0x0f;
        let length = match stream.read_u8().await.unwrap() {
            126 => stream.read_u16().await.unwrap().into(),
            127 => stream.read_u64().await.unwrap(),
            length => length.into(),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        match opcode {
            1 => messages.push(serde_json::from_slice(&payload).unwrap()),
            8 => return (messages, u16::from_be_bytes([payload[0], payload[1]])),
            _ => {}
        }
    }
}

/// The status of a job once it has ended, asked for again and again; `hold` is for how long each request may be held.
async fn polled(client: &Client, id: &str, hold: u64) -> Value {
    let mut tag = String::new();
    loop {
        let path = match hold {
            0 => format!("/v1/jobs/{id}"),
            hold => format!("/v1/jobs/{id}?wait={hold}"),
        };
        let request = client.get(&path).header("if-none-match", &tag);
        let answer = request.send().await.unwrap();
        let header = |name: &str| {
            let value = answer.headers().get(name);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let after = header("retry-after");
        if answer.status() == 200 {
            tag = header("etag").unwrap();
            let status: Value = answer.json().await.unwrap();
            if status["status"] == "completed" {
                return status;
            }
        }
        if hold == 0 {
            // As it is told to.
            tokio::time::sleep(secs(after.unwrap().parse().unwrap())).await;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Sse,
    WebSocket,
    LongPoll,
    Poll,
}

/// Follows a job to its end: milliseconds from its terminal event to here.
async fn follow(way: Way, client: &Client, id: &str) -> i64 {
    let (end, now) = match way {
        Way::Sse => {
            let events = sse(client, id, None).await;
            let now = now_millis();
            let numbers: Vec<_> = events.iter().map(|(id, ..)| *id).collect();
            assert_eq!(numbers, (0..=numbers.len() as i64 - 1).collect::<Vec<_>>());
            assert_eq!(events[0].1, "accepted");
            let (_, name, end) = events.last().unwrap();
            assert_eq!(name, "completed");
            (end.clone(), now)
        }
        Way::WebSocket => {
            let (messages, code) = websocket(client, id).await;
            let end = messages.last().unwrap().clone();
            assert_eq!((code, &end["event"]), (1000, &"completed".into()));
            (end, now_millis())
        }
        Way::LongPoll => (polled(client, id, 30).await, now_millis()),
        Way::Poll => (polled(client, id, 0).await, now_millis()),
    };
    assert_eq!(end["status"], "completed");
    now - parse_rfc3339(end["endedAt"].as_str().unwrap()).unwrap()
}

async fn pair(stack: &Stack) -> (Process, Process) {
    tokio::join!(stack.gateway("gateway-a"), stack.gateway("gateway-b"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_sees_the_end_on_the_gateway_that_did_not_take_the_job() {
    let stack = Stack::new().await;
    let (a, b) = pair(&stack).await;
    let _worker = stack.worker("worker").await;
    let gateways = [Client::new(a.url()), Client::new(b.url())];
    for way in [Way::Sse, Way::WebSocket, Way::LongPoll, Way::Poll] {
        let jobs = futures::stream::iter(0..JOBS).map(|n| {
            let (taker, other) = (&gateways[n % 2], &gateways[(n + 1) % 2]);
            async move {
                let job = taker.accept("sleep-async", "0.3").await;
                let followed = timeout(LIMIT, follow(way, other, &job.id)).await;
                followed.unwrap_or_else(|_| panic!("{way:?} of {} has no end", job.id))
            }
        });
        let mut delays: Vec<i64> = jobs.buffer_unordered(AT_ONCE).collect().await;
        delays.sort_unstable();
        println!(
            "{way:?}: from the end of a job to its follower: p50 {} ms, p99 {} ms, {JOBS} jobs",
            delays[JOBS / 2],
            delays[JOBS * 99 / 100]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_stopping_gateway_ends_goes_on_at_another() {
    let stack = Stack::new().await;
    let (a, b) = pair(&stack).await;
    let _worker = stack.worker("worker").await;
    let (first, second) = (Client::new(a.url()), Client::new(b.url()));
    let job = first.accept("sleep-async", "4").await;
    let url = format!("/v1/jobs/{}/events", job.id);
    let mut stream = first.get(&url).send().await.unwrap();
    let mut seen = String::new();
    let until_started = async {
        while !seen.contains("event: started") {
            let piece = stream.chunk().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    timeout(LIMIT, until_started).await.unwrap();
    a.terminate();
    let rest = timeout(LIMIT, stream.text()).await.unwrap().unwrap();
    assert!(rest.contains(": this gateway is shutting down"), "{rest}");
    let mut told = events(&seen);
    told.extend(events(&rest));
    let last = told.last().unwrap().0;
    told.extend(
        timeout(LIMIT, sse(&second, &job.id, Some(last)))
            .await
            .unwrap(),
    );
    let names: Vec<_> = told.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names, ["accepted", "started", "completed"]);
    let numbers: Vec<_> = told.iter().map(|(id, ..)| *id).collect();
    assert_eq!(numbers, [0, 1, 2]);
    let status = second.status(&job.id).await.unwrap();
    assert_eq!(told[2].2, status);
    // Whoever knows the end need not come again.
    let again = second.get(&url).header("last-event-id", "2").send();
    assert_eq!(again.await.unwrap().status(), 204);
    let mut a = a;
    assert!(a.exit(secs(30)).await.success());
}
