use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::{JobTypes, Secret};

use super::*;

const DEFAULTS: &str = r#"
[kafka]
brokers = "127.0.0.1:9092"
linger = "1ms"
[types.echo.handler]
kind = "command"
program = ["cat"]
"#;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    kafka: Kafka,
    #[serde(default)]
    auth: Auth,
    #[serde(default)]
    types: JobTypes,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kafka {
    brokers: String,
    #[serde(with = "duration")]
    linger: Duration,
    #[serde(default)]
    durability: Durability,
    #[serde(default = "queue")]
    queue: usize,
    #[serde(default)]
    librdkafka: BTreeMap<String, Secret>,
}

fn queue() -> usize {
    50_000
}

/// What humantime-serde does, in short.
mod duration {
    use std::time::Duration;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", value.as_millis()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                let number = text.strip_suffix("ms").and_then(|n| n.parse().ok());
                let refused = || E::invalid_value(Unexpected::Str(text), &self);
                number.map(Duration::from_millis).ok_or_else(refused)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Durability {
    #[default]
    Replicated,
    SingleBroker,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Auth {
    enabled: bool,
    pepper: Option<Secret>,
    keys: Vec<Key>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    hash: Secret,
}

struct Case {
    dir: tempfile::TempDir,
    options: ConfigOptions,
    env: Vec<(OsString, OsString)>,
}

impl Case {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            options: ConfigOptions::default(),
            env: Vec::new(),
        }
    }

    fn file(mut self, text: &str) -> Self {
        let path = self.dir.path().join("t.toml");
        std::fs::write(&path, text).unwrap();
        self.options.file = Some(path);
        self
    }

