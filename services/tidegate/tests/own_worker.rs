//! A worker of somebody's own, in another process than `tidegate dev`, as its example describes.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::time::Duration;

use common::{Role, ready, tidegate, until};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tidegate_runtime::args::{RoleArgs, SettingsArgs};
use tidegate_worker::{App, JobContext, JobFailure};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/standalone-worker/worker.toml"
);

async fn count(words: Vec<String>, _cx: JobContext) -> Result<usize, JobFailure> {
    Ok(words.len())
}

fn arguments(set: &[String]) -> RoleArgs {
    RoleArgs {
        settings: SettingsArgs {
            config: Some(FILE.into()),
            set: set.to_vec(),
        },
        listen: Some(String::new()),
    }
}

/// Tables of types for the worker's pool, all for its one handler.
fn types(names: &[&str]) -> String {
    let table = |name: &&str| {
        format!(
            "[types.{name}]\nhandler = {{ kind = \"custom\", name = \"parcel-quote\" }}\npool = \"parcels\"\n"
        )
    };
    names.iter().map(table).collect()
}

#[test]
fn it_runs_the_jobs_of_its_pool_beside_dev() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(own_pool_beside_dev());
    // The broker has gone with `dev`: a commit to it may be blocked for good.
    runtime.shutdown_timeout(Duration::from_secs(2));
}

async fn own_pool_beside_dev() {
    let dir = tempfile::tempdir().unwrap();
    let (file, new) = (dir.path().join("types.toml"), dir.path().join("new"));
    std::fs::write(&file, types(&["letter-quote"])).unwrap();
    let types_file = format!("types_file={}", file.display());
    let listen = ["dev", "--listen", "127.0.0.1:0", "--config", FILE];
    let mut dev = Role::start(tidegate(&listen).args(["--set", &types_file]));
    ready(&dev.url).await;
    let mut printed = |what: &str| {
        let line = dev.line(what, Duration::from_secs(30));
        line.split_whitespace().last().unwrap().to_owned()
    };
    let (broker, registry) = (printed("  broker "), printed("  registry "));
    // The line to start such a worker with; the settings below are those in it.
    let line = dev.line("  cargo run -- --config ", Duration::from_secs(30));
    for part in [
        "standalone-worker/worker.toml ",
        "'worker.pools=[\"parcels\"]'",
        &format!("kafka.brokers={broker} "),
        &format!("registry.url={registry}"),
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let app = App::new("own-worker").typed("parcel-quote", count);
    let set = [
        "worker.pools=[\"parcels\"]".to_owned(),
        "kafka.durability=single-broker".to_owned(),
        format!("kafka.brokers={broker}"),
        format!("registry.url={registry}"),
        types_file,
    ];
    let own = tokio::spawn(async move { app.run(arguments(&set)).await });

    let post_to = |name: &str, body: &'static str| {
        let request = Client::new().post(format!("{}/v1/jobs/{name}", dev.url));
        let request = request.header("content-type", "application/json");
        request.header("prefer", "wait=30").body(body).send()
    };
    let post = |body| post_to("parcel-quote", body);
    let answer = post(r#"["a", "b", "c"]"#).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{own:?}");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.text().await.unwrap(), "3");

    let answer = post("[1]").await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let refused: Value = answer.json().await.unwrap();
    assert_eq!(refused["code"], "bad-input");

    // Both follow the file of types: what comes into it is accepted by the one and run by the other.
    std::fs::write(&new, types(&["letter-quote", "pallet-quote"])).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let answer = until("a new type is taken", Duration::from_secs(20), async || {
        let answer = post_to("pallet-quote", r#"["a", "b"]"#).await.unwrap();
        (answer.status() != StatusCode::NOT_FOUND).then_some(answer)
    })
    .await;
    assert_eq!(answer.status(), StatusCode::OK, "{own:?}");
    assert_eq!(answer.text().await.unwrap(), "2");
    own.abort();
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_the_start() {
    let app = App::new("own-worker").typed("parcel-quote", count);
    for (set, code, said) in [
        // The type of the file is of another pool than the worker's.
        (vec![], 2, "has the handler `parcel-quote` of this program"),
        (vec!["worker.grace=long".to_owned()], 2, "worker.grace"),
        (
            vec![
                "worker.pools=[\"parcels\"]".to_owned(),
                "telemetry.sample_ratio=7.0".to_owned(),
            ],
            2,
            "telemetry.sample_ratio",
        ),
    ] {
        let refused = app.run(arguments(&set)).await.unwrap_err();
        assert_eq!(refused.exit_code(), code, "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}
