//! Jobs listed, followed and called off, on a running `dev`: `jobs list`, `jobs watch`, `jobs cancel`, `types list`.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::time::Duration;

use common::{Dev, stderr, stdout, until};
use serde_json::Value;

impl Dev {
    async fn submit(&self, job_type: &str) -> String {
        let url = format!("{}/v1/jobs/{job_type}", self.role.url);
        let answer = self.http.post(url).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let body: Value = answer.json().await.unwrap();
        body["jobId"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_followed_to_their_ends_and_called_off() {
    // A type that lasts, and one that ends.
    let dev = Dev::start(&[
        "types.lasting.handler={ kind = \"command\", program = [\"sleep\", \"60\"] }",
        "types.lasting.mode=async",
        "types.brief.handler={ kind = \"command\", program = [\"sh\", \"-c\", \"sleep 0.5; cat\"] }",
        "types.brief.mode=async",
    ])
    .await;

    let brief = dev.submit("brief").await;
    let watched = dev.run(&["jobs", "watch", &brief, "--json"]).await;
    assert_eq!(watched.status.code(), Some(0), "{}", stderr(&watched));
    let lines: Vec<Value> = stdout(&watched)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() >= 2, "{lines:?}");
    assert_eq!(lines.last().unwrap()["status"], "completed");
    let state = |line: &Value| (line["status"].clone(), line["attempt"].clone());
    let changed = |pair: &[Value]| state(&pair[0]) != state(&pair[1]);
    assert!(lines.windows(2).all(changed), "{lines:?}");

    let lasting = dev.submit("lasting").await;
    let (watch, cancel) = (["jobs", "watch", &lasting], ["jobs", "cancel", &lasting]);
    let (watched, cancelled) = tokio::join!(dev.run(&watch), dev.run(&cancel));
    assert_eq!(cancelled.status.code(), Some(0), "{}", stderr(&cancelled));
    assert_eq!(
        stdout(&cancelled).trim(),
        format!("job {lasting} is cancelled")
    );
    assert_eq!(watched.status.code(), Some(1), "it did not complete");
    assert!(
        stdout(&watched).contains(" cancelled "),
        "{}",
        stdout(&watched)
    );

    // One that has ended stays as it ended, and does not keep the others from being called off.
    let another = dev.submit("lasting").await;
    let output = dev
        .run(&["jobs", "cancel", &brief, &another, "--json"])
        .await;
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["cancelled"], &lines[0]["status"]),
        (&false.into(), &"completed".into())
    );
    assert_eq!(
        (&lines[1]["cancelled"], &lines[1]["status"]),
        (&true.into(), &"cancelled".into())
    );

    let unknown = "01890000-0000-7000-8000-000000000000";
    for command in ["watch", "cancel"] {
        let output = dev.run(&["jobs", command, unknown]).await;
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    let output = dev.run(&["jobs", "cancel", "not-an-id"]).await;
    assert_eq!(output.status.code(), Some(2));
}

/// The objects that a command prints, one a line.
async fn objects(dev: &Dev, arguments: &[&str]) -> Vec<Value> {
    let output = dev.run(arguments).await;
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    let said = stdout(&output);
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn texts(objects: &[Value], name: &str) -> Vec<String> {
    let texts = objects
        .iter()
        .map(|object| object[name].as_str().unwrap().to_owned());
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_types_and_tiers_are_listed_and_an_ended_job_is_erased() {
    const LIMIT: Duration = Duration::from_secs(30);
    let dev = Dev::start(&[
        "types.lasting.handler={ kind = \"command\", program = [\"sleep\", \"60\"] }",
        "types.lasting.mode=async",
        "types.quick.handler={ kind = \"echo\" }",
        "types.quick.mode=async",
    ])
    .await;
    let none = dev.run(&["jobs", "list"]).await;
    assert_eq!(stdout(&none).trim(), "no jobs", "{}", stderr(&none));

    let mut quick = Vec::new();
    for _ in 0..3 {
        quick.insert(0, dev.submit("quick").await);
    }
    let lasting = dev.submit("lasting").await;
    let completed = ["jobs", "list", "--status", "completed,failed", "--json"];
    until("they completed", LIMIT, async || {
        let listed = objects(&dev, &completed).await;
        (texts(&listed, "jobId") == quick).then_some(())
    })
    .await;
    let listed = objects(&dev, &["jobs", "list", "--type", "lasting", "--json"]).await;
    assert_eq!(texts(&listed, "jobId"), std::slice::from_ref(&lasting));
    let since = listed[0]["createdAt"].as_str().unwrap();
    let listed = objects(&dev, &["jobs", "list", "--until", since, "--json"]).await;
    assert_eq!(texts(&listed, "jobId"), quick);

    let table = dev.run(&["jobs", "list", "--limit", "2"]).await;
    let (said, complaint) = (stdout(&table), stderr(&table));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("accepted "), "{said}");
    assert!(lines[1].contains(&lasting) && lines[2].contains(&quick[0]));
    assert!(complaint.contains("newest 2: give --limit"), "{complaint}");
    let output = dev.run(&["jobs", "list", "--status", "done"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("status `done` is none"));

    // Erased: gone from its place and from the list, and so it stays.
    let url = format!("{}/v1/jobs/{}", dev.role.url, quick[1]);
    let erase = async || dev.http.delete(&url).send().await.unwrap().status();
    assert_eq!(erase().await, 204);
    assert_eq!(erase().await, 410);
    let listed = objects(&dev, &completed).await;
    assert_eq!(
        texts(&listed, "jobId"),
        [quick[0].clone(), quick[2].clone()]
    );
    let running = format!("{}/v1/jobs/{lasting}", dev.role.url);
    let refused = dev.http.delete(running).send().await.unwrap();
    assert_eq!(refused.status(), 409);

    // What runs is not done, and the broker is asked.
    let tiers = format!("{}/v1/tiers", dev.role.url);
    until("only the lasting one is not done", LIMIT, async || {
        let answer = dev.http.get(&tiers).send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        let backlogs = body["tiers"].as_array().unwrap().iter();
        let backlogs: Vec<_> = backlogs.map(|tier| tier["backlog"].as_u64()).collect();
        (backlogs == [Some(0), Some(1), Some(0)]).then_some(())
    })
    .await;

    // A pause shows, from the topic that workers read it on, and its end.
    for (what, paused) in [("pause", true), ("resume", false)] {
        let ordered = dev.run(&["types", what, "quick"]).await;
        assert!(ordered.status.success(), "{}", stderr(&ordered));
        until("it shows", LIMIT, async || {
            let types = objects(&dev, &["types", "list", "--json"]).await;
            let quick = types.iter().find(|it| it["type"] == "quick").unwrap();
            let other = types.iter().find(|it| it["type"] == "lasting").unwrap();
            let shows = quick["paused"] == paused && other["paused"] == false;
            shows.then(|| assert_eq!(quick["until"].is_string(), paused, "{quick}"))
        })
        .await;
    }
    let said = stdout(&dev.run(&["types", "list"]).await);
    let row = said
        .lines()
        .find(|line| line.starts_with("quick "))
        .unwrap();
    assert!(
        row.contains(" async ") && row.ends_with(" echo     no"),
        "{said}"
    );
}
