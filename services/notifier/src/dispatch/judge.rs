//! What an attempt came to, and what follows. Pure: the time and the random number are passed in.

use std::time::Duration;

use tidegate_callbacks::ResolveError;
use tidegate_contract::Millis;
use tidegate_store::{Attempt, FollowUp, Then};

use super::millis;
use crate::client::{Answer, SendError};
use crate::endpoint::{Delivery, Why};
use crate::schedule::{Next, Schedule};

/// When an attempt was made, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub at: Millis,
    pub took: Duration,
}

/// An attempt as it is kept, and what it says of the endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub attempt: Attempt,
    pub then: Then,
    pub delivery: Delivery,
    /// For metrics.
    pub result: &'static str,
    pub given_up: Option<&'static str>,
}

/// Judges an attempt to deliver what was taken.
pub(super) fn judge(
    taken: &FollowUp,
    made: Made,
    sent: &Result<Answer, SendError>,
    schedule: &Schedule,
    random: f64,
) -> Judged {
    let delivery = sent.as_ref().map_or(Delivery::Failed, Answer::delivery);
    let (result, status, error, excerpt) = match sent {
        Ok(answer) => {
            let result = match delivery {
                Delivery::Made => "delivered",
                Delivery::Gone => "gone",
                Delivery::Failed => "refused",
            };
            // PostgreSQL has no text with a zero in it.
            let excerpt = answer.excerpt.replace('\0', "\u{fffd}");
            (result, Some(answer.status), None, excerpt)
        }
        Err(error) => (error.kind(), None, Some(told(error)), String::new()),
    };
    let (then, given_up) = match delivery {
        Delivery::Made => (Then::Delivered, None),
        Delivery::Gone => (Then::GivenUp(Why::Gone.to_string()), Some("gone")),
        Delivery::Failed => {
            let asked = sent.as_ref().ok().and_then(|answer| answer.retry_after);
            let attempts = taken.attempts.saturating_add(1);
            let ended = made.at.saturating_add(millis(made.took));
            match schedule.after(attempts, asked, ended, random) {
                Next::At(at) => (Then::At(at), None),
                Next::GivenUp => {
                    let last = match (status, &error) {
                        (Some(status), _) => format!("it answered {status}"),
                        (None, error) => error.clone().unwrap_or_default(),
                    };
                    let why = format!("attempt {attempts} was the last one: {last}");
                    (Then::GivenUp(why), Some("attempts-used-up"))
                }
            }
        }
    };
    Judged {
        attempt: Attempt {
            number: taken.number.saturating_add(1),
            at: made.at,
            duration: millis(made.took),
            status,
            error,
            excerpt,
        },
        then,
        delivery,
        result,
        given_up,
    }
}

/// Why there is no answer, for whoever submitted the job: they do not learn which addresses a name has here.
fn told(error: &SendError) -> String {
    match error {
        SendError::Unresolved(ResolveError::Forbidden { name, .. }) => {
            format!("{name} has no address that may be called")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::follow_up;
    use tidegate_callbacks::{Forbidden, Rule};

    const MADE: Made = Made {
        at: 1_000,
        took: Duration::from_millis(30),
    };

    fn answer(status: u16) -> Result<Answer, SendError> {
        Ok(Answer {
            status,
            retry_after: None,
            excerpt: "so\0so".to_owned(),
        })
    }

    fn judged(attempts: u32, sent: &Result<Answer, SendError>) -> Judged {
        let mut taken = follow_up(1, "https://a.example/");
        (taken.attempts, taken.number) = (attempts, attempts + 10);
        judge(&taken, MADE, sent, &Schedule::default(), 0.5)
    }

    #[test]
    fn what_is_taken_is_delivered_and_kept_with_how_the_answer_begins() {
        let judged = judged(0, &answer(204));
        assert_eq!(judged.then, Then::Delivered);
        assert_eq!(
            (judged.delivery, judged.result),
            (Delivery::Made, "delivered")
        );
        let expected = Attempt {
            number: 11,
            at: 1_000,
            duration: 30,
            status: Some(204),
            error: None,
            excerpt: "so\u{fffd}so".to_owned(),
        };
        assert_eq!(judged.attempt, expected);
    }

    #[test]
    fn a_failure_is_tried_again_when_the_schedule_says_counted_since_it_was_sent_again() {
        assert_eq!(judged(0, &answer(500)).then, Then::At(6_030));
        assert_eq!(judged(1, &answer(301)).then, Then::At(301_030));
        let mut asks = answer(503);
        if let Ok(answer) = &mut asks {
            answer.retry_after = Some(Duration::from_secs(60));
        }
        assert_eq!(judged(0, &asks).then, Then::At(61_030));
        let timeout = Err(SendError::Timeout(Duration::from_secs(20)));
        let judged = judged(0, &timeout);
        assert_eq!((judged.then, judged.result), (Then::At(6_030), "timeout"));
        assert_eq!(judged.attempt.status, None);
    }

    #[test]
    fn the_last_attempt_and_a_410_give_up_and_say_why() {
        let last = judged(7, &answer(500));
        let why = "attempt 8 was the last one: it answered 500".to_owned();
        assert_eq!(last.then, Then::GivenUp(why));
        assert_eq!(last.given_up, Some("attempts-used-up"));
        let gone = judged(0, &answer(410));
        assert!(matches!(&gone.then, Then::GivenUp(why) if why.contains("410")));
        assert_eq!(
            (gone.delivery, gone.given_up),
            (Delivery::Gone, Some("gone"))
        );
    }

    #[test]
    fn nobody_learns_here_which_addresses_a_name_has() {
        let forbidden = vec![Forbidden {
            ip: "10.0.0.7".parse().unwrap(),
            rule: Rule::Private,
        }];
        let name = "inside.example".to_owned();
        let unresolved = ResolveError::Forbidden { name, forbidden };
        let judged = judged(0, &Err(SendError::Unresolved(unresolved)));
        let error = judged.attempt.error.unwrap();
        assert_eq!(error, "inside.example has no address that may be called");
    }
}
