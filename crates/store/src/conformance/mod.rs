//! What every backend must do, as tests that run on any of them (feature `conformance`).
//!
//! A backend's test file gives a [`Fixture`] and calls [`crate::conformance_tests!`]; each check gets a database
//! of its own, opened twice, as by two processes where the backend allows that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "test code: a panic is the report, and what is printed shows with it"
)]

mod follow_ups;
mod history;
mod keys;
mod listing;
mod positions;
mod purging;
mod races;
mod retries;
mod rows;
mod samples;

use std::sync::Arc;

use async_trait::async_trait;

use crate::store::Store;

pub use follow_ups::*;
pub use history::*;
pub use keys::*;
pub use listing::*;
pub use positions::*;
pub use purging::*;
pub use races::*;
pub use retries::*;
pub use rows::*;
pub use samples::{Sequence, event, new_job, summary};

/// An empty database of a backend.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// Two handles on the same database, not yet prepared.
    fn stores(&self) -> [Arc<dyn Store>; 2];
    /// Runs a statement past the store; `false` where there is no way to do so.
    async fn execute(&self, sql: &'static str) -> bool;
    /// Removes the database.
    async fn end(&self);
}

/// Two prepared stores on one database, and the way past them.
#[derive(Clone)]
pub struct Subject {
    pub a: Arc<dyn Store>,
    pub b: Arc<dyn Store>,
    pub fixture: Arc<dyn Fixture>,
}

/// Runs one check on a fixture, which is ended whatever comes of it.
pub async fn run<F, C>(fixture: F, check: impl FnOnce(Subject) -> C)
where
    F: Fixture,
    C: Future<Output = ()> + Send + 'static,
{
    let fixture: Arc<dyn Fixture> = Arc::new(fixture);
    let [a, b] = fixture.stores();
    let subject = Subject {
        a,
        b,
        fixture: fixture.clone(),
    };
    let work = check(subject.clone());
    let outcome = tokio::spawn(async move {
        // Both at once, as two processes that start together, and again.
        let (first, second) = tokio::join!(subject.a.prepare(), subject.b.prepare());
        first.expect("prepare");
        second.expect("prepare at the same time");
        subject.a.prepare().await.expect("prepare again");
        subject.a.ping().await.expect("ping");
        work.await;
        tokio::join!(subject.a.close(), subject.b.close());
    })
    .await;
    fixture.end().await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Makes a test of every check; the argument is an expression that makes a [`Fixture`] and may await.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests! { $fixture =>
            inserted_jobs_are_read_back,
            events_may_come_before_the_insert,
            every_status_and_event_agree_with_the_contract,
            the_first_end_wins_and_later_events_are_counted,
            large_and_hostile_values_come_back,
            many_rows_go_into_one_batch,
            a_refused_row_holds_up_nobody,
            a_batch_is_applied_from_its_own_position_only,
            a_position_belongs_to_one_cluster,
            an_empty_batch_moves_the_position,
            what_is_stored_is_counted,
            the_slowest_partition_says_how_far_all_are,
            purges_are_bounded_and_leave_tombstones,
            unfinished_jobs_outlive_their_deadline,
            inserts_and_events_of_purged_jobs_are_dropped,
            racing_projectors_apply_the_log_once,
            a_dropped_call_leaves_nothing_half_written,
            the_inserter_joins_callers,
            a_delayed_job_is_scheduled_until_it_starts,
            a_failed_attempt_shows_until_the_job_completes,
            an_ended_job_is_done_again_by_one_job,
            a_key_is_taken_by_one_of_many,
            a_reservation_changes_hands_after_its_lease,
            a_produced_key_has_a_row_and_stays,
            a_key_is_given_back_by_whoever_holds_it,
            jobs_and_keys_are_seen_at_a_glance,
            keys_live_as_long_as_their_jobs,
            open_jobs_are_found_by_their_deadline,
            jobs_are_listed_newest_first_page_by_page,
            every_part_of_a_listing_leaves_something_out,
            a_listing_looks_at_a_window_and_goes_on_behind_it,
            an_ended_job_is_erased_and_stays_so,
            a_history_is_kept_bounded_and_numbered_on,
            a_glance_tells_every_change,
            an_end_makes_the_follow_ups_that_ask_for_it,
            a_replay_and_an_end_that_lost_make_none,
            follow_ups_are_taken_by_one_and_again_after_the_lease,
            no_endpoint_takes_the_places_of_others,
            what_comes_of_an_attempt_counts_under_its_lease_only,
            the_last_attempts_are_kept,
            what_was_given_up_is_sent_again,
            one_kind_is_sent_again_or_all_of_them,
            those_that_are_held_show_until_when,
            an_endpoint_is_postponed_but_what_is_held,
            endpoints_are_kept_by_tenant,
            follow_ups_go_with_their_jobs,
            a_job_says_what_it_asks_for_whoever_tells_of_it,
        }
    };
    ($fixture:expr => $($check:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::conformance::run($fixture, $crate::conformance::$check).await;
            }
        )*
    };
}
