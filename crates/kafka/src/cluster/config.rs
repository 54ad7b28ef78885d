//! What librdkafka is told: the settings of each kind of client.

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use super::Cluster;

/// Bytes that a consumer which is assigned by hand fetches ahead; one answer of a broker may hold as much again.
const AHEAD: usize = 4 << 20;

impl Cluster {
    /// Dead letters carry a record whole: up to twice the limit of the others.
    pub(super) fn max_dead_letter(&self) -> usize {
        self.settings().max_record_bytes.saturating_mul(2)
    }

    fn max_request(&self) -> usize {
        (self.max_dead_letter() + (64 << 10)).clamp(1_000, 1_000_000_000)
    }

    fn base(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("client.id", client_id)
            .set("bootstrap.servers", &self.settings().brokers)
            .set("log.connection.close", "false")
            .set("allow.auto.create.topics", "false")
            // A broker that comes back is found within a second or two.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("metadata.max.age.ms", "30000");
        config
    }

    pub(super) fn producing(&self, client_id: &str) -> ClientConfig {
        let settings = self.settings();
        let mut config = self.base(client_id);
        config.set("compression.type", "lz4");
        if self.inner.embedded.is_some() {
            // Its memory is counted in bytes as they are stored.
            config.set("compression.type", "none");
        }
        self.pass_through(&mut config);
        let timeout = settings.produce_timeout.max(Duration::from_millis(100));
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", millis(timeout))
            .set("request.timeout.ms", millis(timeout))
            // How long a topic that the broker does not know (yet) is waited for.
            .set(
                "topic.metadata.propagation.max.ms",
                millis(timeout.min(Duration::from_secs(2))),
            )
            // Records are gathered before they come here. With one request at a time librdkafka would look at the queues of
            // all partitions again and again, without a pause, for as long as one is under way and others wait.
            .set("linger.ms", "0")
            .set(
                "queue.buffering.max.messages",
                settings.queue_messages.max(1).to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                (settings.queue_bytes >> 10).max(1).to_string(),
            )
            .set("message.max.bytes", self.max_request().to_string());
        config
    }

    fn pass_through(&self, config: &mut ClientConfig) {
        for (key, value) in &self.settings().librdkafka {
            config.set(key, value.expose());
        }
    }

    pub(crate) fn admin_config(&self) -> ClientConfig {
        let mut config = self.base("tidegate-admin");
        self.pass_through(&mut config);
        config
    }

    /// For asking what a group has committed, without being a member of it.
    pub(crate) fn reading_as(&self, group: &str) -> ClientConfig {
        let mut config = self.admin_config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false");
        config
    }

    pub(super) fn consumer(&self, client_id: &str, queued_bytes: usize) -> ClientConfig {
        let session = self
            .settings()
            .session_timeout
            .max(Duration::from_millis(100));
        let embedded = self.inner.embedded.is_some();
        let mut config = self.base(client_id);
        config
            // The mock answers a fetch only when this has run out.
            .set("fetch.wait.max.ms", if embedded { "3" } else { "100" })
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.min.messages", "10000")
            .set(
                "queued.max.messages.kbytes",
                (queued_bytes >> 10).max(1).to_string(),
            )
            // Of one partition, as compressed as it lies there: what it expands to is held, whatever the other limits say.
            // A larger record comes all the same, alone.
            .set("fetch.message.max.bytes", (256 << 10).to_string())
            // One answer of a broker, over all partitions: else 50 MB come at once after an outage.
            .set(
                "fetch.max.bytes",
                queued_bytes.clamp(4 << 20, 64 << 20).to_string(),
            );
        self.pass_through(&mut config);
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("session.timeout.ms", millis(session))
            .set("heartbeat.interval.ms", millis(session / 4));
        config
    }

    pub(crate) fn hand_assigned(&self, client_id: &str) -> ClientConfig {
        let mut config = self.consumer(client_id, AHEAD);
        // Needed to be a consumer at all; nobody joins it and nothing is committed to it.
        config
            .set(
                "group.id",
                format!("{}hand-assigned", self.topics().prefix()),
            )
            .set("auto.offset.reset", "earliest");
        config
    }
}

pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
