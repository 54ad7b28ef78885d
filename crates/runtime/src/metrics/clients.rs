//! Kafka and store, as every role uses them.

use std::borrow::Cow;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{
    Counters1, Counters2, Metrics, Seconds, level, observe, owned, register, request_seconds,
};

type Times = Family<super::Labels<1>, Histogram, fn() -> Histogram>;

pub(super) struct Clients {
    produced: Counters2,
    produce_seconds: Times,
    producer_queue: Gauge,
    trouble: Counters1,
    rebalances: Counters2,
    partitions: Counters1<Gauge>,
    commits: Counters2,
    unreadable: Counters2,
    unread_age: Counters1<Seconds>,
    retention: Counters1<Seconds>,
    store_calls: Counters2,
    store_seconds: Times,
}

impl Clients {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            produced: register(
                r,
                "produce_records",
                "Records handed to the producer, by destination and result",
                Family::default(),
            ),
            produce_seconds: register(
                r,
                "produce_duration_seconds",
                "From handing a record over to the broker's acknowledgement",
                Times::new_with_constructor(request_seconds),
            ),
            producer_queue: register(
                r,
                "producer_queue_records",
                "Records not acknowledged yet",
                Gauge::default(),
            ),
            trouble: register(
                r,
                "consumer_trouble",
                "Transient errors that a consumer reported and outlived",
                Family::default(),
            ),
            rebalances: register(
                r,
                "consumer_rebalances",
                "Partitions given to or taken from a consumer, counted per rebalance",
                Family::default(),
            ),
            partitions: register(
                r,
                "consumer_partitions",
                "Partitions that a consumer owns now",
                Family::default(),
            ),
            commits: register(
                r,
                "consumer_commits",
                "Offset commits, by result",
                Family::default(),
            ),
            unreadable: register(
                r,
                "unreadable_records",
                "Records set aside because they could not be read, by topic and reason",
                Family::default(),
            ),
            unread_age: register(
                r,
                "oldest_unread_age_seconds",
                "Age of the oldest record of a topic that this process is not done with; set it against the retention",
                Family::default(),
            ),
            retention: register(
                r,
                "topic_retention_seconds",
                "How long the topic keeps records; unread ones older than this are lost",
                Family::default(),
            ),
            store_calls: register(
                r,
                "store_calls",
                "Calls of the store, by result",
                Family::default(),
            ),
            store_seconds: register(
                r,
                "store_call_duration_seconds",
                "How long calls of the store take",
                Times::new_with_constructor(request_seconds),
            ),
        }
    }
}

impl Metrics {
    /// A record was acknowledged or given up. `destination`: `jobs`, `replies`, `delay`, `dead-letters`; `result`: `ok`,
    /// `queue-full`, `too-large`, `refused`, `unknown`. Only `ok` counts in the durations.
    pub fn produced(&self, destination: &'static str, result: &'static str, took: Duration) {
        let c = &self.all.clients;
        let destination = Cow::Borrowed(destination);
        let labels = [
            ("destination", destination.clone()),
            ("result", Cow::Borrowed(result)),
        ];
        c.produced.get_or_create(&labels).inc();
        if result == "ok" {
            observe(
                &c.produce_seconds
                    .get_or_create(&[("destination", destination)]),
                took,
            );
        }
    }

    /// Records that the producer holds now.
    pub fn producer_queue(&self, records: usize) {
        self.all.clients.producer_queue.set(level(records));
    }

    /// A consumer reported a transient error. `consumer`: `jobs-high`, `replies`, `waits` and the like.
    pub fn consumer_trouble(&self, consumer: &str) {
        self.all
            .clients
            .trouble
            .get_or_create(&[("consumer", owned(consumer))])
            .inc();
    }

    /// Partitions were given (`assigned`) or taken (`revoked`); `owned_now` counts what is left.
    pub fn rebalanced(&self, consumer: &str, change: &'static str, owned_now: usize) {
        let c = &self.all.clients;
        let labels = [
            ("consumer", owned(consumer)),
            ("change", Cow::Borrowed(change)),
        ];
        c.rebalances.get_or_create(&labels).inc();
        c.partitions
            .get_or_create(&[("consumer", owned(consumer))])
            .set(level(owned_now));
    }

    /// Offsets were committed, without waiting for the answer (`sent`) or as the broker has answered (`ok`). Those that
    /// were not count as `failed`, also after they were sent.
    pub fn committed(&self, consumer: &str, result: &'static str) {
        let labels = [
            ("consumer", owned(consumer)),
            ("result", Cow::Borrowed(result)),
        ];
        self.all.clients.commits.get_or_create(&labels).inc();
    }

    /// A record was set aside. `reason`: `malformed`, `unknown-schema`, `headers` and the like.
    pub fn unreadable(&self, topic: &str, reason: &'static str) {
        let labels = [("topic", owned(topic)), ("reason", Cow::Borrowed(reason))];
        self.all.clients.unreadable.get_or_create(&labels).inc();
    }

    /// The age of the oldest record of a topic that this process was given and is not done with; zero if it is done
    /// with all. What lies behind it unread is younger.
    pub fn unread_age(&self, topic: &str, age: Duration) {
        let ages = &self.all.clients.unread_age;
        let labels = [("topic", owned(topic))];
        ages.get_or_create(&labels).set(age.as_secs_f64());
    }

    /// How long a topic keeps records; not for one that keeps them for ever.
    pub fn topic_retention(&self, topic: &str, retention: Duration) {
        let retentions = &self.all.clients.retention;
        let labels = [("topic", owned(topic))];
        let retention = retention.as_secs_f64();
        retentions.get_or_create(&labels).set(retention);
    }

    /// A call of the store ended. `call`: `insert`, `job`, `project`, `purge` and the like; `result`: `ok`,
    /// `unavailable`, `failed`.
    pub fn store_call(&self, call: &'static str, result: &'static str, took: Duration) {
        let c = &self.all.clients;
        let call = Cow::Borrowed(call);
        let labels = [("call", call.clone()), ("result", Cow::Borrowed(result))];
        c.store_calls.get_or_create(&labels).inc();
        observe(&c.store_seconds.get_or_create(&[("call", call)]), took);
    }
}
