//! Kafka as Tidegate uses it.
//!
//! Data flows like this: [`Codec`] turns a message of the contract into bytes (ids from the schema registry),
//! [`trace`] puts the trace context into its headers, a [`Producer`] writes it and tells what became of it. At the
//! other end a [`GroupConsumer`] (the group decides what it reads) or an [`AssignedConsumer`] (the caller decides)
//! hands out [`ConsumerEvent`]s, one at a time and in order, and the codec turns their payloads back into messages.
//!
//! A [`Cluster`] is the settings and names from which all of those are made; making them needs no server.
//! [`topics`] says which topics there should be and what is wrong with those that are there. [`embedded`] is a
//! broker and a registry inside this process, for `tidegate dev` and for tests.

mod admin;
mod cluster;
mod codec;
mod consumer;
mod contact;
pub mod embedded;
mod error;
mod groups;
mod producer;
mod registry;
mod scan;
mod settings;
pub mod topics;
pub mod trace;

pub use cluster::{Cluster, ClusterInfo};
pub use codec::{Codec, CodecError, DecodeError, Decoded, base64_as_json, bytes_as_json};
pub use consumer::{
    AssignedConsumer, ConsumerEvent, GroupConsumer, GroupOptions, OnRevoke, Record,
};
pub use error::{KafkaError, TopicsError};
pub use producer::{Delivered, Outgoing, ProduceError, Producer};
pub use registry::{Compatibility, RegistryError, check_schemas, register_schemas};
pub use scan::{Place, Scan, Stretch};
pub use settings::{Durability, KafkaSettings, PartitionCounts, RegistrySettings};
pub use topics::{CreateOutcome, TopicInfo, TopicPlan, TopicProblem, check_topics, topic_plan};
