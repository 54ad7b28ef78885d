//! Which jobs are called off, from the control topic: they have ended, and no copy of them is moved on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_contract::{CalledOff, JobId, Millis, Order};
use tidegate_kafka::{Record, TakesOrders};
use tidegate_runtime::Metrics;

/// The orders that concern the ladder.
pub(crate) struct Orders {
    called_off: Mutex<CalledOff>,
    metrics: Metrics,
}

impl Orders {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            called_off: Mutex::default(),
            metrics,
        }
    }

    /// The job of a record, if it is called off.
    pub(crate) fn called_off(&self, record: &Record) -> Option<JobId> {
        let id = job_id(record)?;
        self.lock().contains(&id).then_some(id)
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, CalledOff> {
        self.called_off
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakesOrders for Orders {
    fn take(&self, order: Order, _: Option<Millis>, now: Millis) {
        match order {
            Order::CallOff(id, deadline) => drop(self.lock().insert(id, deadline, now)),
            // What is paused or runs is the workers' affair.
            Order::Type(..) | Order::Beat(..) | Order::Other => {}
        }
    }

    fn passed_over(&self) {
        self.metrics.unreadable("control", "headers");
    }
}

/// The job of a record, by its headers or its key.
pub(crate) fn job_id(record: &Record) -> Option<JobId> {
    let in_key = || record.key.as_deref().and_then(JobId::from_key);
    record.headers.job_id().ok().or_else(in_key)
}

#[cfg(test)]
mod tests {
    use tidegate_contract::{RecordHeaders, headers};

    use super::*;

    const NOW: Millis = 1_000_000;

    #[test]
    fn a_record_is_known_by_its_headers_or_its_key() {
        let orders = Orders::new(Metrics::new(["echo"]));
        let (ended, other) = (JobId::generate(), JobId::generate());
        orders.take(Order::CallOff(ended, NOW + 1), None, NOW);
        let record = |key: &str, id: Option<JobId>| {
            let mut headers = RecordHeaders::new();
            if let Some(id) = id {
                headers.set(headers::JOB_ID, id.to_string());
            }
            Record {
                topic: "t".to_owned(),
                partition: 0,
                offset: 0,
                timestamp: None,
                key: Some(key.to_owned().into()),
                headers,
                payload: None,
            }
        };
        let (key, of_other) = (ended.to_string(), other.to_string());
        for (record, expected) in [
            (record(&key, Some(ended)), Some(ended)),
            (record(&key, None), Some(ended)),
            (record("serial", Some(ended)), Some(ended)),
            (record(&key, Some(other)), None),
            (record(&of_other, None), None),
            (record("", None), None),
        ] {
            assert_eq!(orders.called_off(&record), expected);
        }
    }
}
