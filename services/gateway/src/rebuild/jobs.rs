//! The rows that submits have made: of every job on the jobs topics, and on the delay ladder.

use std::collections::BTreeMap;

use tidegate_contract::{JobId, JobMessage, JobSummary, Millis, Pool, Tier};
use tidegate_kafka::{DecodeError, Place, Record, Scan, Stretch, trace};
use tidegate_store::NewJob;

use super::{CLIENT, Figures, PATIENCE, Part, Progress, RETRY, Rebuild, RebuildError, patiently};

/// Rows of one write.
const BATCH: usize = 512;

impl Rebuild {
    /// For each partition of the replies: since when it tells of all that happened. Retention takes the oldest events
    /// away, and of a job that is older nobody can say any more whether it has ended.
    pub(super) async fn told_since(
        &self,
        topic: &str,
        stretches: &BTreeMap<i32, Stretch>,
        now: Millis,
    ) -> Result<BTreeMap<i32, Millis>, RebuildError> {
        let cut = |stretch: &Stretch| stretch.low > 0;
        let mut since = BTreeMap::new();
        let shortest = match stretches.values().any(cut) {
            true => self.retained_since(topic, now).await,
            false => 0,
        };
        for (partition, stretch) in stretches {
            since.insert(*partition, if cut(stretch) { shortest } else { 0 });
        }
        let first = Scan::of(&self.cluster, topic, Place::Earliest, CLIENT).await?;
        let Some(mut first) = first.filter(|scan| scan.stretches().values().any(cut)) else {
            return Ok(since);
        };
        first.only(|_, stretch| cut(stretch));
        while let Some(record) = first.next().await? {
            first.leave(record.partition);
            // Its end may have been written while its beginning was already deleted; not the other way round.
            since.insert(record.partition, record.timestamp.unwrap_or(now));
        }
        Ok(since)
    }

    /// Since when nothing has been deleted because of its age, for partitions that hold nothing any more.
    async fn retained_since(&self, topic: &str, now: Millis) -> Millis {
        let found = self.cluster.describe(&[topic.to_owned()]).await;
        let retention = found.ok().and_then(|infos| infos.first()?.retention_ms);
        match retention {
            Some(retention) if retention > 0 => now.saturating_sub(retention),
            _ => now,
        }
    }

    /// Makes a row of every job that may not have said anything yet.
    pub(super) async fn jobs(
        &self,
        told_since: &BTreeMap<i32, Millis>,
        figures: &mut Figures,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), RebuildError> {
        let mut scans = Vec::new();
        for (pool, tier) in self.pools() {
            let topic = self.cluster.topics().jobs(pool, tier);
            scans.extend(Scan::of(&self.cluster, &topic, Place::Earliest, CLIENT).await?);
        }
        // A delayed job lies on the ladder until it is due.
        for rung in self.cluster.settings().delay_rungs.rungs() {
            let topic = self.cluster.topics().delay(*rung);
            scans.extend(Scan::of(&self.cluster, &topic, Place::Earliest, CLIENT).await?);
        }
        let of = scans.iter().map(|scan| scan.records().unsigned_abs()).sum();
        let mut rows = Vec::with_capacity(BATCH);
        for mut scan in scans {
            while let Some(record) = scan.next().await? {
                figures.job_records += 1;
                let job = self.job(&record).await?;
                match job.filter(|job| is_told_of(job, told_since)) {
                    Some(job) => rows.push(job),
                    None => figures.jobs_passed_over += 1,
                }
                if rows.len() == BATCH {
                    patiently(|| self.store.insert(&rows)).await?;
                    rows.clear();
                    let records = figures.job_records;
                    progress(Progress {
                        topic: Part::Jobs,
                        records,
                        of,
                    });
                }
            }
        }
        if !rows.is_empty() {
            patiently(|| self.store.insert(&rows)).await?;
        }
        Ok(())
    }

    fn pools(&self) -> impl Iterator<Item = (&Pool, Tier)> {
        let tiers = |pool| Tier::ALL.into_iter().map(move |tier| (pool, tier));
        self.pools.iter().flat_map(tiers)
    }

    /// The row of a job record. None for one that no gateway has written: a worker ends such a job, if it can be found,
    /// and its row comes from that event.
    async fn job(&self, record: &Record) -> Result<Option<NewJob>, RebuildError> {
        let Some(payload) = &record.payload else {
            return Ok(None);
        };
        let begun = tokio::time::Instant::now();
        let job = loop {
            match self.codec.decode_job(payload).await {
                Ok(job) => break job,
                Err(DecodeError::RegistryUnavailable(_)) if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error @ DecodeError::RegistryUnavailable(_)) => {
                    return Err(RebuildError::Registry(error));
                }
                Err(_) => return Ok(None),
            }
        };
        Ok(is_ours(record, &job).then(|| NewJob {
            id: job.job_id,
            summary: JobSummary::of(&job, trace::trace_id(&record.headers)),
            reply_partition: job.reply_partition,
            not_before: job.not_before,
        }))
    }
}

/// Whether key and headers say the same as the value.
fn is_ours(record: &Record, job: &JobMessage) -> bool {
    let key = record.key.as_deref().and_then(JobId::from_key);
    key == Some(job.job_id)
        && record.headers.check_job().is_ok()
        && record.headers.job_id() == Ok(job.job_id)
}

/// Whether the replies topic would tell of the job's end, if it had one.
fn is_told_of(job: &NewJob, told_since: &BTreeMap<i32, Millis>) -> bool {
    told_since
        .get(&job.reply_partition)
        .is_some_and(|since| job.summary.created_at >= *since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_contract::Tenant;

    #[test]
    fn a_job_whose_end_may_have_been_deleted_makes_no_row() {
        let job = |created_at, reply_partition| NewJob {
            id: JobId::generate(),
            summary: JobSummary {
                job_type: "echo".parse().unwrap(),
                pool: Pool::default(),
                tier: Tier::Normal,
                tenant: Tenant::default(),
                created_at,
                deadline: created_at,
                trace_id: None,
                retry_of: None,
                follow_ups: Vec::new(),
            },
            reply_partition,
            not_before: None,
        };
        let since = BTreeMap::from([(0, 0), (1, 500)]);
        assert!(is_told_of(&job(1, 0), &since));
        assert!(is_told_of(&job(500, 1), &since));
        assert!(!is_told_of(&job(499, 1), &since));
        assert!(!is_told_of(&job(900, 2), &since), "no such partition");
    }
}
