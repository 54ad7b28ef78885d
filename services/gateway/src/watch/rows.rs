//! Rows that were just read for watchers, held until all of them can have had a look. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_store::JobRow;

/// For so long a row is held; who looks later reads it.
const FOR: Duration = Duration::from_secs(1);
/// Bytes of rows that are held; over it the oldest go.
const BYTES: usize = 32 << 20;

/// What is held, the oldest first.
#[derive(Default)]
pub struct Rows {
    held: VecDeque<(Instant, usize, Arc<JobRow>)>,
    bytes: usize,
}

impl Rows {
    /// Holds a row from `now` on.
    pub fn hold(&mut self, row: Arc<JobRow>, now: Instant) {
        let weight = weight(&row);
        self.bytes += weight;
        self.held.push_back((now, weight, row));
        self.drop_old(now);
    }

    /// Lets go of what was held long enough, or is too much.
    pub fn drop_old(&mut self, now: Instant) {
        let limit = |bytes| bytes > BYTES;
        while let Some((since, weight, _)) = self.held.front()
            && (now.duration_since(*since) >= FOR || limit(self.bytes))
        {
            self.bytes = self.bytes.saturating_sub(*weight);
            self.held.pop_front();
        }
    }
}

/// A row without a result that is too large to stand in a status: nobody who watches is shown it.
pub fn slim(mut row: JobRow, inline_limit: usize) -> JobRow {
    if let Some(outcome) = &mut row.outcome
        && outcome.body.len() > inline_limit
    {
        outcome.body = Bytes::new();
    }
    row
}

fn weight(row: &JobRow) -> usize {
    const FIXED: usize = 1 << 10;
    let partial = row.progress.as_ref().and_then(|it| it.partial.as_ref());
    let pieces = row.history.iter().filter_map(|it| it.partial.as_ref());
    FIXED
        + partial.map_or(0, Bytes::len)
        + row.outcome.as_ref().map_or(0, |it| it.body.len())
        + pieces.map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{a_job, new_job, pending};
    use tidegate_contract::Outcome;

    fn row(bytes: usize) -> JobRow {
        JobRow {
            outcome: Some(Outcome {
                status: 200,
                content_type: None,
                headers: vec![],
                body: vec![0; bytes].into(),
            }),
            ..pending(&new_job(&a_job("default")))
        }
    }

    #[test]
    fn rows_are_held_for_a_while_and_as_far_as_there_is_room() {
        let (mut rows, now) = (Rows::default(), Instant::now());
        let first = Arc::new(row(10));
        let seen = Arc::downgrade(&first);
        rows.hold(first, now);
        rows.drop_old(now + FOR / 2);
        assert!(seen.upgrade().is_some());
        rows.drop_old(now + FOR);
        assert!(seen.upgrade().is_none());

        let large: Vec<_> = (0..4).map(|_| Arc::new(row(12 << 20))).collect();
        let seen: Vec<_> = large.iter().map(Arc::downgrade).collect();
        large.into_iter().for_each(|row| rows.hold(row, now));
        let held: Vec<_> = seen.iter().map(|row| row.upgrade().is_some()).collect();
        assert_eq!(held, [false, false, true, true]);
    }

    #[test]
    fn what_no_status_shows_is_not_held() {
        assert_eq!(slim(row(11), 10).outcome.unwrap().body.len(), 0);
        assert_eq!(slim(row(10), 10).outcome.unwrap().body.len(), 10);
    }
}
