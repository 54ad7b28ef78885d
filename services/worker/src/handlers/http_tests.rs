//! The http handler against a real server that misbehaves in every way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use tidegate_contract::{BreakerPolicy, HandlerSpec, JobTypeSpec, JobTypes, Pair, Pool, Timings};
use tidegate_runtime::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Repertoire;
use super::breaker::Said;
use super::targets::said;
use crate::context::{Attempt, JobContext};
use crate::events::What;
use crate::handler::{Handler, Handlers, JobFailure};
use crate::testing::job;

fn handler(url: &str, max_answer_bytes: usize) -> Arc<dyn Handler> {
    let spec = HandlerSpec::Http {
        url: url.to_owned(),
        max_answer_bytes,
        breaker: BreakerPolicy::default(),
    };
    let types: JobTypes = [("post".parse().unwrap(), JobTypeSpec::new(spec))].into();
    let built = Repertoire::build(&types, &[Pool::default()], &Handlers::new(), None);
    let built = built.map_err(|error| error.to_string()).unwrap();
    let runnable = built.get(&"post".parse().unwrap()).unwrap();
    Arc::clone(&runnable.handler)
}

fn context() -> JobContext {
    let mut job = job("post");
    job.request.query = vec![Pair::new("b", "x y")];
    job.request.path_params = [("id".to_owned(), "7/8".to_owned())].into();
    job.request.headers = vec![
        Pair::new("accept", "text/csv"),
        Pair::new("host", "elsewhere"),
        Pair::new("tidegate-job-id", "forged"),
    ];
    JobContext::detached(job).0
}

async fn failure(url: &str) -> JobFailure {
    handler(url, 1000).run(context()).await.unwrap_err()
}

/// What the end of an attempt there tells of the target.
async fn told(url: &str) -> Said {
    let ended = handler(url, 1000).run(context()).await;
    said(&What::ended(ended, Timings::default()))
}

type Seen = Arc<Mutex<Vec<(String, String)>>>;

async fn serve() -> (String, Seen) {
    let seen = Seen::default();
    let data = web::Data::new(Arc::clone(&seen));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/ok", web::post().to(ok))
            .route("/status/{code}", web::post().to(status))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let addr = server.addrs()[0];
    tokio::spawn(server.run());
    (format!("http://{addr}"), seen)
}

async fn ok(request: HttpRequest, body: String, seen: web::Data<Seen>) -> HttpResponse {
    let mut seen = seen.lock().unwrap();
    seen.push(("uri".to_owned(), request.uri().to_string()));
    for (name, value) in request.headers() {
        seen.push((name.to_string(), value.to_str().unwrap().to_owned()));
    }
    HttpResponse::Created()
        .insert_header(("content-type", "text/x-answer"))
        .insert_header(("content-disposition", "inline"))
        .insert_header(("set-cookie", "a=b"))
        .body(format!("got {body}"))
}

async fn status(code: web::Path<u16>) -> HttpResponse {
    let code = actix_web::http::StatusCode::from_u16(*code).unwrap();
    HttpResponse::build(code)
        .insert_header(("retry-after", "3"))
        .insert_header(("location", "/ok"))
        .body("why")
}

/// A server that answers every connection with these bytes, again and again if told, and then closes or hangs.
async fn raw(answer: &'static [u8], repeats: usize, hang: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let (head, piece) = match answer.iter().position(|b| *b == b'|') {
                Some(at) => (&answer[..at], &answer[at + 1..]),
                None => (answer, &[][..]),
            };
            let _ = socket.write_all(head).await;
            for _ in 0..repeats {
                if socket.write_all(piece).await.is_err() {
                    break;
                }
            }
            if hang {
                std::future::pending::<()>().await;
            }
        }
    });
    format!("http://{addr}/")
}

#[tokio::test]
async fn the_job_is_posted_as_accepted_and_the_answer_is_the_outcome() {
    let (url, seen) = serve().await;
    let cx = context();
    let outcome = handler(&format!("{url}/ok?a=1"), 1000)
        .run(cx.clone())
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.status, 201);
    assert_eq!(outcome.content_type.as_deref(), Some("text/x-answer"));
    assert_eq!(
        outcome.headers,
        [Pair::new("content-disposition", "inline")]
    );
    assert_eq!(outcome.body, "got hello");
    let seen = seen.lock().unwrap();
    let get = |name: &str| {
        let found = seen.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(get("uri"), Some("/ok?a=1&b=x+y"));
    assert_eq!(get("content-type"), Some("text/plain"));
    assert_eq!(get("accept"), Some("text/csv"));
    assert_eq!(
        get("tidegate-job-id"),
        Some(cx.job().job_id.to_string().as_str())
    );
    assert_eq!(get("tidegate-job-type"), Some("post"));
    assert_eq!(get("tidegate-tenant"), Some("default"));
    assert_eq!(get("tidegate-attempt"), Some("1"));
    assert_eq!(get("tidegate-repeat"), Some("false"));
    assert_eq!(get("tidegate-method"), Some("POST"));
    assert_eq!(get("tidegate-path"), Some("/v1/jobs/x"));
    assert_eq!(get("tidegate-path-params"), Some("id=7%2F8"));
    assert!(get("tidegate-deadline").unwrap().ends_with('Z'));
    assert_ne!(get("host"), Some("elsewhere"));
}

#[tokio::test]
async fn a_known_repeat_is_told() {
    let (url, seen) = serve().await;
    let mut attempt = Attempt::detached();
    attempt.is_repeat = true;
    let (cx, _progress) = JobContext::new(Arc::new(job("post")), attempt);
    let handler = handler(&format!("{url}/ok"), 1000);
    handler.run(cx).await.unwrap();
    let told = ("tidegate-repeat".to_owned(), "true".to_owned());
    assert!(seen.lock().unwrap().contains(&told));
}

