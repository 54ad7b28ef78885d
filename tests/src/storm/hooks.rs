//! Whom the storm's jobs call back: it notes every message, checks its signature by itself, and does not always take it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::Value;

use crate::receiver::is_signed;

use super::facts::Message;

/// Messages that are not taken at first, of a hundred; of those, some get no answer at all.
const REFUSED: u64 = 20;
/// Longer than the notifiers of a storm wait for an answer.
const SILENCE: Duration = Duration::from_secs(4);

/// The receiver; it ends with the program.
#[derive(Clone)]
pub struct Hooks {
    url: String,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    messages: Mutex<Vec<Message>>,
    /// How often each message came.
    times: Mutex<BTreeMap<String, u64>>,
}

impl Hooks {
    /// Listens on a free port.
    pub fn start() -> Self {
        let heard = Arc::<Heard>::default();
        let data = web::Data::from(Arc::clone(&heard));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/job/{number}", web::post().to(receive))
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

    /// Where the job of a number calls back.
    pub fn of_job(&self, number: u64) -> String {
        format!("{}/job/{number}", self.url)
    }

    /// Every message that came, each as often as it did.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.heard.messages).clone()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(
    request: HttpRequest,
    number: web::Path<u64>,
    body: web::Bytes,
    heard: web::Data<Heard>,
) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name)?.to_str().ok();
        value.map(str::to_owned)
    };
    let text = |name: &str| header(name).unwrap_or_default();
    let (id, signatures) = (text("webhook-id"), text("webhook-signature"));
    let signed = is_signed(&id, &text("webhook-timestamp"), &body, &signatures);
    let times = {
        let mut times = lock(&heard.times);
        let times = times.entry(id.clone()).or_default();
        *times += 1;
        *times
    };
    // Which ones follows from the job: of a repeat of the storm the same are refused.
    let ticket = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let refused = times == 1 && ticket % 100 < REFUSED;
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    let data = &document["data"];
    let said = |value: &Value| value.as_str().map(str::to_owned);
    lock(&heard.messages).push(Message {
        number: *number,
        id,
        signed,
        taken: !refused,
        job: data["id"].as_str().and_then(|id| id.parse().ok()),
        status: data["status"].as_str().and_then(|text| text.parse().ok()),
        nonce: said(&data["result"]["nonce"]),
    });
    if refused && ticket.is_multiple_of(5) {
        tokio::time::sleep(SILENCE).await;
    }
    match refused {
        true => HttpResponse::ServiceUnavailable().body("not now"),
        false => HttpResponse::NoContent().finish(),
    }
}
