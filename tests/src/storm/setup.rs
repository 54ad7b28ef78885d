//! The installation of a storm: servers, proxies, configuration.

use std::time::Duration;

use crate::proxy::{Proxy, Way};
use crate::{Broker, Postgres, Servers, Stack};

use super::mix::TENANTS;
use super::plan::Weather;

/// What the storm's roles are configured with; the places of handlers come with each worker.
const TYPES: &str = r#"
[types.quick]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]

[types.echo]
handler = { kind = "echo" }
allowed_tiers = ["high", "low"]

[types.slow]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]
attempt_timeout = "20s"

[types.failing]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]

[types.hopeless]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]
retry = { attempts = 2, first = "300ms" }

[types.retrying]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]
retry = { attempts = 4, first = "300ms" }

[types.delayed]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]

[types.cancelled]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]

[types.deadlined]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]

[types.serial]
handler = { kind = "http", url = "http://127.0.0.1:1/" }
allowed_tiers = ["high", "low"]

# Its parent is the worker.
[types.poison]
handler = { kind = "command", program = ["sh", "-c", "kill -9 $PPID"] }
allowed_tiers = ["high", "low"]
"#;

/// The types that are run by the storm itself.
pub const HTTP_TYPES: [&str; 9] = [
    "quick",
    "slow",
    "failing",
    "hopeless",
    "retrying",
    "delayed",
    "cancelled",
    "deadlined",
    "serial",
];

/// Servers of this storm alone, and the ways to them. Everything ends with this value, the roles' configuration first.
pub struct Setup {
    pub stack: Stack,
    /// Through which gateways reach the broker.
    wires: Vec<Proxy>,
    /// Through which they reach the store.
    store: Proxy,
    pub broker: Broker,
    _postgres: Postgres,
}

impl Setup {
    /// Starts everything but the roles.
    pub async fn new(brokers: u32) -> Self {
        let (broker, postgres) =
            tokio::task::block_in_place(|| (Broker::up(brokers, true), Postgres::up()));
        let servers = Servers {
            kafka: broker.bootstrap.clone(),
            registry: broker.registry.clone(),
            postgres: postgres.url.clone(),
        };
        let mut stack = Stack::bare(servers).await;
        stack.write_types(&types());
        if brokers > 1 {
            stack.set("kafka.durability=replicated");
        }
        stack.set("worker.concurrency=24");
        stack.set("worker.grace=6s");
        stack.set("gateway.grace=6s");
        stack.set("scheduler.grace=4s");
        stack.call_back();
        stack.set("notifier.grace=4s");
        tokio::task::block_in_place(|| stack.set_up());
        let wires = Proxy::to_brokers(&stack.servers.kafka).await;
        let (_, server) = stack.store.split_once('@').expect("a user");
        let (server, _) = server.split_once('/').expect("a database");
        let store = Proxy::to(server.to_owned()).await;
        Self {
            stack,
            wires,
            store,
            broker,
            _postgres: postgres,
        }
    }

    /// Settings of the gateways, which go through the proxies.
    pub fn gateway_settings(&self) -> Vec<String> {
        let (user, server) = self.stack.store.split_once('@').expect("a user");
        let (_, database) = server.split_once('/').expect("a database");
        let wires: Vec<_> = self
            .wires
            .iter()
            .map(|wire| wire.address.to_string())
            .collect();
        vec![
            format!("kafka.brokers={}", wires.join(",")),
            format!("store.url={user}@{}/{database}", self.store.address),
        ]
    }

    pub fn store_is(&self, weather: Weather) {
        self.store.set(way(weather));
    }

    pub fn wire_is(&self, weather: Weather) {
        for wire in &self.wires {
            wire.set(way(weather));
        }
    }
}

fn way(weather: Weather) -> Way {
    match weather {
        Weather::Open => Way::Open,
        Weather::Slow(ms) => Way::Slow(Duration::from_millis(ms)),
        Weather::Cut => Way::Cut,
        Weather::Still => Way::Still,
        Weather::HalfOpen => Way::HalfOpen,
    }
}

fn types() -> String {
    let mut text = TYPES.to_owned();
    text.push_str("\n[auth]\nenabled = true\n");
    for (tenant, _, sha256) in TENANTS {
        text.push_str(&format!(
            "[[auth.keys]]\nname = \"{tenant}\"\ntenant = \"{tenant}\"\nsha256 = \"{sha256}\"\n"
        ));
    }
    text
}
