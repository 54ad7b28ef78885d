//! One installation of Tidegate, made for one test.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;
use uuid::Uuid;

use crate::{Client, Process, secs, until_true};

/// Where the servers of this run are. `scripts/test` says it through the environment.
#[derive(Clone, Debug)]
pub struct Servers {
    pub kafka: String,
    pub registry: String,
    /// A URL whose user may create databases.
    pub postgres: String,
}

/// A variable that `scripts/test` sets.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run through scripts/test"))
}

/// The program under test.
pub fn program() -> PathBuf {
    variable("TIDEGATE_BIN").into()
}

/// The checkout.
pub fn root() -> PathBuf {
    variable("TIDEGATE_ROOT").into()
}

impl Servers {
    /// The shared ones.
    pub fn shared() -> Self {
        Self {
            kafka: variable("TIDEGATE_TEST_KAFKA"),
            registry: variable("TIDEGATE_TEST_REGISTRY"),
            postgres: variable("TIDEGATE_TEST_POSTGRES"),
        }
    }
}

/// A topic prefix, a database and a configuration of its own.
pub struct Stack {
    pub servers: Servers,
    pub prefix: String,
    /// The store's URL.
    pub store: String,
    pub dir: TempDir,
    database: Option<String>,
    /// Settings that every role of this stack gets, as `--set` takes them.
    pub settings: Vec<String>,
    /// Variables that every command of this stack gets besides ours.
    pub environment: Vec<(String, String)>,
}

/// Job types for tests, on top of the shipped configuration: a file, as an operator would write it.
const TYPES: &str = r#"
[types.echo]
handler = { kind = "echo" }
allowed_tiers = ["high", "low"]
content = "any"

[types.echo-async]
handler = { kind = "echo" }
mode = "async"

# The same, so late that much can happen in between.
[types.slow-echo]
handler = { kind = "command", program = ["sh", "-c", "sleep 2; cat"], content_type = "application/json" }

[types.sleep]
handler = { kind = "command", program = ["sh", "-c", "sleep \"$(cat)\"; echo slept"], content_type = "text/plain" }
content = "any"

[types.sleep-async]
handler = { kind = "command", program = ["sh", "-c", "sleep \"$(cat)\"; echo slept"], content_type = "text/plain" }
content = "any"
mode = "async"

# Tried once: most installations of tests have no scheduler.
[types.fail]
handler = { kind = "command", program = ["sh", "-c", "echo broken >&2; exit 3"] }
retry = { attempts = 1 }

[types.process-report]
handler = { kind = "custom", name = "process-report" }
mode = "async"
pass_headers = ["accept"]
"#;

impl Stack {
    /// On the shared servers, with topics and schemas made.
    pub async fn new() -> Self {
        let stack = Self::bare(Servers::shared()).await;
        stack.set_up();
        stack
    }

