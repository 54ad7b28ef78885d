//! The fake as the gateway sees it.

use super::*;
use tidegate_contract::FollowUpKind;

#[async_trait]
impl Engine for Fake {
    fn obstacle(&self) -> Option<ApiError> {
        self.obstacle.lock().unwrap().clone()
    }

    fn home(&self) -> Option<i32> {
        (!self.no_home.load(Ordering::Relaxed)).then_some(HOME)
    }

    fn encode_job(&self, job: &JobMessage) -> Result<Bytes, CodecError> {
        if self.cold_codec.load(Ordering::Relaxed) {
            return Err(CodecError::NotReady);
        }
        Ok(serde_json::to_vec(job).unwrap().into())
    }

    fn encode_event(&self, event: &JobEvent) -> Result<Bytes, CodecError> {
        Ok(serde_json::to_vec(event).unwrap().into())
    }

    fn enqueue(&self, out: Outgoing) -> Result<Ack, ProduceError> {
        let delivered = Delivered {
            partition: 1,
            offset: 2,
        };
        if out.topic.ends_with("replies") {
            if self.refuse_events.load(Ordering::Relaxed) {
                return Err(ProduceError::QueueFull);
            }
            if self.projects.load(Ordering::Relaxed) {
                self.project(&serde_json::from_slice(&out.payload).unwrap());
            }
            self.sent.lock().unwrap().push(out);
            return Ok(Box::pin(async move { Ok(delivered) }));
        }
        if out.topic.ends_with("control") {
            self.sent.lock().unwrap().push(out);
            return Ok(Box::pin(async move { Ok(delivered) }));
        }
        if let Some(error) = self.refuse_at_once.lock().unwrap().clone() {
            return Err(error);
        }
        if let Some(error) = self.refuse_later.lock().unwrap().clone() {
            return Ok(Box::pin(async move { Err(error) }));
        }
        let job: JobMessage = serde_json::from_slice(&out.payload).unwrap();
        self.sent.lock().unwrap().push(out);
        let event = (self.work.lock().unwrap())(&job);
        let waits = self.waits.clone();
        Ok(Box::pin(async move {
            if let Some(event) = event {
                waits.complete(Arc::new(event), Instant::now());
            }
            Ok(delivered)
        }))
    }

    fn tenant_backlog(&self, _: &tidegate_contract::Tenant) -> Option<u64> {
        *self.unfinished.lock().unwrap()
    }

    fn store_ok(&self) -> bool {
        self.away().is_ok()
    }

    async fn insert(&self, job: NewJob) -> Result<(), StoreError> {
        self.away()?;
        let row = pending(&job);
        self.found
            .lock()
            .unwrap()
            .entry(job.id)
            .or_insert(Lookup::Row(Box::new(row)));
        self.inserted.lock().unwrap().push(job);
        Ok(())
    }

    async fn reserve(&self, key: &NewKey, now: Millis) -> Result<Reserved, StoreError> {
        self.away()?;
        let mut keys = self.keys.lock().unwrap();
        let place = (key.tenant.to_string(), key.key.clone());
        let Some(known) = keys.get_mut(&place) else {
            let known = FakeKey {
                wanted: key.clone(),
                state: KeyState::Reserved,
                reserved_at: now,
            };
            keys.insert(place, known);
            return Ok(Reserved::New);
        };
        let job = known.wanted.job.clone();
        let until = known.reserved_at + LEASE.as_millis() as Millis;
        Ok(if known.wanted.fingerprint != key.fingerprint {
            Reserved::Conflict
        } else if known.state == KeyState::Produced
            || self.found.lock().unwrap().contains_key(&job.id)
        {
            Reserved::Produced(job)
        } else if now < until {
            Reserved::Busy { job, until }
        } else {
            known.reserved_at = now;
            Reserved::Again(job)
        })
    }

