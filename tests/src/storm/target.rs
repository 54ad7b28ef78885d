//! What the workers post their jobs to: the storm itself, so that it sees every run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tidegate_contract::now_millis;

use super::facts::Run;

/// The handlers; they end with the program.
#[derive(Clone)]
pub struct Target {
    url: String,
    runs: Arc<Mutex<Vec<Run>>>,
}

impl Target {
    /// Listens on a free port.
    pub fn start() -> Self {
        let runs = Arc::<Mutex<Vec<Run>>>::default();
        let data = web::Data::from(Arc::clone(&runs));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/run/{worker}", web::post().to(run))
        })
        .workers(1)
        .keep_alive(Duration::from_secs(75))
        .disable_signals()
        .bind("127.0.0.1:0")
        .expect("a port");
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, runs }
    }

    /// Where one incarnation of a worker posts its jobs.
    pub fn of_worker(&self, name: &str) -> String {
        format!("{}/run/{name}", self.url)
    }

    /// All runs so far.
    pub fn runs(&self) -> Vec<Run> {
        lock(&self.runs).clone()
    }
}

fn lock(runs: &Mutex<Vec<Run>>) -> MutexGuard<'_, Vec<Run>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(
    request: HttpRequest,
    worker: web::Path<String>,
    body: web::Bytes,
    runs: web::Data<Mutex<Vec<Run>>>,
) -> HttpResponse {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let job = header("tidegate-job-id").and_then(|id| id.parse().ok());
    let attempt = header("tidegate-attempt").and_then(|attempt| attempt.parse().ok());
    let (Some(job), Some(attempt)) = (job, attempt) else {
        return HttpResponse::BadRequest().body("without job id and attempt");
    };
    let Ok(told) = serde_json::from_slice::<Value>(&body) else {
        return HttpResponse::BadRequest().body("not what was submitted");
    };
    let place = {
        let mut runs = lock(&runs);
        runs.push(Run {
            job,
            attempt,
            worker: worker.into_inner(),
            start: now_millis(),
            end: None,
        });
        runs.len() - 1
    };
    let ended = |answer: HttpResponse| {
        if let Some(run) = lock(&runs).get_mut(place) {
            run.end = Some(now_millis());
        }
        answer
    };
    let fails = told["fails"].as_i64().unwrap_or(0);
    if i64::from(attempt) <= fails {
        return ended(HttpResponse::InternalServerError().body("not yet"));
    }
    tokio::time::sleep(Duration::from_millis(told["work"].as_u64().unwrap_or(0))).await;
    let answer = json!({ "nonce": told["nonce"], "attempt": attempt });
    ended(match told["refuses"].as_bool() {
        Some(true) => HttpResponse::UnprocessableEntity().json(answer),
        _ => HttpResponse::Ok().json(answer),
    })
}
