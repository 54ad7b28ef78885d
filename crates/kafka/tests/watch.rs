//! Whether conditions follow the cluster, on the broker in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_kafka::embedded::EmbeddedBroker;
use tidegate_kafka::{
    ClusterWatch, Durability, KafkaError, KafkaSettings, Producer, TopicProblem, TopicsError,
    WatchPace,
};
use tidegate_runtime::readiness::ConditionReport;
use tidegate_runtime::{Metrics, Readiness};
use tokio_util::sync::CancellationToken;

use common::{broker_with, out, until};

const SHORT: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

struct Rig {
    broker: EmbeddedBroker,
    producer: Producer,
    readiness: Readiness,
    metrics: Metrics,
    watch: ClusterWatch,
}

fn rig(pace: WatchPace) -> Rig {
    let broker = broker_with(KafkaSettings {
        durability: Durability::SingleBroker,
        ..KafkaSettings::default()
    });
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let readiness = Readiness::new();
    let conditions = (readiness.condition("broker"), readiness.condition("topics"));
    let metrics = Metrics::new(Vec::<String>::new());
    Rig {
        watch: ClusterWatch::new(cluster, producer.clone(), metrics.clone(), conditions, pace),
        broker,
        producer,
        readiness,
        metrics,
    }
}

fn pace() -> WatchPace {
    WatchPace {
        probe_every: SHORT,
        probe_limit: Duration::from_millis(500),
        failures: 2,
        look_every: NEVER,
        look_again: SHORT,
    }
}

impl Rig {
    fn condition(&self, name: &str) -> ConditionReport {
        let mut conditions = self.readiness.report().conditions;
        conditions.retain(|it| it.name == name);
        conditions.remove(0)
    }

    /// How many records the metrics say are on their way.
    async fn queued(&self, wanted: u32) {
        let line = format!("\ntidegate_producer_queue_records {wanted}\n");
        until(async || self.metrics.encode().contains(&line)).await;
    }

    async fn comes_up(&self) {
        let stop = CancellationToken::new();
        self.watch.reach(&stop).await.unwrap();
        let found = self.watch.find(&stop, || self.watch.look(&[])).await;
        assert_eq!(found, Some(vec![]));
        let report = self.readiness.report();
        assert!(report.ready);
        assert!(report.notes[0].contains("single-broker"), "{report:?}");
    }
}

/// Runs the watch for as long as the test takes.
async fn beside(watching: impl Future<Output = ()>, test: impl Future<Output = ()>) {
    tokio::select! {
        () = watching => unreachable!("it watches for ever"),
        () = test => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_shows_and_topics_are_looked_at_when_it_is_back() {
    let rig = rig(pace());
    rig.comes_up().await;
    let looks = AtomicUsize::new(0);
    let look = async || {
        looks.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    beside(rig.watch.follow(look), async {
        rig.broker.set_reachable(false).await.unwrap();
        until(async || !rig.condition("broker").ok).await;
        assert!(rig.condition("topics").ok, "nothing is known of them");
        assert_eq!(looks.load(Ordering::SeqCst), 0);
        let sent = rig.producer.enqueue(out("a", Some(0), "k", "v")).unwrap();
        rig.queued(1).await;
        rig.broker.set_reachable(true).await.unwrap();
        until(async || rig.condition("broker").ok).await;
        until(async || looks.load(Ordering::SeqCst) == 1).await;
        sent.await.unwrap();
        rig.queued(0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_changed_show_until_they_are_mended() {
    let rig = rig(WatchPace {
        look_every: SHORT,
        ..pace()
    });
    rig.comes_up().await;
    let wrong = TopicsError::Wrong(TopicProblem {
        what: "topic a is missing".to_owned(),
        mend: "make it".to_owned(),
    });
    let unknown = TopicsError::Unknown(KafkaError::Unavailable("asleep".to_owned()));
    // One look finds each, and those after them that all is good.
    let found = Mutex::new(vec![Err(unknown), Err(wrong), Ok(())]);
    let seen = Mutex::new(Vec::new());
    let look = async || {
        let topics = rig.condition("topics");
        seen.lock().unwrap().push(topics.reason.clone());
        found.lock().unwrap().pop().unwrap_or(Ok(()))
    };
    beside(rig.watch.follow(look), async {
        until(async || seen.lock().unwrap().len() >= 5).await;
    })
    .await;
    // What a look finds stands there at the next.
    let told = Some("topic a is missing: make it".to_owned());
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen[..5], [None, None, told.clone(), told, None]);
}
