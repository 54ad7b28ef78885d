//! Takes what is due and gives it to whoever may be called.
//!
//! A round takes at most as many callbacks as slots are free, reads what is kept of their endpoints, and asks for each
//! whether it may be called ([`endpoints`]). What may not goes back to the store, for later or for good; every other one
//! is delivered in a task of its own ([`deliver`]), so that none waits for another. What was taken and never told of,
//! because the store or this process is gone, is taken again when its lease has run out.

mod clients;
mod deliver;
mod endpoints;
mod judge;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tidegate_contract::{FollowUpKind, Millis, now_millis};
use tidegate_runtime::{Condition, Metrics};
use tidegate_store::{FollowUp, FollowUps, StoreError, Take, Then};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::endpoint::{Admission, Record, millis};
use crate::keys::Keys;
use crate::rounds::{Next, Rounds};
use crate::settings::NotifierSettings;
use crate::store::Jobs;
use crate::telling::{MARGIN, Telling};

pub(crate) use clients::Clients;
use deliver::Delivering;
use endpoints::{Endpoints, Place};

/// When one is due again whose endpoint is just being tried, and one whose host has its share of the slots: it may have
/// many.
const BUSY: Duration = Duration::from_secs(2);
const HOST_FULL: Duration = Duration::from_secs(10);
/// Jobs that are being read at once: their results may be large, and little of them is needed.
const READS: usize = 16;
/// Writes of one round at once.
const WRITES: usize = 8;

/// What a dispatcher works with.
pub(crate) struct Parts {
    pub jobs: Arc<dyn Jobs>,
    pub follow_ups: Arc<dyn FollowUps>,
    pub clients: Clients,
    pub keys: Keys,
    /// In front of the paths of statuses and results.
    pub public_url: Option<String>,
    pub settings: NotifierSettings,
    pub metrics: Metrics,
    /// Somebody has made a follow-up in this process.
    pub wake: Arc<Notify>,
    /// Whether the store answers.
    pub store: Condition,
}

pub(crate) struct Dispatcher {
    parts: Parts,
    endpoints: Mutex<Endpoints>,
    slots: Arc<Semaphore>,
    reads: Semaphore,
    /// A slot or an endpoint is free again that others may wait for.
    freed: Arc<Notify>,
    telling: Telling,
    /// What is running is to end now.
    abandon: CancellationToken,
}

impl Dispatcher {
    pub(crate) fn new(parts: Parts, abandon: CancellationToken) -> Arc<Self> {
        let slots = parts.settings.slots;
        let freed = Arc::<Notify>::default();
        Arc::new(Self {
            endpoints: Mutex::new(Endpoints::new(parts.settings.endpoint.clone(), slots / 2)),
            slots: Arc::new(Semaphore::new(slots)),
            reads: Semaphore::new(READS),
            telling: Telling::new("a callback", parts.store.clone(), Arc::clone(&freed)),
            freed,
            abandon,
            parts,
        })
    }

