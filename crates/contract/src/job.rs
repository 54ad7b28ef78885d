//! The job record: what a gateway puts on a jobs topic.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::names::{JobType, Pool, Tenant, Tier};
use crate::time::Millis;

/// One job as accepted. Every attempt sees the same record, byte for byte in its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
}

/// The parts of the HTTP request that are passed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
