//! Which job types are paused: what a gateway reads on the control topic, to tell it. Nothing that it does depends on it:
//! it is the workers that heed a pause.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_contract::pause::Paused;
use tidegate_contract::{JobType, Millis, Order};
use tidegate_kafka::{Cluster, ControlReader, KafkaError, TakesOrders};
use tokio_util::sync::CancellationToken;

/// The name in the broker's logs.
const CLIENT: &str = "tidegate-pauses";
/// How long after a failure the topic is read anew.
const AGAIN: Duration = Duration::from_secs(10);

/// The pauses as far as they are read. Clones share.
#[derive(Clone, Default)]
pub struct Pauses {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The topic was read to its end.
    known: bool,
    paused: Paused,
}

/// How a type stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Until that time, unless it is resumed before.
    Until(Millis),
    /// Not paused.
    No,
}

impl Pauses {
    /// How a type stands at this time; `None` while that is not known.
    pub fn of(&self, job_type: &JobType, now: Millis) -> Option<Pause> {
        let state = self.lock();
        let until = state.paused.until(job_type, now);
        let pause = until.map_or(Pause::No, Pause::Until);
        state.known.then_some(pause)
    }

    /// Follows the control topic until `stop`.
    pub async fn watch(self, cluster: Cluster, stop: CancellationToken) {
        let rounds = async {
            loop {
                if let Err(error) = self.follow(&cluster).await {
                    tracing::debug!(%error, "pauses not read");
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    /// Reads all that is there and then as it comes; ends only with an error. Joins no group and commits nothing.
    async fn follow(&self, cluster: &Cluster) -> Result<(), KafkaError> {
        let topic = cluster.topics().control();
        let absent = || KafkaError::Unavailable(format!("there is no topic {topic}"));
        let partitions = cluster.partitions(&topic).await?.ok_or_else(absent)?;
        let reader = ControlReader::new(cluster, CLIENT, Arc::new(self.clone()))?;
        reader.catch_up(partitions).await?;
        self.lock().known = true;
        reader.follow().await;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakesOrders for Pauses {
    fn take(&self, order: Order, _: Option<Millis>, now: Millis) {
        match order {
            Order::Type(job_type, order) => self.lock().paused.order(job_type, &order, now),
            // What is called off or runs is the workers' affair.
            Order::CallOff(..) | Order::Beat(..) | Order::Other => {}
        }
    }

    /// The workers count it.
    fn passed_over(&self) {}
}

#[cfg(test)]
mod tests {
    use tidegate_contract::JobId;
    use tidegate_contract::pause::TypeOrder;

    use super::*;

    #[test]
    fn the_last_word_on_a_type_counts_once_all_is_read() {
        let echo: JobType = "echo".parse().unwrap();
        let pauses = Pauses::default();
        let say = |order: TypeOrder| pauses.take(Order::Type(echo.clone(), order), None, 10);
        say(TypeOrder::Paused(50));
        assert_eq!(pauses.of(&echo, 10), None, "there may be more to read");
        pauses.lock().known = true;
        assert_eq!(pauses.of(&echo, 49), Some(Pause::Until(50)));
        assert_eq!(pauses.of(&echo, 50), Some(Pause::No), "it ends by itself");
        assert_eq!(pauses.of(&"other".parse().unwrap(), 10), Some(Pause::No));

        say(TypeOrder::Paused(70));
        pauses.take(Order::CallOff(JobId::generate(), 90), None, 10);
        pauses.take(Order::Other, None, 10);
        assert_eq!(pauses.of(&echo, 50), Some(Pause::Until(70)));
        say(TypeOrder::Resumed);
        assert_eq!(pauses.of(&echo, 10), Some(Pause::No));
        // One whose time is over already is none.
        say(TypeOrder::Paused(9));
        assert_eq!(pauses.of(&echo, 5), Some(Pause::No));
    }
}
