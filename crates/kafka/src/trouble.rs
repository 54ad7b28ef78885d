//! What a native client says on the side about why a call has failed: the call itself only tells that nothing came.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};

use crate::error::KafkaError;

/// The most telling trouble since the last call began.
#[derive(Default)]
pub(crate) struct Trouble {
    last: Mutex<Option<Said>>,
}

struct Said {
    /// A login that is refused explains more than a connection that is closed after it.
    login: bool,
    reason: String,
}

impl Trouble {
    pub(crate) fn note(&self, error: &Native, reason: &str) {
        let code = error.rdkafka_error_code();
        // That all are down says less than why one is.
        if code == Some(Code::AllBrokersDown) {
            return;
        }
        let login = matches!(
            code,
            Some(Code::Authentication | Code::SaslAuthenticationFailed)
        );
        let mut last = self.last();
        if login || !last.as_ref().is_some_and(|said| said.login) {
            let reason = plain(reason).to_owned();
            *last = Some(Said { login, reason });
        }
    }

    /// A call begins.
    pub(crate) fn forget(&self) {
        *self.last() = None;
    }

    /// The error of a call, with the reason in it if one was said.
    pub(crate) fn explain(&self, error: KafkaError) -> KafkaError {
        match (error, self.last().take()) {
            (KafkaError::Unavailable(_), Some(said)) if said.login => {
                KafkaError::Login(said.reason)
            }
            (KafkaError::Unavailable(_), Some(said)) => KafkaError::Unavailable(said.reason),
            (error, _) => error,
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Said>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the name of the connection in front and the state of the client behind.
fn plain(reason: &str) -> &str {
    let reason = reason.split(" (after ").next().unwrap_or(reason);
    match reason.split_once(": ") {
        Some((name, rest)) if name.contains('/') && !name.contains(' ') => rest,
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &str = "sasl_plaintext://127.0.0.1:9092/bootstrap: SASL authentication error: Authentication failed: \
                         Invalid username or password (after 312ms in state AUTH_REQ)";
    const AWAY: &str = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in \
                        state CONNECT)";

    #[test]
    fn a_refused_login_outweighs_what_comes_after_it() {
        let trouble = Trouble::default();
        let none = || KafkaError::Unavailable("timed out".to_owned());
        assert_eq!(trouble.explain(none()), none());
        trouble.note(&Native::Global(Code::Authentication), LOGIN);
        trouble.note(&Native::Global(Code::BrokerTransportFailure), AWAY);
        trouble.note(
            &Native::Global(Code::AllBrokersDown),
            "1/1 brokers are down",
        );
        let login =
            "SASL authentication error: Authentication failed: Invalid username or password";
        assert_eq!(trouble.explain(none()), KafkaError::Login(login.to_owned()));
        trouble.note(&Native::Global(Code::Authentication), LOGIN);
        trouble.forget();
        trouble.note(&Native::Global(Code::BrokerTransportFailure), AWAY);
        let away = "Connect to ipv4#127.0.0.1:1 failed: Connection refused".to_owned();
        assert_eq!(trouble.explain(none()), KafkaError::Unavailable(away));
    }

    #[test]
    fn an_answer_is_not_explained_away() {
        let trouble = Trouble::default();
        trouble.note(&Native::Global(Code::Authentication), LOGIN);
        let denied = KafkaError::Denied("topic a".to_owned());
        assert_eq!(trouble.explain(denied.clone()), denied);
    }
}
