//! Nothing starves: a worker simulated with its own chooser and lines, against the bounds of `docs/fairness.md`.

#![allow(clippy::unwrap_used)]

mod sim;

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use sim::{Done, Job, MS, Partitions, SECOND, Worker};
use tidegate_contract::fair::TierSlots;
use tidegate_contract::{Tenant, placement};

const HIGH: usize = 0;
const NORMAL: usize = 1;
const LOW: usize = 2;

const ONE_EACH: TierSlots = TierSlots {
    high: 1,
    normal: 1,
    low: 1,
};

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

fn job(arrives: u64, runs: u64, tenant: usize, lane: usize) -> Job {
    Job {
        arrives,
        runs,
        tenant,
        lane,
        partition: 0,
    }
}

/// A partition for a job that arrives then, in the units of the simulation.
fn place_of(shards: &[i32], arrives: u64, backlog: impl Fn(i32) -> Option<u64>) -> i32 {
    let at = i64::try_from(arrives / MS).unwrap();
    placement::place(shards, at, backlog).unwrap()
}

fn of_lane(done: &[Done], lane: usize) -> impl Iterator<Item = &Done> {
    done.iter().filter(move |done| done.job.lane == lane)
}

/// The longest wait for a slot of a low job with `ahead` before it: `d + ahead·d/r`.
fn bound(ahead: usize, longest: u64, reserved: usize) -> u64 {
    longest + (ahead as u64 * longest).div_ceil(reserved as u64)
}

/// 16 slots, one reserved for low, jobs of 100 ms, `high` saturated, 200 low jobs waiting.
#[test]
fn with_the_defaults_the_last_of_200_low_jobs_starts_within_25_seconds() {
    let low_only = TierSlots {
        low: 1,
        ..TierSlots::default()
    };
    for reserved in [low_only, ONE_EACH] {
        let waiting = (0..200).map(|_| job(SECOND, 100 * MS, 0, LOW)).collect();
        let mut worker = Worker::new(16, reserved, vec![Tenant::default()]);
        worker.run(waiting, &[(HIGH, vec![100 * MS])], 60 * SECOND);
        let last = of_lane(&worker.done, LOW).map(Done::queued).max().unwrap();
        assert_eq!(of_lane(&worker.done, LOW).count(), 200);
        assert!(last <= bound(199, 100 * MS, 1));
        assert!(last <= 25 * SECOND, "{last} µs");
        println!("the last of 200 started after {:.1} s", last as f64 / 1e6);
    }
}

/// What the reservation is for: jobs of other tiers that run for long.
#[test]
fn long_jobs_of_other_tiers_do_not_lengthen_the_wait_where_a_slot_is_reserved() {
    let wait = |reserved| {
        let waiting = (0..200).map(|_| job(SECOND, 100 * MS, 0, LOW)).collect();
        let mut worker = Worker::new(16, reserved, vec![Tenant::default()]);
        let floods = [(HIGH, vec![600 * SECOND]), (NORMAL, vec![600 * SECOND])];
        worker.run(waiting, &floods, 10_000 * SECOND);
        of_lane(&worker.done, LOW).map(Done::queued).max().unwrap()
    };
    assert_eq!(wait(ONE_EACH), bound(198, 100 * MS, 1));
    assert!(wait(TierSlots::default()) > 500 * SECOND);
}

