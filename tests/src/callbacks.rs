//! An installation that calls back.

use std::process::Command;

use serde_json::Value;
use tidegate_contract::Millis;
use tidegate_contract::time::parse_rfc3339;

use crate::receiver::{Call, Receiver};
use crate::{Client, Process, Stack, secs, stack, until};

/// One of each role, and a receiver that takes what comes.
pub struct Installation {
    pub stack: Stack,
    pub gateway: Process,
    _worker: Process,
    pub notifier: Option<Process>,
    pub client: Client,
    pub receiver: Receiver,
}

impl Installation {
    /// With [`Stack::call_back`].
    pub async fn new() -> Self {
        let mut stack = Stack::new().await;
        stack.call_back();
        Self::of(stack).await
    }

    /// The roles of this one, which calls back.
    pub async fn of(stack: Stack) -> Self {
        let gateway = stack.gateway("gateway").await;
        let worker = stack.worker("worker").await;
        let notifier = stack.notifier("notifier").await;
        Self {
            client: Client::new(gateway.url()),
            receiver: Receiver::start(),
            stack,
            gateway,
            _worker: worker,
            notifier: Some(notifier),
        }
    }

    /// Submits a job that calls a path of the receiver back, and gives its id.
    pub async fn job(&self, job_type: &str, path: &str, events: Option<&str>) -> String {
        let url = format!("{}{path}", self.receiver.url);
        self.job_to(job_type, &url, events).await
    }

    /// Submits a job that calls that URL back, and gives its id.
    pub async fn job_to(&self, job_type: &str, url: &str, events: Option<&str>) -> String {
        let mut request = self
            .client
            .submit(job_type, r#"{"n":7}"#)
            .header("prefer", "respond-async")
            .header("tidegate-callback-url", url);
        if let Some(events) = events {
            request = request.header("tidegate-callback-events", events);
        }
        let answer = request.send().await.expect("an answer");
        crate::http::accepted(answer).await.id
    }

    /// The first calls of a path, once there are so many.
    pub async fn calls(&self, path: &str, count: usize) -> Vec<Call> {
        until(&format!("{count} calls of {path}"), secs(40), || async {
            let calls = self.receiver.calls(path);
            (calls.len() >= count).then_some(calls)
        })
        .await
    }

    /// The callbacks of a job, once the only one of it is in that state.
    pub async fn callback(&self, id: &str, state: &str) -> Value {
        until(
            &format!("the callback of {id} is {state}"),
            secs(20),
            || async {
                let document = self.callbacks(id).await;
                let callback = document["callbacks"][0].clone();
                (callback["state"] == state).then_some(callback)
            },
        )
        .await
    }

    /// What is kept of the attempts to call back for a job, once there are so many.
    pub async fn attempts(&self, id: &str, count: usize) -> Vec<Attempt> {
        let what = format!("{count} attempts to call back for {id}");
        until(&what, secs(40), || async {
            let document = self.callbacks(id).await;
            let attempts = document["callbacks"][0]["attempts"].as_array()?;
            (attempts.len() >= count).then(|| attempts.iter().map(Attempt::of).collect())
        })
        .await
    }

    /// `GET /v1/jobs/{id}/callbacks`.
    pub async fn callbacks(&self, id: &str) -> Value {
        let answer = self.client.get(&format!("/v1/jobs/{id}/callbacks")).send();
        answer.await.expect("an answer").json().await.expect("JSON")
    }

    /// The JSON lines that a command about callbacks prints.
    pub fn command(&self, arguments: &[&str]) -> Vec<Value> {
        let mut command = Command::new(stack::program());
        command.args(arguments);
        command.args(["--url", self.gateway.url(), "--json"]);
        let output = command.output().expect("the program runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        let lines = printed.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

/// One attempt, as it is shown.
#[derive(Debug)]
pub struct Attempt {
    pub at: Millis,
    pub took: Millis,
    pub status: Option<u64>,
    pub error: Option<String>,
    pub answer: String,
}

impl Attempt {
    fn of(shown: &Value) -> Self {
        let text = |name: &str| shown[name].as_str().map(str::to_owned);
        Self {
            at: parse_rfc3339(&text("at").expect("a time")).expect("a time"),
            took: shown["durationMs"].as_i64().expect("a duration"),
            status: shown["status"].as_u64(),
            error: text("error"),
            answer: text("answer").expect("an answer"),
        }
    }
}
