//! The file of job types: checked by a command, and followed by a running process.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{Role, finish, ready, run, stderr, stdout, tidegate, until};
use reqwest::StatusCode;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const HELLO: &str = "[types.hello]\nhandler = { kind = \"echo\" }\ncontent = \"any\"\n";
const EXTRA: &str = "\n[types.extra]\nhandler = { kind = \"echo\" }\ncontent = \"any\"\n";

/// A configuration that names `shared.toml` beside it.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(configuration: &str, types: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("types_file = \"shared.toml\"\n{configuration}");
        std::fs::write(dir.path().join("main.toml"), text).unwrap();
        let files = Self { dir };
        files.write(types);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As an editor or a deployment does it: whole, under another name first.
    fn write(&self, types: &str) {
        std::fs::write(self.path("new"), types).unwrap();
        std::fs::rename(self.path("new"), self.path("shared.toml")).unwrap();
    }

    fn main(&self) -> String {
        self.path("main.toml").display().to_string()
    }
}

#[test]
fn the_command_says_what_is_good_and_what_is_wrong_where() {
    let files = Files::new("", &format!("{HELLO}{EXTRA}"));
    let main = files.main();
    let output = run(&["types", "check", "--config", &main]);
    let said = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        said.contains("shared.toml: good; 2 job types, digest "),
        "{said}"
    );
    assert!(
        said.contains("\nextra  default  normal  wait 10s  1m       echo\n"),
        "{said}"
    );

    // The digest is of what is meant, and the file may be named by hand.
    let shared = files.path("shared.toml").display().to_string();
    let json = |output: &std::process::Output| -> Value {
        assert!(output.status.success(), "{}", stderr(output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let before = json(&run(&["types", "check", "--json", "--config", &main]));
    assert_eq!(before["types"], serde_json::json!(["extra", "hello"]));
    files.write(&format!("# turned round\n{EXTRA}mode = \"wait\"\n{HELLO}"));
    let after = json(&run(&["types", "check", &shared, "--json"]));
    assert_eq!(before["digest"], after["digest"]);

    files.write("[types.bare]\npool = \"default\"\n");
    let said = stderr(&run(&["types", "check", "--config", &main]));
    let line = "shared.toml: line 1, column 8: types.bare.handler: is missing, and has no default";
    assert!(said.contains(line), "{said}");
    let broken = [
        HELLO,
        "wait = \"10m\"\nattempt_timeout = \"soon\"\ntiers = 3\n",
        "[types.odd]\nhandler = { kind = \"magic\" }\n",
    ];
    files.write(&broken.concat());
    let output = run(&["types", "check", "--config", &main]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    for line in [
        "shared.toml: line 5, column 1: types.hello.attempt_timeout: ",
        "shared.toml: line 6, column 1: types.hello.tiers: unknown key; did you mean `tier`?",
        "shared.toml: line 8, column 13: types.odd.handler.kind: found \"magic\"; allowed: echo, http, command, custom",
    ] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }

    let email = "email = { to = [\"ops@example.com\"], subject = \"{jobid}\" }\n";
    files.write(&format!("{HELLO}{email}"));
    let said = stderr(&run(&["types", "check", "--config", &main]));
    let line = "shared.toml: line 4, column 37: types.hello.email.subject: there is no place `{jobid}`: did you mean `{jobId}`?";
    assert!(said.contains(line), "no `{line}` in\n{said}");

    // What is found when all can be read: values that do not go together, and routes to nowhere.
    let routes = "[[routes]]\npath = \"/a\"\nkind = \"submit\"\ntype = \"helo\"\n[types.mine]\nhandler = { kind = \"echo\" }\n";
    let files = Files::new(routes, &format!("{HELLO}wait = \"10m\"\n"));
    let output = run(&["types", "check", "--config", &files.main()]);
    let said = stderr(&output);
    for line in [
        "shared.toml: line 4, column 1: types.hello.wait: 10m is over the cap gateway.max_wait = 30s",
        "main.toml: line 2, column 3: routes: POST /a: there is no job type `helo`: did you mean `hello`?",
    ] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    files.write("[types.mine]\nhandler = { kind = \"echo\" }\n");
    let said = stderr(&run(&["gateway", "--config", &files.main()]));
    let line = format!(
        "shared.toml: line 1, column 8: types.mine: is in file {}: line 6, column 8 too: take one away",
        files.main()
    );
    assert!(said.contains(&line), "no `{line}` in\n{said}");
    let output = run(&["worker", "--set", "types_file=/no/such.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("file /no/such.toml: cannot be read: "));
    // A variable names it as well.
    let mut command = tidegate(&["types", "check"]);
    command.env("TIDEGATE__TYPES_FILE", files.path("shared.toml"));
    assert!(finish(&mut command, LIMIT).status.success());
}

async fn dev(files: &Files, settings: &[&str]) -> Role {
    let main = files.main();
    let mut arguments = vec!["dev", "--listen", "127.0.0.1:0", "--config", &main];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let role = Role::start(&mut tidegate(&arguments));
    ready(&role.url).await;
    role
}

async fn submit(url: &str, job_type: &str, prefer: &str) -> (StatusCode, Value) {
    let request = reqwest::Client::new().post(format!("{url}/v1/jobs/{job_type}"));
    let request = request.header("prefer", prefer).body("{}");
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// The part of readiness about types; it must be ready.
async fn types(url: &str) -> Value {
    let answer = reqwest::get(format!("{url}/readyz")).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()
}

async fn metrics(url: &str) -> String {
    let answer = reqwest::get(format!("{url}/metrics")).await.unwrap();
    answer.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_comes_while_all_runs_and_a_broken_file_changes_nothing() {
    let files = Files::new("", HELLO);
    let role = dev(&files, &[]).await;
    let url = &role.url;
    let first = types(url).await["types"].clone();
    assert_eq!(
        (&first["count"], &first["error"]),
        (&4.into(), &Value::Null),
        "{first}"
    );
    assert!(
        first["file"].as_str().unwrap().ends_with("shared.toml"),
        "{first}"
    );
    assert_eq!(submit(url, "extra", "wait=5").await.0, 404);

    files.write(&format!("{HELLO}{EXTRA}"));
    until("the new type runs", LIMIT, async || {
        let (status, answer) = submit(url, "extra", "wait=10").await;
        assert!(status == 200 || status == 404, "{status} {answer}");
        (status == 200).then_some(())
    })
    .await;
    let second = types(url).await["types"].clone();
    assert_ne!(first["digest"], second["digest"]);
    let text = metrics(url).await;
    let info = format!("tidegate_job_types_info{{digest={}}} 1\n", second["digest"]);
    assert!(text.contains(&info), "{info}{text}");
    assert!(
        text.contains("tidegate_attempts_total{type=\"extra\",outcome=\"completed\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("tidegate_job_types_reloads_total{result=\"ok\"} 1\n"),
        "{text}"
    );

    // In place and with a mistake in it: what was in force stays, and everybody can see why.
    let broken = format!("{HELLO}{EXTRA}wait = \"soon\"\n");
    std::fs::write(files.path("shared.toml"), broken).unwrap();
    let report = until("the error is shown", LIMIT, async || {
        let report = types(url).await;
        report["types"]["error"].is_string().then_some(report)
    })
    .await;
    let error = report["types"]["error"].as_str().unwrap();
    assert!(
        error.contains("shared.toml: line 8, column 1: types.extra.wait: "),
        "{error}"
    );
    assert_eq!(report["types"]["digest"], second["digest"]);
    assert!(
        report["notes"].to_string().contains("stay in force: file "),
        "{report}"
    );
    assert_eq!(submit(url, "extra", "wait=10").await.0, 200);
    let text = metrics(url).await;
    assert!(
        text.contains("tidegate_job_types_reloads_total{result=\"failed\"} 1\n"),
        "{text}"
    );
    let told = || role.log().matches("cannot be used").count();
    assert_eq!(told(), 1, "once for a content");

    // A pool without topics cannot come at run time, and no types at all are taken for an accident.
    for (types_now, words) in [
        (
            format!("{HELLO}{EXTRA}pool = \"gpu\"\n"),
            "topic tidegate.jobs.gpu.high and 2 more are missing: run `tidegate topics create`",
        ),
        (String::new(), "holds no [types.NAME]"),
    ] {
        files.write(&types_now);
        until(words, LIMIT, async || {
            let report = types(url).await;
            let error = report["types"]["error"].as_str()?;
            error.contains(words).then_some(())
        })
        .await;
        assert_eq!(submit(url, "extra", "wait=10").await.0, 200);
    }
    assert_eq!(told(), 3);

    // The signal makes it look at once; the old content again is no error any more.
    files.write(&format!("{HELLO}{EXTRA}"));
    role.signal(nix::sys::signal::Signal::SIGHUP);
    until("the error is gone", LIMIT, async || {
        let report = types(url).await;
        report["types"]["error"].is_null().then_some(())
    })
    .await;
    assert_eq!(types(url).await["types"]["digest"], second["digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_type_that_goes_are_kept_until_it_comes_back() {
    let files = Files::new("", HELLO);
    let go = files.path("go");
    let slow = format!(
        "\n[types.slow]\nhandler = {{ kind = \"command\", program = [\"sh\", \"-c\", \"until test -e {}; do sleep 0.1; done\"] }}\n",
        go.display()
    );
    files.write(&format!("{HELLO}{slow}{EXTRA}"));
    let settings = [
        "worker.concurrency=1",
        "worker.park_after=100ms",
        "worker.park_at_most=500ms",
    ];
    let role = dev(&files, &settings).await;
    let url = &role.url;
    // One runs until it may end, and will not be cut short; the others stand in line behind it.
    let mut ids = Vec::new();
    for job_type in ["slow", "extra", "slow", "extra", "extra"] {
        let (status, answer) = submit(url, job_type, "respond-async").await;
        assert_eq!(status, 202, "{answer}");
        ids.push(answer["jobId"].as_str().unwrap().to_owned());
        if job_type == "slow" && ids.len() == 1 {
            until("it runs", LIMIT, async || {
                metrics(url)
                    .await
                    .contains("tidegate_attempts_running{type=\"slow\"} 1\n")
                    .then_some(())
            })
            .await;
        }
    }
    let before = types(url).await["types"]["digest"].clone();
    files.write(HELLO);
    // Asked by readiness: submits until one is refused would be jobs too, many of them, and each goes round.
    until("the types are others", LIMIT, async || {
        (types(url).await["types"]["digest"] != before).then_some(())
    })
    .await;
    assert_eq!(submit(url, "extra", "respond-async").await.0, 404);
    std::fs::write(&go, "").unwrap();
    // All four of them go round, while what is known goes on: nothing stands behind them.
    assert_eq!(submit(url, "hello", "wait=20").await.0, 200);
    until("they are parked", LIMIT, async || {
        let text = metrics(url).await;
        let parked = |job_type: &str, least: u64| {
            let start = format!(
                "tidegate_jobs_parked_total{{type=\"{job_type}\",reason=\"unknown-type\"}} "
            );
            let count = text
                .lines()
                .find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok());
            count.is_some_and(|count| count >= least)
        };
        (parked("extra", 3) && parked("slow", 1)).then_some(())
    })
    .await;
    let status = async |id: &String| -> Value {
        let answer = reqwest::get(format!("{url}/v1/jobs/{id}")).await.unwrap();
        answer.json().await.unwrap()
    };
    assert_eq!(
        status(&ids[0]).await["status"],
        "completed",
        "it ended as it was begun"
    );
    for id in &ids[1..] {
        assert_eq!(status(id).await["status"], "pending");
    }
    files.write(&format!("{HELLO}{slow}{EXTRA}"));
    for id in &ids {
        until("it is completed", LIMIT, async || {
            let status = status(id).await;
            assert_ne!(status["status"], "failed", "{status}");
            (status["status"] == "completed").then_some(())
        })
        .await;
    }
    assert_eq!(role.log().matches("job failed").count(), 0);
}