    /// On these servers, nothing made but the database.
    pub async fn bare(servers: Servers) -> Self {
        let name = format!("t{}", &Uuid::now_v7().simple().to_string()[20..]);
        let (base, _) = servers
            .postgres
            .rsplit_once('/')
            .expect("a URL with a database");
        let store = format!("{base}/{name}");
        let pool = sqlx::PgPool::connect(&servers.postgres)
            .await
            .expect("PostgreSQL");
        // The name is made above; a statement that creates a database takes no parameters.
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create)
            .execute(&pool)
            .await
            .expect("create database");
        pool.close().await;
        let mut stack = Self::with_store(servers, &name, store);
        stack.database = Some(name);
        stack
    }

    /// On these servers, with a store that is made elsewhere.
    pub fn with_store(servers: Servers, name: &str, store: String) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("types.toml"), TYPES).expect("configuration");
        let settings = vec![
            format!("kafka.brokers={}", servers.kafka),
            format!("kafka.prefix={name}."),
            "kafka.durability=single-broker".into(),
            // Small, so that dozens of installations fit on one test broker.
            "kafka.partitions.jobs=4".into(),
            "kafka.partitions.replies=8".into(),
            "kafka.partitions.dead_letters=2".into(),
            "kafka.partitions.delay=2".into(),
            "kafka.delay_rungs=[\"200ms\", \"1s\", \"4s\"]".into(),
            "kafka.session_timeout=6s".into(),
            format!("registry.url={}", servers.registry),
            format!("store.url={store}"),
        ];
        Self {
            servers,
            prefix: format!("{name}."),
            store,
            dir,
            database: None,
            settings,
            environment: Vec::new(),
        }
    }

    /// Adds tables to the configuration file: job types, routes, keys.
    pub fn configure(&self, tables: &str) {
        let path = self.dir.path().join("types.toml");
        let known = std::fs::read_to_string(&path).expect("configuration");
        std::fs::write(path, format!("{known}\n{tables}")).expect("configuration");
    }

    /// Another configuration of the same installation, with these job types only.
    pub fn with_types(&self, types: &str) -> Self {
        let name = self.prefix.trim_end_matches('.');
        let mut other = Self::with_store(self.servers.clone(), name, self.store.clone());
        other.settings = self.settings.clone();
        other.environment = self.environment.clone();
        other.write_types(types);
        other
    }

    /// Job types of every role started from now on, in place of those for all tests.
    pub fn write_types(&self, types: &str) {
        std::fs::write(self.dir.path().join("types.toml"), types).expect("configuration");
    }

    /// Adds or replaces a setting of every role started from now on.
    pub fn set(&mut self, setting: &str) {
        let key = setting.split('=').next().unwrap_or(setting);
        self.settings
            .retain(|known| known.split('=').next() != Some(key));
        self.settings.push(setting.to_owned());
    }

    /// A command of the program with this stack's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.dir.path().join("types.toml"));
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let more = self.environment.iter();
        command.envs(more.map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{out}\n{err}",
            output.status
        );
        out.into_owned()
    }

    /// Makes topics and schemas, as an operator does.
    pub fn set_up(&self) {
        self.succeed(&["topics", "create"]);
        self.succeed(&["schemas", "register"]);
    }

    /// Starts a role, with settings of its own, without waiting until it is ready.
    pub fn start(&self, role: &str, name: &str, settings: &[&str]) -> Process {
        let mut command = self.command(&[role, "--listen", "127.0.0.1:0"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Process::start(name, self.dir.path(), &mut command)
    }

    /// Starts a gateway and waits until it is ready.
    pub async fn gateway(&self, name: &str) -> Process {
        self.ready(self.start("gateway", name, &[])).await
    }

    /// Starts a worker and waits until it is ready.
    pub async fn worker(&self, name: &str) -> Process {
        self.ready(self.start("worker", name, &[])).await
    }

    /// Starts a scheduler and waits until it is ready.
    pub async fn scheduler(&self, name: &str) -> Process {
        self.ready(self.start("scheduler", name, &[])).await
    }

    /// Starts a notifier and waits until it is ready.
    pub async fn notifier(&self, name: &str) -> Process {
        self.ready(self.start("notifier", name, &[])).await
    }

    /// Callbacks with a key of tests, over HTTP to this host, tried again soon.
    pub fn call_back(&mut self) {
        for setting in [
            &format!("callbacks.keys=[\"{}\"]", crate::receiver::SECRET),
            "callbacks.allow_http=true",
            "callbacks.allow_networks=[\"127.0.0.1\"]",
            "notifier.tick=100ms",
            "notifier.limits.total=2s",
            "notifier.endpoint.pause=500ms",
            "notifier.endpoint.longest_pause=2s",
            "notifier.schedule.steps=[\"300ms\", \"500ms\", \"1s\", \"1s\", \"1s\", \"2s\", \"2s\", \"2s\", \"4s\", \"4s\"]",
        ] {
            self.set(setting);
        }
    }

    /// Waits until a role is ready.
    pub async fn ready(&self, process: Process) -> Process {
        let client = Client::new(process.url());
        until_true(
            &format!("{} is ready\n{}", process.name(), process.log_tail()),
            secs(40),
            || client.is_ready(),
        )
        .await;
        process
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!(
                "configuration and logs are kept in {}",
                self.dir.path().display()
            );
        }
        // Topics stay on the throwaway broker; databases are dropped, as PostgreSQL keeps connections to them.
        if let Some(name) = self.database.take() {
            let _ = Command::new("psql")
                .args([
                    "-q",
                    "-d",
                    &self.servers.postgres,
                    "-c",
                    &format!("DROP DATABASE {name} WITH (FORCE)"),
                ])
                .output();
        }
    }
}