    async fn produced(&self, job: NewJob) -> Result<(), StoreError> {
        let id = job.id;
        self.insert(job).await?;
        let mut keys = self.keys.lock().unwrap();
        for key in keys.values_mut().filter(|key| key.wanted.job.id == id) {
            key.state = KeyState::Produced;
        }
        Ok(())
    }

    async fn release(
        &self,
        id: JobId,
        reserved_at: Millis,
        forget: bool,
    ) -> Result<(), StoreError> {
        self.away()?;
        let mut keys = self.keys.lock().unwrap();
        keys.retain(|_, key| !(forget && key.wanted.job.id == id));
        for key in keys.values_mut() {
            if key.wanted.job.id == id && key.reserved_at == reserved_at {
                key.reserved_at = 0;
            }
        }
        Ok(())
    }

    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError> {
        self.glances.fetch_add(1, Ordering::Relaxed);
        self.away()?;
        let (found, keys) = (self.found.lock().unwrap(), self.keys.lock().unwrap());
        let seen = ids.iter().map(|id| {
            let row = found.get(id).and_then(|found| found.clone().row());
            let key = keys.values().find(|key| key.wanted.job.id == *id);
            let glimpse = Glimpse {
                job: row.map(|row| row.version()),
                key: key.map(|key| key.state),
            };
            (*id, glimpse)
        });
        Ok(seen.collect())
    }

