//! A server on this host that answers as it is told, and tells what it was asked.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::testing::PATIENCE;

/// A request that a server got.
#[derive(Clone, Debug)]
pub struct Request {
    head: String,
    pub body: String,
}

impl Request {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(given, _)| given.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    }

    /// The job that it tells of.
    pub fn job(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["data"]["id"].as_str().unwrap().to_owned()
    }
}

/// A server and what it was asked.
pub struct Server {
    pub url: String,
    asked: mpsc::UnboundedReceiver<Request>,
}

impl Server {
    /// Answers each request with what `answer` makes of it: a status line without the version, with headers if there are
    /// any. `None`: never.
    pub async fn start(
        answer: impl Fn(&Request) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, asked) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, answer) = (told.clone(), Arc::clone(&answer));
                tokio::spawn(async move {
                    serve(stream, |request| {
                        let answer = answer(&request);
                        let _ = told.send(request);
                        answer
                    })
                    .await;
                });
            }
        });
        Self { url, asked }
    }

    /// A server that always answers so.
    pub async fn always(answer: &'static str) -> Self {
        Self::start(move |_| Some(answer.to_owned())).await
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        let next = timeout(PATIENCE, self.asked.recv()).await;
        next.expect("no request came").expect("the server is there")
    }

    /// All requests that came and nobody has asked for.
    pub fn rest(&mut self) -> Vec<Request> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

async fn serve(mut stream: TcpStream, answer: impl Fn(Request) -> Option<String>) {
    let mut bytes = Vec::new();
    loop {
        let Some(request) = read(&mut stream, &mut bytes).await else {
            return;
        };
        match answer(request) {
            Some(answer) => {
                let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            None => {
                // Until the other side hangs up.
                let _ = stream.read_buf(&mut bytes).await;
                return;
            }
        }
    }
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Request> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let request = Request {
                head: head.to_owned(),
                body: String::new(),
            };
            let length: usize = request.header("content-length").parse().unwrap_or(0);
            if rest.len() >= length {
                *bytes = rest.as_bytes()[length..].to_vec();
                let body = rest[..length].to_owned();
                return Some(Request { body, ..request });
            }
        }
        if matches!(stream.read_buf(bytes).await, Ok(0) | Err(_)) {
            return None;
        }
    }
}
