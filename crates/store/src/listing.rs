//! Jobs in a row: which are meant, and how far a look for them goes. Pure.

use tidegate_contract::{JobId, JobType, Millis, Status, Tenant, Tier};
use uuid::Uuid;

use crate::error::StoreError;
use crate::record::{Record, readable};
use crate::types::JobRow;

/// Rows that one look goes over at most, so that a filter which takes nothing does not read the whole table.
pub const WINDOW: u32 = 10_000;

/// How far the time in an id and the time of acceptance may be apart, in milliseconds.
const SLACK: Millis = 60_000;

/// Which jobs are asked for. Newest come first, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub tenant: Tenant,
    /// One of these; all, if it is empty.
    pub statuses: Vec<Status>,
    pub job_type: Option<JobType>,
    pub tier: Option<Tier>,
    /// Accepted at this time or later.
    pub since: Option<Millis>,
    /// Accepted before this time.
    pub until: Option<Millis>,
    /// Only those with smaller ids.
    pub before: Option<JobId>,
    /// Rows of the answer at most.
    pub limit: u32,
    /// Rows, of whatever tenant, that are looked at at most: [`WINDOW`], but in tests.
    pub window: u32,
}

impl Listing {
    /// Every job of a tenant, page by page.
    pub fn of(tenant: Tenant, limit: u32) -> Self {
        Self {
            tenant,
            statuses: Vec::new(),
            job_type: None,
            tier: None,
            since: None,
            until: None,
            before: None,
            limit,
            window: WINDOW,
        }
    }

    /// The ids that come into question: from the first one up to, and without, the second. Ids begin with their time, so
    /// that a time which is asked for bounds them.
    pub(crate) fn ids(&self) -> (Uuid, Uuid) {
        let from = self
            .since
            .map_or(Uuid::nil(), |at| first_of(at.saturating_sub(SLACK)));
        let until = self
            .until
            .map_or(Uuid::max(), |at| first_of(at.saturating_add(SLACK)));
        let before = self.before.map_or(Uuid::max(), |id| id.as_uuid());
        (from, until.min(before))
    }

    /// The names of the statuses that are asked for.
    pub(crate) fn status_names(&self) -> Vec<&'static str> {
        let wanted: &[Status] = match self.statuses.is_empty() {
            true => &Status::ALL,
            false => &self.statuses,
        };
        wanted.iter().map(|status| status.as_str()).collect()
    }

    /// A page of what a statement gave that was asked for one row more than the limit; `end` is where the
    /// window ends, if rows may lie behind it.
    pub(crate) fn page(
        &self,
        mut records: Vec<Record>,
        end: Option<Uuid>,
    ) -> Result<Listed, StoreError> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut next = end;
        if records.len() > limit {
            records.truncate(limit);
            next = records.last().map(|record| record.id);
        }
        let next = next.map(JobId::try_from).transpose();
        Ok(Listed {
            next: next.map_err(|_| StoreError::Corrupt("a row has the id of no job".to_owned()))?,
            rows: readable(records),
        })
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// Without results, errors, progress, dead letters and links to other jobs.
    pub rows: Vec<JobRow>,
    /// Where it goes on, as `before`, if there may be more: the page may be short, or empty, all the same.
    pub next: Option<JobId>,
}

/// The smallest id of that time.
fn first_of(at: Millis) -> Uuid {
    const MOST: u128 = (1 << 48) - 1;
    let at = u128::try_from(at).unwrap_or(0).min(MOST);
    Uuid::from_u128(at << 80)
}

/// The smallest id that a job of the same millisecond can have. A look ends there, and not at the last row that it went
/// over: that may be another tenant's, and where the look ends is told.
pub(crate) fn floor(id: Uuid) -> Uuid {
    const VERSION_AND_VARIANT: u128 = (7 << 76) | (0b10 << 62);
    Uuid::from_u128(id.as_u128() >> 80 << 80 | VERSION_AND_VARIANT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_time_leaves_out_a_job_that_it_means(at in 0..4_000_000_000_000i64, late in -1_000..1_000i64) {
            let random = [0xff; 10];
            let id = uuid::Builder::from_unix_timestamp_millis(at as u64, &random).into_uuid();
            let accepted = at + late;
            let mut ask = Listing::of(Tenant::default(), 1);
            (ask.since, ask.until) = (Some(accepted), Some(accepted + 1));
            let (from, below) = ask.ids();
            prop_assert!(from <= id && id < below, "{from} {id} {below}");
            // And is of use: what is far away is not looked at.
            ask.since = Some(at + 3_600_000);
            prop_assert!(ask.ids().0 > id);
            ask.until = Some(at - 3_600_000);
            prop_assert!(ask.ids().1 <= id || at < 3_600_000);
        }
    }

    #[test]
    fn a_look_ends_at_an_id_that_no_job_has() {
        let id = JobId::generate();
        let end = JobId::try_from(floor(id.as_uuid())).unwrap();
        assert!(end < id);
        assert!(floor(end.as_uuid()) == end.as_uuid());
        assert_eq!(end.as_uuid().get_timestamp(), id.as_uuid().get_timestamp());
        assert!(
            end.to_string().ends_with("-7000-8000-000000000000"),
            "{end}"
        );
    }

    #[test]
    fn hostile_times_bound_ids_without_overflow() {
        let mut ask = Listing::of(Tenant::default(), 1);
        (ask.since, ask.until) = (Some(Millis::MIN), Some(Millis::MAX));
        let (from, below) = ask.ids();
        assert_eq!(from, Uuid::nil());
        assert!(below > JobId::generate().as_uuid());
    }
}
