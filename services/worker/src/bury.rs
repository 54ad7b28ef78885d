//! Dead letters: records that nothing more is done with, kept whole.

use std::time::{Duration, Instant};

use tidegate_contract::{DeadLetter, DeadLetterPlace, JobId, RecordHeaders, headers};
use tidegate_kafka::{Delivered, Outgoing, ProduceError, trace};
use tracing::Instrument;

use crate::execute::Engine;
use crate::outbox::{Stopped, Traced, result_label};
use crate::spans;

/// How often a full embedded broker is asked to take a dead letter.
const EMBEDDED_TRIES: u32 = 3;

impl Engine {
    /// Sends a dead letter until it is acknowledged: where it lies. `None` if no topic takes it.
    pub(crate) async fn bury(
        &self,
        mut letter: DeadLetter,
        reason: &'static str,
        traced: &Traced,
    ) -> Result<Option<DeadLetterPlace>, Stopped> {
        let job_type = letter.job_type.clone().unwrap_or_default();
        self.metrics.dead_lettered(&job_type, reason);
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
                Ok(Delivered { partition, offset }) => {
                    return Ok(Some(DeadLetterPlace { partition, offset }));
                }
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
                    return Ok(None);
                }
                ProduceError::EmbeddedFull(_) if tries >= EMBEDDED_TRIES => {
                    // Nobody reads dead letters in `dev`, and its broker forgets everything on exit anyway: to
                    // stand still for good would be worse.
                    tracing::error!(%error, topic = letter.topic, partition = letter.partition,
                        offset = letter.offset, "a dead letter was not kept");
                    return Ok(None);
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
        let mut marks = letter
            .headers
            .iter()
            .map(|pair| (pair.name.as_str(), pair.value.as_str()))
            .collect::<RecordHeaders>();
        marks.set(headers::REASON, letter.reason.as_str());
        trace::inject(&spans::context(&traced.span, &traced.incoming), &mut marks);
        let key = match (&letter.job_id, &letter.key) {
            (Some(id), _) => id.to_string(),
            (None, Some(key)) => String::from_utf8_lossy(key).into_owned(),
            (None, None) => String::new(),
        };
        Some(Outgoing {
            topic: self.topics.dead_letters(),
            partition: None,
            key,
            headers: marks,
            payload,
        })
    }
}
