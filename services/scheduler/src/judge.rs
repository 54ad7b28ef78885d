//! What a record on a rung says of itself: when it leaves, and where to. Pure.

use std::time::Duration;

use tidegate_contract::headers::HeaderError;
use tidegate_contract::ladder::{leaves_at, remaining};
use tidegate_contract::{Ladder, Millis, RecordHeaders, Topics};

/// A record whose way is clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// When it is to be at its target.
    pub due: Millis,
    /// When it leaves the rung. In a partition these times rise with the offsets, so whoever waits for the first one of a
    /// partition holds up none behind it.
    pub leaves: Millis,
    /// When this scheduler moves it on: when it leaves the rung, or when it is due, if no other rung fits in between.
    pub moves: Millis,
}

/// A record that nobody knows what to do with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("header `target` names no jobs topic of this installation")]
    NoJobsTopic,
}

impl Problem {
    /// The label in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Problem::Header(_) => "headers",
            Problem::NoJobsTopic => "target",
        }
    }
}

/// Judges a record that was appended to a rung at that time.
pub(crate) fn judge(
    headers: &RecordHeaders,
    appended: Millis,
    rung: Duration,
    ladder: &Ladder,
    topics: &Topics,
) -> Result<Plan, Problem> {
    let due = headers.due()?;
    let (target, _) = headers.target()?;
    if !topics.is_jobs(target) {
        return Err(Problem::NoJobsTopic);
    }
    let leaves = leaves_at(appended, rung, due);
    let moves = if remaining(due, leaves) < ladder.shortest() {
        due
    } else {
        leaves
    };
    Ok(Plan { due, leaves, moves })
}

/// How long before it leaves a record is taken from its partition. A quarter of the rung, so that a pause is long
/// against what is read again after it, and no more than a few seconds of records are held.
pub(crate) fn window(rung: Duration, ladder: &Ladder) -> Duration {
    const MOST: Duration = Duration::from_secs(5);
    (rung / 4).clamp(ladder.shortest().min(MOST), MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegate_contract::headers::{DUE, TARGET};

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(headers: &RecordHeaders, appended: Millis, rung: Duration) -> Result<Plan, Problem> {
        judge(
            headers,
            appended,
            rung,
            &Ladder::default(),
            &Topics::new("t."),
        )
    }

    #[test]
    fn a_record_leaves_after_its_rung_or_when_it_is_due() {
        let mut headers = RecordHeaders::new();
        headers.delay(100_000, "t.jobs.high", None);
        let at = |appended, rung| plan(&headers, appended, rung).unwrap().moves;
        assert_eq!(at(10_000, SECOND * 60), 70_000, "30 s are left for others");
        assert_eq!(
            at(39_500, SECOND * 60),
            100_000,
            "half a second is for nobody"
        );
        assert_eq!(
            at(98_000, SECOND * 60),
            100_000,
            "it came to this rung late"
        );
        assert_eq!(at(200_000, SECOND), 100_000, "long since");
    }

    #[test]
    fn what_is_missing_or_leads_elsewhere_is_told() {
        let mut headers = RecordHeaders::new();
        let reason = |headers: &RecordHeaders| plan(headers, 0, SECOND).unwrap_err();
        assert_eq!(reason(&headers).label(), "headers");
        headers.set(DUE, "2025-01-31T09:30:00.000Z");
        assert_eq!(reason(&headers).to_string(), "header `target` is missing");
        for elsewhere in ["t.replies", "jobs.high", "t.jobs.", "t.delay.1s"] {
            headers.set(TARGET, elsewhere);
            assert_eq!(reason(&headers), Problem::NoJobsTopic, "{elsewhere}");
        }
        headers.delay(5, "t.jobs.gpu.low", Some(3));
        assert!(plan(&headers, 0, SECOND).is_ok());
        headers.set(tidegate_contract::headers::TARGET_PARTITION, "-1");
        assert_eq!(reason(&headers).label(), "headers");
    }

    #[test]
    fn windows_follow_the_rungs() {
        let ladder = Ladder::default();
        let windows = ladder.rungs().iter().map(|rung| window(*rung, &ladder));
        let ms: Vec<_> = windows.map(|window| window.as_millis()).collect();
        assert_eq!(ms, [1_000, 1_250, 3_750, 5_000, 5_000, 5_000, 5_000, 5_000]);
    }

    proptest! {
        /// However long each then waits in memory, the first of a partition is taken first.
        #[test]
        fn records_leave_in_the_order_in_which_they_came(
            first in 0i64..1_000_000, later in 0i64..5_000, waits in (0i64..100_000, 0i64..100_000), rung in 0usize..8,
        ) {
            let rung = Ladder::default().rungs()[rung];
            let leaves = |appended: Millis, more: Millis| {
                let mut headers = RecordHeaders::new();
                headers.delay(appended + rung.as_millis() as i64 + more, "t.jobs.low", None);
                plan(&headers, appended, rung).unwrap().leaves
            };
            prop_assert!(leaves(first, waits.0) <= leaves(first + later, waits.1));
        }

        #[test]
        fn nothing_moves_early_and_nothing_is_held_for_long(
            due in 0i64..10_000_000, appended in 0i64..10_000_000, rung in 0usize..8,
        ) {
            let ladder = Ladder::default();
            let rung = ladder.rungs()[rung];
            let mut headers = RecordHeaders::new();
            headers.delay(due, "t.jobs.low", None);
            let plan = plan(&headers, appended, rung).unwrap();
            prop_assert!(plan.leaves <= plan.moves && plan.moves <= due);
            let rung = rung.as_millis() as i64;
            prop_assert!(plan.moves >= due.min(appended + rung));
            prop_assert!(plan.moves < appended + rung + 1_000);
        }
    }
}
