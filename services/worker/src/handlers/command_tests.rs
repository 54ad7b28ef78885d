//! The command handler with real programs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tidegate_contract::Outcome;

use super::command::Command;
use crate::context::JobContext;
use crate::handler::{Handler, JobFailure};
use crate::testing::job;

fn program(program: &[&str]) -> Command {
    let program: Vec<_> = program.iter().map(|part| (*part).to_owned()).collect();
    let env = BTreeMap::from([("CONFIGURED".to_owned(), "yes".to_owned())]);
    Command::new(&program, &env, "text/plain").unwrap()
}

async fn run(parts: &[&str], body: impl Into<Bytes>) -> Result<Outcome, JobFailure> {
    let mut job = job("command");
    job.body = body.into();
    let program = program(parts);
    let running = program.run(JobContext::detached(job).0);
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, running).await.expect("hangs")
}

async fn sh(script: &str) -> Result<Outcome, JobFailure> {
    run(&["sh", "-c", script], "hello").await
}

fn is_alive(pid: i32) -> bool {
    // A zombie that waits to be reaped is not alive.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(Pid::from_raw(pid), None).is_ok() && !stat.contains(") Z ")
}

async fn until_gone(pid: i32) {
    let until = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < until, "{pid} still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn body_in_output_out() {
    let outcome = run(&["cat"], "hello").await.unwrap();
    assert_eq!((outcome.status, &outcome.body[..]), (200, &b"hello"[..]));
    assert_eq!(outcome.content_type.as_deref(), Some("text/plain"));
    // More than any pipe holds, in both directions at once.
    let big = Bytes::from(vec![b'x'; 900_000]);
    assert_eq!(run(&["cat"], big.clone()).await.unwrap().body, big);
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let big = Bytes::from(vec![b'x'; 900_000]);
    let outcome = run(&["sh", "-c", "exec 0<&-; echo done"], big)
        .await
        .unwrap();
    assert_eq!(outcome.body, "done\n");
}

#[tokio::test]
async fn the_environment_is_the_jobs_alone() {
    let outcome = run(&["env"], "").await.unwrap();
    let text = std::str::from_utf8(&outcome.body).unwrap();
    let names: Vec<_> = text.lines().filter_map(|l| l.split('=').next()).collect();
    for name in [
        "PATH",
        "CONFIGURED",
        "TIDEGATE_JOB_ID",
        "TIDEGATE_DEADLINE",
        "TIDEGATE_METHOD",
        "TIDEGATE_REPEAT",
    ] {
        assert!(names.contains(&name), "{name} is missing of {names:?}");
    }
    let foreign: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("TIDEGATE_") && !matches!(**name, "PATH" | "CONFIGURED"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[tokio::test]
async fn an_exit_code_or_signal_is_a_failure_with_the_end_of_stderr() {
    let failure = sh("echo first >&2; echo 'no such order' >&2; exit 3")
        .await
        .unwrap_err();
    assert_eq!(
        (failure.code.as_str(), failure.retryable),
        ("command-exit", true)
    );
    assert!(
        failure
            .message
            .ends_with("ended with code 3: no such order"),
        "{failure:?}"
    );
    let details = failure.details.unwrap();
    assert_eq!(details["exitCode"], 3);
    assert_eq!(details["stderr"], "first\nno such order");
    let failure = sh("kill -9 $$").await.unwrap_err();
    assert_eq!(failure.details.unwrap()["signal"], 9);
    let chatty = sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1").await;
    let details = chatty.unwrap_err().details.unwrap();
    assert_eq!(details["stderr"].as_str().unwrap().len(), 4096);
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let failure = run(&["no-such-program-here"], "").await.unwrap_err();
    assert_eq!(
        (failure.code.as_str(), failure.retryable),
        ("command-not-found", false)
    );
    assert!(failure.message.contains("`no-such-program-here`"));
}

#[tokio::test]
async fn too_much_output_ends_the_program() {
    let begun = Instant::now();
    let failure = sh("cat /dev/zero").await.unwrap_err();
    assert_eq!(failure.code, "command-output-too-large");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_ended_with_it() {
    let outcome = sh("sleep 600 & echo $!").await.unwrap();
    let pid: i32 = std::str::from_utf8(&outcome.body)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    until_gone(pid).await;
}

/// Runs a script that writes the pids of its group into a file, cuts the handler off, and waits for all to be gone.
async fn cut_off(script: &str, body: impl Into<Bytes>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let script = script.replace("PIDS", file.to_str().unwrap());
    let handler = Arc::new(program(&["sh", "-c", &script]));
    let mut job = job("command");
    job.body = body.into();
    let (cx, _) = JobContext::detached(job);
    let task = tokio::spawn(async move { handler.run(cx).await });
    let until = Instant::now() + Duration::from_secs(10);
    let pids = loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|l| l.parse().ok()).collect();
        if pids.len() == 2 {
            break pids;
        }
        assert!(Instant::now() < until, "the program did not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    task.abort();
    for pid in pids {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn a_cut_ends_the_whole_group() {
    cut_off("sleep 600 & printf '%s\\n%s\\n' $! $$ > PIDS; wait", "").await;
}

#[tokio::test]
async fn who_speaks_of_its_end_has_the_time_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let last_words = directory.path().join("words");
    // On the way out it writes to both pipes before it does what it has to do.
    let script = format!(
        "trap 'echo ends; echo ends >&2; echo done >{}; exit' TERM; printf '%s\\n%s\\n' $$ $$ > PIDS; while :; do sleep 0.1; done",
        last_words.display()
    );
    cut_off(&script, "").await;
    assert_eq!(std::fs::read_to_string(last_words).unwrap(), "done\n");
}

#[tokio::test]
async fn who_ignores_the_word_is_killed_after_the_grace() {
    cut_off(
        "trap '' TERM; sleep 600 & printf '%s\\n%s\\n' $! $$ > PIDS; while :; do sleep 1; done",
        "",
    )
    .await;
}

#[tokio::test]
async fn a_program_that_is_cut_off_never_takes_a_part_of_its_input_for_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    let script = format!(
        "trap cut=yes TERM; printf '%s\n%s\n' $$ $$ > PIDS; until [ $cut ]; do sleep 0.01; done; cat > {0}.part; mv {0}.part {0}",
        taken.display()
    );
    // More than the pipe holds: the rest is not written any more.
    cut_off(&script, vec![b'x'; 900_000]).await;
    assert!(!taken.exists());
}
