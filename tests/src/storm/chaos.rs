//! Does what the plan says, when it says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_contract::now_millis;
use tokio::task::JoinSet;

use super::cast::Cast;
use super::client::Clients;
use super::mix::Kind;
use super::plan::{Plan, Step, Weather};
use super::setup::Setup;

/// Carries a plan out to its end.
pub async fn carry_out(plan: &Plan, setup: &Arc<Setup>, cast: &Arc<Cast>, clients: &Arc<Clients>) {
    let begun = Instant::now();
    let mut brokers = JoinSet::new();
    for (at, step) in &plan.steps {
        let at = Duration::from_millis(*at);
        tokio::time::sleep(at.saturating_sub(begun.elapsed())).await;
        println!("{:>6.1} s  {step}", begun.elapsed().as_secs_f64());
        match *step {
            Step::Kill(seat) => cast.kill(seat).await,
            Step::Stop(seat) => cast.stop(seat).await,
            Step::Start(seat) => cast.want(seat).await,
            Step::Pause(seat) => cast.pause(seat).await,
            Step::Resume(seat) => cast.resume(seat).await,
            Step::Store(weather) => {
                setup.store_is(weather);
                note(cast, "store", weather);
            }
            Step::Wire(weather) => {
                setup.wire_is(weather);
                note(cast, "wire", weather);
            }
            Step::Poison => clients.besides(Kind::Poison, 1),
            Step::Burst(jobs) => clients.besides(Kind::Quick, jobs),
            // They take their time, and the plan goes on meanwhile; one broker is down at a time, so in order.
            Step::BrokerStop(number)
            | Step::BrokerKill(number)
            | Step::BrokerPause(number)
            | Step::BrokerStart(number) => {
                let verb = match step {
                    Step::BrokerStop(_) => "stop",
                    Step::BrokerKill(_) => "kill",
                    Step::BrokerPause(_) => "pause",
                    _ => "start",
                };
                all(&mut brokers).await;
                let (setup, cast) = (Arc::clone(setup), Arc::clone(cast));
                brokers.spawn_blocking(move || {
                    let from = now_millis();
                    setup.broker.broker(verb, number);
                    cast.happened(&format!("broker-{number}"), verb, from, now_millis());
                });
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(plan.length).saturating_sub(begun.elapsed())).await;
    all(&mut brokers).await;
}

async fn all(brokers: &mut JoinSet<()>) {
    while let Some(ended) = brokers.join_next().await {
        ended.expect("a broker does what it is told");
    }
}

fn note(cast: &Cast, who: &str, weather: Weather) {
    let what = match weather {
        Weather::Open => "open",
        Weather::Slow(_) => "slow",
        Weather::Cut => "cut",
        Weather::Still => "still",
        Weather::HalfOpen => "half open",
    };
    let now = now_millis();
    cast.happened(who, what, now, now);
}
