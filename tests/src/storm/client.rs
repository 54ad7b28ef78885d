//! The clients of a storm, and what they note.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_contract::{Tier, now_millis};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::answers;
use super::cast::Cast;
use super::facts::{Said, Told};
use super::hooks::Hooks;
use super::mix::{Ask, Kind, SERIAL_KEYS, TENANTS};

/// Requests that may be open at once; over it the clients hold back.
const OPEN: usize = 600;
/// How often a client sends a request again that may be repeated.
const REPEATS: usize = 8;
/// For so long a job is looked at.
const FOLLOWED: Duration = Duration::from_secs(60);
/// Numbers of jobs that are not drawn in turn begin here.
const EXTRA: u64 = 1 << 40;

/// The clients.
pub struct Clients {
    seed: u64,
    cast: Arc<Cast>,
    hooks: Hooks,
    http: reqwest::Client,
    open: Arc<Semaphore>,
    told: Mutex<Vec<Told>>,
    strange: Mutex<Vec<String>>,
    /// Jobs that were not asked for, because too many were open.
    pub held_back: AtomicUsize,
    over: AtomicBool,
    extra: AtomicUsize,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    pub fn new(seed: u64, cast: Arc<Cast>, hooks: Hooks) -> Arc<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .build()
            .expect("a client");
        Arc::new(Self {
            seed,
            cast,
            hooks,
            http,
            open: Arc::new(Semaphore::new(OPEN)),
            told: Mutex::default(),
            strange: Mutex::default(),
            held_back: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            extra: AtomicUsize::new(0),
        })
    }

    /// Everything that was noted.
    pub fn told(&self) -> Vec<Told> {
        lock(&self.told).clone()
    }

    /// Answers that nobody should get.
    pub fn strange(&self) -> Vec<String> {
        lock(&self.strange).clone()
    }

    /// No new jobs from now on.
    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Asks for so many jobs a second until stopped, and lets every client finish.
    pub async fn run(self: Arc<Self>, rate: u64) {
        let mut clients = JoinSet::new();
        for key in 0..SERIAL_KEYS {
            clients.spawn(Arc::clone(&self).serial(key));
        }
        let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1)));
        for number in 0.. {
            tick.tick().await;
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let Ok(place) = Arc::clone(&self.open).try_acquire_owned() else {
                self.held_back.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let (this, ask) = (Arc::clone(&self), Ask::of(self.seed, number));
            clients.spawn(async move {
                this.one(ask).await;
                drop(place);
            });
            // What has ended is not kept.
            while clients.try_join_next().is_some() {}
        }
        while clients.join_next().await.is_some() {}
    }

    /// Jobs besides, all at once; nobody waits for them here.
    pub fn besides(self: &Arc<Self>, kind: Kind, jobs: u64) {
        for _ in 0..jobs {
            let number = EXTRA + self.extra.fetch_add(1, Ordering::Relaxed) as u64;
            let mut ask = Ask::of_kind(self.seed, number, kind);
            (ask.wait, ask.followed) = (None, false);
            let this = Arc::clone(self);
            tokio::spawn(async move { this.one(ask).await });
        }
    }

    /// The jobs of one serial key, each accepted before the next is asked for.
    async fn serial(self: Arc<Self>, key: u64) {
        for number in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let number = EXTRA * (2 + key) + number;
            let mut ask = Ask::of_kind(self.seed, number, Kind::Serial);
            (ask.serial_key, ask.doubled) = (Some(key), false);
            // A key is a tenant's own, and travels in one tier.
            (ask.tenant, ask.tier) = (key as usize % TENANTS.len(), Tier::Normal);
            self.one(ask).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn one(&self, ask: Ask) {
        let mut told = Told {
            number: ask.number,
            kind: ask.kind,
            tier: ask.tier,
            asked_at: now_millis(),
            said: Said::Refused,
            jobs: Vec::new(),
            foreign: Vec::new(),
            ends: Vec::new(),
            serial_key: ask.serial_key,
            callback: ask.callback,
        };
        if ask.doubled {
            let mut twin = told.clone();
            let mut other = ask.clone();
            other.gateway = other.gateway.wrapping_add(1);
            tokio::join!(self.submit(&ask, &mut told), self.submit(&other, &mut twin));
            let known = |told: &Told| told.accepted().is_some();
            if known(&twin) && !known(&told) {
                told.said = twin.said;
            }
            if known(&twin) || !known(&told) {
                told.jobs.extend(twin.jobs);
            }
            told.foreign.extend(twin.foreign);
            told.ends.extend(twin.ends);
        } else {
            self.submit(&ask, &mut told).await;
        }
        if let Some(job) = told.accepted() {
            if let Some(after) = ask.cancel_after {
                self.cancel(&ask, job, after).await;
            }
            if ask.followed {
                self.follow(&ask, job, &mut told).await;
            }
        }
        lock(&self.told).push(told);
    }

    fn request(&self, gateway: &str, ask: &Ask) -> reqwest::RequestBuilder {
        let wait = ask.wait.unwrap_or(0);
        let mut request = self
            .http
            .post(format!("{gateway}/v1/jobs/{}", ask.kind.as_str()))
            .timeout(Duration::from_secs(wait + 20))
            .header("x-api-key", TENANTS[ask.tenant].1)
            .json(&ask.body())
            .header(
                "prefer",
                match ask.wait {
                    Some(seconds) => format!("wait={seconds}"),
                    None => "respond-async".to_owned(),
                },
            );
        if ask.tier != Tier::Normal {
            request = request.header("tidegate-priority", ask.tier.as_str());
        }
        if ask.keyed {
            request = request.header("idempotency-key", ask.nonce());
        }
        if let Some(seconds) = ask.delay {
            request = request.header("tidegate-delay", format!("{seconds}s"));
        }
        if let Some(seconds) = ask.deadline {
            request = request.header("tidegate-deadline", format!("{seconds}s"));
        }
        if ask.callback {
            request = request.header("tidegate-callback-url", self.hooks.of_job(ask.number));
        }
        if let Some(key) = ask.serial_key {
            request = request.header("tidegate-serial-key", format!("key-{key}"));
        }
        request
    }

    /// Submits, and again where that is safe, on another gateway each time.
    async fn submit(&self, ask: &Ask, told: &mut Told) {
        let (mut unknown, mut named) = (false, None);
        for repeat in 0..REPEATS {
            if repeat > 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let Some(gateway) = self.cast.gateway(ask.gateway.wrapping_add(repeat as u64)) else {
                continue;
            };
            let answer = self.request(&gateway, ask).send().await;
            let read = match answer {
                Err(error) if error.is_connect() => continue,
                Err(_) => None,
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let id = answer.headers().get("tidegate-job-id").cloned();
                    let id = id.as_ref().and_then(|id| id.to_str().ok());
                    let body = answer.bytes().await.ok();
                    body.map(|body| answers::submit(status, id, &body, &ask.nonce()))
                }
            };
            let Some(read) = read else {
                unknown = true;
                match ask.keyed {
                    true => continue,
                    false => break,
                }
            };
            lock(&self.strange).extend(read.strange);
            told.foreign.extend(read.foreign);
            match read.said {
                Said::Accepted => {
                    told.jobs.extend(read.job);
                    told.said = read.said;
                    return;
                }
                Said::Ended(end) => {
                    told.jobs.extend(read.job);
                    told.ends.push(end.status());
                    told.said = read.said;
                    return;
                }
                // Not for certain: a keyed job that was refused now may have been written before.
                Said::Refused => {}
                Said::Unknown => {
                    unknown = true;
                    named = read.job;
                    if !ask.keyed {
                        break;
                    }
                }
            }
        }
        if unknown {
            told.said = Said::Unknown;
            told.jobs.extend(named);
        }
    }

    async fn cancel(&self, ask: &Ask, job: Uuid, after: u64) {
        tokio::time::sleep(Duration::from_millis(after)).await;
        for repeat in 0..4 {
            let Some(gateway) = self.cast.gateway(ask.gateway.wrapping_add(repeat)) else {
                continue;
            };
            let request = self
                .http
                .post(format!("{gateway}/v1/jobs/{job}/cancel"))
                .timeout(Duration::from_secs(15))
                .header("x-api-key", TENANTS[ask.tenant].1);
            match request.send().await {
                Ok(answer) if answer.status().is_success() || answer.status() == 409 => return,
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Looks at the status until the job has ended, then some more times.
    async fn follow(&self, ask: &Ask, job: Uuid, told: &mut Told) {
        // A wait may end before the row is written, so that only what a status has said binds the next one.
        let (begun, mut more, mut ended) = (Instant::now(), 2, false);
        let mut pause = Duration::from_millis(500);
        for look in 0.. {
            if more == 0 || begun.elapsed() > FOLLOWED {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(8));
            let Some(document) = self.status(ask, job, look).await else {
                continue;
            };
            let (status, foreign) = answers::status(&document, job, &ask.nonce());
            told.foreign.extend(foreign);
            let Some(status) = status else { continue };
            if status.is_terminal() || ended {
                more -= 1;
                ended = true;
                if told.ends.last() != Some(&status) {
                    told.ends.push(status);
                }
            }
        }
    }

    async fn status(&self, ask: &Ask, job: Uuid, look: u64) -> Option<Value> {
        let gateway = self.cast.gateway(ask.gateway.wrapping_add(1 + look))?;
        let request = self
            .http
            .get(format!("{gateway}/v1/jobs/{job}"))
            .timeout(Duration::from_secs(8))
            .header("x-api-key", TENANTS[ask.tenant].1);
        let answer = request
            .send()
            .await
            .ok()
            .filter(|answer| answer.status() == 200)?;
        answer.json().await.ok()
    }
}
