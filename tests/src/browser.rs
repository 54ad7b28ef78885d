//! A browser without a window, driven with the few commands of WebDriver that the tests need.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::Process;

/// A browser with one window. [`close`](Self::close) ends it.
pub struct Browser {
    driver: Process,
    http: reqwest::Client,
    /// URL of the session.
    session: String,
}

/// A variable that `scripts/test` sets once the packages are there.
fn installed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run through scripts/test; if it cannot install packages, first: \
             sudo apt-get install -y --no-install-recommends chromium chromium-driver"
        )
    })
}

impl Browser {
    /// Starts one whose profile and log are in `dir`.
    pub async fn start(dir: &Path) -> Self {
        let mut command = Command::new(installed("TIDEGATE_TEST_CHROMEDRIVER"));
        command.arg("--port=0");
        let words = "started successfully on port ";
        let driver = Process::start_until("chromedriver", dir, &mut command, words);
        let port = driver.url().trim_end_matches('.');
        let base = format!("http://127.0.0.1:{port}/session");
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("client");
        let profile = format!("--user-data-dir={}", dir.join("profile").display());
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {
                "binary": installed("TIDEGATE_TEST_CHROMIUM"),
                // Containers have no sandbox for a user like ours and little shared memory.
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server", profile],
            },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let begun = command_of(&http, &base, wanted).await;
        let id = begun["sessionId"].as_str().expect("a session");
        let session = format!("{base}/{id}");
        Self {
            driver,
            http,
            session,
        }
    }

    async fn command(&self, name: &str, body: Value) -> Value {
        command_of(&self.http, &format!("{}/{name}", self.session), body).await
    }

    /// Opens a page and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.command("url", json!({ "url": url })).await;
    }

    /// Clicks on the first element that a selector finds, as a person would.
    pub async fn click(&self, selector: &str) {
        let using = json!({ "using": "css selector", "value": selector });
        let element = self.command("element", using).await;
        // The member's name is the same in every browser: it says that this is an element.
        let id = element.as_object().and_then(|it| it.values().next());
        let id = id.and_then(Value::as_str).expect("an element");
        self.command(&format!("element/{id}/click"), json!({}))
            .await;
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let script = json!({ "script": format!("return {expression};"), "args": [] });
        self.command("execute/sync", script).await
    }

    /// What the page complained about in the console: errors of scripts and of loading.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().into_iter().flatten();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

    /// Ends the browser and its driver.
    pub async fn close(self) {
        let ended = self.http.delete(&self.session).send().await;
        assert!(ended.is_ok(), "{ended:?}");
        self.driver.kill();
    }
}

async fn command_of(http: &reqwest::Client, url: &str, body: Value) -> Value {
    let answer = http.post(url).json(&body).send().await.expect("the driver");
    let status = answer.status();
    let mut answer: Value = answer.json().await.expect("JSON");
    assert!(status.is_success(), "{url} {body}: {answer}");
    answer["value"].take()
}