    async fn overdue(
        &self,
        deadline: Millis,
        after: Option<(Millis, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        self.away()?;
        let found = self.found.lock().unwrap();
        let rows = found.values().filter_map(|found| found.clone().row());
        let at = |row: &JobRow| (row.summary.deadline, row.id);
        let mut rows: Vec<_> = rows
            .filter(|row| !row.status.is_terminal() && row.summary.deadline <= deadline)
            .filter(|row| after.is_none_or(|after| at(row) > after))
            .collect();
        rows.sort_by_key(at);
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.away()?;
        Ok(self
            .found
            .lock()
            .unwrap()
            .get(&id)
            .cloned()
            .unwrap_or(Lookup::Absent))
    }

    /// Of the filter it knows tenant and statuses: the others are the store's business. Its window is as large as it says.
    async fn list(&self, listing: Listing) -> Result<Listed, StoreError> {
        self.away()?;
        self.listings.lock().unwrap().push(listing.clone());
        let found = self.found.lock().unwrap();
        let rows = found.values().filter_map(|found| found.clone().row());
        let mut rows: Vec<_> = rows
            .filter(|row| row.summary.tenant == listing.tenant)
            .filter(|row| listing.statuses.is_empty() || listing.statuses.contains(&row.status))
            .filter(|row| listing.before.is_none_or(|before| row.id < before))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.id));
        let more = rows.len() > listing.limit as usize;
        rows.truncate(listing.limit as usize);
        let next = more.then(|| rows.last().unwrap().id);
        Ok(Listed { rows, next })
    }

    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        self.away()?;
        let kept = self.follow_ups.lock().unwrap();
        let own = kept.iter().filter(|(it, _)| it.job == job);
        Ok(own.cloned().collect())
    }

    async fn resend(
        &self,
        job: JobId,
        kind: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError> {
        self.away()?;
        let mut kept = self.follow_ups.lock().unwrap();
        let own = kept.iter_mut().map(|(it, _)| it);
        let own = own.filter(|it| it.job == job && kind.is_none_or(|kind| it.kind == kind));
        let due = own.map(|it| {
            (it.state, it.due_at, it.settled_at) = (FollowUpState::Pending, now, None);
            it.kind
        });
        Ok(due.collect())
    }

    async fn recover(&self, which: &Recover, _: Millis, limit: u32) -> Result<u64, StoreError> {
        self.away()?;
        let mut kept = self.follow_ups.lock().unwrap();
        let wanted = kept.iter_mut().filter(|(it, _)| {
            it.tenant == which.tenant
                && which.kind.is_none_or(|kind| it.kind == kind)
                && it.settled_at.is_some_and(|at| at >= which.since)
                && which
                    .endpoint
                    .as_ref()
                    .is_none_or(|key| *key == it.endpoint)
        });
        let mut count = 0;
        for (it, _) in wanted.take(limit as usize) {
            (it.state, it.settled_at) = (FollowUpState::Pending, None);
            count += 1;
        }
        Ok(count)
    }

    async fn endpoints(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        self.away()?;
        let kept = self.endpoints.lock().unwrap();
        let own = kept.iter().filter(|row| {
            row.tenant == *tenant && after.is_none_or(|after| row.key.as_str() > after)
        });
        Ok(own.take(limit as usize).cloned().collect())
    }

    async fn forget_endpoint(&self, tenant: &Tenant, key: &str) -> Result<bool, StoreError> {
        self.away()?;
        let mut kept = self.endpoints.lock().unwrap();
        let before = kept.len();
        kept.retain(|row| row.tenant != *tenant || row.key != key);
        Ok(kept.len() < before)
    }

    async fn erase(&self, id: JobId, _: Millis) -> Result<bool, StoreError> {
        self.away()?;
        let mut found = self.found.lock().unwrap();
        let Some(row) = found.get(&id).cloned().and_then(Lookup::row) else {
            return Ok(false);
        };
        let tombstone = Lookup::Tombstone(Tombstone {
            status: row.status,
            tenant: Some(row.summary.tenant),
        });
        let ended = row.status.is_terminal();
        if ended {
            found.insert(id, tombstone);
        }
        Ok(ended)
    }

    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError> {
        self.away()?;
        let claimed = Retry {
            job: retry.job,
            reply_partition: retry.reply_partition,
            produced: false,
            at: retry.at,
        };
        let mut retries = self.retries.lock().unwrap();
        let first = retries.get(&retry.of).copied();
        retries.entry(retry.of).or_insert(claimed);
        Ok(first)
    }

    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError> {
        self.away()?;
        if let Some(retry) = self.retries.lock().unwrap().get_mut(&of) {
            assert_eq!(retry.job, job);
            retry.produced = true;
        }
        Ok(())
    }

    async fn decode_job(&self, value: &[u8]) -> Result<JobMessage, DecodeError> {
        let job = serde_json::from_slice(value);
        job.map_err(|error| DecodeError::Malformed(error.to_string()))
    }

    async fn letters(&self, ask: Ask) -> Result<Page, KafkaError> {
        let letters = self.letters.lock().unwrap();
        let below = ask.from.0.get(&0).copied().unwrap_or(i64::MAX);
        let mut page = Page::default();
        for found in letters
            .iter()
            .rev()
            .filter(|found| found.place.offset < below)
        {
            if page.found.len() == ask.limit {
                let last = page.found.last().unwrap().place.offset;
                page.next = Some(Cursor([(0, last)].into()));
                break;
            }
            page.looked_at += 1;
            if ask.filter.takes(&found.letter) {
                page.found.push(found.clone());
            }
        }
        Ok(page)
    }

    async fn letter(&self, place: DeadLetterPlace) -> Result<Option<Found>, KafkaError> {
        let letters = self.letters.lock().unwrap();
        Ok(letters.iter().find(|found| found.place == place).cloned())
    }

    async fn lag_horizon(&self) -> Option<Millis> {
        *self.horizon.lock().unwrap()
    }

    fn pause(&self, job_type: &JobType, _: Millis) -> Option<Pause> {
        self.pauses.lock().unwrap().get(job_type.as_str()).copied()
    }

    async fn backlogs(&self, wanted: &[(Pool, Tier)]) -> Vec<Option<u64>> {
        let backlogs = self.backlogs.lock().unwrap();
        wanted
            .iter()
            .map(|key| backlogs.get(key).copied())
            .collect()
    }

    async fn workers(&self, _: &Pool, _: Tier) -> Option<usize> {
        *self.workers.lock().unwrap()
    }
}
