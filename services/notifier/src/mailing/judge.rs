//! What an attempt to send an e-mail came to, and what follows. Pure: the time and the random number are passed in.

use tidegate_contract::Millis;
use tidegate_store::{Attempt, FollowUp, Then};

use crate::email::{MailAnswer, MailDelivery, MailError};
use crate::endpoint::Delivery;
use crate::schedule::{Next, Schedule};

/// An attempt as it is kept, and what it says of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub attempt: Attempt,
    pub then: Then,
    /// `None`: the server was not asked.
    pub server: Option<Delivery>,
    /// For metrics.
    pub result: &'static str,
}

/// Judges an attempt that was made at that time and took so long. `None`: none was made, all connections were taken.
pub(super) fn judge(
    taken: &FollowUp,
    (at, took): (Millis, Millis),
    sent: &Result<MailAnswer, MailError>,
    schedule: &Schedule,
    random: f64,
) -> Option<Judged> {
    let again = || {
        let attempts = taken.attempts.saturating_add(1);
        match schedule.after(attempts, None, at.saturating_add(took), random) {
            Next::At(at) => (Then::At(at), "deferred"),
            Next::GivenUp => {
                let why = format!("attempt {attempts} was the last one: {}", last(sent));
                (Then::GivenUp(why), "used-up")
            }
        }
    };
    // A server that says no to one mail is there for the others.
    let (server, (then, result)) = match sent {
        Ok(answer) => match answer.delivery {
            MailDelivery::Taken => (Some(Delivery::Made), (Then::Delivered, "taken")),
            MailDelivery::ForNow => (Some(Delivery::Made), again()),
            MailDelivery::FromNobody => (Some(Delivery::Failed), again()),
            MailDelivery::ForGood => {
                let then = Then::GivenUp(last(sent));
                (Some(Delivery::Made), (then, "refused"))
            }
        },
        Err(MailError::Busy(_)) => return None,
        Err(error) if error.is_final() => (None, (Then::GivenUp(error.to_string()), "refused")),
        Err(_) => (Some(Delivery::Failed), again()),
    };
    let answer = sent.as_ref().ok();
    let excerpt = answer.map_or("", |answer| answer.excerpt.as_str());
    let attempt = Attempt {
        number: taken.number.saturating_add(1),
        at,
        duration: took,
        status: answer.map(|answer| answer.code),
        error: sent.as_ref().err().map(|error| kept(&error.to_string())),
        excerpt: kept(excerpt),
    };
    let then = match then {
        Then::GivenUp(why) => Then::GivenUp(kept(&why)),
        other => other,
    };
    Some(Judged {
        attempt,
        then,
        server,
        result,
    })
}

fn last(sent: &Result<MailAnswer, MailError>) -> String {
    match sent {
        Ok(answer) => format!("the server says {} {}", answer.code, answer.excerpt),
        Err(error) => error.to_string(),
    }
}

/// PostgreSQL has no text with a zero in it.
fn kept(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::follow_up;
    use std::time::Duration;

    fn answer(delivery: MailDelivery, code: u16) -> Result<MailAnswer, MailError> {
        Ok(MailAnswer {
            delivery,
            code,
            excerpt: "so\0so".to_owned(),
        })
    }

    fn judged(attempts: u32, sent: &Result<MailAnswer, MailError>) -> Option<Judged> {
        let mut taken = follow_up(1, "ops@example.com");
        (taken.attempts, taken.number) = (attempts, attempts + 10);
        judge(&taken, (1_000, 30), sent, &Schedule::default(), 0.5)
    }

    #[test]
    fn each_answer_says_what_becomes_of_the_mail_and_whether_the_server_is_there() {
        let given_up = |why: &str| Then::GivenUp(why.to_owned());
        let connect = Err(MailError::Connect("refused".to_owned()));
        let unmade = Err(MailError::Message("no".to_owned()));
        let (made, failed) = (Some(Delivery::Made), Some(Delivery::Failed));
        for (sent, server, then, result) in [
            (
                answer(MailDelivery::Taken, 250),
                made,
                Then::Delivered,
                "taken",
            ),
            (
                answer(MailDelivery::ForNow, 451),
                made,
                Then::At(6_030),
                "deferred",
            ),
            (
                answer(MailDelivery::FromNobody, 535),
                failed,
                Then::At(6_030),
                "deferred",
            ),
            (
                answer(MailDelivery::ForGood, 550),
                made,
                given_up("the server says 550 so\u{fffd}so"),
                "refused",
            ),
            (connect, failed, Then::At(6_030), "deferred"),
            (unmade, None, given_up("no mail can be made: no"), "refused"),
        ] {
            let judged = judged(0, &sent).unwrap();
            assert_eq!(
                (judged.server, judged.then, judged.result),
                (server, then, result)
            );
            let code = sent.as_ref().ok().map(|answer| answer.code);
            assert_eq!((judged.attempt.number, judged.attempt.status), (11, code));
            assert_eq!(judged.attempt.error.is_some(), sent.is_err());
        }
    }

    #[test]
    fn the_last_attempt_gives_up_and_says_why_and_one_that_was_not_made_is_none() {
        let last = judged(7, &answer(MailDelivery::ForNow, 451)).unwrap();
        let why = "attempt 8 was the last one: the server says 451 so\u{fffd}so".to_owned();
        assert_eq!((last.then, last.result), (Then::GivenUp(why), "used-up"));
        assert_eq!(judged(0, &Err(MailError::Busy(Duration::ZERO))), None);
    }
}
