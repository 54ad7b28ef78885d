//! A scheduler on an embedded broker.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_contract::headers::{DEADLINE, DUE, EVENT, REASON, TARGET};
use tidegate_contract::{
    EventKind, JobId, JobMessage, Ladder, Millis, Pool, RecordHeaders, RequestInfo, Tenant, Tier,
    now_millis, time,
};
use tidegate_kafka::embedded::{EmbeddedBroker, EmbeddedRegistry};
use tidegate_kafka::{
    Codec, ConsumerEvent, KafkaSettings, Outgoing, Producer, Record, RegistrySettings, TopicPlan,
    topic_plan,
};
use tidegate_runtime::{Metrics, Readiness, Shutdown};
use tidegate_scheduler::{Scheduler, SchedulerConfig, SchedulerSettings};

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(40);
const RUNGS: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(600)];

struct Rig {
    broker: EmbeddedBroker,
    registry: RegistrySettings,
    plan: Vec<TopicPlan>,
    codec: Codec,
    producer: Producer,
    arrived: Arc<Mutex<Vec<(Record, Millis)>>>,
    _registry: EmbeddedRegistry,
}

struct Running {
    shutdown: Shutdown,
    metrics: Metrics,
    readiness: Readiness,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    async fn start() -> Self {
        let mut settings = KafkaSettings::default();
        settings.partitions.jobs = 1;
        settings.partitions.replies = 1;
        settings.partitions.dead_letters = 1;
        settings.partitions.delay = 2;
        settings.delay_rungs = Ladder::new(&RUNGS).unwrap();
        let plan = topic_plan(&settings, &[Pool::default()], Duration::from_secs(60));
        let broker = EmbeddedBroker::start_with(settings, &plan).unwrap();
        let embedded = EmbeddedRegistry::start().unwrap();
        let registry = RegistrySettings {
            url: embedded.url().to_owned(),
            register: true,
            ..RegistrySettings::default()
        };
        let codec = Codec::new(&registry);
        codec.warm_up().await.unwrap();
        let rig = Self {
            producer: broker.cluster().producer("test").unwrap(),
            broker,
            registry,
            plan,
            codec,
            arrived: Arc::default(),
            _registry: embedded,
        };
        rig.listen();
        rig
    }

    /// Collects what arrives on the jobs topic, with the time.
    fn listen(&self) {
        let cluster = self.broker.cluster();
        let reader = cluster.assigned_consumer_of(&self.target(), "test-jobs");
        let reader = reader.unwrap();
        reader.assign(0, 0).unwrap();
        let arrived = Arc::clone(&self.arrived);
        tokio::spawn(async move {
            loop {
                if let ConsumerEvent::Record(record) = reader.next().await {
                    arrived.lock().unwrap().push((record, now_millis()));
                }
            }
        });
    }

    fn target(&self) -> String {
        let topics = self.broker.cluster().topics().clone();
        topics.jobs(&Pool::default(), Tier::Normal)
    }

