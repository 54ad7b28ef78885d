//! Every way to follow a job, on the gateway that did not take it, and a webhook beside them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;
use tidegate_contract::now_millis;
use tidegate_contract::time::parse_rfc3339;
use tidegate_tests::receiver::{Answer, Call, Receiver};
use tidegate_tests::{Client, Process, Stack, secs, until};
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
    EventStream,
    WebSocket,
    LongPoll,
    Polling,
    Webhook,
}

/// What jobs call back, and how late.
struct Hooks {
    receiver: Receiver,
    /// Milliseconds from the end of each job to its first message.
    delays: Arc<Mutex<BTreeMap<String, i64>>>,
}

impl Hooks {
    fn start() -> Self {
        let delays = Arc::<Mutex<BTreeMap<String, i64>>>::default();
        let noted = Arc::clone(&delays);
        let note = move |call: &Call| {
            assert!(call.signed);
            let data = &call.body["data"];
            let ended = parse_rfc3339(data["endedAt"].as_str().unwrap()).unwrap();
            let id = data["id"].as_str().unwrap().to_owned();
            let mut delays = noted.lock().unwrap();
            delays.entry(id).or_insert(call.at - ended);
            Answer::Status(204)
        };
        let receiver = Receiver::answering(note);
        Self { receiver, delays }
    }

    /// Has a job called back, and waits for that.
    async fn call(&self, taker: &Client) -> i64 {
        let submit = taker
            .submit("sleep-async", "0.3")
            .header("tidegate-callback-url", &self.receiver.url);
        let answer = submit.send().await.unwrap();
        let job = tidegate_tests::http::accepted(answer).await;
        let what = format!("the message of {}", job.id);
        until(&what, LIMIT, || async {
            self.delays.lock().unwrap().get(&job.id).copied()
        })
        .await
    }
}

/// Follows a job that one gateway takes on the other, to its end: milliseconds from its terminal event to here.
async fn follow(way: Way, [taker, client]: [&Client; 2], hooks: &Hooks) -> i64 {
    let accept = async || taker.accept("sleep-async", "0.3").await.id;
    let (end, now) = match way {
        Way::Webhook => return hooks.call(taker).await,
        Way::EventStream => {
            let events = sse(client, &accept().await, None).await;
            let now = now_millis();
            let numbers: Vec<_> = events.iter().map(|(id, ..)| *id).collect();
            assert_eq!(numbers, (0..=numbers.len() as i64 - 1).collect::<Vec<_>>());
            assert_eq!(events[0].1, "accepted");
            let (_, name, end) = events.last().unwrap();
            assert_eq!(name, "completed");
            (end.clone(), now)
        }
        Way::WebSocket => {
            let (messages, code) = websocket(client, &accept().await).await;
            let end = messages.last().unwrap().clone();
            assert_eq!((code, &end["event"]), (1000, &"completed".into()));
            (end, now_millis())
        }
        Way::LongPoll => (polled(client, &accept().await, 30).await, now_millis()),
        Way::Polling => (polled(client, &accept().await, 0).await, now_millis()),
    };
    assert_eq!(end["status"], "completed");
    now - parse_rfc3339(end["endedAt"].as_str().unwrap()).unwrap()
}

async fn pair(stack: &Stack) -> (Process, Process) {
    tokio::join!(stack.gateway("gateway-a"), stack.gateway("gateway-b"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_sees_the_end_on_the_gateway_that_did_not_take_the_job() {
    let mut stack = Stack::new().await;
    stack.call_back();
    // As it is shipped.
    stack.set("notifier.tick=500ms");
    let (a, b) = pair(&stack).await;
    let _worker = stack.worker("worker").await;
    let _notifier = stack.notifier("notifier").await;
    let gateways = [Client::new(a.url()), Client::new(b.url())];
    let hooks = Hooks::start();
    let ways = [
        Way::EventStream,
        Way::WebSocket,
        Way::LongPoll,
        Way::Polling,
        Way::Webhook,
    ];
    let mut table = format!("from the end of a job to its follower, {JOBS} jobs a way\n");
    for way in ways {
        let jobs = futures::stream::iter(0..JOBS).map(|n| {
            let both = [&gateways[n % 2], &gateways[(n + 1) % 2]];
            let followed = timeout(LIMIT, follow(way, both, &hooks));
            async move {
                followed
                    .await
                    .unwrap_or_else(|_| panic!("{way:?} of a job has no end"))
            }
        });
        let mut delays: Vec<i64> = jobs.buffer_unordered(AT_ONCE).collect().await;
        delays.sort_unstable();
        let (p50, p99) = (delays[JOBS / 2], delays[JOBS * 99 / 100]);
        table += &format!(
            "{:<11}  p50 {p50:>4} ms  p99 {p99:>4} ms\n",
            format!("{way:?}")
        );
    }
    print!("{table}");
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
