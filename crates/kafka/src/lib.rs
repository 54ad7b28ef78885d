//! Kafka as Tidegate uses it.
//!
//! Data flows like this: [`Codec`] turns a message of the contract into bytes (ids from the schema registry),
//! [`trace`] puts the trace context into its headers, a [`Producer`] writes it and tells what became of it. At the
//! other end a [`GroupConsumer`] (the group decides what it reads) or an [`AssignedConsumer`] (the caller decides)
//! hands out [`ConsumerEvent`]s, one at a time and in order, and the codec turns their payloads back into messages. A
//! [`ControlReader`] hands the orders of the control topic to whoever heeds them.
//!
//! A [`Cluster`] is the settings and names from which all of those are made; making them needs no server.
//! [`topics`] says which topics there should be and what is wrong with those that are there. For an operator's look at an
//! installation a cluster also tells its [`Brokers`], how much of a topic is in [`Sight`], and which [`Right`]s it grants.
//! A [`ClusterWatch`] keeps the readiness of a role true to its cluster.
//! [`embedded`] is a broker and a registry inside this process, for `tidegate dev` and for tests.

mod admin;
mod brokers;
mod cluster;
mod codec;
mod consumer;
mod contact;
mod control;
pub mod embedded;
mod error;
mod groups;
mod newest;
mod producer;
mod registry;
mod rights;
mod scan;
mod settings;
mod survey;
pub mod topics;
pub mod trace;
mod trouble;
mod watch;

pub use brokers::Brokers;
pub use cluster::{Cluster, ClusterInfo};
pub use codec::{Codec, CodecError, DecodeError, Decoded, base64_as_json, bytes_as_json};
pub use consumer::{
    AssignedConsumer, Committed, ConsumerEvent, GroupConsumer, GroupOptions, OnRevoke, Position,
    Record,
};
pub use control::{ControlReader, TakesOrders};
pub use error::{KafkaError, TopicsError};
pub use groups::GroupBacklog;
pub use newest::Newest;
pub use producer::{Delivered, Outgoing, ProduceError, Producer};
pub use registry::{
    Compatibility, LEVEL, RegistryError, check_schemas, compatibility_levels, register_schemas,
};
pub use rights::{Answer, Right};
pub use scan::{Place, Scan, Stretch};
pub use settings::{Durability, KafkaSettings, PartitionCounts, RegistrySettings};
pub use survey::Sight;
pub use topics::{
    CreateOutcome, TopicInfo, TopicPlan, TopicProblem, check_topics, topic_plan, topic_problems,
};
pub use watch::{ClusterWatch, WatchPace};
