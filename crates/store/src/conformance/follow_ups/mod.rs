//! What the ends of jobs cause, and how notifiers take it.

mod attempts;
mod endpoints;
mod kinds;
mod making;

use std::collections::HashMap;

use tidegate_contract::{EventFilter, EventKind, FollowUpKind, FollowUpSpec, JobEvent, JobId};

use super::Subject;
use super::samples::{CREATED, event, project_with};
use crate::follow_ups::{Attempt, FollowUp, Take};
use crate::store::Store;
use crate::types::Making;

pub use attempts::*;
pub use endpoints::*;
pub use kinds::*;
pub use making::*;

const DAY: i64 = 24 * 60 * 60 * 1000;
const URL: &str = "https://a.example/hook?token=1";
const NOW: i64 = CREATED + 5_000;
const LEASE: i64 = NOW + 60_000;
const KIND: FollowUpKind = FollowUpKind::Callback;

fn spec(kind: FollowUpKind, target: &str, events: &str) -> FollowUpSpec {
    let events = match events {
        "" => EventFilter::default(),
        some => some.parse().unwrap(),
    };
    FollowUpSpec::new(kind, target.to_owned(), events)
}

fn making() -> Making {
    Making {
        at: NOW,
        traces: HashMap::new(),
    }
}

fn ended(specs: Vec<FollowUpSpec>, kind: EventKind) -> JobEvent {
    let mut end = event(JobId::generate(), kind, 1, CREATED + 1_000);
    end.job.follow_ups = specs;
    end
}

/// An end of a job with a callback to this URL, projected at that time.
async fn end_at(store: &dyn Store, url: &str, at: i64) -> JobId {
    let end = ended(vec![spec(KIND, url, "")], EventKind::Completed);
    let id = end.job_id;
    let made = Making { at, ..making() };
    assert_eq!(project_with(store, 3, vec![end], made).await.follow_ups, 1);
    id
}

fn all(now: i64, lease: i64) -> Take<'static> {
    Take {
        kind: KIND,
        now,
        lease,
        limit: 100,
        per_endpoint: 100,
        except: &[],
    }
}

async fn take(store: &dyn Store, now: i64, lease: i64) -> Vec<FollowUp> {
    store.take_follow_ups(&all(now, lease)).await.unwrap()
}

async fn only(store: &dyn Store, job: JobId) -> (FollowUp, Vec<Attempt>) {
    let mut found = store.follow_ups(job).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn attempt(number: u32, at: i64) -> Attempt {
    Attempt {
        number,
        at,
        duration: 25,
        status: Some(503),
        error: None,
        excerpt: "busy\u{0}".to_owned(),
    }
}
