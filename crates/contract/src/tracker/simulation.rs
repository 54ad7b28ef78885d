//! Processes that run records, die of some, and are killed: what a worker does with a tracker and its turns, in a world
//! of its own time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::poison::{CRASHES, Care, MOST_CRASHES, Mark};
use super::turns::{Turn, Turns};
use super::{Delivery, Farewell, OffsetTracker};

/// What a record does to its process.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    /// Ends after so many steps.
    Good(u64),
    /// Kills after so many steps.
    Poison(u64),
}

const STEP: Duration = Duration::from_millis(100);
const COMMIT_EVERY: u64 = 2;
const SLOTS: usize = 6;
const LOOK_AHEAD: usize = 12;
/// A killed process comes back after so many steps.
const ABSENCE: u64 = 10;

type Record = (usize, i64);

#[derive(Default)]
struct Process {
    back_at: u64,
    partitions: BTreeMap<usize, Partition>,
    turns: Turns,
    running: Vec<Running>,
    /// Waiting for a slot, and suspects.
    line: VecDeque<Record>,
    suspects: Vec<Record>,
}

#[derive(Default)]
struct Partition {
    tracker: OffsetTracker,
    /// What is read next.
    at: i64,
    claimed: bool,
}

struct Running {
    record: Record,
    turn: Turn,
    since: u64,
    /// The time alone of a suspect that has not been let go.
    hold: Option<Duration>,
    /// Its partition went to another process meanwhile.
    orphan: bool,
}

struct World {
    now: u64,
    log: Vec<Vec<Nature>>,
    committed: BTreeMap<usize, (i64, String)>,
    processes: Vec<Process>,
    ended: BTreeMap<Record, &'static str>,
    crashes: BTreeMap<Record, u32>,
}

impl World {
    fn new(log: Vec<Vec<Nature>>, processes: usize) -> Self {
        Self {
            now: 0,
            log,
            committed: BTreeMap::new(),
            processes: (0..processes).map(|_| Process::default()).collect(),
            ended: BTreeMap::new(),
            crashes: BTreeMap::new(),
        }
    }

    fn time(&self) -> Duration {
        STEP * u32::try_from(self.now).unwrap()
    }

    fn is_over(&self) -> bool {
        self.ended.len() == self.log.iter().map(Vec::len).sum::<usize>()
    }

    fn step(&mut self) {
        self.now += 1;
        self.rebalance();
        for index in 0..self.processes.len() {
            if self.processes[index].back_at <= self.now {
                self.live(index);
            }
        }
    }

    /// Each partition belongs to one living process; what moves between the living moves in order.
    fn rebalance(&mut self) {
        let alive: Vec<_> = (0..self.processes.len())
            .filter(|index| self.processes[*index].back_at <= self.now)
            .collect();
        for partition in 0..self.log.len() {
            let Some(&to) = alive.get(partition % alive.len().max(1)) else {
                return;
            };
            if self.processes[to].partitions.contains_key(&partition) {
                continue;
            }
            for process in &mut self.processes {
                let Some(given) = process.partitions.remove(&partition) else {
                    continue;
                };
                if let Some(last) = given.tracker.snapshot(1, Farewell::RunsOn) {
                    self.committed
                        .insert(partition, (last.offset, last.metadata));
                }
                process.line.retain(|record| record.0 != partition);
                for record in process.suspects.extract_if(.., |r| r.0 == partition) {
                    let Care::Alone { strictly, .. } = given.tracker.care(record.1) else {
                        unreachable!("it waits as a suspect");
                    };
                    process.turns.give_up(strictly);
                }
                for run in process
                    .running
                    .iter_mut()
                    .filter(|r| r.record.0 == partition)
                {
                    run.orphan = true;
                    if run.hold.take().is_some() {
                        process.turns.let_go(run.turn);
                    }
                }
            }
            let mut taken = Partition::default();
            if let Some((offset, metadata)) = self.committed.get(&partition) {
                let end = i64::try_from(self.log[partition].len()).unwrap();
                let restored = taken.tracker.restore(*offset, metadata, Some(end));
                restored.unwrap();
                taken.at = *offset;
            }
            self.processes[to].partitions.insert(partition, taken);
        }
    }

    fn commit(&mut self, index: usize, partition: usize) {
        let owned = self.processes[index].partitions.get_mut(&partition);
        let owned = owned.unwrap();
        if let Some(snapshot) = owned.tracker.snapshot(1, Farewell::No) {
            owned.claimed = true;
            self.committed
                .insert(partition, (snapshot.offset, snapshot.metadata));
        }
    }

