//! Records that cannot be handled: kept whole among the dead letters, their job ended if it can be found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_contract::{DeadLetter, JobId, now_millis};
use tidegate_kafka::{Outgoing, ProduceError, trace};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use crate::events::What;
use crate::execute::Engine;
use crate::handler::JobFailure;
use crate::lane::Place;
use crate::outbox::{Stopped, Traced, result_label};
use crate::spans;
use crate::work::{Unreadable, subject_of};

/// The code of the failure, and the reason in the dead letter.
const CODE: &str = "unreadable-record";
/// How often a full embedded broker is asked to take a dead letter.
const EMBEDDED_TRIES: u32 = 3;

impl Engine {
    /// Sets a record aside: the dead letter acknowledged first, then the failure of its job, and only then is the
    /// record done.
    pub(crate) async fn set_aside(
        &self,
        place: &Place,
        unreadable: Unreadable,
        is_repeat: bool,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), Stopped> {
        let Unreadable {
            record,
            problem,
            job,
        } = unreadable;
        let incoming = trace::extract(&record.headers);
        let trace_id = spans::trace_id(&incoming);
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
            return self.job(place, job, &record.headers, is_repeat, slot).await;
        }
        let job_id = subject.as_ref().map(|subject| subject.job_id);
        let span = spans::process(place, job_id, &incoming);
        spans::failed(&span, CODE);
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
        let letter = record.dead_letter(
            job_id,
            CODE,
            &problem.message,
            &self.outbox.source,
            now_millis(),
        );
        self.bury(letter, &traced).await?;
        if let Some(subject) = subject.filter(|_| has_way_back) {
            let failure = JobFailure::permanent(
                CODE,
                format!("the job's record could not be handled: {}", problem.message),
            );
            let what = What::Failed(failure.of_gateway(), None);
            let parcel = self.pack(&subject, what, &traced).await?;
            drop(slot);
            self.outbox.post(parcel, &traced).await?;
        }
        Ok(())
    }

    /// Sends a dead letter until it is acknowledged.
    async fn bury(&self, mut letter: DeadLetter, traced: &Traced) -> Result<(), Stopped> {
        let mut tries = 0;
        loop {
            let Some(out) = self.letter_record(&letter, traced) else {
                return Err(Stopped);
            };
            let key = letter.job_id.unwrap_or_else(JobId::generate);
            let span = spans::send(&traced.span, &self.topics.dead_letters(), None, key);
            let begun = Instant::now();
            let result = self.outbox.producer.send(out).instrument(span).await;
            self.metrics
                .produced("dead-letters", result_label(&result), begun.elapsed());
            let error = match result {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            tries += 1;
            match &error {
                ProduceError::TooLarge { .. } if letter.value.is_some() => {
                    // No topic takes it whole; where it lies is all that can be kept of it.
                    letter.message.push_str(
                        " (too large for a dead letter: its value is left where it was read)",
                    );
                    letter.value = None;
                    continue;
                }
                ProduceError::TooLarge { .. } => {
                    tracing::error!(%error, topic = letter.topic, partition = letter.partition,
                        offset = letter.offset, "a dead letter is too large and was not kept");
                    return Ok(());
                }
                ProduceError::EmbeddedFull(_) if tries >= EMBEDDED_TRIES => {
                    // Nobody reads dead letters in `dev`, and its broker forgets everything on exit anyway: to
                    // stand still for good would be worse.
                    tracing::error!(%error, topic = letter.topic, partition = letter.partition,
                        offset = letter.offset, "a dead letter was not kept");
                    return Ok(());
                }
                _ => tracing::warn!(%error, tries, "a dead letter was not taken, trying again"),
            }
            let pause = Duration::from_millis(50) * 2u32.pow(tries.min(6));
            tokio::select! {
                () = self.outbox.stop.cancelled() => return Err(Stopped),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn letter_record(&self, letter: &DeadLetter, traced: &Traced) -> Option<Outgoing> {
        let payload = match self.outbox.codec.encode_dead_letter(letter) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(%error, "a dead letter cannot be encoded");
                return None;
            }
        };
        // The headers of the record, so that the dead letter can be found by the same names.
        let mut headers = letter
            .headers
            .iter()
            .map(|pair| (pair.name.as_str(), pair.value.as_str()))
            .collect();
        trace::inject(
            &spans::context(&traced.span, &traced.incoming),
            &mut headers,
        );
        let key = match (&letter.job_id, &letter.key) {
            (Some(id), _) => id.to_string(),
            (None, Some(key)) => String::from_utf8_lossy(key).into_owned(),
            (None, None) => String::new(),
        };
        Some(Outgoing {
            topic: self.topics.dead_letters(),
            partition: None,
            key,
            headers,
            payload,
        })
    }
}