#[tokio::test]
async fn a_status_says_whether_to_try_again() {
    let (url, _) = serve().await;
    for (code, retryable) in [
        (400, false),
        (404, false),
        (408, true),
        (429, true),
        (500, true),
        (503, true),
    ] {
        let failure = failure(&format!("{url}/status/{code}")).await;
        assert_eq!(
            (failure.code.as_str(), failure.retryable),
            ("http-status", retryable),
            "{code}"
        );
        let pause = retryable.then_some(Duration::from_secs(3));
        assert_eq!(failure.retry_after, pause, "{code}");
        let answer = failure.outcome.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (code, &b"why"[..]));
    }
    for code in [301, 302, 307, 308] {
        let failure = failure(&format!("{url}/status/{code}")).await;
        assert_eq!(
            (failure.code.as_str(), failure.retryable),
            ("http-redirect", false)
        );
    }
}

#[tokio::test]
async fn a_target_is_down_where_nobody_answers_and_not_where_the_answer_is_bad() {
    let (url, _) = serve().await;
    for code in [502, 503, 504] {
        assert_eq!(told(&format!("{url}/status/{code}")).await, Said::Down);
    }
    for code in [201, 302, 400, 404, 408, 429, 500, 501, 505] {
        assert_eq!(told(&format!("{url}/status/{code}")).await, Said::Up);
    }
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = format!("http://{}/", silent.local_addr().unwrap());
    assert_eq!(told(&refused).await, Said::Down);
    let (large, small) = (b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", b"");
    assert_eq!(told(&raw(large, 0, true).await).await, Said::Up);
    assert_eq!(told(&raw(small, 0, false).await).await, Said::Down, "reset");
    let large = b"HTTP/1.1 503 No\r\ncontent-length: 9999\r\n\r\n";
    assert_eq!(told(&raw(large, 0, true).await).await, Said::Down);
    for code in ["panic", "http-request"] {
        let failed = What::Failed(JobFailure::retryable(code, ""), None);
        assert_eq!(said(&failed), Said::Nothing, "{code}");
    }
    let overtime = What::Failed(JobFailure::retryable("timeout", ""), None);
    for late in [overtime, What::Expired(String::new(), None)] {
        assert_eq!(said(&late), Said::NoAnswer);
    }
}

#[tokio::test]
async fn other_settings_of_a_type_do_not_open_the_way_to_a_target_that_is_down() {
    let types = |max_answer_bytes| {
        let spec = HandlerSpec::Http {
            url: "http://127.0.0.1:1/".to_owned(),
            max_answer_bytes,
            breaker: BreakerPolicy::default(),
        };
        JobTypes::from([("post".parse().unwrap(), JobTypeSpec::new(spec))])
    };
    let build = |types: &JobTypes, before: Option<(&JobTypes, &Repertoire)>| {
        Repertoire::build(types, &[Pool::default()], &Handlers::new(), before).unwrap()
    };
    let gate = |built: &Repertoire| {
        let runnable = built.get(&"post".parse().unwrap()).unwrap();
        runnable.gate.clone().unwrap()
    };
    let (first, second) = (types(1), types(2));
    let built = build(&first, None);
    for _ in 0..BreakerPolicy::default().failures {
        let refused = What::Failed(JobFailure::retryable("http-connect", ""), None);
        let entered = gate(&built).enter().unwrap();
        entered.ended(&refused, &Metrics::new([""; 0]));
    }
    // With the handler as it was, and with one made anew.
    for types in [&first, &second] {
        let rebuilt = build(types, Some((&first, &built)));
        assert!(!gate(&rebuilt).lets_in());
    }
    assert!(gate(&build(&second, None)).lets_in());
}

#[tokio::test]
async fn nobody_there_and_a_reset_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let refused = failure(&url).await;
    assert_eq!(
        (refused.code.as_str(), refused.retryable),
        ("http-connect", true)
    );
    let half = raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf",
        0,
        false,
    )
    .await;
    let reset = failure(&half).await;
    assert_eq!((reset.code.as_str(), reset.retryable), ("http-reset", true));
    let nothing = failure(&raw(b"", 0, false).await).await;
    assert_eq!(nothing.code, "http-reset");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read() {
    let announced = raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n",
        0,
        true,
    )
    .await;
    let limit = Duration::from_secs(5);
    let failed = tokio::time::timeout(limit, failure(&announced))
        .await
        .unwrap();
    assert_eq!(
        (failed.code.as_str(), failed.retryable),
        ("http-answer-too-large", false)
    );
    // 100 MB in chunks of 64 KiB, of which no more than a few are taken.
    static CHUNK: std::sync::LazyLock<&'static [u8]> = std::sync::LazyLock::new(|| {
        let mut answer =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n|10000\r\n".to_vec();
        answer.extend(vec![b'x'; 0x10000]);
        answer.extend(b"\r\n");
        answer.leak()
    });
    let endless = raw(&CHUNK, 1600, true).await;
    let failed = tokio::time::timeout(limit, failure(&endless))
        .await
        .unwrap();
    assert_eq!(failed.code, "http-answer-too-large");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_with_the_attempt() {
    let url = raw(b"", 0, true).await;
    let waited = tokio::time::timeout(Duration::from_millis(100), failure(&url)).await;
    assert!(
        waited.is_err(),
        "nothing of its own ends it; dropping it does"
    );
}