    fn die(&mut self, index: usize) {
        self.processes[index] = Process {
            back_at: self.now + ABSENCE,
            ..Process::default()
        };
    }

    fn live(&mut self, index: usize) {
        self.read(index);
        if self.finish(index) {
            return self.die(index);
        }
        self.begin_suspects(index);
        self.begin_others(index);
        if self.now.is_multiple_of(COMMIT_EVERY) {
            let owned: Vec<_> = self.processes[index].partitions.keys().copied().collect();
            for partition in owned {
                self.commit(index, partition);
            }
        }
    }

    fn read(&mut self, index: usize) {
        let process = &mut self.processes[index];
        for (&partition, owned) in &mut process.partitions {
            let log = &self.log[partition];
            while owned.tracker.open() < LOOK_AHEAD && owned.at < log.len() as i64 {
                let record = (partition, owned.at);
                owned.at += 1;
                if owned.tracker.deliver(record.1) != Delivery::New {
                    continue;
                }
                match owned.tracker.care(record.1) {
                    Care::Poison { .. } => {
                        self.ended.insert(record, "poison");
                        owned.tracker.complete(record.1);
                    }
                    Care::Alone { strictly, .. } => {
                        process.turns.queue(strictly);
                        process.suspects.push(record);
                    }
                    Care::None | Care::Announce => process.line.push_back(record),
                }
            }
        }
    }

    /// Ends what has run for its time; whether the process dies of one.
    fn finish(&mut self, index: usize) -> bool {
        let mut at = 0;
        while at < self.processes[index].running.len() {
            let run = &self.processes[index].running[at];
            let (record, turn, ran) = (run.record, run.turn, self.now - run.since);
            let over = run.hold.is_some_and(|hold| STEP * ran as u32 >= hold);
            match self.log[record.0][record.1 as usize] {
                Nature::Poison(after) if ran >= after => {
                    if !run.orphan {
                        *self.crashes.entry(record).or_default() += 1;
                    }
                    return true;
                }
                Nature::Good(after) if ran >= after => {
                    let process = &mut self.processes[index];
                    let run = process.running.swap_remove(at);
                    self.ended.entry(record).or_insert("done");
                    if !run.orphan {
                        let owned = process.partitions.get_mut(&record.0).unwrap();
                        owned.tracker.unmark(record.1);
                        owned.tracker.complete(record.1);
                    }
                    if run.hold.is_some() {
                        self.commit(index, record.0);
                    }
                    self.processes[index].turns.end(turn);
                    continue;
                }
                _ if over => {
                    let process = &mut self.processes[index];
                    process.running[at].hold = None;
                    let owned = process.partitions.get_mut(&record.0).unwrap();
                    owned.tracker.unmark(record.1);
                    self.commit(index, record.0);
                    self.processes[index].turns.let_go(turn);
                }
                _ => {}
            }
            at += 1;
        }
        false
    }

    fn begin_suspects(&mut self, index: usize) {
        let now = self.time();
        let mut at = 0;
        while at < self.processes[index].suspects.len() {
            let process = &mut self.processes[index];
            let record = process.suspects[at];
            let owned = process.partitions.get_mut(&record.0).unwrap();
            let Care::Alone { strictly, hold } = owned.tracker.care(record.1) else {
                panic!("{record:?} is not suspected any more");
            };
            let Some((turn, alone)) = process.turns.begin_alone(strictly, now) else {
                at += 1;
                continue;
            };
            process.suspects.remove(at);
            owned.tracker.start(record.1);
            owned.tracker.mark(Mark {
                offset: record.1,
                alone,
            });
            self.begin(index, record, turn, Some(hold));
            self.commit(index, record.0);
        }
    }

    fn begin_others(&mut self, index: usize) {
        let now = self.time();
        while self.processes[index].running.len() < SLOTS {
            let process = &mut self.processes[index];
            let Some(&record) = process.line.front() else {
                return;
            };
            let Some(turn) = process.turns.begin(now) else {
                return;
            };
            process.line.pop_front();
            let owned = process.partitions.get_mut(&record.0).unwrap();
            let announce = !owned.claimed || owned.tracker.care(record.1) == Care::Announce;
            owned.tracker.start(record.1);
            self.begin(index, record, turn, None);
            if announce {
                self.commit(index, record.0);
            }
        }
    }

    fn begin(&mut self, index: usize, record: Record, turn: Turn, hold: Option<Duration>) {
        self.processes[index].running.push(Running {
            record,
            turn,
            since: self.now,
            hold,
            orphan: false,
        });
    }

