//! When each request should be sent. Pure, but for the thread that keeps the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// What decides when a request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as the one before it on the same connection has ended: a closed loop.
    Closed,
    /// So many a second, whatever the answers do: an open loop. What comes late is measured from when it should have
    /// been sent, so that a stall shows in every request that it held up.
    Open { per_second: f64 },
}

/// The times of an open loop, evenly spread.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    begin: Instant,
    per_second: f64,
    pub requests: u64,
}

impl Schedule {
    pub fn new(begin: Instant, per_second: f64, duration: Duration) -> Self {
        let requests = (per_second * duration.as_secs_f64()).floor().max(1.0);
        Self {
            begin,
            per_second,
            requests: requests as u64,
        }
    }

    /// When request number `index`, from 0, should be sent.
    pub fn intended(&self, index: u64) -> Instant {
        self.begin + Duration::from_secs_f64(index as f64 / self.per_second)
    }

    /// How many should have been sent at that time.
    fn due(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begin).as_secs_f64();
        let due = (since * self.per_second).floor() as u64 + 1;
        due.min(self.requests)
    }
}

/// Hands out the turns of an open loop to whoever is free.
pub struct Turns {
    schedule: Schedule,
    next: AtomicU64,
    open: Semaphore,
}

impl Turns {
    /// Keeps the time on a thread of its own: a runtime's timer is a millisecond coarse.
    pub fn start(schedule: Schedule, takers: usize) -> Arc<Self> {
        let turns = Arc::new(Self {
            schedule,
            next: AtomicU64::new(0),
            open: Semaphore::new(0),
        });
        let keeper = Arc::clone(&turns);
        std::thread::spawn(move || {
            let mut given = 0;
            while given < schedule.requests {
                let due = schedule.due(Instant::now());
                keeper.open.add_permits((due - given) as usize);
                given = due;
                let next = schedule.intended(given);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            // One more for each, to see that there are no more.
            keeper.open.add_permits(takers);
        });
        turns
    }

    /// When the next request should have been sent; waits for that time. `None` after the last one.
    pub async fn next(&self) -> Option<Instant> {
        // Never closed.
        self.open.acquire().await.ok()?.forget();
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.schedule.requests).then(|| self.schedule.intended(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_evenly_and_end_with_the_duration() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, 400.0, Duration::from_secs(2));
        assert_eq!(schedule.requests, 800);
        assert_eq!(schedule.intended(0), begin);
        assert_eq!(schedule.intended(2), begin + Duration::from_millis(5));
        assert_eq!(schedule.due(begin), 1);
        assert_eq!(schedule.due(begin + Duration::from_millis(6)), 3);
        assert_eq!(schedule.due(begin + Duration::from_secs(60)), 800);
        assert_eq!(
            Schedule::new(begin, 0.1, Duration::from_secs(1)).requests,
            1
        );
    }

    #[tokio::test]
    async fn each_turn_is_given_once_and_not_before_its_time() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, 1000.0, Duration::from_millis(50));
        let turns = Turns::start(schedule, 3);
        let takers = (0..3).map(|_| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while let Some(intended) = turns.next().await {
                    assert!(Instant::now() >= intended);
                    taken.push(intended);
                }
                taken
            })
        });
        let mut taken = Vec::new();
        for taker in takers.collect::<Vec<_>>() {
            taken.extend(taker.await.unwrap());
        }
        taken.sort();
        let all: Vec<_> = (0..50).map(|index| schedule.intended(index)).collect();
        assert_eq!(taken, all);
    }
}