    async fn scheduler(&self, settings: SchedulerSettings) -> Running {
        let metrics = Metrics::new(["echo"]);
        let scheduler = Scheduler::build(SchedulerConfig {
            cluster: self.broker.cluster(),
            registry: self.registry.clone(),
            settings: SchedulerSettings {
                listen: String::new(),
                ..settings
            },
            plan: self.plan.clone(),
            metrics: metrics.clone(),
            instance: "scheduler-1".to_owned(),
        });
        let scheduler = scheduler.await.unwrap();
        let readiness = scheduler.readiness();
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { scheduler.run(stop).await.unwrap() });
        Running {
            shutdown,
            metrics,
            readiness,
            task,
        }
    }

    fn job(&self) -> JobMessage {
        let now = now_millis();
        JobMessage {
            job_id: JobId::generate(),
            job_type: "echo".parse().unwrap(),
            pool: Pool::default(),
            tier: Tier::Normal,
            tenant: Tenant::default(),
            attempt: 2,
            created_at: now,
            deadline: now + 60_000,
            reply_partition: 0,
            request: RequestInfo::default(),
            content_type: None,
            body: Bytes::from_static(b"hello"),
            serial_key: None,
            not_before: None,
            retry_of: None,
            redrives: 0,
            follow_ups: Vec::new(),
        }
    }

    fn delayed(&self, due: Millis) -> (JobId, Outgoing) {
        let job = self.job();
        let ladder = Ladder::new(&RUNGS).unwrap();
        let left = tidegate_contract::ladder::remaining(due, now_millis());
        let mut headers = RecordHeaders::of_job(&job);
        headers.delay(due, &self.target(), None);
        let out = Outgoing {
            topic: self
                .broker
                .cluster()
                .topics()
                .delay(ladder.first_rung(left)),
            partition: None,
            key: job.job_id.to_string(),
            headers,
            payload: self.codec.encode_job(&job).unwrap(),
        };
        (job.job_id, out)
    }

    /// Puts records on the ladder, due at those times.
    async fn delay(&self, dues: impl IntoIterator<Item = Millis>) -> BTreeMap<JobId, Millis> {
        let mut ids = BTreeMap::new();
        let mut sent = Vec::new();
        for due in dues {
            let (id, out) = self.delayed(due);
            sent.push(self.producer.enqueue(out).unwrap());
            ids.insert(id, due);
        }
        for sent in sent {
            sent.await.unwrap();
        }
        ids
    }

    /// Tells everybody that a job has ended, as a gateway does.
    async fn call_off(&self, id: JobId) {
        let mut headers = RecordHeaders::new();
        headers.set(EVENT, EventKind::Cancelled.as_str());
        headers.set(DEADLINE, time::rfc3339(now_millis() + 60_000));
        let order = Outgoing {
            topic: self.broker.cluster().topics().control(),
            partition: None,
            key: id.to_string(),
            headers,
            payload: Bytes::new(),
        };
        self.producer.send(order).await.unwrap();
    }

    /// Waits until schedulers have committed everything that lies on the ladder.
    async fn all_done(&self) {
        let cluster = self.broker.cluster();
        let begun = Instant::now();
        for rung in RUNGS {
            let (topic, group) = (
                cluster.topics().delay(rung),
                cluster.topics().scheduler_group(rung),
            );
            let backlog = cluster.group_backlog(&group, &topic).unwrap();
            while backlog.ask(2, LIMIT).await.unwrap() != [0, 0] {
                assert!(begun.elapsed() < LIMIT, "{topic} is done with");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn arrivals(&self) -> Vec<(JobId, Millis)> {
        let arrived = self.arrived.lock().unwrap();
        let ids = arrived.iter();
        let ids = ids.map(|(record, at)| (record.headers.job_id().unwrap(), *at));
        ids.collect()
    }

    /// Waits until all have arrived, and gives how late each was. Nothing arrives early.
    async fn all(&self, ids: &BTreeMap<JobId, Millis>) -> Vec<Millis> {
        until("all have arrived", || {
            let there: BTreeSet<_> = self.arrivals().into_iter().map(|(id, _)| id).collect();
            ids.keys().all(|id| there.contains(id)).then_some(())
        })
        .await;
        let arrivals = self.arrivals().into_iter();
        let lates = arrivals.filter_map(|(id, at)| Some(at - ids.get(&id)?));
        let lates: Vec<_> = lates.collect();
        assert!(lates.iter().all(|late| *late >= 0), "{lates:?}");
        lates
    }

    /// The group has joined once something has come by way of each rung.
    async fn warm(&self) {
        let now = now_millis();
        let ids = self.delay((0..8).map(|n| now + n * 100)).await;
        self.all(&ids).await;
    }

    async fn on(&self, topic: &str) -> Vec<Record> {
        let cluster = self.broker.cluster();
        let reader = cluster.assigned_consumer_of(topic, "test").unwrap();
        reader.assign(0, 0).unwrap();
        let (_, end) = reader.watermarks(0).await.unwrap();
        let mut records = Vec::new();
        while (records.len() as i64) < end {
            if let ConsumerEvent::Record(record) = reader.next().await {
                records.push(record);
            }
        }
        records
    }
}

impl Running {
    async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(LIMIT, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

/// How many records of called-off jobs were dropped, whatever the type.
fn dropped(scheduler: &Running) -> f64 {
    let text = scheduler.metrics.encode();
    let lines = text.lines();
    let lines = lines.filter(|line| line.starts_with("tidegate_jobs_dropped_total{"));
    let counts = lines.map(|line| {
        assert!(line.contains(r#"type="echo",when="delayed""#), "{line}");
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    });
    counts.sum()
}

async fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(thing) = there() {
            return thing;
        }
        assert!(Instant::now() < until, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_when_they_are_due_by_way_of_several_rungs() {
    let rig = Rig::start().await;
    let scheduler = rig.scheduler(SchedulerSettings::default()).await;
    rig.warm().await;
    let now = now_millis();
    let ids = rig.delay((0..60).map(|n| now + 50 * n)).await;
    let mut lates = rig.all(&ids).await;
    lates.sort_unstable();
    println!(
        "late by {:?} ms at most, median {:?}",
        lates.last(),
        lates[30]
    );
    assert!(lates.len() == 60 && lates[59] < 1_500, "{lates:?}");

    let arrived = rig.arrived.lock().unwrap().clone();
    for (record, _) in &arrived {
        assert_eq!(record.headers.attempt(), Ok(2));
        assert_eq!(
            (record.headers.get(DUE), record.headers.get(TARGET)),
            (None, None)
        );
        let job = rig.codec.decode_job(record.payload.as_ref().unwrap()).await;
        let id = job.unwrap().job_id;
        assert_eq!(record.key.as_deref(), Some(id.to_string().as_bytes()));
    }
    let text = scheduler.metrics.encode();
    for moved in [
        r#"tidegate_delayed_records_moved_total{rung="600ms",to="rung"}"#,
        r#"tidegate_delayed_records_moved_total{rung="150ms",to="target"}"#,
        "tidegate_delay_lateness_seconds_count 68",
    ] {
        assert!(text.contains(moved), "{moved}\n{text}");
    }
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_scheduler_catches_up_and_moves_nothing_twice() {
    let rig = Rig::start().await;
    let scheduler = rig.scheduler(SchedulerSettings::default()).await;
    rig.warm().await;
    scheduler.stop().await;
    let before = rig.arrivals().len();
    let now = now_millis();
    let ids = rig.delay((0..30).map(|n| now + 40 * n)).await;
    until("all are due", || (now_millis() > now + 1_300).then_some(())).await;
    assert_eq!(rig.arrivals().len(), before, "nobody moves them");
    // Little room: they come one batch after the other.
    let tight = SchedulerSettings {
        hold_records: 4,
        ..SchedulerSettings::default()
    };
    let scheduler = rig.scheduler(tight).await;
    rig.all(&ids).await;
    let now = now_millis();
    let more = rig.delay((0..100).map(|_| now + 700)).await;
    rig.all(&more).await;
    assert_eq!(rig.arrivals().len(), before + 130, "each once");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_kept_and_its_job_ended() {
    let rig = Rig::start().await;
    let scheduler = rig.scheduler(SchedulerSettings::default()).await;
    let due = now_millis() + 100;
    let (lost, mut record) = rig.delayed(due);
    record.headers.set(DUE, "soon");
    record.partition = Some(0);
    rig.producer.send(record).await.unwrap();
    let (astray, mut record) = rig.delayed(due);
    record.headers.set(TARGET, "elsewhere");
    record.partition = Some(0);
    rig.producer.send(record.clone()).await.unwrap();
    let (_, mut good) = rig.delayed(due);
    good.partition = Some(0);
    rig.producer.send(good).await.unwrap();
    until("the good one arrives", || {
        (rig.arrivals().len() == 1).then_some(())
    })
    .await;

    let topics = rig.broker.cluster().topics().clone();
    let begun = Instant::now();
    let mut events = Vec::new();
    while events.len() < 2 {
        assert!(begun.elapsed() < LIMIT, "both jobs end");
        events = rig.on(&topics.replies()).await;
    }
    let letters = rig.on(&topics.dead_letters()).await;
    assert_eq!(letters.len(), 2);
    for event in events {
        let event = rig
            .codec
            .decode_event(&event.payload.unwrap())
            .await
            .unwrap();
        assert_eq!(event.kind, EventKind::Failed);
        assert_eq!(event.error.unwrap().code, "unreadable-record");
        let place = event.dead_letter.unwrap();
        let letter = &letters[place.offset as usize];
        assert_eq!(letter.headers.get(REASON), Some("unreadable-record"));
        let letter = letter.payload.as_ref().unwrap();
        let letter = rig.codec.decode_dead_letter(letter).await.unwrap();
        assert!([lost, astray].contains(&event.job_id));
        assert_eq!(letter.job_id, Some(event.job_id));
        assert_eq!(letter.job_type.as_deref(), Some("echo"));
    }
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_off_is_not_moved_on() {
    let rig = Rig::start().await;
    let scheduler = rig.scheduler(SchedulerSettings::default()).await;
    rig.warm().await;
    let before = rig.arrivals().len();
    // Called off when they lie on the ladder already, and long before they are due.
    let due = now_millis() + 3_000;
    let ended = rig.delay([due, due, due]).await;
    let others = rig.delay([due + 300, due + 300]).await;
    for id in ended.keys() {
        rig.call_off(*id).await;
    }
    rig.all(&others).await;
    until("all three are dropped", || {
        (dropped(&scheduler) >= 3.0).then_some(())
    })
    .await;
    rig.all_done().await;
    assert_eq!(dropped(&scheduler), 3.0, "each once");
    assert_eq!(rig.arrivals().len(), before + 2, "the others alone");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_called_off_before_a_scheduler_came_is_not_moved_on() {
    let rig = Rig::start().await;
    let due = now_millis() + 100;
    let ended = rig.delay([due; 4]).await;
    let others = rig.delay([due; 4]).await;
    for id in ended.keys() {
        rig.call_off(*id).await;
    }
    until("all are due", || (now_millis() > due).then_some(())).await;
    let scheduler = rig.scheduler(SchedulerSettings::default()).await;
    rig.all(&others).await;
    rig.all_done().await;
    assert_eq!(dropped(&scheduler), 4.0);
    assert_eq!(rig.arrivals().len(), 4, "the others alone, each once");
    let report = scheduler.readiness.report();
    let control = report.conditions.iter().find(|one| one.name == "control");
    assert!(control.is_some_and(|control| control.ok), "{report:?}");
    scheduler.stop().await;
}
