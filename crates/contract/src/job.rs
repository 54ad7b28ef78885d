//! The job record: what a gateway puts on a jobs topic.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::follow_up::FollowUpSpec;
use crate::id::JobId;
use crate::names::{JobType, Pool, Tenant, Tier};
use crate::time::Millis;

/// One job as accepted. Every attempt sees the same record, byte for byte in its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
// Avro's name of the record: what is read straight into the struct must agree with it.
#[serde(rename = "Job", rename_all = "camelCase")]
pub struct JobMessage {
    /// Identity, Kafka key and correlation id.
    pub job_id: JobId,
    /// What is to be done.
    #[serde(rename = "type")]
    pub job_type: JobType,
    /// The workers that run it.
    pub pool: Pool,
    /// How urgent it is.
    pub tier: Tier,
    /// For whom it is run.
    pub tenant: Tenant,
    /// Which execution this record asks for, from 1.
    pub attempt: i32,
    /// When the gateway accepted it.
    pub created_at: Millis,
    /// After this the job is not started any more.
    pub deadline: Millis,
    /// The partition of the replies topic that all events of this job go to.
    pub reply_partition: i32,
    /// What the handler may know of the HTTP request.
    pub request: RequestInfo,
    /// Media type of `body`, as the client gave it.
    pub content_type: Option<String>,
    /// What the client sent, unchanged.
    #[serde(with = "body")]
    pub body: Bytes,
    /// Jobs of one key run one at a time, in the order of their first attempts.
    pub serial_key: Option<String>,
    /// The client asked for the first attempt not to begin before this.
    pub not_before: Option<Millis>,
    /// The ended job that this one does again.
    pub retry_of: Option<JobId>,
    /// How many jobs lie before this one on the chain of `retry_of`.
    pub redrives: i32,
    /// Who is told when it has ended.
    pub follow_ups: Vec<FollowUpSpec>,
}

impl JobMessage {
    /// When the job's time begins to count: when it was accepted, or when a delayed one was due.
    pub fn begins_at(&self) -> Millis {
        self.not_before
            .map_or(self.created_at, |at| at.max(self.created_at))
    }
}

/// The parts of the HTTP request that are passed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "Request", rename_all = "camelCase")]
pub struct RequestInfo {
    /// Such as `POST`.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Parameters of a configured route, such as `id` of `/orders/{id}`.
    pub path_params: BTreeMap<String, String>,
    /// The query in its order; a name may come more than once.
    pub query: Vec<Pair>,
    /// Only the headers that the job type allows (`pass_headers`), names in lower case.
    pub headers: Vec<Pair>,
}

impl RequestInfo {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|pair| pair.name == name)
            .map(|pair| pair.value.as_str())
    }
}

/// A name and a value, where order and repeats matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// What may come more than once.
    pub name: String,
    /// Text, as it came.
    pub value: String,
}

impl Pair {
    /// A pair of two texts.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// Bytes as Avro `bytes` rather than an array of numbers.
pub(crate) mod body {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Bytes::deserialize(deserializer)
    }
}

/// The same for a value that may be absent.
pub(crate) mod optional_body {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        bytes: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        Option::<Bytes>::deserialize(deserializer)
    }
}
