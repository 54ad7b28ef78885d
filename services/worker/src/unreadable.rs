//! Records that cannot be handled: kept whole among the dead letters, their job ended if it can be found.

use std::sync::Arc;

use tidegate_contract::now_millis;
use tidegate_kafka::trace;
use tidegate_runtime::telemetry::{Trace, trace_id_of};

use crate::desk::Slot;
use crate::events::{Follows, Settled, What};
use crate::execute::Engine;
use crate::handler::JobFailure;
use crate::lane::Place;
use crate::outbox::{Stopped, Traced};
use crate::spans;
use crate::work::{POISON, Unreadable, subject_of};

/// The code of the failure, and the reason in the dead letter.
const CODE: &str = "unreadable-record";

impl Engine {
    /// Sets a record aside: the dead letter acknowledged first, then the failure of its job, and only then is the
    /// record done.
    pub(crate) async fn set_aside(
        &self,
        place: &Place,
        unreadable: Unreadable,
        is_repeat: bool,
        slot: Slot,
    ) -> Result<(), Stopped> {
        let Unreadable {
            record,
            problem,
            job,
        } = unreadable;
        let trace = Trace::join(trace::extract(&record.headers));
        let trace_id = trace_id_of(trace.context());
        let subject = subject_of(&record, job.as_ref(), &place.lane, trace_id);
        let partition = subject.as_ref().map(|subject| subject.reply_partition);
        let has_way_back = match partition {
            Some(partition) => self.replies.exists(partition, &self.outbox.stop).await?,
            None => false,
        };
        if let Some(job) = job
            && problem.reason == "reply-partition"
            && has_way_back
        {
            // The topic has been given more partitions since we looked: nothing is wrong with the record.
            let job = Arc::new(job);
            let run = self.job(place, job, &record.headers, trace, is_repeat, slot);
            return run.await;
        }
        let job_id = subject.as_ref().map(|subject| subject.job_id);
        let span = trace.span(|| spans::process(place, job_id));
        let code = match problem.reason {
            POISON => POISON,
            _ => CODE,
        };
        spans::failed(&span, code);
        let incoming = trace.context().clone();
        let traced = Traced { span, incoming };
        tracing::warn!(
            parent: &traced.span,
            topic = %record.topic,
            partition = record.partition,
            offset = record.offset,
            job_id = job_id.map(tracing::field::display),
            reason = problem.reason,
            problem = problem.message,
            "a record cannot be handled: it goes to the dead letters"
        );
        self.metrics.unreadable(&record.topic, problem.reason);
        let mut letter = record.dead_letter(
            job_id,
            code,
            &problem.message,
            &self.outbox.source,
            now_millis(),
        );
        letter.describe(subject.as_ref().map(|subject| &subject.summary));
        let dead_letter = self.bury(letter, code, &traced).await?;
        if let Some(subject) = subject.filter(|_| has_way_back) {
            let (failure, follows) = match code {
                POISON => (
                    JobFailure::permanent(POISON, problem.message),
                    Follows::DeadLettered(dead_letter),
                ),
                _ => {
                    let text =
                        format!("the job's record could not be handled: {}", problem.message);
                    (
                        JobFailure::permanent(CODE, text).of_gateway(),
                        Follows::Failed(dead_letter),
                    )
                }
            };
            let what = What::Settled(Box::new(Settled {
                failure,
                timings: None,
                attempts: None,
                follows,
            }));
            let parcel = self.pack(&subject, what, &traced).await?;
            drop(slot);
            self.outbox.post(parcel, &traced).await?;
        }
        Ok(())
    }
}