fn workload() -> impl Strategy<Value = Vec<(u64, u64, usize)>> {
    // When it arrives, how long it runs, whose it is.
    prop::collection::vec((0u64..20_000, 1u64..400, 0usize..4), 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the other tiers do, a low job waits no longer than the bound says of what is before it.
    #[test]
    fn a_low_job_stays_under_the_bound(
        slots in 4usize..33,
        low in 1usize..4,
        jobs in workload(),
        high in prop::collection::vec(1u64..30_000, 1..20),
        normal in prop::option::of(prop::collection::vec(1u64..30_000, 1..20)),
    ) {
        let reserved = TierSlots { low, ..TierSlots::default() };
        let in_ms = |runs: &Vec<u64>| runs.iter().map(|run| run * MS).collect::<Vec<_>>();
        let mut floods = vec![(HIGH, in_ms(&high))];
        floods.extend(normal.as_ref().map(|runs| (NORMAL, in_ms(runs))));
        let mut arrivals: Vec<Job> = jobs
            .iter()
            .map(|(at, runs, tenant)| job(at * MS, runs * MS, *tenant, LOW))
            .collect();
        arrivals.sort_by_key(|job| job.arrives);
        let count = arrivals.len();
        let tenants = ["a", "b", "c", "d"].map(tenant).to_vec();
        let mut worker = Worker::new(slots, reserved, tenants);
        worker.run(arrivals.into(), &floods, u64::MAX);
        let done: Vec<_> = of_lane(&worker.done, LOW).collect();
        prop_assert_eq!(done.len(), count);
        let longest = 400 * MS;
        for one in &done {
            let (arrived, started) = (one.job.arrives, one.started);
            // Those that went before it while it waited.
            let before = done.iter().filter(|other| (arrived..started).contains(&other.started));
            let before = before.count();
            prop_assert!(one.queued() <= bound(before, longest, low), "{one:?}");
            // And how many those can be: in each round of the tenants in line, one of each.
            let own = done.iter().filter(|other| {
                other.job.tenant == one.job.tenant && other.job.arrives <= arrived && other.started > arrived
            });
            let rounds = own.count();
            prop_assert!(one.queued() <= bound((rounds + 1) * 4, longest, low), "{one:?}");
        }
    }

    /// A tier below its reserve starts at once, and slots are not left idle but for reserves.
    #[test]
    fn slots_are_used(slots in 4usize..33, jobs in workload()) {
        let arrivals: VecDeque<Job> = {
            let mut jobs: Vec<_> = jobs.iter().map(|(at, runs, t)| job(at * MS, runs * MS, *t, t % 3)).collect();
            jobs.sort_by_key(|job| job.arrives);
            jobs.into()
        };
        let count = arrivals.len();
        let tenants = ["a", "b", "c", "d"].map(tenant).to_vec();
        let mut worker = Worker::new(slots, ONE_EACH, tenants);
        worker.run(arrivals, &[], u64::MAX);
        prop_assert_eq!(worker.done.len(), count);
        for lane in 0..3 {
            for one in of_lane(&worker.done, lane).filter(|done| done.queued() > 0) {
                let at = one.job.arrives;
                let running = |done: &&Done| (done.started..done.started + done.job.runs).contains(&at);
                let all = worker.done.iter().filter(running).count();
                prop_assert!(all >= slots - 2, "{all} of {slots} ran while {one:?} waited");
            }
        }
    }
}

/// A small tenant beside one that keeps a backlog of ten times the look-ahead. The p99 of what its clients wait.
fn small_tenants_wait(flood: bool, size: usize, fair: bool, names: [&str; 2]) -> u64 {
    const ROOM: usize = 32;
    let tenants = names.map(tenant).to_vec();
    let shards: Vec<_> = tenants
        .iter()
        .map(|tenant| placement::shards(tenant, 12, size))
        .collect();
    let mut worker = Worker::new(16, ONE_EACH, tenants);
    let mut partitions = Partitions::new(12, ROOM, fair);
    let mut known = BTreeMap::new();
    let (mut measured, mut next_small) = (0, 0);
    // About 100 ms, and not all alike: slots that were filled together would else become free together for ever.
    let mut runs = (0..).map(|n| (80 + n * 17 % 41) * MS);
    let mut run = || runs.next().unwrap();
    let place = |job: &mut Job, known: &mut BTreeMap<i32, u64>| {
        let of = |partition| known.get(&partition).copied();
        job.partition = place_of(&shards[job.tenant], job.arrives, of);
        *known.entry(job.partition).or_default() += 1;
    };
    while next_small <= 120 * SECOND {
        let now = worker.now;
        if now >= measured {
            known = partitions.backlog();
            measured = now + SECOND;
        }
        while flood && partitions.log.len() < 10 * ROOM {
            let mut job = job(now, run(), 0, NORMAL);
            place(&mut job, &mut known);
            partitions.log.push_back(job);
        }
        while next_small <= now {
            let mut job = job(next_small, run(), 1, NORMAL);
            place(&mut job, &mut known);
            partitions.log.push_back(job);
            // Fifteen a second, out of step with everything else.
            next_small += 66_667;
        }
        for job in partitions.read(now) {
            worker.push(job);
        }
        for job in worker.start() {
            partitions.started(&job);
        }
        let ends = [worker.next_end(), partitions.wakes(now), Some(next_small)];
        worker.advance(ends.into_iter().flatten().min().unwrap());
    }
    let small = worker.done.iter().filter(|done| done.job.tenant == 1);
    // The first second is that of a gateway that knows no backlog yet.
    let mut waits: Vec<_> = small
        .filter(|done| done.job.arrives > SECOND)
        .map(Done::waited)
        .collect();
    assert!(waits.len() > 1000);
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

#[test]
fn a_flood_of_one_tenant_does_not_double_anothers_p99() {
    let mut compared = 0;
    for number in 0..30 {
        let (big, small) = (format!("big-{number}"), format!("small-{number}"));
        let names = [big.as_str(), small.as_str()];
        let [of_big, of_small] = names.map(|name| placement::shards(&tenant(name), 12, 4));
        if of_small.iter().all(|partition| of_big.contains(partition)) {
            // Once in 495: nothing is left that is not flooded.
            continue;
        }
        let alone = small_tenants_wait(false, 4, true, names);
        let beside = small_tenants_wait(true, 4, true, names);
        assert!(
            beside <= 2 * alone,
            "{names:?}: {alone} µs alone, {beside} µs beside the flood"
        );
        compared += 1;
    }
    assert!(compared >= 28);
    let names = ["big", "small"];
    let [alone, beside] = [false, true].map(|flood| small_tenants_wait(flood, 4, true, names));
    // Without shards of its own the small tenant stands behind the flood, and so it does where partitions are not told apart.
    let everywhere = small_tenants_wait(true, 0, true, names);
    let in_turn = small_tenants_wait(true, 4, false, names);
    println!(
        "alone {alone}, beside {beside}, without shards {everywhere}, read in turn {in_turn} µs"
    );
    assert!(
        everywhere > 4 * alone && in_turn > 4 * alone,
        "{everywhere} {in_turn} {alone}"
    );
}
