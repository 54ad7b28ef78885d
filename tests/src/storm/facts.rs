//! What was seen in a storm: by the client, by the handlers, in the topics, in the store. Times are Unix milliseconds.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_contract::{Millis, Status, Tier};
use uuid::Uuid;

use super::mix::Kind;

/// What a client was told of a job in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// It is accepted, `202`.
    Accepted,
    /// It ended so, in the answer to the submit.
    Ended(SaidEnd),
    /// It is certainly not accepted.
    Refused,
    /// Nobody knows: no whole answer, or one that says so.
    Unknown,
}

/// How an answer says that a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SaidEnd {
    Completed,
    Failed,
    DeadLettered,
    Cancelled,
    Expired,
}

impl SaidEnd {
    pub const fn status(self) -> Status {
        match self {
            SaidEnd::Completed => Status::Completed,
            SaidEnd::Failed => Status::Failed,
            SaidEnd::DeadLettered => Status::DeadLettered,
            SaidEnd::Cancelled => Status::Cancelled,
            SaidEnd::Expired => Status::Expired,
        }
    }

    /// Of a terminal status.
    pub const fn of(status: Status) -> Option<Self> {
        match status {
            Status::Completed => Some(SaidEnd::Completed),
            Status::Failed => Some(SaidEnd::Failed),
            Status::DeadLettered => Some(SaidEnd::DeadLettered),
            Status::Cancelled => Some(SaidEnd::Cancelled),
            Status::Expired => Some(SaidEnd::Expired),
            _ => None,
        }
    }
}

/// One job from its client's point of view.
#[derive(Clone, Debug)]
pub struct Told {
    pub number: u64,
    pub kind: Kind,
    pub tier: Tier,
    pub asked_at: Millis,
    pub said: Said,
    /// Every id that was named for it, in the order of the answers.
    pub jobs: Vec<Uuid>,
    /// Answers and statuses with something of another job in them.
    pub foreign: Vec<String>,
    /// Ends that were seen, each status once in a row.
    pub ends: Vec<Status>,
    pub serial_key: Option<u64>,
    /// It asked for a callback.
    pub callback: bool,
}

impl Told {
    /// The job, if it was accepted for certain.
    pub fn accepted(&self) -> Option<Uuid> {
        match self.said {
            Said::Accepted | Said::Ended(_) => self.jobs.last().copied(),
            Said::Refused | Said::Unknown => None,
        }
    }
}

/// One execution of a handler, as the handler saw it.
#[derive(Clone, Debug)]
pub struct Run {
    pub job: Uuid,
    pub attempt: i32,
    /// The incarnation of the worker that asked for it.
    pub worker: String,
    pub start: Millis,
    /// `None`: it still ran when the storm was over.
    pub end: Option<Millis>,
}

/// A callback, as its receiver saw it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The number of the job whose URL it came to.
    pub number: u64,
    /// `webhook-id`.
    pub id: String,
    /// Its signature is right.
    pub signed: bool,
    /// It was answered with success.
    pub taken: bool,
    /// What it says.
    pub job: Option<Uuid>,
    pub status: Option<Status>,
    pub nonce: Option<String>,
}

/// Something that happened to a process, a server or a connection.
#[derive(Clone, Debug)]
pub struct Incident {
    /// `worker-2.3` is the third incarnation of that worker; `broker-1`, `store`, `wire`.
    pub who: String,
    pub what: &'static str,
    pub from: Millis,
    /// Until when it could still show.
    pub until: Millis,
}

/// The first event of a job that ended it, in its partition's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub status: Status,
    pub at: Millis,
    pub attempt: i32,
}

/// A row of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub status: Status,
    pub ended_at: Option<Millis>,
    pub attempt: i32,
}

/// Everything that the judge looks at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub told: Vec<Told>,
    pub runs: Vec<Run>,
    pub messages: Vec<Message>,
    pub incidents: Vec<Incident>,
    /// Jobs whose record lies on a jobs topic or on the delay ladder.
    pub written: BTreeSet<Uuid>,
    /// Records on jobs topics, by job and attempt.
    pub copies: BTreeMap<(Uuid, i32), usize>,
    pub ends: BTreeMap<Uuid, End>,
    /// Events that would have ended a job that had ended.
    pub late: usize,
    pub rows: BTreeMap<Uuid, Row>,
    /// Rows whose end was changed, as the store itself noted: the job and what was changed.
    pub changed: Vec<(Uuid, String)>,
    /// Positions of the projection that went back, as the store itself noted.
    pub set_back: Vec<String>,
    /// Partitions of the replies topic that are not applied to their end.
    pub behind: Vec<String>,
    /// Peaks of resident memory by role, in KiB.
    pub memory: BTreeMap<&'static str, u64>,
    /// The store, the topics or the runs could not be read.
    pub unread: Vec<String>,
}
