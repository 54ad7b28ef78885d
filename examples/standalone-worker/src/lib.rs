//! The job: quotes the price of a parcel.

use serde::{Deserialize, Serialize};
use tidegate_worker::{JobContext, JobFailure};

#[derive(Deserialize)]
pub struct Parcel {
    /// Grams.
    weights: Vec<u32>,
    express: bool,
}

#[derive(Serialize)]
pub struct Quote {
    grams: u64,
    cents: u64,
}

/// 2.50 up to a kilogram, 1.20 for each further one begun; twice that by express.
pub async fn quote(parcel: Parcel, cx: JobContext) -> Result<Quote, JobFailure> {
    let grams: u64 = parcel.weights.iter().copied().map(u64::from).sum();
    cx.progress(50.0, Some("weighed"), None);
    if !(1..=30_000).contains(&grams) {
        let message = format!("{grams} g: from 1 g to 30 kg are taken");
        return Err(JobFailure::refused(422, "weight", message));
    }
    let cents = (250 + 120 * (grams.div_ceil(1000) - 1)) * if parcel.express { 2 } else { 1 };
    Ok(Quote { grams, cents })
}
