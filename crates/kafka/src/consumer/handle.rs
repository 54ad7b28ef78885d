//! The native consumer under both kinds: reading it, making it anew when it is lost, and getting rid of it.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaResult;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;

use super::context::Callbacks;
use super::{ConsumerEvent, OnRevoke, event};
use crate::contact::Contact;
use crate::embedded::memory::MemoryGuard;
use crate::error::{KafkaError, describe};

/// One call to the broker.
pub(super) const CALL: Duration = Duration::from_secs(5);

/// How long calls that are under way may hold up the end of a consumer.
const LAST_CALLS: Duration = Duration::from_secs(10);

/// The pause before making a consumer anew is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// How many lost consumers may be on their way out at once. One that does not end keeps a few threads for good, so
/// there is a limit.
const PARTING: usize = 4;

pub(super) struct Handle {
    pub(super) topic: String,
    config: ClientConfig,
    on_revoke: Option<Arc<dyn OnRevoke>>,
    guard: Option<Arc<MemoryGuard>>,
    native: ArcSwapOption<Native>,
    /// As many as there are lost consumers that have not ended yet.
    parting: Arc<()>,
    closed: CancellationToken,
}

/// One native consumer and what its callbacks have to say.
pub(super) struct Native {
    consumer: StreamConsumer<Callbacks>,
    events: Mutex<UnboundedReceiver<ConsumerEvent>>,
}

impl Deref for Native {
    type Target = StreamConsumer<Callbacks>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

/// What reading comes to.
pub(super) enum Read {
    Event(ConsumerEvent),
    /// This consumer reads nothing any more: it has lost its brokers for good.
    Lost(Arc<Native>),
}

impl Handle {
    pub(super) fn new(
        config: &ClientConfig,
        topic: String,
        on_revoke: Option<Arc<dyn OnRevoke>>,
        guard: Option<Arc<MemoryGuard>>,
    ) -> Result<Self, KafkaError> {
        // The binding spawns a task and would panic without a runtime.
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(KafkaError::Settings(
                "a consumer must be made on a tokio runtime".to_owned(),
            ));
        }
        let handle = Self {
            topic,
            config: config.clone(),
            on_revoke,
            guard,
            native: ArcSwapOption::empty(),
            parting: Arc::new(()),
            closed: CancellationToken::new(),
        };
        handle.native.store(Some(handle.make()?));
        Ok(handle)
    }

    fn make(&self) -> Result<Arc<Native>, KafkaError> {
        let (tell, events) = unbounded_channel();
        let mut config = self.config.clone();
        // Failed commits are told of as warnings, which are wanted also where none are logged.
        if !tracing::enabled!(target: "librdkafka", tracing::Level::WARN) {
            config.set_log_level(RDKafkaLogLevel::Warning);
        }
        let callbacks = Callbacks {
            topic: self.topic.clone(),
            events: tell,
            on_revoke: self.on_revoke.clone(),
            guard: self.guard.clone(),
            contact: Contact::of(&mut config),
            owned: Default::default(),
            commits: Default::default(),
        };
        let consumer = config
            .create_with_context(callbacks)
            .map_err(|error| KafkaError::Settings(error.to_string()))?;
        Ok(Arc::new(Native {
            consumer,
            events: Mutex::new(events),
        }))
    }

    pub(super) fn native(&self) -> Result<Arc<Native>, KafkaError> {
        self.native
            .load_full()
            .ok_or_else(|| KafkaError::Refused("the consumer is closed".to_owned()))
    }

    /// What comes next; nothing once it is closed.
    pub(super) async fn read(&self) -> Read {
        if let Ok(native) = self.native() {
            let mut events = native.events.lock().await;
            tokio::select! {
                // What a callback said happened before the next record.
                biased;
                () = self.closed.cancelled() => {}
                Some(told) = events.recv() => return Read::Event(told),
                () = native.context().contact.lost(), if self.may_renew() => {
                    return Read::Lost(native.clone());
                }
                result = native.recv() => return Read::Event(event(result)),
            }
        }
        std::future::pending().await
    }

    fn may_renew(&self) -> bool {
        Arc::strong_count(&self.parting) <= PARTING
    }

    /// Puts a new consumer in the place of a lost one, which ends on a thread of its own. `prepare` tells the new one
    /// what to read. Gives what the group had left to the old one; `None` if no new one could be made.
    pub(super) fn renew(
        &self,
        lost: Arc<Native>,
        prepare: impl FnOnce(&Native) -> KafkaResult<()>,
    ) -> Option<BTreeSet<i32>> {
        let made = self.make().and_then(|native| {
            prepare(&native).map_err(|error| KafkaError::Refused(describe(&error)))?;
            Ok(native)
        });
        let native = match made {
            Ok(native) => native,
            Err(error) => {
                tracing::error!(topic = %self.topic, %error, "a lost consumer could not be made anew");
                return None;
            }
        };
        let before = self.native.compare_and_swap(&lost, Some(native));
        if !before
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, &lost))
        {
            // Closed in the meantime: the new one goes with its last reference.
            return Some(BTreeSet::new());
        }
        drop(before);
        tracing::warn!(topic = %self.topic, "a consumer had lost its brokers for good and was made anew");
        let owned = std::mem::take(&mut *lost.context().owned());
        let parting = Arc::clone(&self.parting);
        end(lost, move || drop(parting));
        Some(owned)
    }

    pub(super) async fn watermarks(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        let (native, topic) = (self.native()?, self.topic.clone());
        blocking(move || native.fetch_watermarks(&topic, partition, CALL))
            .await?
            .map_err(KafkaError::call)
    }

    /// Ends the consumer on a thread of its own: that polls it until the broker has answered. The receiver hears when
    /// it is done; `None` if it was closed before.
    pub(super) fn close(&self) -> Option<oneshot::Receiver<()>> {
        let native = self.native.swap(None)?;
        self.closed.cancel();
        let (done, closed) = oneshot::channel();
        end(native, move || {
            let _ = done.send(());
        });
        Some(closed)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// Ends a consumer on a thread of its own, since that takes as long as it takes.
fn end(native: Arc<Native>, done: impl FnOnce() + Send + 'static) {
    let spawned = std::thread::Builder::new()
        .name("kafka-consumer-close".to_owned())
        .spawn(move || {
            drop(last(native));
            done();
        });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread to close a consumer on");
    }
}

/// Waits until nobody else holds the consumer: whoever drops it last does the closing, and that must not be a task.
fn last(mut native: Arc<Native>) -> Option<Native> {
    let step = Duration::from_millis(2);
    for _ in 0..LAST_CALLS.as_millis() / step.as_millis() {
        match Arc::try_unwrap(native) {
            Ok(native) => return Some(native),
            Err(held) => native = held,
        }
        std::thread::sleep(step);
    }
    None
}

pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, KafkaError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|error| KafkaError::Unavailable(error.to_string()))
}
