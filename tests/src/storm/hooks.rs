//! Whom the storm's jobs call back: a receiver that does not always take a message at first.

use std::time::Duration;

use serde_json::Value;

use crate::receiver::{Answer, Call, Receiver};

use super::facts::Message;

/// Messages that are not taken at first, of a hundred; of those, some get no answer at all.
const REFUSED: u64 = 20;
/// Longer than the notifiers of a storm wait for an answer.
const SILENCE: Duration = Duration::from_secs(4);

/// The receiver; it ends with the program.
#[derive(Clone)]
pub struct Hooks(Receiver);

impl Hooks {
    /// Listens on a free port.
    pub fn start() -> Self {
        Self(Receiver::answering(answer))
    }

    /// Where the job of a number calls back.
    pub fn of_job(&self, number: u64) -> String {
        format!("{}/job/{number}", self.0.url)
    }

    /// Every message that came, each as often as it did.
    pub fn messages(&self) -> Vec<Message> {
        self.0.all().into_iter().filter_map(message).collect()
    }
}

/// The number of the job that a path belongs to.
fn number(call: &Call) -> Option<u64> {
    call.path.strip_prefix("/job/")?.parse().ok()
}

/// Which messages are refused follows from the job: of a repeat of the storm the same ones are.
fn answer(call: &Call) -> Answer {
    let Some(number) = number(call) else {
        return Answer::Status(404);
    };
    let ticket = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    match call.earlier == 0 && ticket % 100 < REFUSED {
        true if ticket.is_multiple_of(5) => Answer::Silence(SILENCE),
        true => Answer::Status(503),
        false => Answer::Status(204),
    }
}

fn message(call: Call) -> Option<Message> {
    let data = &call.body["data"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Message {
        number: number(&call)?,
        signed: call.signed,
        taken: call.taken,
        job: data["id"].as_str().and_then(|id| id.parse().ok()),
        status: data["status"].as_str().and_then(|text| text.parse().ok()),
        nonce: text(&data["result"]["nonce"]),
        id: call.id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, earlier: usize) -> Call {
        Call {
            path: format!("/job/{number}"),
            earlier,
            ..Call::default()
        }
    }

    #[test]
    fn some_messages_are_refused_the_first_time_and_the_same_ones_in_every_storm() {
        let answers: Vec<_> = (0..1000).map(|number| answer(&call(number, 0))).collect();
        let refused = answers
            .iter()
            .filter(|it| !matches!(it, Answer::Status(204)));
        let silent = answers.iter().filter(|it| matches!(it, Answer::Silence(_)));
        let (refused, silent) = (refused.count(), silent.count());
        assert!((150..250).contains(&refused), "{refused}");
        assert!((20..60).contains(&silent), "{silent}");
        let again = (0..1000).map(|number| answer(&call(number, 1)));
        assert_eq!(
            again.filter(|it| matches!(it, Answer::Status(204))).count(),
            1000
        );
    }
}
