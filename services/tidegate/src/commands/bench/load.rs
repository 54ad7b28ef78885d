//! The load itself: so many takers, each sending one request after the other, until the time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::pace::{Pace, Schedule, Turns};
use super::tally::{Shared, Tally};

/// Something that can be asked again and again, and answers.
pub trait Target: Send + 'static {
    /// Asks once. What went wrong, as a kind that can be counted.
    fn ask(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// How a target is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub pace: Pace,
    /// Requests that are under way at once: exactly in a closed loop, at most in an open one.
    pub concurrency: usize,
    pub duration: Duration,
}

/// What came of it.
pub struct Ran {
    pub tally: Tally,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// Loads targets, one a taker, and tells `progress` of the sum about once a second.
pub async fn run<T: Target>(
    load: Load,
    target: impl Fn() -> T,
    mut progress: impl FnMut(Duration, &Tally),
) -> Ran {
    let begin = Instant::now();
    let shared = Arc::new(Shared::default());
    let mut takers = JoinSet::new();
    let turns = match load.pace {
        Pace::Closed => None,
        Pace::Open { per_second } => {
            let schedule = Schedule::new(begin, per_second, load.duration);
            Some(Turns::start(schedule, load.concurrency))
        }
    };
    for taker in 0..load.concurrency {
        let (target, shared) = (target(), Arc::clone(&shared));
        match turns.clone() {
            None => takers.spawn(closed(target, shared, taker, begin + load.duration)),
            Some(turns) => takers.spawn(open(target, shared, taker, turns)),
        };
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        tokio::select! {
            ended = takers.join_next() => if ended.is_none() { break },
            _ = second.tick() => progress(begin.elapsed(), &shared.sum()),
        }
    }
    Ran {
        tally: shared.sum(),
        took: begin.elapsed(),
    }
}

async fn closed(mut target: impl Target, shared: Arc<Shared>, taker: usize, end: Instant) {
    while Instant::now() < end {
        let sent = Instant::now();
        note(&shared, taker, target.ask().await, sent);
    }
}

async fn open(mut target: impl Target, shared: Arc<Shared>, taker: usize, turns: Arc<Turns>) {
    while let Some(intended) = turns.next().await {
        note(&shared, taker, target.ask().await, intended);
    }
}

fn note(shared: &Shared, taker: usize, answer: Result<(), String>, since: Instant) {
    let took = since.elapsed();
    shared.note(taker, |tally| match answer {
        Ok(()) => tally.answered(took),
        Err(kind) => tally.failed(&kind),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after a while, and stands still once.
    struct Slow {
        stall: Option<Duration>,
    }

    impl Target for Slow {
        async fn ask(&mut self) -> Result<(), String> {
            let pause = self.stall.take().unwrap_or(Duration::from_millis(1));
            tokio::time::sleep(pause).await;
            Ok(())
        }
    }

    async fn stalled(pace: Pace) -> Tally {
        let load = Load {
            pace,
            concurrency: 1,
            duration: Duration::from_millis(500),
        };
        let stall = Duration::from_millis(300);
        let target = || Slow { stall: Some(stall) };
        run(load, target, |_, _| {}).await.tally
    }

    /// The reason for the open loop: a target that stands still for 300 of 500 ms.
    #[tokio::test]
    async fn a_stall_shows_in_the_open_loop_and_hides_in_the_closed_one() {
        let open = stalled(Pace::Open { per_second: 100.0 }).await;
        assert_eq!((open.count(), open.failure_count()), (50, 0));
        assert!(open.latency().p50 > 20.0, "{:?}", open.latency());
        let closed = stalled(Pace::Closed).await;
        assert!(closed.latency().max >= 300.0);
        assert!(closed.latency().p50 < 20.0, "{:?}", closed.latency());
    }

    struct Broken;

    impl Target for Broken {
        async fn ask(&mut self) -> Result<(), String> {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Err("503 broker-unavailable".to_owned())
        }
    }

    #[tokio::test]
    async fn failures_have_no_latency_and_are_told_as_they_come() {
        let load = Load {
            pace: Pace::Closed,
            concurrency: 4,
            duration: Duration::from_millis(1200),
        };
        let mut seen = 0;
        let ran = run(load, || Broken, |_, tally| seen = tally.failure_count()).await;
        assert_eq!(ran.tally.count(), 0);
        assert!(seen > 0 && ran.tally.failure_count() >= seen);
        assert!(ran.took >= load.duration);
    }
}