    fn set(mut self, given: &str) -> Self {
        self.options.set.push(given.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn load(&self) -> Result<Loaded<Settings>, ConfigError> {
        load_with(DEFAULTS, &self.options, self.env.clone())
    }

    fn ok(&self) -> Loaded<Settings> {
        self.load().unwrap()
    }

    /// The problems, with the folder of the file taken out.
    fn lines(&self) -> Vec<String> {
        let folder = format!("{}/", self.dir.path().display());
        let lines = self.load().unwrap_err().lines;
        lines
            .into_iter()
            .map(|line| line.replace(&folder, ""))
            .collect()
    }

    fn described(&self) -> Vec<String> {
        let folder = format!("{}/", self.dir.path().display());
        self.ok()
            .describe()
            .iter()
            .map(|line| line.to_string().replace(&folder, ""))
            .collect()
    }
}

#[test]
fn each_source_goes_over_the_ones_before() {
    let case = Case::new();
    assert_eq!(case.ok().value.kafka.brokers, "127.0.0.1:9092");
    let case = case.file("kafka.brokers = \"file:1\"\nkafka.queue = 7");
    assert_eq!(case.ok().value.kafka.brokers, "file:1");
    let case = case.set("kafka.brokers=first:1").set("kafka.brokers=set:1");
    assert_eq!(case.ok().value.kafka.brokers, "set:1");
    let case = case
        .env("TIDEGATE__KAFKA__BROKERS", "env:1")
        .env("TIDEGATE_TEST_KAFKA", "x");
    let loaded = case.ok();
    assert_eq!(loaded.value.kafka.brokers, "env:1");
    assert_eq!(loaded.value.kafka.queue, 7);
}

#[test]
fn every_setting_is_described_with_its_source() {
    let case = Case::new()
        .file("[kafka.librdkafka]\n\"sasl.password\" = \"hunter2\"\n[[auth.keys]]\nname = \"a b\"\nhash = \"beef\"")
        .set("kafka.queue=9")
        .set("types.\"a.b\".handler={kind = \"echo\"}")
        .env("TIDEGATE__KAFKA__BROKERS", "sasl://me:hunter2@host:1");
    let lines = case.described();
    for line in [
        "kafka.brokers = \"sasl://me:***@host:1\"  # environment TIDEGATE__KAFKA__BROKERS",
        "kafka.queue = 9  # --set",
        "kafka.linger = \"1ms\"  # default",
        "kafka.durability = \"replicated\"  # default",
        "kafka.librdkafka.\"sasl.password\" = \"<redacted>\"  # file t.toml",
        "auth.enabled = false  # default",
        "auth.keys = [{ hash = \"<redacted>\", name = \"a b\" }]  # file t.toml",
        "types.\"a.b\".handler.kind = \"echo\"  # --set",
        "types.\"a.b\".pool = \"default\"  # default",
        "types.echo.handler.program = [\"cat\"]  # default",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {lines:#?}");
    }
    let shown = format!("{lines:?} {:?}", case.ok());
    assert!(
        !shown.contains("hunter2\"") && !shown.contains("beef"),
        "{shown}"
    );
}

#[test]
fn values_on_the_command_line_are_toml_where_they_can_be() {
    let case = Case::new()
        .set("auth.enabled=true")
        .set("auth.keys=[{name=\"a\", hash=\"b\"}]")
        .set("kafka.brokers=\"with = and quotes\"")
        .set("kafka.linger=20ms")
        .set("kafka.librdkafka.\"socket.keepalive.enable\"=true")
        .env("TIDEGATE__AUTH__PEPPER", "1e5");
    let value = case.ok().value;
    assert!(value.auth.enabled);
    assert_eq!(value.auth.keys[0].name, "a");
    assert_eq!(value.kafka.brokers, "with = and quotes");
    assert_eq!(value.kafka.linger, Duration::from_millis(20));
    assert_eq!(
        value.kafka.librdkafka["socket.keepalive.enable"].expose(),
        "true"
    );
    assert_eq!(
        value.auth.pepper.unwrap().expose(),
        "1e5",
        "a password is text as it stands"
    );
}

#[test]
fn another_kind_of_handler_replaces_the_table() {
    let case = Case::new().file("[types.echo.handler]\nkind = \"echo\"");
    assert_eq!(
        case.described().last().unwrap(),
        "types.echo.wait = \"10s\"  # default"
    );
    assert!(!case.described().iter().any(|line| line.contains("program")));
    let same = Case::new().set("types.echo.handler.program=[\"tac\"]");
    assert!(
        same.described()
            .iter()
            .any(|line| line.contains("[\"tac\"]"))
    );
}

#[test]
fn an_unknown_key_is_named_with_its_source_and_the_nearest() {
    let keys = "did you mean `brokers`? keys here: brokers, linger, durability, queue, librdkafka";
    for (case, source) in [
        (
            Case::new().file("[kafka]\nbrokrs = \"x\""),
            "file t.toml: line 2, column 1",
        ),
        (Case::new().set("kafka.brokrs=x"), "--set"),
        (
            Case::new().env("TIDEGATE__KAFKA__BROKRS", "x"),
            "environment TIDEGATE__KAFKA__BROKRS",
        ),
    ] {
        assert_eq!(
            case.lines(),
            [format!("{source}: kafka.brokrs: unknown key; {keys}")]
        );
    }
    let case = Case::new().set("kafak.brokers=x");
    assert_eq!(
        case.lines(),
        ["--set: kafak: unknown key; did you mean `kafka`? keys here: kafka, auth, types"]
    );
    let case = Case::new().set("types.echo.handler.kin=x").lines();
    assert!(case[0].starts_with("--set: types.echo.handler"), "{case:?}");
    assert!(case[0].contains("unknown key"), "{case:?}");
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    for (case, source) in [
        (
            Case::new().file("[kafka]\nqueue = \"many\""),
            "file t.toml: line 2, column 1",
        ),
        (Case::new().set("kafka.queue=many"), "--set"),
        (
            Case::new().env("TIDEGATE__KAFKA__QUEUE", "many"),
            "environment TIDEGATE__KAFKA__QUEUE",
        ),
    ] {
        let line =
            format!("{source}: kafka.queue: found \"many\"; allowed is a whole number from 0");
        assert_eq!(case.lines(), [line]);
    }
    for (given, line) in [
        (
            "kafka.queue=-1",
            "kafka.queue: found -1; allowed is a whole number from 0",
        ),
        (
            "kafka.queue=true",
            "kafka.queue: found true; allowed is a whole number from 0",
        ),
        (
            "kafka.linger=5",
            "kafka.linger: found 5; allowed is a duration such as \"500ms\" or \"1m 30s\"",
        ),
        (
            "kafka.linger=soon",
            "kafka.linger: found \"soon\"; allowed is a duration such as \"500ms\" or \"1m 30s\"",
        ),
        (
            "kafka.durability=single",
            "kafka.durability: found \"single\"; did you mean `single-broker`? allowed: replicated, single-broker",
        ),
        ("auth=hunter2", "auth: found text; allowed is a table"),
        ("auth.keys=1", "auth.keys: found 1; allowed is an array"),
        (
            "auth.keys=[{name=\"a\"}]",
            "auth.keys.0.hash: is missing, and has no default",
        ),
    ] {
        assert_eq!(
            Case::new().set(given).lines(),
            [format!("--set: {line}")],
            "{given}"
        );
    }
    let line = Case::new()
        .set("types.Echo.handler={kind=\"echo\"}")
        .lines();
    assert!(
        line[0].starts_with("--set: types.Echo: job type `Echo` is not a name: "),
        "{line:?}"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let case = Case::new()
        .file("[kafka]\nqueue = \"many\"\nx = 1\n[nonsense]\ny = 1")
        .set("kafka.linger=soon")
        .env("TIDEGATE__AUTH__ENABLED", "perhaps");
    let lines = case.lines();
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[test]
fn a_secret_is_never_said_back() {
    let cases = [
        Case::new().file("[auth]\npepper = 31337"),
        Case::new().file("[auth]\npepper = [\"hunter31337\"]"),
        Case::new().file("[auth]\npepper = \"hunter31337"),
        Case::new().file("[auth]\npepper = hunter31337"),
        Case::new().file("[auth]\npassword = \"hunter31337\""),
        Case::new().file("[kafka.librdkafka]\n\"sasl.password\" = 31337"),
        Case::new().file("[[auth.keys]]\nname = \"a\"\nhash = 31337"),
        Case::new().set("auth.pepper:hunter31337"),
        Case::new().set("auth.pepper={a=31337}"),
        Case::new().set("auth=hunter31337"),
        Case::new().set("kafka.queue=db://me:hunter31337@host/x"),
        Case::new().env("TIDEGATE__AUTH__PEPPER", "[31337]"),
        Case::new().env("TIDEGATE__AUTH__PASSWORD", "hunter31337"),
    ];
    for case in cases {
        let error = case.load().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("31337"), "{text}");
    }
}

#[test]
fn what_cannot_be_read_says_where() {
    let mut case = Case::new();
    case.options.file = Some("/no/such.toml".into());
    assert!(case.lines()[0].starts_with("file /no/such.toml: cannot be read: No such file"));
    let lines = Case::new()
        .file("[kafka]\nbrokers = \"a\"\nqueue = = 1\n")
        .lines();
    assert!(
        lines[0].starts_with("file t.toml: line 3, column 9: not TOML: "),
        "{lines:?}"
    );
    for bad in ["kafka", "=1", "kafka..x=1", "a\nb=1"] {
        let lines = Case::new().set("kafka.queue=1").set(bad).lines();
        assert_eq!(
            lines,
            ["--set: number 2 on the command line is not of the form section.key=value"],
            "{bad}"
        );
    }
    let lines = Case::new().env("TIDEGATE__KAFKA____X", "1").lines();
    assert!(
        lines[0].starts_with("environment TIDEGATE__KAFKA____X: names no key"),
        "{lines:?}"
    );
}

#[test]
fn passwords_in_urls_are_masked() {
    for (given, shown) in [
        ("postgres://a:b@h/d", "postgres://a:***@h/d"),
        (
            "x http://u:p/w@x@h y://c:d@e z",
            "x http://u:***@h y://c:***@e z",
        ),
        ("http://host:80/path", "http://host:80/path"),
        ("sqlite::memory:", "sqlite::memory:"),
    ] {
        assert_eq!(mask_passwords(given), shown);
    }
}

#[test]
fn a_later_refusal_reads_like_the_others() {
    let error = Case::new()
        .set("kafka.queue=0")
        .ok()
        .refuse("kafka.queue", "found 0; allowed is 1 or more");
    assert_eq!(
        error.to_string(),
        "--set: kafka.queue: found 0; allowed is 1 or more"
    );
}