    /// Somebody kills a process; one that runs a suspect alone is spared.
    fn kill(&mut self, index: usize) {
        let index = index % self.processes.len();
        let process = &self.processes[index];
        let marked = process.running.iter().any(|run| run.hold.is_some());
        if process.back_at <= self.now && !marked {
            self.die(index);
        }
    }
}

fn good() -> impl Strategy<Value = Nature> {
    prop_oneof![
        8 => (1u64..4).prop_map(Nature::Good),
        1 => (20u64..300).prop_map(Nature::Good),
    ]
}

fn logs(most: usize) -> impl Strategy<Value = Vec<Vec<Nature>>> {
    prop::collection::vec(prop::collection::vec(good(), 0..most), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Poison anywhere, kills at any time: each poison record costs no more than its number of crashes, everything
    /// else is done, and the poison is set aside.
    #[test]
    fn a_poison_record_costs_a_bounded_number_of_crashes(
        mut logs in logs(60),
        poisons in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u64..40), 0..3),
        processes in 1usize..3,
        kills in prop::collection::vec((1u64..3000, 0usize..3), 0..5),
    ) {
        for (partition, at, after) in poisons {
            let partition = partition.index(logs.len());
            let log = &mut logs[partition];
            if !log.is_empty() {
                let at = at.index(log.len());
                log[at] = Nature::Poison(after);
            }
        }
        let mut world = World::new(logs, processes);
        while !world.is_over() {
            world.step();
            for (at, whom) in &kills {
                if *at == world.now {
                    world.kill(*whom);
                }
            }
            prop_assert!(world.now < 60_000, "stuck with {} ended", world.ended.len());
        }
        for (record, crashes) in &world.crashes {
            prop_assert!(*crashes <= MOST_CRASHES, "{:?} cost {}", record, crashes);
        }
        for (record, end) in &world.ended {
            let poison = matches!(world.log[record.0][record.1 as usize], Nature::Poison(_));
            prop_assert_eq!(*end == "poison", poison, "{:?}", record);
        }
    }

    /// Kills without end while others run beside them: nobody is taken for poison.
    #[test]
    fn innocent_records_survive_any_kills(
        logs in logs(40),
        processes in 1usize..3,
        kills in prop::collection::vec((1u64..120, 0usize..3), 1..60),
    ) {
        let mut world = World::new(logs, processes);
        for (pause, whom) in kills {
            for _ in 0..pause {
                world.step();
            }
            world.kill(whom);
        }
        while !world.is_over() {
            world.step();
            prop_assert!(world.now < 100_000, "stuck with {} ended", world.ended.len());
        }
        prop_assert!(world.ended.values().all(|end| *end == "done"));
    }
}

#[test]
fn quick_poison_at_the_head_among_long_jobs() {
    let mut log = vec![Nature::Good(600), Nature::Good(600)];
    log.push(Nature::Poison(1));
    log.extend([Nature::Good(2); 50]);
    let mut world = World::new(vec![log, vec![Nature::Good(3); 50]], 1);
    while !world.is_over() {
        world.step();
        assert!(world.now < 10_000);
    }
    assert_eq!(world.ended[&(0, 2)], "poison");
    let crashes = world.crashes[&(0, 2)];
    assert!(
        (u32::from(CRASHES) + 2..=MOST_CRASHES).contains(&crashes),
        "{crashes}"
    );
}

/// It kills only long after it was let go: the time alone grows until it is caught.
#[test]
fn slow_poison_is_caught_too() {
    let mut log = vec![Nature::Good(2); 20];
    log.insert(3, Nature::Poison(300));
    let mut world = World::new(vec![log], 1);
    while !world.is_over() {
        world.step();
        assert!(world.now < 20_000);
    }
    assert_eq!(world.ended[&(0, 3)], "poison");
    assert!(world.crashes[&(0, 3)] <= MOST_CRASHES + 6);
}

#[test]
fn a_long_job_survives_three_kills() {
    let mut log = vec![Nature::Good(2); 30];
    log[0] = Nature::Good(600);
    let mut world = World::new(vec![log], 1);
    for _ in 0..3 {
        for _ in 0..80 {
            world.step();
        }
        world.kill(0);
        assert!(world.processes[0].back_at > world.now, "it was not spared");
    }
    while !world.is_over() {
        world.step();
        assert!(world.now < 10_000);
    }
    assert!(world.ended.values().all(|end| *end == "done"));
}
