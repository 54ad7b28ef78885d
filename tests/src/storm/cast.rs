//! The processes of a storm: they are started, killed, paused and stopped here, started again when they crash, and
//! ended with this value.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_contract::now_millis;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

use crate::{Client, Process, secs};

use super::facts::Incident;
use super::plan::{Role, Seat};
use super::setup::{HTTP_TYPES, Setup};
use super::target::Target;

/// How often each process is looked at.
const TICK: Duration = Duration::from_millis(200);

/// All processes.
pub struct Cast {
    setup: Arc<Setup>,
    target: Target,
    seats: BTreeMap<Seat, Arc<AsyncMutex<Chair>>>,
    /// Where gateways listen now, by their numbers.
    gateways: Mutex<BTreeMap<usize, String>>,
    incidents: Mutex<Vec<Incident>>,
    memory: Mutex<BTreeMap<&'static str, u64>>,
    over: AtomicBool,
}

/// A place for one process.
#[derive(Default)]
struct Chair {
    /// Whether there is to be one.
    wanted: bool,
    incarnation: u32,
    process: Option<Process>,
    /// What was done to it that it may end of.
    told: Option<&'static str>,
    /// Since when it stands still.
    paused: Option<i64>,
}

impl Chair {
    /// The process, unless it has ended.
    fn running(&mut self) -> Option<&mut Process> {
        let process = self.process.as_mut()?;
        process.is_running().then_some(process)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cast {
    /// Nobody yet.
    pub fn new(setup: Arc<Setup>, target: Target) -> Arc<Self> {
        let seats = Role::ALL
            .into_iter()
            .flat_map(|role| (1..=role.places()).map(move |number| Seat { role, number }));
        Arc::new(Self {
            setup,
            target,
            seats: seats.map(|seat| (seat, Arc::default())).collect(),
            gateways: Mutex::default(),
            incidents: Mutex::default(),
            memory: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    /// Starts the residents, and watches over all places from now on.
    pub async fn enter(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        for (seat, chair) in &self.seats {
            if seat.number <= seat.role.residents() {
                let mut chair = chair.lock().await;
                chair.wanted = true;
                tokio::task::block_in_place(|| self.start(*seat, &mut chair));
            }
        }
        let watch = |seat: Seat| {
            let cast = Arc::clone(self);
            tokio::spawn(async move {
                while !cast.over.load(Ordering::Relaxed) {
                    cast.look(seat).await;
                    tokio::time::sleep(TICK).await;
                }
            })
        };
        self.seats.keys().map(|seat| watch(*seat)).collect()
    }

    fn start(&self, seat: Seat, chair: &mut Chair) {
        chair.incarnation += 1;
        let name = format!("{seat}.{}", chair.incarnation);
        let settings = match seat.role {
            Role::Gateway => self.setup.gateway_settings(),
            Role::Worker => {
                let url = self.target.of_worker(&name);
                let to = |name: &&str| format!("types.{name}.handler.url={url}");
                HTTP_TYPES.iter().map(to).collect()
            }
            Role::Scheduler | Role::Notifier => Vec::new(),
        };
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let process = self.setup.stack.start(seat.role.as_str(), &name, &settings);
        if seat.role == Role::Gateway {
            lock(&self.gateways).insert(seat.number, process.url().to_owned());
        }
        let now = now_millis();
        self.happened(&name, "came", now, now);
        chair.process = Some(process);
        chair.told = None;
        chair.paused = None;
    }

    /// Notices an end, starts who is wanted, and measures.
    async fn look(&self, seat: Seat) {
        let Some(chair) = self.seats.get(&seat) else {
            return;
        };
        let mut chair = chair.lock().await;
        let name = format!("{seat}.{}", chair.incarnation);
        if let Some(process) = chair.running() {
            let mut memory = lock(&self.memory);
            let peak = memory.entry(seat.role.as_str()).or_default();
            *peak = process.memory_kib().max(*peak);
            return;
        }
        if chair.process.take().is_some() {
            let now = now_millis();
            self.happened(&name, chair.told.unwrap_or("crashed"), now, now);
        }
        if !chair.wanted && seat.role == Role::Gateway {
            lock(&self.gateways).remove(&seat.number);
        }
        if chair.wanted && !self.over.load(Ordering::Relaxed) {
            tokio::task::block_in_place(|| self.start(seat, &mut chair));
        }
    }

    /// From now on there is one there, as soon as the one before has ended.
    pub async fn want(&self, seat: Seat) {
        self.with(seat, |_, chair| chair.wanted = true).await;
    }

    /// kill -9.
    pub async fn kill(&self, seat: Seat) {
        self.with(seat, |name, chair| {
            chair.wanted = false;
            let now = now_millis();
            if let Some(process) = chair.process.take() {
                process.kill();
                self.happened(&name, "was killed", now, now);
            }
        })
        .await;
    }

    /// SIGTERM; the end is noticed later.
    pub async fn stop(&self, seat: Seat) {
        self.with(seat, |_, chair| {
            chair.wanted = false;
            if let Some(process) = chair.running() {
                process.terminate();
                chair.told = Some("was stopped");
            }
        })
        .await;
    }

    /// SIGSTOP.
    pub async fn pause(&self, seat: Seat) {
        self.with(seat, |_, chair| {
            if let Some(process) = chair.running() {
                process.pause();
                chair.paused = Some(now_millis());
            }
        })
        .await;
    }

    /// SIGCONT.
    pub async fn resume(&self, seat: Seat) {
        self.with(seat, |name, chair| {
            let Some(since) = chair.paused.take() else {
                return;
            };
            if let Some(process) = chair.running() {
                process.resume();
                self.happened(&name, "stood still", since, now_millis());
            }
        })
        .await;
    }

    async fn with(&self, seat: Seat, act: impl FnOnce(String, &mut Chair)) {
        if let Some(chair) = self.seats.get(&seat) {
            let mut chair = chair.lock().await;
            act(format!("{seat}.{}", chair.incarnation), &mut chair);
        }
    }

    /// Notes that something was done to somebody.
    pub fn happened(&self, who: &str, what: &'static str, from: i64, until: i64) {
        lock(&self.incidents).push(Incident {
            who: who.to_owned(),
            what,
            from,
            until,
        });
    }

    pub fn incidents(&self) -> Vec<Incident> {
        lock(&self.incidents).clone()
    }

    /// Peaks of resident memory by role, in KiB.
    pub fn memory(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.memory).clone()
    }

    /// Where some gateway listens; it may be one that stands still, or one that has just gone.
    pub fn gateway(&self, number: u64) -> Option<String> {
        let gateways = lock(&self.gateways);
        let place = number.checked_rem(gateways.len() as u64)?;
        gateways.values().nth(place as usize).cloned()
    }

    /// Everybody is there, goes on, and is ready; or who is not, after `limit`.
    pub async fn gather(&self, limit: Duration) -> Result<(), String> {
        for seat in self.seats.keys() {
            match seat.number <= seat.role.residents() {
                true => {
                    self.resume(*seat).await;
                    self.want(*seat).await;
                }
                false => self.stop(*seat).await,
            }
        }
        let begun = Instant::now();
        for (seat, chair) in &self.seats {
            while seat.number <= seat.role.residents() {
                let url = {
                    let chair = chair.lock().await;
                    chair
                        .process
                        .as_ref()
                        .map(|process| process.url().to_owned())
                };
                if let Some(url) = &url
                    && Client::new(url).is_ready().await
                {
                    break;
                }
                if begun.elapsed() > limit {
                    let report = match url {
                        Some(url) => Client::new(&url).readiness().await.to_string(),
                        None => "it does not run".to_owned(),
                    };
                    return Err(format!("{seat} is not ready after {limit:?}: {report}"));
                }
                tokio::time::sleep(TICK).await;
            }
        }
        Ok(())
    }

    /// Ends all of them, at once.
    pub async fn leave(&self) {
        self.over.store(true, Ordering::Relaxed);
        for chair in self.seats.values() {
            let chair = tokio::time::timeout(secs(30), chair.lock()).await;
            if let Ok(mut chair) = chair {
                chair.process = None;
            }
        }
    }
}
