//! What becomes of a record that was read: it goes in line, to be run or to be set aside; or it is parked; or it waits
//! because it may run where its partition comes from.

use std::sync::Arc;

use tidegate_contract::JobMessage;
use tidegate_contract::tracker::poison::Care;
use tidegate_kafka::{DecodeError, Record};

use crate::handover::away::{Away, Held};
use crate::intake::Intake;
use crate::lane::{Place, Ready, size};
use crate::park::Parked;
use crate::work::{Problem, Rejected, Unreadable, Work, judge};

impl Intake {
    /// Takes in a record whose value was decoded, or could not be.
    pub(crate) fn admit(
        &self,
        away: &mut Away,
        place: Place,
        record: Record,
        result: Result<JobMessage, DecodeError>,
    ) {
        let replies = self.engine.replies.partitions();
        match judge(&record, result) {
            Ok(job) if job.reply_partition >= replies => {
                let problem = Problem::no_reply_partition(job.reply_partition, replies);
                self.set_aside(place, record, problem, Some(job));
            }
            // One with a key was cut off there: the next owner of its partition is to begin it.
            Ok(job) if job.serial_key.is_none() && place.may_run_elsewhere() => {
                let parked = Parked::new(place, size(&record));
                away.hold(Held {
                    parked,
                    record,
                    job,
                });
            }
            Ok(job) => self.admit_job(place, record, job),
            Err(rejected) => {
                let Rejected { problem, job } = *rejected;
                self.set_aside(place, record, problem, job);
            }
        }
    }

    /// Looks what became of the records that wait for word from elsewhere.
    pub(crate) fn review(&self, away: &mut Away) {
        for held in away.review(&self.engine.heard) {
            let Held {
                parked,
                record,
                job,
            } = held;
            let place = parked.place.clone();
            tracing::info!(
                job_id = %job.job_id,
                topic = place.lane.topic,
                partition = place.partition,
                offset = place.offset,
                "a job does not run any more where its partition comes from"
            );
            // It counts as one in line from here on.
            drop(parked);
            self.admit_job(place, record, job);
        }
    }

    fn admit_job(&self, place: Place, record: Record, job: JobMessage) {
        if let Err(why) = self.engine.runnable(&job) {
            self.tasks.spawn(self.engine.park(place, record, job, why));
            return;
        }
        let care = place.care();
        if let Ok(Care::Poison { crashes }) = care {
            return self.set_aside(place, record, Problem::poison(crashes), Some(job));
        }
        let bytes = size(&record);
        let work = Work::Run {
            job: Arc::new(job),
            headers: record.headers,
        };
        self.put_in_line(Ready {
            place,
            bytes,
            work,
            alone: matches!(care, Ok(Care::Alone { .. })),
        });
    }

    fn set_aside(&self, place: Place, record: Record, problem: Problem, job: Option<JobMessage>) {
        self.put_in_line(Ready {
            place,
            bytes: size(&record),
            work: Work::SetAside(Box::new(Unreadable {
                record,
                problem,
                job,
            })),
            alone: false,
        });
    }

    fn put_in_line(&self, ready: Ready) {
        if let Some(suspect) = self.lane.push(ready) {
            self.engine.on_its_own(suspect, &self.tasks);
        }
        self.count_waiting();
        self.engine.desk.work.notify_one();
    }

    pub(crate) fn count_waiting(&self) {
        let (lane, metrics) = (&self.lane, &self.engine.metrics);
        metrics.jobs_waiting(&lane.pool, lane.tier, lane.waiting());
    }
}
