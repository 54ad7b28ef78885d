//! The client against servers of this process that behave badly.

use std::io;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use tidegate_callbacks::{Policy, Rule};

/// No test waits longer for anything: what hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rules that let tests reach this host.
fn open() -> CallbackRules {
    CallbackRules {
        allow_http: true,
        policy: Policy::new(&["127.0.0.1"]).unwrap(),
    }
}

fn limits(total_ms: u64) -> Limits {
    Limits {
        total: Duration::from_millis(total_ms),
        ..Limits::default()
    }
}

fn patient() -> Client {
    Client::new(open(), limits(60_000)).unwrap()
}

fn signed() -> Signed {
    Signed {
        id: "msg_1".to_owned(),
        timestamp: 1_614_265_330,
        signature: "v1,abc=".to_owned(),
    }
}

async fn send(client: &Client, url: &str) -> Result<Answer, SendError> {
    let url = Url::parse(url).unwrap();
    let signed = signed();
    let attempt = client.send(&url, &signed, HeaderMap::new(), Bytes::from_static(b"{}"));
    timeout(PATIENCE, attempt).await.expect("the attempt hangs")
}

/// A request that a server got.
type Request = String;

/// Reads one request with the body `{}`. Empty if the other side is gone.
async fn request(stream: &mut TcpStream) -> Request {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n{}") {
        if matches!(stream.read_buf(&mut bytes).await, Ok(0) | Err(_)) {
            return String::new();
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A server that reads the requests, and answers each connection's first one with `answer` and whatever `then` does.
/// Gives its port, and what it was asked.
async fn server<F>(
    answer: &'static str,
    then: impl Fn(TcpStream) -> F + Send + 'static,
) -> (u16, mpsc::UnboundedReceiver<Request>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let got = request(&mut stream).await;
            if seen.send(got).is_err() {
                break;
            }
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                tokio::spawn(then(stream));
            }
        }
    });
    (port, requests)
}

async fn hang_up(_: TcpStream) {}

async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Writes `piece` until the other side hangs up, and says how many bytes it was.
async fn drip(mut stream: TcpStream, piece: &'static [u8], pause: Duration) -> usize {
    let mut written = 0;
    let mut ticks = tokio::time::interval(pause);
    while stream.write_all(piece).await.is_ok() {
        written += piece.len();
        ticks.tick().await;
    }
    written
}

const SHORT: Duration = Duration::from_millis(10);

#[tokio::test]
async fn a_message_arrives_signed_and_the_answer_is_read() {
    let answer = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy";
    let (port, mut requests) = server(answer, hang_up).await;
    let url = format!("http://127.0.0.1:{port}/hook?token=1");
    let expected = Answer {
        status: 503,
        retry_after: Some(Duration::from_secs(7)),
        excerpt: "busy".to_owned(),
    };
    assert_eq!(send(&patient(), &url).await, Ok(expected));
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("POST /hook?token=1 HTTP/1.1\r\n"));
    for header in [
        "content-type: application/json",
        "webhook-id: msg_1",
        "webhook-timestamp: 1614265330",
        "webhook-signature: v1,abc=",
    ] {
        assert!(request.contains(&format!("\r\n{header}\r\n")), "{request}");
    }
}

