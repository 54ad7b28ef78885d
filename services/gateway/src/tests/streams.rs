//! Event streams and WebSockets, on real connections.

use super::sockets::{read, send, serve};
use super::watching::{put, step, stored};
use super::*;
use sha2::Digest as _;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn quick() -> GatewaySettings {
    GatewaySettings {
        heartbeat: Duration::from_millis(20),
        ..Default::default()
    }
}

/// Asks for the events of a job, with more lines of the head.
async fn follow(addr: SocketAddr, id: JobId, more: &str) -> TcpStream {
    let head = format!("GET /v1/jobs/{id}/events HTTP/1.1\nHost: x\n{more}\n");
    send(addr, &head).await
}

/// What has come until it holds.
async fn until_read(stream: &mut TcpStream, holds: impl Fn(&str) -> bool) -> String {
    // Room for whatever was sent in one piece.
    let mut got = Vec::with_capacity(64 << 10);
    let reading = async {
        while !holds(&String::from_utf8_lossy(&got)) {
            if stream.read_buf(&mut got).await.unwrap() == 0 {
                break;
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(5), reading).await;
    let got = String::from_utf8_lossy(&got).into_owned();
    assert!(in_time.is_ok() && holds(&got), "{got}");
    got
}

/// The events in what has come, in order: name, id, data.
fn events(text: &str) -> Vec<(String, i64, Value)> {
    let field = |block: &str, name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name));
        lines.collect::<Vec<_>>().join("\n")
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    let read = blocks.map(|block| {
        let data = serde_json::from_str(&field(block, "data: ")).unwrap();
        let id = field(block, "id: ").parse().unwrap();
        (field(block, "event: "), id, data)
    });
    read.collect()
}

