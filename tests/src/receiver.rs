//! A receiver of callbacks: it notes every request, checks its signature by itself, and answers as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2_011::Sha256;
use tidegate_contract::{Millis, now_millis};

/// The key that callbacks are signed with, as configurations have it.
pub const SECRET: &str = "whsec_c3Rvcm1zIGNvbWUgYW5kIHN0b3JtcyBnbyBhZ2Fpbg==";

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub path: String,
    pub at: Millis,
    /// `webhook-id`.
    pub id: String,
    /// How many requests had this id before.
    pub earlier: usize,
    pub signed: bool,
    /// Whether the answer was to take it.
    pub taken: bool,
    pub traceparent: Option<String>,
    pub body: Value,
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// That status, with a header.
    With(u16, &'static str, String),
    /// Nothing for so long, and then that it is not taken.
    Silence(Duration),
}

impl Answer {
    /// A message is taken by a 2xx.
    fn takes(&self) -> bool {
        match self {
            Answer::Status(status) | Answer::With(status, ..) => (200..300).contains(status),
            Answer::Silence(_) => false,
        }
    }
}

/// What says how a request is answered.
type Answers = dyn Fn(&Call) -> Answer + Send + Sync;

struct Heard {
    calls: Mutex<Vec<Call>>,
    /// How often each id came.
    times: Mutex<BTreeMap<String, usize>>,
    answers: Box<Answers>,
    /// Of these paths, instead.
    of_paths: Mutex<BTreeMap<String, Answer>>,
}

/// The receiver; it ends with the program.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    heard: Arc<Heard>,
}

impl Receiver {
    /// Listens on a free port; every path takes what comes.
    pub fn start() -> Self {
        Self::answering(|_| Answer::Status(204))
    }

    /// Listens on a free port, and answers what this says.
    pub fn answering(answers: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let heard = Arc::new(Heard::answering(answers));
        let data = web::Data::from(Arc::clone(&heard));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::to(receive))
        })
        .workers(1)
        .keep_alive(Duration::from_secs(75))
        .disable_signals()
        .bind("127.0.0.1:0")
        .expect("a port");
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, heard }
    }

    /// From now on a path answers so.
    pub fn answers(&self, path: &str, answer: Answer) {
        lock(&self.heard.of_paths).insert(path.to_owned(), answer);
    }

    /// Everything that came to a path, in order.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        let calls = lock(&self.heard.calls);
        calls
            .iter()
            .filter(|call| call.path == path)
            .cloned()
            .collect()
    }

    /// Everything that came.
    pub fn all(&self) -> Vec<Call> {
        lock(&self.heard.calls).clone()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    fn answering(answers: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self {
            calls: Mutex::default(),
            times: Mutex::default(),
            answers: Box::new(answers),
            of_paths: Mutex::default(),
        }
    }

    /// Notes a request, and says how it is answered.
    fn hear(&self, mut call: Call) -> Answer {
        {
            let mut times = lock(&self.times);
            let times = times.entry(call.id.clone()).or_default();
            call.earlier = *times;
            *times += 1;
        }
        let of_path = lock(&self.of_paths).get(&call.path).cloned();
        let answer = of_path.unwrap_or_else(|| (self.answers)(&call));
        call.taken = answer.takes();
        lock(&self.calls).push(call);
        answer
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, heard: web::Data<Heard>) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name)?.to_str().ok();
        value.map(str::to_owned)
    };
    let text = |name: &str| header(name).unwrap_or_default();
    let id = text("webhook-id");
    let signatures = text("webhook-signature");
    let answer = heard.hear(Call {
        path: request.path().to_owned(),
        at: now_millis(),
        signed: is_signed(&id, &text("webhook-timestamp"), &body, &signatures),
        id,
        traceparent: header("traceparent"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        ..Call::default()
    });
    let with = |status: u16| HttpResponse::build(StatusCode::from_u16(status).expect("a status"));
    match answer {
        Answer::Status(204) => with(204).finish(),
        Answer::Status(status) => with(status).body("as it is told"),
        Answer::With(status, name, value) => with(status).insert_header((name, value)).finish(),
        Answer::Silence(time) => {
            tokio::time::sleep(time).await;
            with(503).finish()
        }
    }
}

/// Standard Webhooks, from their text: base64 of HMAC-SHA256 over id, timestamp and body, with full stops between.
pub fn is_signed(id: &str, timestamp: &str, body: &[u8], signatures: &str) -> bool {
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.expect("base64")).expect("a key");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    signatures.split(' ').any(|one| one == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_how_many_came_before_it_and_whether_it_was_taken() {
        let heard = Heard::answering(|call| match call.earlier {
            0 => Answer::Silence(Duration::ZERO),
            1 => Answer::Status(503),
            _ => Answer::With(200, "x", String::new()),
        });
        for id in ["a", "b", "a", "a"] {
            heard.hear(Call {
                id: id.to_owned(),
                ..Call::default()
            });
        }
        let calls = lock(&heard.calls);
        let noted = calls
            .iter()
            .map(|it| (it.id.as_str(), it.earlier, it.taken));
        let expected = [
            ("a", 0, false),
            ("b", 0, false),
            ("a", 1, false),
            ("a", 2, true),
        ];
        assert!(noted.eq(expected), "{calls:?}");
    }

    #[test]
    fn only_what_was_signed_is_signed() {
        // Worked out with Python's hmac.
        let signature = "v1,B0eQX+KwRC60G1bGTH5Xvb8L+P/hoNYZ+B00Rp94HPc=";
        let (id, at, body) = ("msg_1", "1700000000", br#"{"a":1}"#);
        assert!(is_signed(id, at, body, signature));
        assert!(is_signed(id, at, body, &format!("v1,AAAA {signature}")));
        assert!(!is_signed("msg_2", at, body, signature));
        assert!(!is_signed(id, "1700000001", body, signature));
        assert!(!is_signed(id, at, br#"{"a":2}"#, signature));
        assert!(!is_signed(id, at, body, ""));
    }
}
