//! A worker as a discrete event simulation: real chooser, real lines, made-up time in microseconds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use tidegate_contract::fair::{Chooser, Limits, Line, Slots, TierSlots, heavy, light};
use tidegate_contract::{JobType, Tenant, Tier};

pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000_000;

/// The weights of the defaults.
pub const WEIGHTS: [u32; 3] = [16, 4, 1];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    pub arrives: u64,
    /// How long it holds its slot.
    pub runs: u64,
    pub tenant: usize,
    pub lane: usize,
    pub partition: i32,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub struct Done {
    pub job: Job,
    pub started: u64,
}

impl Done {
    /// From its arrival until its slot.
    pub fn queued(&self) -> u64 {
        self.started - self.job.arrives
    }

    /// What a client waits: until its end.
    pub fn waited(&self) -> u64 {
        self.queued() + self.job.runs
    }
}

/// A worker that holds everything that has arrived, without a look-ahead.
pub struct Worker {
    pub now: u64,
    pub lines: [Line<Job>; 3],
    pub chooser: Chooser,
    pub done: Vec<Done>,
    running: BinaryHeap<Reverse<(u64, Job)>>,
    job_type: JobType,
    tenants: Vec<Tenant>,
}

impl Worker {
    pub fn new(slots: usize, reserved: TierSlots, tenants: Vec<Tenant>) -> Self {
        let lanes = Tier::ALL.into_iter().zip(WEIGHTS);
        let slots = Slots::new(slots, reserved);
        Self {
            now: 0,
            lines: Default::default(),
            chooser: Chooser::new(lanes, slots, Limits::default()),
            done: Vec::new(),
            running: BinaryHeap::new(),
            job_type: "echo".parse().unwrap(),
            tenants,
        }
    }

    pub fn push(&mut self, job: Job) {
        let tenant = &self.tenants[job.tenant];
        self.lines[job.lane].push(&self.job_type, tenant, job);
    }

    /// Fills what slots there are. The jobs that were started.
    pub fn start(&mut self) -> Vec<Job> {
        let mut started = Vec::new();
        let lines = &mut self.lines;
        while let Some(lane) = self
            .chooser
            .next(|lane, limits| lines[lane].may_run(limits))
        {
            let job = lines[lane].take(self.chooser.limits()).unwrap();
            let tenant = &self.tenants[job.tenant];
            self.chooser.started(lane, &self.job_type, tenant);
            self.running
                .push(Reverse((self.now + job.runs, job.clone())));
            started.push(job.clone());
            self.done.push(Done {
                job,
                started: self.now,
            });
        }
        started
    }

    /// When the next job ends.
    pub fn next_end(&self) -> Option<u64> {
        self.running.peek().map(|Reverse((ends, _))| *ends)
    }

    /// Goes on to that time; what has ended by then gives its slot back.
    pub fn advance(&mut self, to: u64) {
        self.now = to;
        while let Some(Reverse((ends, _))) = self.running.peek()
            && *ends <= to
        {
            let Some(Reverse((_, job))) = self.running.pop() else {
                return;
            };
            let tenant = &self.tenants[job.tenant];
            self.chooser.ended(job.lane, &self.job_type, tenant);
        }
    }

    /// Runs `arrivals` with the lanes of `floods` never empty: each has jobs that run as long as it says, in turn.
    pub fn run(&mut self, mut arrivals: VecDeque<Job>, floods: &[(usize, Vec<u64>)], until: u64) {
        let mut made = 0;
        let watched = arrivals.len();
        let mut begun = 0;
        loop {
            while arrivals.front().is_some_and(|job| job.arrives <= self.now) {
                self.push(arrivals.pop_front().unwrap());
            }
            loop {
                for (lane, runs) in floods {
                    while self.lines[*lane].len() < 40 {
                        self.push(Job {
                            arrives: self.now,
                            runs: runs[made % runs.len()],
                            tenant: 0,
                            lane: *lane,
                            partition: 0,
                        });
                        made += 1;
                    }
                }
                let started = self.start();
                let of_floods = |job: &&Job| floods.iter().any(|(lane, _)| *lane == job.lane);
                begun += started.len() - started.iter().filter(of_floods).count();
                if started.is_empty() {
                    break;
                }
            }
            let next = [self.next_end(), arrivals.front().map(|job| job.arrives)];
            match next.into_iter().flatten().min() {
                Some(next) if next <= until && begun < watched => self.advance(next),
                _ => return,
            }
        }
    }
}

/// Partitions in front of one lane of a [`Worker`], read as the intake of a worker reads them: into a bounded
/// look-ahead, in the order in which they were written; when that has been full for a while, no more of the partitions
/// that fill it.
pub struct Partitions {
    pub log: VecDeque<Job>,
    pub room: usize,
    /// Whether the intake tells partitions apart.
    pub fair: bool,
    held: BTreeMap<i32, usize>,
    paused: BTreeSet<i32>,
    full_since: Option<u64>,
}

/// How long a look-ahead is given to empty itself before partitions are paused.
pub const PATIENCE: u64 = 10 * MS;

impl Partitions {
    pub fn new(count: i32, room: usize, fair: bool) -> Self {
        Self {
            log: VecDeque::new(),
            room,
            fair,
            held: (0..count).map(|partition| (partition, 0)).collect(),
            paused: BTreeSet::new(),
            full_since: None,
        }
    }

    fn line(&self) -> usize {
        self.held.values().sum()
    }

    /// What is read now.
    pub fn read(&mut self, now: u64) -> Vec<Job> {
        let mut read = Vec::new();
        for partition in light(&self.held, self.room) {
            self.paused.remove(&partition);
        }
        loop {
            let line = self.line();
            if line <= self.room / 2 {
                self.paused.clear();
                self.full_since = None;
            }
            if line >= self.room {
                let since = *self.full_since.get_or_insert(now);
                if !self.fair || now < since + PATIENCE {
                    return read;
                }
                self.paused.extend(heavy(&self.held, self.room));
            }
            let next = self
                .log
                .iter()
                .position(|job| !self.paused.contains(&job.partition));
            let Some(job) = next.and_then(|next| self.log.remove(next)) else {
                return read;
            };
            *self.held.entry(job.partition).or_default() += 1;
            read.push(job);
        }
    }

    /// A job left the look-ahead.
    pub fn started(&mut self, job: &Job) {
        if let Some(held) = self.held.get_mut(&job.partition) {
            *held -= 1;
        }
    }

    /// When something is to be looked at again though nothing ended.
    pub fn wakes(&self, now: u64) -> Option<u64> {
        let at = self.full_since? + PATIENCE;
        (at > now).then_some(at)
    }

    /// Records that are not begun, by partition: in the log and in the look-ahead.
    pub fn backlog(&self) -> BTreeMap<i32, u64> {
        let held = self.held.iter().map(|(p, held)| (*p, *held as u64));
        let mut backlog: BTreeMap<i32, u64> = held.collect();
        for job in &self.log {
            *backlog.entry(job.partition).or_default() += 1;
        }
        backlog
    }
}