fn names(text: &str) -> Vec<String> {
    let events = events(text).into_iter();
    events.map(|(name, id, _)| format!("{id} {name}")).collect()
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_ends_with_the_job() {
    let bench = Bench::with(quick(), AuthSettings::default());
    let (addr, handle) = serve(&bench);
    let mut row = stored(&bench);
    step(&mut row, EventKind::Started);
    put(&bench, &row);
    let mut stream = follow(addr, row.id, "").await;
    let text = until_read(&mut stream, |text| text.contains("event: started")).await;
    let head = text.to_lowercase();
    for part in [
        "http/1.1 200",
        "content-type: text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
        "\nretry: 2000\n\n",
    ] {
        assert!(head.contains(part), "{part}: {text}");
    }
    assert!(!head.contains("content-length"), "{text}");
    assert_eq!(names(&text), ["0 accepted", "1 started"]);

    until_read(&mut stream, |text| text.contains(": still here")).await;
    step(&mut row, EventKind::Progress);
    put(&bench, &row);
    let text = until_read(&mut stream, |text| text.contains("event: progress")).await;
    let (name, id, data) = events(&text).remove(0);
    assert_eq!(
        (&name[..], id, &data["progress"]["percent"]),
        ("progress", 2, &40.0.into())
    );
    step(&mut row, EventKind::Completed);
    row.outcome = echo(&a_job("default")).outcome.map(|mut outcome| {
        outcome.content_type = Some("application/json".into());
        outcome.body = Bytes::from_static(b"{\n\"n\":\r1}");
        outcome
    });
    put(&bench, &row);
    // The end of the body, after which the connection serves the next request.
    let text = until_read(&mut stream, |text| text.contains("\r\n0\r\n\r\n")).await;
    let (name, id, data) = events(&text).remove(0);
    assert_eq!((&name[..], id), ("completed", 3));
    let status = bench.get(&format!("/v1/jobs/{}", row.id)).await.json();
    assert_eq!(data, status);
    assert_eq!(bench.state.streams.len(), 0);
    handle.stop(true).await;
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_cut_off() {
    let bench = Bench::new();
    let (addr, handle) = serve(&bench);
    let mut row = stored(&bench);
    for kind in [
        EventKind::Started,
        EventKind::Progress,
        EventKind::RetryScheduled,
        EventKind::Failed,
    ] {
        step(&mut row, kind);
    }
    put(&bench, &row);
    for (last, expected) in [
        (
            "",
            &[
                "0 accepted",
                "1 started",
                "2 progress",
                "3 retry-scheduled",
                "4 failed",
            ][..],
        ),
        ("Last-Event-ID: 2\n", &["3 retry-scheduled", "4 failed"]),
        ("Last-Event-ID: 9\n", &["3 snapshot", "4 failed"]),
        ("Last-Event-ID: \u{fc}\n", &["3 snapshot", "4 failed"]),
    ] {
        let mut stream = follow(addr, row.id, &format!("{last}Connection: close\n")).await;
        assert_eq!(names(&read(&mut stream).await), expected, "{last}");
    }
    // Whoever knows the end is told to stop asking.
    let mut stream = follow(addr, row.id, "Last-Event-ID: 4\nConnection: close\n").await;
    let answer = read(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let path = format!("/v1/jobs/{}/events", row.id);
    let answer = bench.get(&format!("{path}?after=3")).await;
    assert_eq!(
        names(std::str::from_utf8(&answer.body).unwrap()),
        ["4 failed"]
    );
    let refused = bench.get(&format!("{path}?after=x")).await;
    refused.problem(400, "malformed-query");
    handle.stop(true).await;
}

#[actix_web::test]
async fn what_cannot_be_followed_is_a_problem_before_the_stream_begins() {
    let key = crate::settings::ApiKey {
        name: "acme".into(),
        tenant: "acme".parse().unwrap(),
        sha256: tidegate_contract::Secret::new(format!("{:x}", sha2::Sha256::digest(b"k"))),
    };
    let auth = AuthSettings {
        enabled: true,
        keys: vec![key],
    };
    let bench = Bench::with(GatewaySettings::default(), auth);
    let row = stored(&bench);
    let path = format!("/v1/jobs/{}/events", row.id);
    bench.get(&path).await.problem(401, "unauthenticated");
    let ask = |path: &str| {
        TestRequest::get()
            .uri(path)
            .insert_header(("X-Api-Key", "k"))
    };
    // Of somebody else.
    bench.ask(ask(&path)).await.problem(404, "unknown-job");
    bench
        .ask(ask("/v1/jobs/7/events"))
        .await
        .problem(400, "malformed-job-id");
    bench.fake.store_away.store(true, Ordering::Relaxed);
    bench
        .ask(ask(&path))
        .await
        .problem(503, "store-unavailable");
    bench.state.stop.intake.cancel();
    bench.ask(ask(&path)).await.problem(503, "shutting-down");
    assert_eq!(
        (bench.state.streams.len(), bench.state.watcher.len()),
        (0, 0)
    );
}

#[tokio::test]
async fn streams_over_the_limits_are_refused_and_places_come_back() {
    let settings = GatewaySettings {
        max_streams: 2,
        tenant_streams: 1,
        ..quick()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    let (addr, handle) = serve(&bench);
    let row = stored(&bench);
    let path = format!("/v1/jobs/{}/events", row.id);
    let mut stream = follow(addr, row.id, "").await;
    until_read(&mut stream, |text| text.contains("accepted")).await;
    let doc = bench.get(&path).await.problem(429, "tenant-streams");
    assert_eq!(doc["limit"], 1);
    // A client that goes away is noticed.
    drop(stream);
    until("freed", || bench.state.streams.len() == 0).await;
    let _others = ["a", "b"].map(|name| bench.state.streams.take(&name.parse().unwrap()));
    bench.get(&path).await.problem(503, "too-many-streams");
    handle.stop(true).await;
}

#[tokio::test]
async fn a_stop_ends_streams_with_a_word() {
    let bench = Bench::new();
    let (addr, handle) = serve(&bench);
    let row = stored(&bench);
    let mut stream = follow(addr, row.id, "").await;
    until_read(&mut stream, |text| text.contains("accepted")).await;
    let mut socket = follow(addr, row.id, HANDSHAKE).await;
    until_read(&mut socket, |text| text.contains("accepted")).await;
    bench.state.stop.intake.cancel();
    let over = ": this gateway is shutting down\n\n\r\n0\r\n\r\n";
    until_read(&mut stream, |text| text.contains(over)).await;
    assert_eq!(closed(&mut socket).await, Some(1001));
    handle.stop(true).await;
    assert_eq!(bench.state.streams.len(), 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let settings = GatewaySettings {
        stalled_after: Duration::from_secs(1),
        ..Default::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    let (addr, handle) = serve(&bench);
    let mut row = stored(&bench);
    let _stream = follow(addr, row.id, "").await;
    until("stream", || bench.state.streams.len() == 1).await;
    // More than any buffer on the way takes.
    let limit = Instant::now() + Duration::from_secs(20);
    while bench.state.streams.len() > 0 {
        assert!(Instant::now() < limit, "still there");
        step(&mut row, EventKind::Progress);
        row.history.drain(..row.history.len() - 1);
        row.history[0].partial = Some("x".repeat(400_000));
        let reads = bench.fake.reads.load(Ordering::Relaxed);
        put(&bench, &row);
        bench.state.watcher.nudge([row.id]);
        until("read, or nobody left", || {
            bench.fake.reads.load(Ordering::Relaxed) > reads || bench.state.streams.len() == 0
        })
        .await;
    }
    handle.stop(false).await;
}

const HANDSHAKE: &str = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";

/// A frame of a client: masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(0x80 | length),
        _ => {
            out.push(0x80 | 126);
            out.extend((payload.len() as u16).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

/// The frames that come until the connection is closed: opcode and payload.
async fn frames(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset is as good as an end here.
    let _ = tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .unwrap();
    let mut rest = match bytes.windows(4).position(|end| end == b"\r\n\r\n") {
        Some(end) if bytes.starts_with(b"HTTP") => &bytes[end + 4..],
        _ => &bytes[..],
    };
    let mut frames = Vec::new();
    while let [first, length, more @ ..] = rest {
        let (length, more) = match length {
            126 => (
                usize::from(u16::from_be_bytes([more[0], more[1]])),
                &more[2..],
            ),
            length => (usize::from(*length), more),
        };
        frames.push((first & 0x0f, more[..length].to_vec()));
        rest = &more[length..];
    }
    frames
}

/// The code with which the connection was closed.
async fn closed(stream: &mut TcpStream) -> Option<u16> {
    let frames = frames(stream).await;
    let (_, payload) = frames.iter().find(|(opcode, _)| *opcode == 8)?;
    Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]))
}

#[tokio::test]
async fn a_socket_carries_the_same_events_and_closes_after_the_last() {
    let bench = Bench::new();
    let (addr, handle) = serve(&bench);
    let mut row = stored(&bench);
    let mut socket = follow(addr, row.id, HANDSHAKE).await;
    let head = until_read(&mut socket, |text| text.contains("accepted")).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    step(&mut row, EventKind::Progress);
    put(&bench, &row);
    until_read(&mut socket, |text| text.contains("\"event\":\"progress\"")).await;
    step(&mut row, EventKind::Completed);
    put(&bench, &row);
    let got = frames(&mut socket).await;
    let (opcode, payload) = &got[0];
    let message: Value = serde_json::from_slice(payload).unwrap();
    let mut expected = bench.get(&format!("/v1/jobs/{}", row.id)).await.json();
    (expected["id"], expected["event"]) = (2.into(), "completed".into());
    assert_eq!((*opcode, message), (1, expected));
    assert_eq!((got[1].0, &got[1].1[..2]), (8, &1000u16.to_be_bytes()[..]));

    // From where it was cut off, and after the end nothing but the close.
    let path = |after| {
        format!(
            "GET /v1/jobs/{}/events?after={after} HTTP/1.1\nHost: x\n{HANDSHAKE}\n",
            row.id
        )
    };
    let mut socket = send(addr, &path(1)).await;
    assert_eq!(frames(&mut socket).await[0].0, 1);
    let mut socket = send(addr, &path(2)).await;
    let got = frames(&mut socket).await;
    assert_eq!((got.len(), got[0].0), (1, 8));
    handle.stop(true).await;
}

#[tokio::test]
async fn a_socket_takes_nothing_but_control_frames() {
    let bench = Bench::new();
    let (addr, handle) = serve(&bench);
    let row = stored(&bench);
    for (sent, code) in [
        (frame(1, b"hello"), 1008),
        (frame(2, b"hello"), 1003),
        (frame(1, &[b'x'; 5_000]), 1009),
        (frame(8, &1000u16.to_be_bytes()), 1000),
    ] {
        let mut socket = follow(addr, row.id, HANDSHAKE).await;
        until_read(&mut socket, |text| text.contains("accepted")).await;
        socket.write_all(&sent).await.unwrap();
        assert_eq!(closed(&mut socket).await, Some(code));
    }
    until("freed", || bench.state.streams.len() == 0).await;
    // An answer to a ping, and the end of who is silent.
    let mut socket = follow(addr, row.id, HANDSHAKE).await;
    socket.write_all(&frame(9, b"well?")).await.unwrap();
    until_read(&mut socket, |text| text.contains("well?")).await;
    for (head, status) in [
        (HANDSHAKE.replace("13", "12"), "HTTP/1.1 400"),
        (
            format!("Origin: https://evil.example\n{HANDSHAKE}"),
            "HTTP/1.1 403",
        ),
    ] {
        let mut socket = follow(addr, row.id, &head).await;
        until_read(&mut socket, |text| {
            text.starts_with(status) && text.contains("/problems/")
        })
        .await;
    }
    handle.stop(false).await;
}

#[tokio::test]
async fn a_socket_whose_client_is_silent_is_closed() {
    let bench = Bench::with(quick(), AuthSettings::default());
    let (addr, handle) = serve(&bench);
    let mut socket = follow(addr, stored(&bench).id, HANDSHAKE).await;
    let got = frames(&mut socket).await;
    assert!(got.iter().filter(|(opcode, _)| *opcode == 9).count() >= 2);
    assert_eq!(got.last().unwrap().0, 8);
    handle.stop(true).await;
}
