//! Whether Kafka is there, knows us, and which it is.

use std::time::Duration;

use tidegate_kafka::{Brokers, ClusterInfo, Durability, KafkaError, KafkaSettings};

use super::{Finding, many};

const CHECK: &str = "broker";
/// What hangs on it.
const AFTER: [&str; 3] = ["topics", "groups", "rights"];

/// A broker that answers.
pub fn judge(
    settings: &KafkaSettings,
    cluster: &ClusterInfo,
    brokers: &Result<Brokers, KafkaError>,
) -> Vec<Finding> {
    let says = match brokers {
        Ok(Brokers { addresses, release }) => {
            let release = match release {
                Some(release) => format!("Kafka {release} or later by what it answers"),
                None => "a Kafka that does not say how new it is".to_owned(),
            };
            format!(
                "{} ({}), {release}, cluster {}",
                many(addresses.len(), "broker"),
                addresses.join(", "),
                cluster.cluster_id
            )
        }
        Err(_) => format!(
            "{}, cluster {}",
            many(cluster.brokers, "broker"),
            cluster.cluster_id
        ),
    };
    let mut findings = vec![Finding::ok(CHECK, says)];
    if settings.durability == Durability::SingleBroker {
        findings.push(Finding::warning(
            CHECK,
            "kafka.durability is single-broker, so what the disk of one broker loses is lost",
            "with three brokers or more, leave it out",
        ));
    }
    findings
}

/// One that has answered at first, and then did not for so long.
pub fn silent(limit: Duration) -> Vec<Finding> {
    let says = format!(
        "it answered at first, and then not within {} s",
        limit.as_secs()
    );
    let problem = Finding::problem(CHECK, says, "see the brokers' logs, and try again");
    let after = AFTER.map(|check| Finding::not_checked(check, "the broker stopped answering"));
    [problem].into_iter().chain(after).collect()
}

/// One that does not, and what is not looked at for that reason.
pub fn away(settings: &KafkaSettings, error: &KafkaError) -> Vec<Finding> {
    let at = &settings.brokers;
    let (problem, why) = match error {
        KafkaError::Login(reason) => (
            Finding::problem(
                CHECK,
                format!("{at} does not take the login: {}", short(reason)),
                "check sasl.username, sasl.password and sasl.mechanism in [kafka.librdkafka]",
            ),
            "kafka does not take the login",
        ),
        KafkaError::Settings(reason) => (
            Finding::problem(
                CHECK,
                format!("no client can be made: {}", short(reason)),
                "correct [kafka.librdkafka]",
            ),
            "no client can be made",
        ),
        KafkaError::Unavailable(reason)
        | KafkaError::Refused(reason)
        | KafkaError::Denied(reason) => (
            Finding::problem(
                CHECK,
                format!("no broker answers at {at}: {}", short(reason)),
                "start Kafka, or correct kafka.brokers and security.protocol in [kafka.librdkafka]",
            ),
            "no broker answers",
        ),
    };
    let after = AFTER.map(|check| Finding::not_checked(check, why));
    [problem].into_iter().chain(after).collect()
}

/// Reasons of libraries are one line here, without a full stop.
fn short(reason: &str) -> &str {
    let line = reason.lines().next().unwrap_or_default();
    line.trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_hangs_on_a_dead_broker_is_not_checked() {
        let settings = KafkaSettings::default();
        let error = KafkaError::Unavailable("connection refused".to_owned());
        let findings = away(&settings, &error);
        assert_eq!(findings[0].verdict, Verdict::Problem);
        assert!(
            findings[0]
                .says
                .contains("127.0.0.1:9092: connection refused")
        );
        let rest = &findings[1..];
        assert_eq!(rest.len(), AFTER.len());
        assert!(rest.iter().all(|f| f.verdict == Verdict::NotChecked));
    }

    #[test]
    fn a_login_has_a_mend_of_its_own() {
        let error = KafkaError::Login("Invalid username or password".to_owned());
        let findings = away(&KafkaSettings::default(), &error);
        assert!(findings[0].mend.as_ref().unwrap().contains("sasl.password"));
    }

    #[test]
    fn less_durability_is_a_warning() {
        let cluster = ClusterInfo {
            cluster_id: "abc".to_owned(),
            brokers: 1,
        };
        let brokers = Ok(Brokers {
            addresses: vec!["a:1".to_owned()],
            release: Some("4.1"),
        });
        let mut settings = KafkaSettings::default();
        let findings = judge(&settings, &cluster, &brokers);
        assert_eq!(
            findings,
            [Finding::ok(
                CHECK,
                "1 broker (a:1), Kafka 4.1 or later by what it answers, cluster abc"
            )]
        );
        settings.durability = Durability::SingleBroker;
        let findings = judge(&settings, &cluster, &brokers);
        assert_eq!(findings[1].verdict, Verdict::Warning);
    }
}
