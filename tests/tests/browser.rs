//! The page of `examples/clients/javascript`, in a browser: a job is submitted, followed, and its end shown.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serde_json::{Value, json};
use tidegate_tests::browser::Browser;
use tidegate_tests::examples::node;
use tidegate_tests::stack::root;
use tidegate_tests::{Client, Process, Stack, secs, until};

/// The page, and the gateway behind it on the same origin.
fn page(stack: &Stack, gateway: &str) -> Process {
    let mut command = node();
    command
        .arg(root().join("examples/clients/javascript/serve.js"))
        .env("PORT", "0")
        .env("TIDEGATE_URL", gateway);
    Process::start("page", stack.dir.path(), &mut command)
}

/// What the page shows of a job that has ended: status, texts of its list, result.
async fn ended(browser: &Browser) -> (String, Vec<String>, String) {
    until("the page shows a result", secs(40), || async {
        let shown = browser.value("!document.getElementById('result').hidden");
        shown.await.as_bool()?.then_some(())
    })
    .await;
    let text = |id: &str| {
        let expression = format!("document.getElementById('{id}').textContent");
        async move {
            browser
                .value(&expression)
                .await
                .as_str()
                .unwrap()
                .to_owned()
        }
    };
    let list = "[...document.querySelectorAll('#events li')].map((line) => line.textContent)";
    let list = serde_json::from_value(browser.value(list).await).unwrap();
    (text("status").await, list, text("result").await)
}

#[tokio::test]
async fn a_person_submits_a_job_and_watches_it_to_its_end() {
    let stack = Stack::new().await;
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    let page = page(&stack, gateway.url());
    let browser = Browser::start(stack.dir.path()).await;

    browser.open(page.url()).await;
    browser.click("form button").await;
    let (status, list, result) = ended(&browser).await;
    assert_eq!(status, "completed");
    assert_eq!(
        list.first().map(String::as_str),
        Some("accepted"),
        "{list:?}"
    );
    assert_eq!(
        list.last().map(String::as_str),
        Some("completed"),
        "{list:?}"
    );
    let steps = list.iter().filter(|line| line.starts_with("progress: "));
    assert!(steps.count() > 0, "{list:?}");
    assert_eq!(
        browser
            .value("document.getElementById('progress').value")
            .await,
        100
    );
    // It is the report, as somebody else gets it.
    let body = json!({ "reportType": "sales", "dateRange": "2025" }).to_string();
    let answer = client
        .wait("process-report", body, 25)
        .send()
        .await
        .unwrap();
    let report: Value = answer.json().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&result).unwrap(), report);
    println!("the page listed {list:?}");

    // A job that was submitted elsewhere, by its address; what a handler says stays text.
    let text = "<img src=x onerror=\"document.title='broken in'\">";
    let job = client.accept("echo", json!(text).to_string()).await;
    browser
        .open(&format!("{}/?job={}", page.url(), job.id))
        .await;
    let (status, _, result) = ended(&browser).await;
    assert_eq!(
        (status.as_str(), result),
        ("completed", json!(text).to_string())
    );
    assert_eq!(browser.value("document.title").await, "A job");

    let job = client.accept("fail", "1").await;
    browser
        .open(&format!("{}/?job={}", page.url(), job.id))
        .await;
    let (status, list, result) = ended(&browser).await;
    assert_eq!(list.last(), Some(&status), "{list:?}");
    let error: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(error["code"], "command-exit", "{status}: {error}");

    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:?}");
    // There is no such job: the page says so and does not ask for ever.
    let unknown = "01a1fc70-3448-753f-a224-f6fdbacfd0cd";
    browser
        .open(&format!("{}/?job={unknown}", page.url()))
        .await;
    let link = "document.getElementById('link').textContent";
    until("the page gives up", secs(20), || async {
        (browser.value(link).await == "(this job cannot be followed)").then_some(())
    })
    .await;
    browser.close().await;
    assert!(page.stop(secs(10)).await.success());
}
