//! What a worker does with an order on the control topic.

use std::sync::Arc;
use std::time::Instant;

use tidegate_contract::{Millis, Order};
use tidegate_kafka::TakesOrders;
use tidegate_runtime::Metrics;

use crate::control::Control;
use crate::handover::heard::Heard;

/// A beat that is older than this, in milliseconds, says nothing of what runs now.
const OLD: Millis = 60_000;

/// Who heeds the orders.
pub(crate) struct Orders {
    pub control: Arc<Control>,
    pub heard: Arc<Heard>,
    pub metrics: Metrics,
}

impl TakesOrders for Orders {
    fn take(&self, order: Order, written: Option<Millis>, now: Millis) {
        match order {
            Order::CallOff(id, deadline) => self.control.call_off(id, deadline, now),
            Order::Type(job_type, order) => {
                tracing::info!(%job_type, ?order, "job type ordered");
                self.control.order_type(job_type, &order, now);
            }
            // Of a process that was there before us.
            Order::Beat(..) if written.is_some_and(|at| at < now - OLD) => {}
            Order::Beat(owner, beat) => self.heard.take(owner, beat, Instant::now()),
            Order::Other => {}
        }
    }

    fn passed_over(&self) {
        self.metrics.unreadable("control", "headers");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_contract::handover::Beat;

    use super::*;
    use crate::handover::heard::Verdict;

    const NOW: Millis = 1_000_000;

    #[test]
    fn a_beat_of_a_process_that_was_there_before_says_nothing() {
        let orders = Orders {
            control: Arc::default(),
            heard: Arc::new(Heard::new(Duration::from_secs(10))),
            metrics: Metrics::new(["echo"]),
        };
        let mut beat = Beat::default();
        let of = beat.done.entry(("t".to_owned(), 3)).or_default();
        of.insert(7);
        let now = Instant::now();
        let verdict = || orders.heard.verdict(("t", 3, 7), now, now);
        let said = Order::Beat(1, beat);
        orders.take(said.clone(), Some(NOW - OLD - 1), NOW);
        assert_eq!(verdict(), Verdict::Wait);
        orders.take(said, Some(NOW - OLD), NOW);
        assert_eq!(verdict(), Verdict::Done);
    }
}
