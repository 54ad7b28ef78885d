//! The Avro schemas of the messages, compiled in.

/// A schema and the subject under which it is registered (the record's full name: one schema serves every
/// topic that carries the record).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSchema {
    /// The record's full name.
    pub subject: &'static str,
    /// Avro schema as JSON, as it stands in `schemas/`.
    pub text: &'static str,
}

/// Values of the jobs topics.
pub const JOB: MessageSchema = MessageSchema {
    subject: "tidegate.v1.Job",
    text: include_str!("../../../schemas/job.avsc"),
};

/// Values of the replies topic.
pub const EVENT: MessageSchema = MessageSchema {
    subject: "tidegate.v1.JobEvent",
    text: include_str!("../../../schemas/job-event.avsc"),
};

/// Values of the dead-letters topic.
pub const DEAD_LETTER: MessageSchema = MessageSchema {
    subject: "tidegate.v1.DeadLetter",
    text: include_str!("../../../schemas/dead-letter.avsc"),
};

/// Every schema.
pub const ALL: [MessageSchema; 3] = [JOB, EVENT, DEAD_LETTER];