    /// Takes and delivers until `stop`; deliveries run on in `tasks`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken, tasks: TaskTracker) {
        let rounds = Rounds {
            what: "callbacks",
            tick: self.parts.settings.tick,
            store: &self.parts.store,
            wake: &self.parts.wake,
            freed: &self.freed,
        };
        rounds.run(&stop, || self.round(&tasks)).await;
    }

    /// Takes once.
    async fn round(self: &Arc<Self>, tasks: &TaskTracker) -> Result<Next, StoreError> {
        let free = self.slots.available_permits();
        if free == 0 || self.telling.is_behind() {
            return Ok(Next::Wait);
        }
        let taken = self.take(u32::try_from(free).unwrap_or(u32::MAX)).await?;
        self.parts.store.ok();
        let next = match taken.len() >= free {
            true => Next::AtOnce,
            false => Next::Wait,
        };
        let mut round = Round::default();
        let mut callable = Vec::new();
        for follow_up in taken {
            let client = self.parts.clients.of(&follow_up.target);
            match client.parse(&follow_up.target) {
                Ok(url) => {
                    round.seen(&follow_up.endpoint, &url);
                    callable.push((follow_up, url));
                }
                Err(bad) => {
                    self.parts.metrics.callback_given_up("url-refused");
                    round.back.push((follow_up, Then::GivenUp(bad.to_string())));
                }
            }
        }
        self.learn(&round).await?;
        for (follow_up, url) in callable {
            self.place(&mut round, tasks, follow_up, url);
        }
        let per_take = self.endpoints().per_take();
        for (key, seen) in &round.endpoints {
            if seen.taken >= per_take {
                self.endpoints().has_more(key);
            }
        }
        self.give_back(round).await?;
        Ok(next)
    }

    /// Begins to deliver what may go now; the rest goes back.
    fn place(
        self: &Arc<Self>,
        round: &mut Round,
        tasks: &TaskTracker,
        follow_up: FollowUp,
        url: Url,
    ) {
        // Only rounds take slots, so there are as many as were free.
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return;
        };
        let host = url.origin().ascii_serialization();
        let now = now_millis();
        let place = self.endpoints().admit(&follow_up.endpoint, &host, now);
        let then = match place {
            Place::Endpoint(Admission::Go(turn)) => {
                let delivering = Delivering::new(Arc::clone(self), follow_up, url, turn, slot);
                let abandon = self.abandon.clone();
                tasks.spawn(abandon.run_until_cancelled_owned(delivering.run()));
                return;
            }
            Place::Endpoint(Admission::After(until)) => {
                round.paused.insert(follow_up.endpoint.clone(), until);
                Then::At(until)
            }
            Place::Endpoint(Admission::Ended(why)) => {
                self.parts.metrics.callback_given_up("endpoint-disabled");
                Then::GivenUp(format!("the endpoint is disabled: {why}"))
            }
            Place::Endpoint(Admission::Busy) => Then::At(later(now, BUSY)),
            Place::HostFull => Then::At(later(now, HOST_FULL)),
        };
        round.back.push((follow_up, then));
    }

    async fn take(&self, limit: u32) -> Result<Vec<FollowUp>, StoreError> {
        let (except, per_endpoint) = {
            let mut endpoints = self.endpoints();
            (endpoints.full(), endpoints.per_take())
        };
        let now = now_millis();
        let lease = self.parts.settings.limits.total + MARGIN;
        let take = Take {
            kind: FollowUpKind::Callback,
            now,
            lease: now.saturating_add(millis(lease)),
            limit,
            per_endpoint: u32::try_from(per_endpoint).unwrap_or(u32::MAX),
            except: &except,
        };
        self.parts.follow_ups.take_follow_ups(&take).await
    }

    /// Reads what is kept of these endpoints.
    async fn learn(&self, round: &Round) -> Result<(), StoreError> {
        if round.endpoints.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = round.endpoints.keys().cloned().collect();
        let asked = self.endpoints().asking();
        let rows = self.parts.follow_ups.endpoints_of(&keys).await?;
        let mut kept: BTreeMap<&str, Record> = BTreeMap::new();
        for row in &rows {
            match serde_json::from_str(&row.record) {
                Ok(record) => {
                    kept.insert(&row.key, record);
                }
                // Of a newer version, say: it is called as if nothing were known, and kept anew if it fails.
                Err(error) => {
                    tracing::warn!(tenant = %row.tenant, %error, "an endpoint does not read back")
                }
            }
        }
        let mut endpoints = self.endpoints();
        for (key, seen) in &round.endpoints {
            let record = kept.get(key.as_str()).copied();
            endpoints.learn(key, &seen.host, record, asked);
        }
        Ok(())
    }

    /// Gives back what is not delivered now. Endpoints that are paused are left alone until then as a whole, once what
    /// was taken of them is back: what is held must not move.
    async fn give_back(&self, round: Round) -> Result<(), StoreError> {
        let Round { back, paused, .. } = round;
        let writes = futures::stream::iter(back).map(|(follow_up, then)| async move {
            self.parts.follow_ups.give_back(&follow_up, &then).await
        });
        let results: Vec<_> = writes.buffer_unordered(WRITES).collect().await;
        for result in results {
            result?;
        }
        for (endpoint, until) in paused {
            if !self.endpoints().is_idle(&endpoint) {
                continue;
            }
            self.parts.follow_ups.postpone(&endpoint, until).await?;
        }
        Ok(())
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how much waits, and how endpoints are.
    pub(crate) async fn observe(&self) {
        let (paused, ended) = self.endpoints().troubled();
        self.parts.metrics.callback_endpoints(paused, ended);
        match self.parts.follow_ups.waiting(FollowUpKind::Callback).await {
            Ok(waiting) => {
                let now = now_millis();
                let age = waiting.oldest_due.map_or(0, |due| now.saturating_sub(due));
                let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
                self.parts.metrics.callbacks_waiting(waiting.pending, age);
            }
            Err(error) => tracing::debug!(%error, "waiting callbacks not counted"),
        }
    }
}

/// What one take comes to.
#[derive(Default)]
struct Round {
    endpoints: BTreeMap<String, Seen>,
    /// What goes back, and as what.
    back: Vec<(FollowUp, Then)>,
    /// Endpoints that are paused, and until when.
    paused: BTreeMap<String, Millis>,
}

struct Seen {
    host: String,
    taken: usize,
}

impl Round {
    fn seen(&mut self, endpoint: &str, url: &Url) {
        let seen = self.endpoints.entry(endpoint.to_owned());
        let seen = seen.or_insert_with(|| Seen {
            host: url.origin().ascii_serialization(),
            taken: 0,
        });
        seen.taken += 1;
    }
}

/// A time about so much later: half of it to half more, so that not all come back together.
fn later(now: Millis, pause: Duration) -> Millis {
    now.saturating_add(millis(pause.mul_f64(0.5 + rand::random::<f64>())))
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
