//! Holds docs/wire-contract.md and the examples written from it to the code: whatever there is stands in the page.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use tidegate_contract::{
    EventKind, FaultSource, Pool, Tier, Topics, headers, ladder, schema, topics,
};

fn read(path: &str) -> String {
    let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of all fields of a schema, however deep.
fn fields(node: &Value, names: &mut Vec<String>) {
    match node {
        Value::Object(map) => {
            for field in map
                .get("fields")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                names.extend(field["name"].as_str().map(str::to_owned));
            }
            map.values().for_each(|value| fields(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, names)),
        _ => {}
    }
}

/// Whether the page names something in a code span, alone, behind a dot or among others.
fn names(page: &str, name: &str) -> bool {
    page.split('`').skip(1).step_by(2).any(|span| {
        span.split(|c: char| !(c.is_alphanumeric() || "-_".contains(c)))
            .any(|word| word == name)
    })
}

#[test]
fn the_page_has_every_field_kind_header_and_subject() {
    let page = read("docs/wire-contract.md");
    for message in schema::ALL {
        assert!(
            page.contains(&format!("`{}`", message.subject)),
            "{}",
            message.subject
        );
        let mut found = Vec::new();
        fields(&serde_json::from_str(message.text).unwrap(), &mut found);
        assert!(found.len() > 8, "{found:?}");
        for field in found {
            assert!(names(&page, &field), "{}: field {field}", message.subject);
        }
    }
    for kind in EventKind::ALL {
        assert!(names(&page, kind.as_str()), "kind {kind:?}");
    }
    for source in [
        FaultSource::Client,
        FaultSource::Gateway,
        FaultSource::Broker,
        FaultSource::Store,
        FaultSource::Worker,
        FaultSource::Job,
    ] {
        assert!(names(&page, source.as_str()), "source {source:?}");
    }
    for header in [
        headers::JOB_ID,
        headers::JOB_TYPE,
        headers::TIER,
        headers::TENANT,
        headers::ATTEMPT,
        headers::REPLY_PARTITION,
        headers::CONTENT_TYPE,
        headers::DEADLINE,
        headers::EVENT,
        headers::PARKED,
        headers::UNTIL,
        headers::DUE,
        headers::TARGET,
        headers::TARGET_PARTITION,
        headers::FIRST_ERROR,
        headers::REASON,
        headers::TRACEPARENT,
        headers::TRACESTATE,
    ] {
        assert!(names(&page, header), "header {header}");
    }
}

#[test]
fn the_page_has_the_names_and_numbers_of_topics() {
    let page = read("docs/wire-contract.md");
    let bare = Topics::new("");
    let default = Pool::default();
    let mut told: Vec<_> = Tier::ALL.map(|tier| bare.jobs(&default, tier)).to_vec();
    told.extend([bare.replies(), bare.dead_letters(), bare.control()]);
    told.push(bare.gateway_group());
    told.extend(ladder::RUNGS.map(|rung| bare.delay(rung)));
    told.push(bare.scheduler_group(ladder::RUNGS[0]));
    for name in told {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
    let pool: Pool = "x".parse().unwrap();
    let named = |name: String| format!("`{}", name.replace("x.low", "{pool}."));
    assert!(page.contains(&named(bare.jobs(&pool, Tier::Low))));
    assert!(page.contains(&named(bare.worker_group(&pool, Tier::Low))));
    let numbers = format!(
        "{} partitions for each jobs topic, {} for `replies`, {} for `dead-letters`, {} for `control`, {} for each `delay.…`",
        topics::JOBS_PARTITIONS,
        topics::REPLIES_PARTITIONS,
        topics::DEAD_LETTERS_PARTITIONS,
        topics::CONTROL_PARTITIONS,
        topics::DELAY_PARTITIONS
    );
    assert!(page.contains(&numbers), "{numbers}");
}

#[test]
fn the_kafka_worker_is_as_short_as_the_pages_say() {
    let lines = read("examples/workers/python-kafka/worker.py")
        .lines()
        .count();
    assert!(lines < 120, "{lines} lines");
    for page in ["docs/wire-contract.md", "examples/workers/README.md"] {
        assert!(
            read(page).contains(&format!("{lines} lines")),
            "{page}: {lines} lines"
        );
    }
}

#[test]
fn the_readmes_job_types_are_those_of_the_file() {
    let (readme, types) = (
        read("examples/workers/README.md"),
        read("examples/workers/types.toml"),
    );
    let blocks: Vec<_> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        assert!(types.contains(block), "{block}");
    }
}
