//! The layers of the configuration and what wrong ones get.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::io::Write;
use std::process::Output;
use std::time::Duration;

use common::{finish, run, stderr, stdout, tidegate};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// The value and the source of a setting as `tidegate config --json` shows it.
fn setting(output: &Output, key: &str) -> (String, String) {
    assert!(output.status.success(), "{}", stderr(output));
    let lines: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let line = lines
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["key"] == key)
        .unwrap_or_else(|| panic!("no {key} in {lines:#}"));
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    (text("value"), text("source"))
}

/// Code 2, nothing on standard output, no backtrace, and all of these words on standard error.
fn refused(output: &Output, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(stdout(output), "");
    assert!(
        !said.contains("backtrace") && !said.contains("panicked"),
        "{said}"
    );
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

#[test]
fn later_layers_win_and_the_source_is_told() {
    let key = "worker.concurrency";
    let file = file("[worker]\nconcurrency = 7\n");

    let output = run(&["config", "--json"]);
    assert_eq!(setting(&output, key), ("64".into(), "default".into()));

    let output = run(&["config", "--json", "--config", path(&file)]);
    let (value, source) = setting(&output, key);
    assert_eq!(value, "7");
    assert!(source.contains(path(&file)), "{source}");

    let arguments = [
        "config",
        "--json",
        "--config",
        path(&file),
        "--set",
        "worker.concurrency=8",
    ];
    let output = run(&arguments);
    let (value, source) = setting(&output, key);
    assert_eq!(value, "8");
    assert!(source.contains("--set"), "{source}");

    let mut command = tidegate(&arguments);
    command.env("TIDEGATE__WORKER__CONCURRENCY", "9");
    let output = finish(&mut command, Duration::from_secs(30));
    let (value, source) = setting(&output, key);
    assert_eq!(value, "9");
    assert!(source.contains("TIDEGATE__WORKER__CONCURRENCY"), "{source}");
}

#[test]
fn the_table_is_toml_with_comments_and_hides_secrets() {
    let mut command = tidegate(&[
        "config",
        "--set",
        "kafka.librdkafka.\"sasl.password\"=sesame",
    ]);
    command.env("TIDEGATE__STORE__URL", "postgres://me:sesame@db/tidegate");
    let output = finish(&mut command, Duration::from_secs(30));
    let said = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!said.contains("sesame"), "{said}");
    assert!(said.contains("store.url = \"<redacted>\""), "{said}");
    assert!(said.contains("TIDEGATE__STORE__URL"), "{said}");
}

#[test]
fn unknown_keys_name_their_layer_and_the_nearest_key() {
    let file = file("[worker]\nconcurency = 7\n");
    let output = run(&["config", "--config", path(&file)]);
    refused(&output, &[path(&file), "concurency", "concurrency"]);

    let output = run(&["worker", "--set", "worker.concurency=7"]);
    refused(&output, &["--set", "concurency", "concurrency"]);

    let mut command = tidegate(&["gateway"]);
    command.env("TIDEGATE__WORKER__CONCURENCY", "7");
    let output = finish(&mut command, Duration::from_secs(30));
    refused(&output, &["TIDEGATE__WORKER__CONCURENCY", "concurrency"]);
}

#[test]
fn bad_values_name_their_layer_the_key_and_what_is_allowed() {
    let file = file("[kafka]\ndurability = \"high\"\n");
    let output = run(&["config", "--config", path(&file)]);
    refused(&output, &[path(&file), "durability", "single-broker"]);

    let output = run(&["config", "--set", "worker.concurrency=many"]);
    refused(&output, &["--set", "worker.concurrency", "many"]);

    let mut command = tidegate(&["config"]);
    command.env("TIDEGATE__KAFKA__LINGER", "soon");
    let output = finish(&mut command, Duration::from_secs(30));
    refused(&output, &["TIDEGATE__KAFKA__LINGER", "soon"]);

    let output = run(&["config", "--config", "/no/such/file.toml"]);
    refused(&output, &["/no/such/file.toml"]);
}

