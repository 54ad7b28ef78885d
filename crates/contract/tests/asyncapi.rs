//! Holds docs/asyncapi.yaml to the code: topics, keys, headers and schemas are those that there are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tidegate_contract::control::Order;
use tidegate_contract::{
    EventKind, Pool, RecordHeaders, Tier, Topics, headers, ladder, schema, topics,
};

fn read(path: &str) -> String {
    let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn document() -> Value {
    serde_saphyr::from_str(&read("docs/asyncapi.yaml")).expect("YAML")
}

/// What a node says, also where it only points to another one of the document.
fn resolved<'a>(document: &'a Value, node: &'a Value) -> &'a Value {
    let Some(target) = node.get("$ref").and_then(Value::as_str) else {
        return node;
    };
    let pointer = target.strip_prefix('#').expect("within the document");
    let found = document.pointer(pointer);
    found.unwrap_or_else(|| panic!("there is no {target}"))
}

/// Every `$ref` of the document.
fn references<'a>(node: &'a Value, found: &mut Vec<&'a str>) {
    match node {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// The properties of a schema of headers, and which of them must be there.
fn properties(document: &Value, schema: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let schema = resolved(document, schema);
    let (mut known, mut required) = (BTreeSet::new(), BTreeSet::new());
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (more, owed) = properties(document, part);
        known.extend(more);
        required.extend(owed);
    }
    let names = schema["properties"].as_object().into_iter().flatten();
    known.extend(names.map(|(name, _)| name.clone()));
    required.extend(texts(&schema["required"]));
    (known, required)
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().expect("a text").to_owned())
        .collect()
}

/// The headers of a message's examples.
fn examples(message: &Value) -> Vec<RecordHeaders> {
    let examples = message["examples"].as_array().into_iter().flatten();
    let headers = examples.map(|example| {
        let pairs = example["headers"].as_object().expect("headers");
        let text = |value: &Value| value.as_str().expect("header values are texts").to_owned();
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    });
    headers.collect()
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    assert_eq!(document["asyncapi"], "3.0.0");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for target in found {
        if let Some(pointer) = target.strip_prefix('#') {
            assert!(document.pointer(pointer).is_some(), "{target}");
        } else {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
            assert!(file.join(target).is_file(), "{target}");
        }
    }
}

#[test]
fn the_channels_are_the_topics() {
    let document = document();
    let bare = Topics::new("{prefix}");
    let of_tier = |name: String| name.replace(Tier::Low.as_str(), "{tier}");
    let pool: Pool = "x".parse().unwrap();
    let jobs = topics::JOBS_PARTITIONS;
    let expected = BTreeMap::from([
        (of_tier(bare.jobs(&Pool::default(), Tier::Low)), jobs),
        (
            of_tier(bare.jobs(&pool, Tier::Low)).replace(".x.", ".{pool}."),
            jobs,
        ),
        (bare.replies(), topics::REPLIES_PARTITIONS),
        (bare.control(), topics::CONTROL_PARTITIONS),
        (bare.dead_letters(), topics::DEAD_LETTERS_PARTITIONS),
        (
            bare.delay(ladder::RUNGS[0]).replace("1s", "{rung}"),
            topics::DELAY_PARTITIONS,
        ),
    ]);
    let channels = document["channels"].as_object().unwrap();
    let told: BTreeMap<_, _> = channels
        .values()
        .map(|channel| {
            let partitions = channel["bindings"]["kafka"]["partitions"].as_i64().unwrap();
            let address = channel["address"].as_str().unwrap().to_owned();
            (address, i32::try_from(partitions).unwrap())
        })
        .collect();
    assert_eq!(told, expected);

    // The topic of the binding is one that the address can stand for.
    let topics = Topics::new("tidegate.");
    let gpu: Pool = "gpu".parse().unwrap();
    for (channel, topic) in [
        ("jobs", topics.jobs(&Pool::default(), Tier::Normal)),
        ("poolJobs", topics.jobs(&gpu, Tier::Normal)),
        ("replies", topics.replies()),
        ("control", topics.control()),
        ("deadLetters", topics.dead_letters()),
        ("delay", topics.delay(ladder::RUNGS[0])),
    ] {
        assert_eq!(channels[channel]["bindings"]["kafka"]["topic"], topic);
    }
    let group = |operation: &str| {
        document["operations"][operation]["bindings"]["kafka"]["groupId"]["const"].clone()
    };
    assert_eq!(
        group("takeJobs"),
        topics.worker_group(&Pool::default(), Tier::Normal)
    );
    assert_eq!(
        group("takePoolJobs"),
        topics.worker_group(&gpu, Tier::Normal)
    );

    let parameters = &document["components"]["parameters"];
    assert_eq!(parameters["prefix"]["default"], "tidegate.");
    assert_eq!(
        texts(&parameters["tier"]["enum"]),
        Tier::ALL.map(|it| it.to_string())
    );
    let rungs = ladder::RUNGS.map(|rung| Topics::new("").delay(rung).replace("delay.", ""));
    assert_eq!(texts(&parameters["rung"]["enum"]), rungs);
}

