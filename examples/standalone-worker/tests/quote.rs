//! The job through a broker, a registry and the worker's own loop, all in this process.

use standalone_worker::quote;
use tidegate_worker::{testkit, typed};

async fn quoted(parcel: &'static str) -> Result<testkit::Ran, testkit::KitError> {
    let job = testkit::job("parcel-quote").body("application/json", parcel);
    job.run(typed(quote)).await
}

#[tokio::test]
async fn a_parcel_has_a_price() -> Result<(), testkit::KitError> {
    let ran = quoted(r#"{"weights": [800, 700], "express": true}"#).await?;
    assert_eq!(ran.text(), r#"{"grams":1500,"cents":740}"#);
    assert_eq!(ran.progress[0].message.as_deref(), Some("weighed"));
    Ok(())
}

#[tokio::test]
async fn what_is_no_parcel_is_refused() -> Result<(), testkit::KitError> {
    let ran = quoted(r#"{"weights": [], "express": false}"#).await?;
    assert_eq!((ran.status(), ran.code()), (Some(422), Some("weight")));
    let ran = quoted(r#"{"weights": "heavy"}"#).await?;
    assert_eq!((ran.status(), ran.code()), (Some(422), Some("bad-input")));
    Ok(())
}