#[test]
fn parts_that_do_not_go_together_are_refused_in_sentences() {
    let file = file(
        r#"
[types.resize]
handler = { kind = "http", url = "ftp://pictures/resize" }

[types.slow]
handler = { kind = "echo" }
wait = "10m"

[[routes]]
method = "POST"
path = "/resize"
kind = "submit"
type = "resise"

[[routes]]
method = "POST"
path = "/slow/{a}"
kind = "submit"
type = "slow"

[[routes]]
method = "POST"
path = "/slow/{b}"
kind = "submit"
type = "slow"
"#,
    );
    let output = run(&[
        "gateway",
        "--config",
        path(&file),
        "--set",
        "worker.tier_weights.low=0",
    ]);
    refused(
        &output,
        &[
            "types.resize.handler.url: `ftp:` is not the scheme of an HTTP URL",
            "types.slow.wait: 10m is over the cap",
            "routes: POST /resize: there is no job type `resise`: did you mean `resize`?",
            "routes: POST /slow/{b}: is the same as POST /slow/{a}: take one away",
            "--set: worker.tier_weights: must be numbers from 1 to 1000",
        ],
    );
    let said = stderr(&output);
    let from_file = said.lines().filter(|line| line.contains(path(&file)));
    assert_eq!(from_file.count(), 4, "{said}");
}

#[test]
fn reserved_slots_that_leave_none_to_share_are_refused_with_their_line() {
    // One each is reserved for the other tiers of sixteen slots.
    let file = file("[worker]\nconcurrency = 16\n\n[worker.reserved]\nlow = 14\n");
    let output = run(&["worker", "--config", path(&file)]);
    let wrong = "line 4, column 9: worker.reserved: must be fewer slots together than";
    refused(&output, &[path(&file), wrong]);

    let output = run(&["config", "--set", "worker.reserved.lo=1"]);
    refused(&output, &["--set: worker.reserved.lo", "low"]);

    let output = run(&["config", "--json", "--set", "worker.reserved.low=2"]);
    assert_eq!(setting(&output, "worker.reserved.low").0, "2");
}

#[test]
fn what_only_a_role_can_judge_names_its_source_too() {
    let file = file(
        r#"
[types.echo]
handler = { kind = "echo" }

[auth]
enabled = true

[[routes]]
path = "/v1/echo"
kind = "submit"
type = "echo"
"#,
    );
    let output = run(&[
        "gateway",
        "--config",
        path(&file),
        "--listen",
        "127.0.0.1:0",
    ]);
    refused(&output, &[path(&file), "routes: route /v1/echo: "]);

    let output = run(&[
        "gateway",
        "--set",
        "auth.enabled=true",
        "--listen",
        "127.0.0.1:0",
    ]);
    refused(
        &output,
        &["--set: auth.enabled: is true and auth.keys is empty"],
    );

    let output = run(&["worker", "--set", "telemetry.log=what=ever=this"]);
    refused(&output, &["--set: telemetry.log: "]);

    let output = run(&["gateway", "--set", "store.max_connections=0"]);
    refused(
        &output,
        &["--set: store.max_connections: must be at least 1"],
    );

    let output = run(&["worker", "--set", "kafka.librdkafka.\"no.such.key\"=1"]);
    refused(&output, &["no.such.key"]);
}

#[test]
fn the_example_is_good() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tidegate.toml");
    let output = run(&["config", "--json", "--config", example]);
    let (value, source) = setting(&output, "kafka.durability");
    assert_eq!(value, "\"single-broker\"");
    assert!(source.ends_with("examples/tidegate.toml"), "{source}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_code_2_too() {
    assert_eq!(run(&["gatway"]).status.code(), Some(2));
    assert_eq!(run(&["submit", "No Such Name"]).status.code(), Some(2));
    assert_eq!(
        run(&["submit", "echo", "--wait", "1", "--async"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        run(&["submit", "echo", "--data", "@/no/such/file"])
            .status
            .code(),
        Some(2)
    );
}