#[test]
fn the_messages_have_the_headers_of_the_code_and_no_other() {
    let document = document();
    let mut told = BTreeSet::new();
    for message in document["components"]["messages"]
        .as_object()
        .unwrap()
        .values()
    {
        told.extend(properties(&document, &message["headers"]).0);
    }
    // As they stand in the source, so that one that comes later is not forgotten here.
    let source = read("crates/contract/src/headers.rs");
    let constants = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "));
    let known: BTreeSet<_> = constants
        .filter_map(|line| Some(line.split('"').nth(1)?.to_owned()))
        .collect();
    assert!(known.len() > 15, "{known:?}");
    assert_eq!(told, known);
}

/// Whether the code takes these headers.
type Check = fn(&RecordHeaders) -> bool;

#[test]
fn headers_are_required_where_the_code_requires_them() {
    let document = document();
    let messages = &document["components"]["messages"];
    let checks: [(&str, Check); 3] = [
        ("job", |it| it.check_job().is_ok()),
        ("delayed", |it| {
            it.check_job().is_ok() && it.due().is_ok() && it.target().is_ok()
        }),
        ("event", |it| it.check_event().is_ok()),
    ];
    for (name, is_good) in checks {
        let message = &messages[name];
        let (known, required) = properties(&document, &message["headers"]);
        let examples = examples(message);
        assert!(!examples.is_empty(), "{name}");
        for headers in examples {
            assert!(is_good(&headers), "{name}: {headers:?}");
            for (header, _) in headers.iter() {
                assert!(known.contains(header), "{name}: {header}");
                let mut less = headers.clone();
                less.remove(header);
                assert_eq!(
                    !is_good(&less),
                    required.contains(header),
                    "{name}: {header}"
                );
            }
        }
    }
    let kinds = properties_of_event(&document);
    let known: Vec<_> = EventKind::ALL
        .iter()
        .filter(|kind| **kind != EventKind::Unknown)
        .map(|kind| kind.as_str().to_owned())
        .collect();
    assert_eq!(kinds, known);
}

fn properties_of_event(document: &Value) -> Vec<String> {
    let headers = &document["components"]["schemas"]["eventHeaders"];
    texts(&headers["properties"][headers::EVENT]["enum"])
}

#[test]
fn orders_on_the_control_topic_are_read_as_they_stand_there() {
    let document = document();
    let messages = &document["components"]["messages"];
    let orders = |name: &str| {
        let message = &messages[name];
        let key = message["x-key-example"].as_str().unwrap();
        let examples = examples(message).into_iter();
        let orders = examples.map(|it| Order::read(key.as_bytes(), &it, 5).expect("an order"));
        orders.collect::<Vec<_>>()
    };
    assert!(matches!(orders("cancelled")[..], [Order::CallOff(_, _)]));
    assert!(matches!(orders("beat")[..], [Order::Beat(1234, _)]));
    assert!(matches!(
        orders("pause")[..],
        [Order::Type(_, _), Order::Type(_, _)]
    ));
    let control: BTreeSet<_> = document["channels"]["control"]["messages"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(control, BTreeSet::from(["cancelled", "pause", "beat"]));
}

#[test]
fn values_are_the_registered_schemas() {
    let document = document();
    let messages = document["components"]["messages"].as_object().unwrap();
    let mut told = BTreeSet::new();
    for (name, message) in messages {
        let Some(file) = message["payload"]["schema"]["$ref"].as_str() else {
            // Orders that are all in key and headers.
            assert!(message.get("x-subject").is_none(), "{name}");
            continue;
        };
        let text = read(&format!("docs/{file}"));
        let known = schema::ALL.iter().find(|it| it.text == text).expect(name);
        assert_eq!(message["x-subject"], known.subject, "{name}");
        let avro = message["payload"]["schemaFormat"].as_str().unwrap();
        assert!(avro.starts_with("application/vnd.apache.avro;"), "{avro}");
        told.insert(known.subject);
    }
    assert_eq!(told, schema::ALL.map(|it| it.subject).into());
}
