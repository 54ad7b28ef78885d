//! A receiver of callbacks: it notes every request, checks its signature by itself, and answers as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub at: Millis,
    /// `webhook-id`.
    pub id: String,
    pub signed: bool,
    pub traceparent: Option<String>,
    pub body: Value,
}

/// What a path answers.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// That status, with a header.
    With(u16, &'static str, String),
    /// Nothing for so long.
    Silence(Duration),
}

#[derive(Default)]
struct Heard {
    calls: Mutex<Vec<Call>>,
    answers: Mutex<BTreeMap<String, Answer>>,
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
        let heard = Arc::<Heard>::default();
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
        lock(&self.heard.answers).insert(path.to_owned(), answer);
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

async fn receive(request: HttpRequest, body: web::Bytes, heard: web::Data<Heard>) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name)?.to_str().ok();
        value.map(str::to_owned)
    };
    let text = |name: &str| header(name).unwrap_or_default();
    let id = text("webhook-id");
    let signatures = text("webhook-signature");
    let path = request.path().to_owned();
    let answer = lock(&heard.answers).get(&path).cloned();
    lock(&heard.calls).push(Call {
        path,
        at: now_millis(),
        signed: is_signed(&id, &text("webhook-timestamp"), &body, &signatures),
        id,
        traceparent: header("traceparent"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let with = |status: u16| {
        let status = actix_web::http::StatusCode::from_u16(status).expect("a status");
        HttpResponse::build(status)
    };
    match answer {
        None => with(204).finish(),
        Some(Answer::Status(status)) => with(status).body("as it is told"),
        Some(Answer::With(status, name, value)) => {
            with(status).insert_header((name, value)).finish()
        }
        Some(Answer::Silence(time)) => {
            tokio::time::sleep(time).await;
            with(204).finish()
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