/// The test above once more, in a process whose environment names a proxy that is not there.
#[tokio::test]
async fn a_proxy_of_the_environment_is_not_asked() {
    let test = "client::tests::a_message_arrives_signed_and_the_answer_is_read";
    let run = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(
            "http_proxy",
            format!("http://127.0.0.1:{}", closed_port().await),
        )
        .env("no_proxy", "")
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn what_an_answer_means() {
    let delivery = |status| {
        let answer = Answer {
            status,
            retry_after: None,
            excerpt: String::new(),
        };
        answer.delivery()
    };
    for (status, expected) in [
        (200, Delivery::Made),
        (204, Delivery::Made),
        (299, Delivery::Made),
        (302, Delivery::Failed),
        (404, Delivery::Failed),
        (410, Delivery::Gone),
        (429, Delivery::Failed),
        (500, Delivery::Failed),
    ] {
        assert_eq!(delivery(status), expected, "{status}");
    }
}

#[tokio::test]
async fn a_head_that_drips_ends_with_the_time() {
    let (port, _requests) = server("HTTP/1.1 200 OK\r\nx-slow: ", |stream| async {
        drip(stream, b"x", SHORT).await;
    })
    .await;
    let client = Client::new(open(), limits(300)).unwrap();
    let result = send(&client, &format!("http://127.0.0.1:{port}/")).await;
    let expected = SendError::Timeout(Duration::from_millis(300));
    assert_eq!(result, Err(expected.clone()));
    assert_eq!(
        expected.to_string(),
        "the callback did not answer within 300ms"
    );
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_time_and_the_answer_counts() {
    let (hung_up, mut done) = mpsc::unbounded_channel();
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
    let (port, _requests) = server(head, move |stream| {
        let hung_up = hung_up.clone();
        async move {
            let _ = hung_up.send(drip(stream, b"x", SHORT).await);
        }
    })
    .await;
    // Long enough for the head to come on a busy machine.
    let client = Client::new(open(), limits(2_000)).unwrap();
    let answer = send(&client, &format!("http://127.0.0.1:{port}/"))
        .await
        .unwrap();
    assert_eq!(answer.delivery(), Delivery::Made);
    assert!(answer.excerpt.bytes().all(|byte| byte == b'x'));
    // The connection is not left open to it.
    assert!(timeout(PATIENCE, done.recv()).await.unwrap().is_some());
}

#[tokio::test]
async fn an_endless_body_is_not_read_to_its_end() {
    const PIECE: &[u8] = &[b'y'; 8192];
    let (hung_up, mut done) = mpsc::unbounded_channel();
    let (port, _requests) = server("HTTP/1.1 200 OK\r\n\r\n", move |stream| {
        let hung_up = hung_up.clone();
        async move {
            let _ = hung_up.send(drip(stream, PIECE, Duration::from_nanos(1)).await);
        }
    })
    .await;
    // The limit of time is longer than the patience of the test: it is that of bytes which ends this.
    let answer = send(&patient(), &format!("http://127.0.0.1:{port}/"))
        .await
        .unwrap();
    assert_eq!((answer.status, answer.excerpt), (200, "y".repeat(KEEP)));
    assert!(timeout(PATIENCE, done.recv()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let answer = "HTTP/1.1 307 Moved\r\nlocation: /next\r\ncontent-length: 0\r\n\r\n";
    let (port, mut requests) = server(answer, hang_up).await;
    let answer = send(&patient(), &format!("http://127.0.0.1:{port}/hook"))
        .await
        .unwrap();
    assert_eq!((answer.status, answer.delivery()), (307, Delivery::Failed));
    assert!(requests.recv().await.unwrap().starts_with("POST /hook "));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn an_address_is_judged_before_anything_is_sent() {
    let (port, mut requests) = server("HTTP/1.1 200 OK\r\n\r\n", hang_up).await;
    let rules = CallbackRules {
        allow_http: true,
        ..CallbackRules::default()
    };
    let client = Client::new(rules, limits(60_000)).unwrap();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "localhost"] {
        match send(&client, &format!("http://{host}:{port}/")).await {
            Err(SendError::Refused(BadUrl::Address(it))) => assert_eq!(it.rule, Rule::Loopback),
            other => panic!("{host}: {other:?}"),
        }
    }
    assert!(requests.try_recv().is_err());
}

/// Answers with one list of addresses after the other.
struct Script {
    answers: Mutex<Vec<&'static [&'static str]>>,
    asked: Arc<AtomicUsize>,
}

impl Lookup for Script {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let next = self.answers.lock().unwrap().pop();
        let next = next.ok_or_else(|| io::Error::other("nothing more"))?;
        Ok(next.iter().map(|ip| ip.parse().unwrap()).collect())
    }
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_judged_at_every_connection() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (port, mut requests) = server(answer, hang_up).await;
    let asked = Arc::new(AtomicUsize::new(0));
    // From the last to the first: one that may be called among others, none, none that is known.
    let answers = vec![
        &["127.0.0.2", "10.0.0.1"][..],
        &["127.0.0.2", "127.0.0.1", "169.254.169.254"][..],
    ];
    let script = Script {
        answers: Mutex::new(answers),
        asked: asked.clone(),
    };
    let client = Client::with_lookup(open(), limits(60_000), script).unwrap();
    let url = format!("http://hook.example:{port}/");

    assert_eq!(send(&client, &url).await.unwrap().status, 200);
    // What was judged is what was connected to: nobody asked again.
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(
        requests
            .recv()
            .await
            .unwrap()
            .contains("host: hook.example")
    );

    match send(&client, &url).await {
        Err(SendError::Unresolved(ResolveError::Forbidden { name, forbidden })) => {
            assert_eq!(name, "hook.example");
            let rules: Vec<_> = forbidden.iter().map(|it| it.rule).collect();
            assert_eq!(rules, [Rule::Loopback, Rule::Private]);
        }
        other => panic!("{other:?}"),
    }
    let unknown = send(&client, &url).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "hook.example cannot be resolved: nothing more"
    );
    assert!(requests.try_recv().is_err());
}

/// Name servers that never answer.
struct Never;

impl Lookup for Never {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn no_connection_is_waited_for_longer_than_its_limit() {
    let limits = Limits {
        connect: Duration::from_millis(100),
        ..limits(60_000)
    };
    let client = Client::with_lookup(open(), limits, Never).unwrap();
    let error = send(&client, "http://hook.example/").await.unwrap_err();
    assert!(matches!(error, SendError::Connect(_)), "{error:?}");
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_is_said_without_the_url() {
    let closed = closed_port().await;
    let (rude, _requests) = server("", hang_up).await;
    let (foreign, _others) = server("220 mail.example ESMTP\r\n", hang_up).await;
    let client = patient();
    let error = async |url: String| send(&client, &url).await.unwrap_err();

    let refused = error(format!("http://127.0.0.1:{closed}/t0p")).await;
    assert!(matches!(refused, SendError::Connect(_)), "{refused:?}");
    let ended = error(format!("http://127.0.0.1:{rude}/t0p")).await;
    assert!(matches!(ended, SendError::Broken(_)), "{ended:?}");
    let no_http = error(format!("http://127.0.0.1:{foreign}/t0p")).await;
    assert!(matches!(no_http, SendError::Broken(_)), "{no_http:?}");
    for error in [refused, ended, no_http] {
        assert!(!error.to_string().contains("t0p"), "{error}");
    }
}

#[tokio::test]
async fn what_speaks_no_tls_gets_no_message() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        got
    });
    let error = send(&patient(), &format!("https://127.0.0.1:{port}/"))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Connect(_)), "{error:?}");
    let got = timeout(PATIENCE, plain).await.unwrap().unwrap();
    assert!(!got.windows(7).any(|it| it == b"webhook"));
}
