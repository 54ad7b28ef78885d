//! `tidegate jobs watch`: follows a job by its event stream until it has ended. [`stream`] asks a gateway for it, [`sse`]
//! reads it, [`change`] makes lines of it. A stream that breaks is taken up again behind the last event that came.

mod change;
mod sse;
mod stream;

use std::time::Duration;

use serde_json::Value;
use tidegate_contract::Status;

use crate::cli::WatchArgs;
use crate::exit::{DONE, FAILED, Failure};
use crate::output;
use change::Change;
use stream::{NoStream, Source, Stream};

/// Before another stream is asked for.
const PAUSE: Duration = Duration::from_secs(1);
/// So many times in a row there may be none: a gateway that is replaced is back by then.
const TRIES: u32 = 30;

/// Tells what happens to a job until it has ended.
pub async fn run(args: WatchArgs) -> Result<u8, Failure> {
    let source = Source::new(&args.gateway, args.id)?;
    let mut told = Told {
        args,
        last: None,
        shown: None,
    };
    let (mut failures, mut said) = (0, String::new());
    loop {
        let why = match source.open(told.last.as_deref()).await {
            Ok(stream) => {
                (failures, said) = (0, String::new());
                match told.all_of(stream).await {
                    Ok(Status::Completed) => return Ok(DONE),
                    Ok(_) => return Ok(FAILED),
                    Err(why) => why,
                }
            }
            Err(why) => why,
        };
        let reason = match why {
            NoStream::Now(reason) => reason,
            NoStream::Ever(reason) => return Err(Failure::failed(reason)),
            NoStream::Known => {
                // The end was not among what came, so the numbers are others than they were.
                told.last = None;
                "the events of this job have other numbers now: from the beginning".to_owned()
            }
        };
        failures += 1;
        if told.shown.is_none() || failures > TRIES {
            return Err(Failure::failed(reason));
        }
        if reason != said {
            output::complain(format!("{reason}; connecting again"));
            said = reason;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How far the job has been told.
struct Told {
    args: WatchArgs,
    /// The number of the last event that came.
    last: Option<String>,
    shown: Option<Change>,
}

impl Told {
    /// Tells what comes on a stream: how the job has ended.
    ///
    /// # Errors
    /// Why the stream has ended before the job.
    async fn all_of(&mut self, mut stream: Stream) -> Result<Status, NoStream> {
        loop {
            let event = stream.next().await?;
            let data: Value = serde_json::from_str(&event.data).map_err(|error| {
                NoStream::Ever(format!("event {} is not JSON: {error}", event.id))
            })?;
            let change = Change::of(&data);
            // What stands in for events that are not kept may tell nothing new.
            if self.shown.as_ref() != Some(&change) {
                output::line(match self.args.json {
                    true => change.json(self.args.id, &data),
                    false => change.text(&data),
                });
            }
            let end = change.end();
            (self.last, self.shown) = (Some(event.id), Some(change));
            // A snapshot of an ended job is followed by its end, which tells the same.
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }
}
