//! `default.toml` is the documentation, so it must say what the code does, and all of it.

use std::collections::BTreeSet;

use serde_json::Value;
use tidegate_contract::{BreakerPolicy, EmailSpec, HandlerSpec, JobTypeSpec};
use tidegate_worker::ReservedSlots;

use super::*;

/// The whole reference with its examples taken out of their comments: `#` without a space marks them.
fn with_examples() -> String {
    let lines = DEFAULTS.lines().map(|line| match line.strip_prefix('#') {
        Some(example) if !example.starts_with([' ', '#']) => example,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Dotted keys of all values that are no tables; a list of tables counts as one table.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, inner) in table {
                let path = match path {
                    "" => key.clone(),
                    _ => format!("{path}.{key}"),
                };
                keys(inner, &path, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for inner in list {
                keys(inner, path, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn json(settings: &Settings) -> Value {
    serde_json::to_value(settings).unwrap()
}

/// Defaults, with one of everything that there may be several of.
fn everything() -> Settings {
    let mut settings = Settings::default();
    let handler = HandlerSpec::Http {
        url: String::new(),
        max_answer_bytes: 0,
        breaker: BreakerPolicy::default(),
    };
    let name = "sales-report".parse().unwrap();
    let mut spec = JobTypeSpec::new(handler);
    spec.max_running = 1;
    spec.email = Some(told());
    settings.types.insert(name, spec);
    settings.worker.reserved = ReservedSlots {
        high: Some(1),
        normal: Some(1),
        low: Some(1),
    };
    settings.types_file = Some(String::new());
    settings.gateway.public_url = Some(String::new());
    settings.telemetry.otlp_endpoint = Some(String::new());
    settings.telemetry.query_url = Some(String::new());
    let example: Settings = toml::from_str(&with_examples()).unwrap();
    settings.routes = example.routes;
    settings.auth.keys = example.auth.keys;
    settings.callbacks.tenants = example.callbacks.tenants;
    settings.kafka.librdkafka = example.kafka.librdkafka;
    settings.notifier.email = example.notifier.email;
    settings
}

/// An e-mail with the defaults, to whom the reference has as an example.
fn told() -> EmailSpec {
    serde_json::from_value(serde_json::json!({ "to": ["reports@example.com"] })).unwrap()
}

#[test]
fn the_reference_has_the_values_of_the_code() {
    let reference: Settings = toml::from_str(DEFAULTS).unwrap();
    let code = Settings::default();
    assert_eq!(json(&reference), json(&code));
    // Secrets all look the same in JSON.
    assert_eq!(reference.store.url, code.store.url);
    assert_eq!(reference.kafka, code.kafka);
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let (mut code, mut reference) = (BTreeSet::new(), BTreeSet::new());
    keys(&json(&everything()), "", &mut code);
    let text: toml::Value = toml::from_str(&with_examples()).unwrap();
    keys(&serde_json::to_value(text).unwrap(), "", &mut reference);
    let missing: Vec<_> = code.difference(&reference).collect();
    let unknown: Vec<_> = reference.difference(&code).collect();
    assert!(missing.is_empty(), "missing in default.toml: {missing:?}");
    assert!(unknown.is_empty(), "in default.toml only: {unknown:?}");
}

#[test]
fn every_key_of_the_reference_has_a_comment() {
    // One comment may stand for several keys in a row, as the retentions have one.
    let mut commented = false;
    for line in DEFAULTS.lines() {
        let line = line.trim();
        if line.starts_with("# ") {
            commented = true;
        } else if line.is_empty() {
            commented = false;
        } else {
            assert!(commented, "no comment above `{line}`");
        }
    }
}

#[test]
fn the_examples_are_good_and_say_the_defaults() {
    let settings: Settings = toml::from_str(&with_examples()).unwrap();
    assert_eq!(validate::sentences(&settings), Vec::<String>::new());
    let spec = settings.types.values().next().unwrap();
    let HandlerSpec::Http { url, .. } = &spec.handler else {
        panic!("{spec:?}");
    };
    let bare: HandlerSpec =
        serde_json::from_value(serde_json::json!({ "kind": "http", "url": url })).unwrap();
    let mut expected = JobTypeSpec::new(bare);
    expected.email = Some(told());
    assert_eq!(*spec, expected);
}

#[test]
fn dev_adds_samples_to_what_the_user_has() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = r#"
[types.shout]
handler = { kind = "echo" }

[types.echo]
wait = "3s"

[[routes]]
path = "/shout"
kind = "submit"
type = "shout"

[[routes]]
path = "/jobs/{job}"
kind = "submit"
method = "GET"
type = "shout"
"#;
    std::fs::write(file.path(), text).unwrap();
    let args = SettingsArgs {
        config: Some(file.path().to_owned()),
        set: Vec::new(),
    };
    let settings = load_dev(&args).unwrap().0.value;
    let types: Vec<_> = settings.types.keys().map(|name| name.as_str()).collect();
    assert_eq!(types, ["echo", "process-report", "shout", "word-count"]);
    let echo = &settings.types[&"echo".parse().unwrap()];
    assert_eq!(echo.wait, Duration::from_secs(3));
    let paths: Vec<_> = settings.routes.iter().map(|r| r.path.as_str()).collect();
    // The user's second route takes the place of the sample for statuses.
    assert_eq!(paths, ["/shout", "/jobs/{job}", "/process-report"]);
}

#[test]
fn the_plan_has_the_topics_of_every_pool() {
    let mut settings = load_dev(&SettingsArgs::default()).unwrap().0.value;
    let echo = settings.types.get_mut(&"echo".parse().unwrap()).unwrap();
    echo.pool = "gpu".parse().unwrap();
    let names: Vec<_> = settings.topic_plan().into_iter().map(|t| t.name).collect();
    assert!(names.contains(&"tidegate.jobs.normal".to_owned()));
    assert!(names.contains(&"tidegate.jobs.gpu.low".to_owned()));
    assert!(names.contains(&"tidegate.delay.15m".to_owned()));
    assert!(names.contains(&"tidegate.control".to_owned()));
    assert_eq!(names.len(), 17);
}

#[test]
fn the_rest_is_known_although_the_file_of_job_types_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("types.toml");
    let of = |text: &str, set: &str| {
        std::fs::write(&file, text).unwrap();
        let args = SettingsArgs {
            config: None,
            set: vec![format!("types_file={}", file.display()), set.to_owned()],
        };
        load_or_without_types(&args)
    };
    let good = "[types.a]\nhandler = { kind = \"echo\" }\n";
    let (loaded, problems) = of(good, "kafka.prefix=x.").unwrap();
    assert_eq!((loaded.value.types.len(), problems), (1, None));
    for (bad, line) in [
        ("[types.a]\nhandler = { kind = \"eco\" }\n", "line 2"),
        ("[types.a\n", "line 1"),
        (
            "[types.a]\nwait = \"9h\"\nhandler = { kind = \"echo\" }\n",
            "line 2",
        ),
    ] {
        let (loaded, problems) = of(bad, "kafka.prefix=x.").unwrap();
        assert_eq!(loaded.value.kafka.prefix, "x.");
        assert!(loaded.value.types.is_empty());
        let problems = problems.unwrap();
        assert!(problems.contains(line), "{problems}");
    }
    // What else is wrong is wrong as everywhere.
    let failure = of("[types.a\n", "kafka.brokrs=x").unwrap_err();
    assert!(failure.to_string().contains("kafka.brokrs"), "{failure}");
}

#[test]
fn a_breaker_that_makes_no_sense_is_refused_by_its_key() {
    let text = r#"
[types.a]
handler = { kind = "http", url = "http://h/", breaker = { pause = "2m" } }
[types.b]
handler = { kind = "http", url = "http://h/", breaker = { failures = 0 } }
"#;
    let settings: Settings = toml::from_str(text).unwrap();
    let expected = ["types.a.handler.breaker.pause: must be at most max_pause"];
    assert_eq!(validate::sentences(&settings), expected);
}
