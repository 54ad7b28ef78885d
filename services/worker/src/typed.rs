//! Handlers over types of one's own: JSON in, JSON out.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_contract::Outcome;

use crate::context::JobContext;
use crate::handler::{Handler, JobFailure, outcome};

/// A [`Handler`] made of a function over its own types; see [`typed`].
pub struct Typed<I, F> {
    run: F,
    input: PhantomData<fn(I)>,
}

/// Makes a [`Handler`] of an async function that takes what the body says and gives what the answer says.
///
/// * The body is read as JSON into `I`, whatever its media type; an empty body reads as `null`. A body that does not
///   fit fails the job for good with code `bad-input`; the client gets 422 and a JSON object of `code` and `message`, which
///   names line and column. The function is not called.
/// * The result is written as JSON with status 200 and `application/json`. One that cannot be written (a map whose
///   keys are no texts) fails the job for good with code `bad-output`.
/// * Errors become failures as in every handler: a [`JobFailure`] as it is, any other through `?`.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate_worker::{JobContext, JobFailure, testkit, typed};
///
/// #[derive(Deserialize)]
/// struct Order { price: u32, count: u32 }
///
/// #[derive(Serialize)]
/// struct Bill { total: u32 }
///
/// async fn bill(order: Order, _cx: JobContext) -> Result<Bill, JobFailure> {
///     let total = order.price.checked_mul(order.count);
///     let total = total.ok_or_else(|| JobFailure::refused(422, "too-much", "the total is too large"))?;
///     Ok(Bill { total })
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), testkit::KitError> {
/// let ran = testkit::job("bill").body("application/json", r#"{"price": 3, "count": 4}"#).run(typed(bill)).await?;
/// assert_eq!((ran.status(), ran.text().as_str()), (Some(200), r#"{"total":12}"#));
///
/// let ran = testkit::job("bill").body("application/json", r#"{"price": "3"}"#).run(typed(bill)).await?;
/// assert_eq!((ran.status(), ran.code()), (Some(422), Some("bad-input")));
/// # Ok(())
/// # }
/// ```
pub fn typed<I, O, F, Fut>(run: F) -> Typed<I, F>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize,
    F: Fn(I, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, JobFailure>> + Send,
{
    Typed {
        run,
        input: PhantomData,
    }
}

#[async_trait::async_trait]
impl<I, O, F, Fut> Handler for Typed<I, F>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize,
    F: Fn(I, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, JobFailure>> + Send,
{
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        let input = read(cx.body())?;
        // Not held over the await: what is answered need not be `Send` by itself.
        let running = (self.run)(input, cx);
        write(&running.await?)
    }
}

fn read<I: DeserializeOwned>(body: &[u8]) -> Result<I, JobFailure> {
    let json = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(json).map_err(|error| {
        let what = if body.is_empty() {
            "the body is empty and"
        } else {
            "the body"
        };
        let message = format!("{what} is not what this job takes: {error}");
        JobFailure::refused(422, "bad-input", message)
    })
}

fn write<O: Serialize>(output: &O) -> Result<Outcome, JobFailure> {
    match serde_json::to_vec(output) {
        Ok(json) => Ok(outcome(200, "application/json", json)),
        Err(error) => Err(JobFailure::permanent(
            "bad-output",
            format!("the result cannot be written as JSON: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_body_that_does_not_fit_is_refused_with_its_place() {
        assert_eq!(read::<Vec<i32>>(b"[1, 2]"), Ok(vec![1, 2]));
        assert_eq!(read::<Option<i32>>(b""), Ok(None));
        let failure = read::<Vec<i32>>(b"[1, \"2\"]").unwrap_err();
        assert_eq!(
            (failure.code.as_str(), failure.retryable),
            ("bad-input", false)
        );
        assert!(failure.message.ends_with("line 1 column 7"), "{failure:?}");
        assert_eq!(failure.outcome.unwrap().status, 422);
        let failure = read::<Vec<i32>>(b"").unwrap_err();
        assert!(
            failure.message.starts_with("the body is empty"),
            "{failure:?}"
        );
    }

    #[test]
    fn a_result_is_json_or_a_failure_of_its_own() {
        let written = write(&[1, 2]).unwrap();
        assert_eq!((written.status, &written.body[..]), (200, &b"[1,2]"[..]));
        assert_eq!(written.content_type.as_deref(), Some("application/json"));
        let failure = write(&BTreeMap::from([(vec![1], 2)])).unwrap_err();
        assert_eq!(
            (failure.code.as_str(), failure.retryable),
            ("bad-output", false)
        );
    }
}
