//! `jobs watch` on a gateway that breaks its streams: one that does as each test says.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;

use common::{run, stderr, stdout};
use serde_json::Value;

const ID: &str = "01a1fc70-9cdc-7436-badb-6da617296169";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";

/// What was asked, without the line ends.
type Head = Vec<String>;

/// Watches a job while a gateway gives these answers, a connection each.
fn watch(answers: &[String]) -> (Output, Vec<Head>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::scope(|scope| {
        let gateway = scope.spawn(move || {
            let answered = answers.iter().map(|answer| {
                let (mut connection, _) = listener.accept().unwrap();
                let head = head(&connection);
                connection.write_all(answer.as_bytes()).unwrap();
                head
            });
            answered.collect()
        });
        let output = run(&["jobs", "watch", ID, "--json", "--url", &url]);
        (output, gateway.join().unwrap())
    })
}

fn head(connection: &TcpStream) -> Head {
    let lines = BufReader::new(connection).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).collect()
}

fn last_event_id(head: &Head) -> Option<&str> {
    head.iter()
        .find_map(|line| line.strip_prefix("last-event-id: "))
}

fn event(id: u32, status: &str, more: &str) -> String {
    format!(
        "id: {id}\nevent: some\ndata: {{\"status\":\"{status}\",\"attempt\":1,\"at\":\"T{id}\"{more}}}\n\n"
    )
}

/// A stream that ends where the connection does.
fn whole(events: &[String]) -> String {
    format!(
        "{STREAM}connection: close\r\n\r\nretry: 2000\n\n{}",
        events.concat()
    )
}

/// A stream that is cut off in the middle of another event.
fn cut(events: &[String]) -> String {
    let text = format!("{}id: 99\nevent: some\ndata: {{", events.concat());
    format!(
        "{STREAM}transfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n",
        text.len()
    )
}

fn problem(status: u16, detail: &str) -> String {
    let body = format!("{{\"detail\":\"{detail}\"}}");
    format!(
        "HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn statuses(output: &Output) -> Vec<String> {
    let said = stdout(output);
    let lines = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| format!("{} {}", line["at"], line["status"]).replace('"', ""))
        .collect()
}

#[test]
fn a_stream_that_breaks_is_taken_up_again_where_it_was() {
    let half = ",\"progress\":{\"percent\":50.0}";
    let (output, heads) = watch(&[
        cut(&[event(0, "pending", ""), event(1, "processing", "")]),
        problem(503, "this gateway is shutting down"),
        whole(&[
            event(2, "processing", half),
            ": this gateway is shutting down\n\n".to_owned(),
        ]),
        // A snapshot that says what was said already.
        whole(&[event(3, "processing", half), event(4, "completed", "")]),
    ]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let expected = [
        "T0 pending",
        "T1 processing",
        "T2 processing",
        "T4 completed",
    ];
    assert_eq!(statuses(&output), expected);
    let ids: Vec<_> = heads.iter().map(last_event_id).collect();
    assert_eq!(ids, [None, Some("1"), Some("1"), Some("2")]);
    let asked = format!("GET /v1/jobs/{ID}/events HTTP/1.1");
    assert!(heads.iter().all(|head| head[0] == asked), "{heads:?}");
    let notes: Vec<_> = said.lines().collect();
    assert_eq!(notes.len(), 3, "{said}");
    for (note, why) in notes.iter().zip(["was cut", "503", "has ended"]) {
        assert!(
            note.contains(why) && note.ends_with("; connecting again"),
            "{note}"
        );
    }
}

#[test]
fn what_cannot_be_followed_is_an_error_at_once() {
    for (answer, why) in [
        (problem(404, "there is no such job"), "there is no such job"),
        (problem(401, "no key"), "no key: give --api-key"),
        (problem(429, "too many"), "too many"),
        (problem(503, "the store is away"), "the store is away"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
            "without an event stream: is it a gateway?",
        ),
        (whole(&[]), "has ended the stream"),
        (whole(&["data: x\n\n".to_owned()]), "is not JSON"),
    ] {
        let (output, _) = watch(&[answer]);
        assert_eq!(output.status.code(), Some(1), "{why}");
        assert_eq!(stdout(&output), "", "{why}");
        let said = stderr(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_job_that_goes_away_while_it_is_followed_is_an_error() {
    let (output, _) = watch(&[
        whole(&[event(0, "pending", "")]),
        problem(410, "it is not kept any more"),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(statuses(&output), ["T0 pending"]);
    let said = stderr(&output);
    assert!(said.ends_with(": it is not kept any more\n"), "{said}");
}

#[test]
fn an_end_that_came_under_another_number_is_told() {
    let (output, heads) = watch(&[
        whole(&[event(3, "processing", "")]),
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
        whole(&[event(0, "pending", ""), event(3, "failed", "")]),
    ]);
    assert_eq!(output.status.code(), Some(1), "it did not complete");
    let expected = ["T3 processing", "T0 pending", "T3 failed"];
    assert_eq!(statuses(&output), expected);
    let ids: Vec<_> = heads.iter().map(last_event_id).collect();
    assert_eq!(ids, [None, Some("3"), None]);
    assert!(stderr(&output).contains("other numbers now"));
}
