//! A real job: a sales report from a CSV of orders, as a custom handler for a Tidegate worker.
//!
//! Data flows like this: at start [`generate`] writes the CSV once, the same bytes everywhere. A job's body becomes a
//! [`query::Query`], or a refusal that says which field is wrong. [`aggregate`] reads the file as a stream on a
//! thread of its own, keeps the rows in range and adds them up by month, region and product, telling its progress as
//! it goes. [`render`] turns the sums into JSON, or into CSV when the request's `Accept` asks for that.
//!
//! ```no_run
//! # fn main() -> Result<(), process_report::generate::GenerateError> {
//! let report = process_report::ProcessReport::open("/var/lib/tidegate/orders")?;
//! let handlers = tidegate_worker::Handlers::new().custom("process-report", report);
//! # drop(handlers); Ok(())
//! # }
//! ```

pub mod aggregate;
pub mod generate;
pub mod query;
pub mod render;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tidegate_contract::Outcome;
use tidegate_worker::{Handler, JobContext, JobFailure, outcome};

use crate::aggregate::{Report, Stopped};
use crate::query::{Query, Refusal};
use crate::render::Format;

/// The handler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessReport {
    orders: PathBuf,
}

impl ProcessReport {
    /// Reads the orders in `directory`, which are written there first if they are not there yet. That takes about
    /// a second and blocks.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, generate::GenerateError> {
        let orders = generate::ensure(directory.as_ref())?;
        Ok(Self { orders })
    }

    /// Reads the orders of this file, which must exist when a job runs.
    pub fn of_file(orders: impl Into<PathBuf>) -> Self {
        Self {
            orders: orders.into(),
        }
    }
}

#[async_trait::async_trait]
impl Handler for ProcessReport {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        let query = Query::parse(cx.body()).map_err(refused)?;
        let format = Format::of_accept(cx.job().request.header("accept"));
        let orders = self.orders.clone();
        cx.blocking(move |cx| {
            let mut tell = |read: f64, so_far: &Report| {
                let text = format!(
                    "{} of the orders read, {} in range",
                    percent(read),
                    so_far.orders()
                );
                let partial = render::totals_json(so_far);
                cx.progress(read * 100.0, Some(&text), Some(Bytes::from(partial)));
            };
            let report = aggregate::of_file(&orders, &query, &mut tell, || cx.is_cancelled());
            let report = report.map_err(|stopped| failed(stopped, &orders))?;
            cx.progress(100.0, Some("writing the report"), None);
            let body = format.render(&query, &report);
            Ok(outcome(200, format.content_type(), body))
        })
        .await
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn refused(refusal: Refusal) -> JobFailure {
    let body = serde_json::json!({
        "code": "bad-request",
        "field": refusal.field,
        "message": refusal.to_string(),
        "allowed": refusal.allowed,
    });
    JobFailure::permanent("bad-request", refusal.to_string())
        .with_details(body.clone())
        .with_outcome(outcome(422, "application/json", body.to_string()))
}

fn failed(stopped: Stopped, orders: &Path) -> JobFailure {
    match stopped {
        Stopped::Cancelled => JobFailure::retryable("cancelled", "the report was cut off"),
        Stopped::Unreadable(error) => JobFailure::retryable(
            "orders-unreadable",
            format!("{} cannot be read: {error}", orders.display()),
        ),
    }
}
