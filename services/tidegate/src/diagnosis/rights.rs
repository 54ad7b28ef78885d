//! What each role has to be allowed, and what the configured login is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tidegate_contract::{Pool, Tier, Topics};
use tidegate_kafka::{Answer, Right};

use super::{Finding, many};

const CHECK: &str = "rights";

/// A role of this configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Gateway,
    Worker,
    Scheduler,
    Notifier,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Gateway, Role::Worker, Role::Scheduler, Role::Notifier];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Gateway => "gateway",
            Role::Worker => "worker",
            Role::Scheduler => "scheduler",
            Role::Notifier => "notifier",
        })
    }
}

/// What a role does with Kafka on the topics of these pools and rungs. Dead letters come first: nobody reads them while
/// they are tried. A notifier does nothing with it.
pub fn wanted(role: Role, topics: &Topics, pools: &[Pool], rungs: &[Duration]) -> Vec<Right> {
    let mut wanted = vec![Right::WriteTopic(topics.dead_letters())];
    match role {
        Role::Gateway => wanted.extend([
            Right::WriteTopic(topics.replies()),
            Right::ReadTopic(topics.replies()),
            Right::ReadGroup(topics.gateway_group()),
            Right::ReadTopic(topics.control()),
            Right::WriteTopic(topics.control()),
        ]),
        Role::Worker => wanted.extend([
            Right::WriteTopic(topics.replies()),
            Right::ReadTopic(topics.control()),
            Right::WriteTopic(topics.control()),
        ]),
        Role::Scheduler => wanted.push(Right::ReadTopic(topics.control())),
        Role::Notifier => return Vec::new(),
    }
    for pool in pools {
        for tier in Tier::ALL {
            let jobs = topics.jobs(pool, tier);
            if role == Role::Worker {
                wanted.push(Right::ReadTopic(jobs.clone()));
                wanted.push(Right::ReadGroup(topics.worker_group(pool, tier)));
            }
            wanted.push(Right::WriteTopic(jobs));
        }
    }
    for rung in rungs {
        let delay = topics.delay(*rung);
        if role == Role::Scheduler {
            wanted.push(Right::ReadTopic(delay.clone()));
            wanted.push(Right::ReadGroup(topics.scheduler_group(*rung)));
        }
        wanted.push(Right::WriteTopic(delay));
    }
    wanted
}

/// What was learnt.
pub struct Known<'a> {
    pub answers: &'a BTreeMap<Right, Answer>,
    /// Topics whose settings are not told: roles cannot check them.
    pub undescribed: &'a BTreeSet<String>,
    pub prefix: &'a str,
    /// The name in `kafka-acls`, if the login has one.
    pub login: Option<&'a str>,
}

/// One line for a role that may do all it must; else one that says what is missing, with the command.
pub fn judge(role: Role, wanted: &[Right], known: &Known<'_>) -> Vec<Finding> {
    let mut denied = Missing::default();
    let mut unknown = Vec::new();
    let mut asked = 0;
    for right in wanted {
        match known.answers.get(right) {
            Some(Answer::Allowed) => asked += 1,
            Some(Answer::Denied) => denied.add(right),
            Some(Answer::Unknown(reason)) => unknown.push(reason.clone()),
            // Of a topic that is missing.
            None => {}
        }
        if let Right::ReadTopic(topic) | Right::WriteTopic(topic) = right
            && known.undescribed.contains(topic)
        {
            denied.describe.insert(topic.clone());
        }
    }
    let mut findings = Vec::new();
    let says = format!("a {role} with this login may not {}", denied.sentence());
    if denied.stops() {
        findings.push(Finding::problem(CHECK, says, denied.mend(known)));
    } else if !denied.describe.is_empty() {
        // It goes on, and nobody notices when a topic keeps its records too shortly.
        findings.push(Finding::warning(CHECK, says, denied.mend(known)));
    }
    let left = unknown.len();
    if let Some(reason) = unknown.into_iter().next() {
        let says = format!("{} of a {role}: {reason}", many(left, "right"));
        findings.push(Finding::not_checked(CHECK, says));
    }
    if findings.is_empty() && asked > 0 {
        let says = format!("a {role} with this login may do what it must ({asked} rights tried)");
        findings.push(Finding::ok(CHECK, says));
    }
    if findings.is_empty() {
        let says = format!("rights of a {role}: there are no topics to try them on");
        findings.push(Finding::not_checked(CHECK, says));
    }
    findings
}

#[derive(Default)]
struct Missing {
    read: BTreeSet<String>,
    write: BTreeSet<String>,
    describe: BTreeSet<String>,
    group: BTreeSet<String>,
}

impl Missing {
    fn add(&mut self, right: &Right) {
        match right {
            Right::ReadTopic(topic) => self.read.insert(topic.clone()),
            Right::WriteTopic(topic) => self.write.insert(topic.clone()),
            Right::ReadGroup(group) => self.group.insert(group.clone()),
        };
    }

    /// Whether the role could not do its work.
    fn stops(&self) -> bool {
        let needed = [&self.read, &self.write, &self.group];
        needed.iter().any(|set| !set.is_empty())
    }

    fn sentence(&self) -> String {
        let parts = [
            ("read", &self.read),
            ("write to", &self.write),
            ("see the settings of", &self.describe),
            ("join", &self.group),
        ];
        let parts = parts.iter().filter(|(_, set)| !set.is_empty());
        let parts = parts.map(|(verb, set)| {
            let names: Vec<_> = set.iter().map(String::as_str).collect();
            format!("{verb} {}", names.join(", "))
        });
        parts.collect::<Vec<_>>().join("; nor ")
    }

    /// The command that allows it, for all names of the installation at once.
    fn mend(&self, known: &Known<'_>) -> String {
        let topic = [
            ("Read", &self.read),
            ("Write", &self.write),
            ("DescribeConfigs", &self.describe),
        ];
        let operations = |list: &[(&str, &BTreeSet<String>)]| {
            let list = list.iter().filter(|(_, set)| !set.is_empty());
            let list = list.map(|(operation, _)| format!(" --operation {operation}"));
            list.collect::<String>()
        };
        let prefix = known.prefix;
        let command = |operations: String, of: &str| match operations.is_empty() {
            true => None,
            false => Some(format!(
                "kafka-acls --add --allow-principal User:{}{operations} --{of} {prefix} --resource-pattern-type prefixed",
                known.login.unwrap_or("NAME")
            )),
        };
        let commands = [
            command(operations(&topic), "topic"),
            command(operations(&[("Read", &self.group)]), "group"),
        ];
        let commands: Vec<_> = commands.into_iter().flatten().collect();
        commands.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const RUNG: Duration = Duration::from_secs(1);

    fn judged(
        role: Role,
        answer: impl Fn(&Right) -> Option<Answer>,
        login: Option<&str>,
    ) -> Vec<Finding> {
        let topics = Topics::new("t.");
        let wanted = wanted(role, &topics, &[Pool::default()], &[RUNG]);
        let answers = wanted
            .iter()
            .filter_map(|right| Some((right.clone(), answer(right)?)));
        let known = Known {
            answers: &answers.collect(),
            undescribed: &BTreeSet::new(),
            prefix: "t.",
            login,
        };
        judge(role, &wanted, &known)
    }

    #[test]
    fn what_a_role_may_is_one_line() {
        let says = |role| judged(role, |_| Some(Answer::Allowed), None).remove(0).says;
        assert_eq!(
            says(Role::Gateway),
            "a gateway with this login may do what it must (10 rights tried)"
        );
        assert_eq!(
            says(Role::Worker),
            "a worker with this login may do what it must (14 rights tried)"
        );
        assert_eq!(
            says(Role::Scheduler),
            "a scheduler with this login may do what it must (8 rights tried)"
        );
    }

    #[test]
    fn what_it_may_not_comes_with_the_command() {
        let reader = |right: &Right| {
            Some(match right {
                Right::ReadTopic(_) => Answer::Allowed,
                _ => Answer::Denied,
            })
        };
        let findings = judged(Role::Gateway, reader, Some("reader"));
        assert_eq!(
            findings,
            [Finding::problem(
                CHECK,
                "a gateway with this login may not write to t.control, t.dead-letters, t.delay.1s, t.jobs.high, t.jobs.low, \
                 t.jobs.normal, t.replies; nor join t.gateway",
                "kafka-acls --add --allow-principal User:reader --operation Write --topic t. --resource-pattern-type \
                 prefixed; kafka-acls --add --allow-principal User:reader --operation Read --group t. \
                 --resource-pattern-type prefixed"
            )]
        );
    }

    #[test]
    fn what_nobody_could_say_is_not_checked() {
        let silent = |right: &Right| match right {
            Right::ReadGroup(_) => Some(Answer::Unknown("no answer in time".to_owned())),
            _ => Some(Answer::Allowed),
        };
        let findings = judged(Role::Worker, silent, None);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::NotChecked);
        assert_eq!(findings[0].says, "3 rights of a worker: no answer in time");
        let nothing = judged(Role::Gateway, |_| None, None);
        assert_eq!(nothing[0].verdict, Verdict::NotChecked);
    }

    #[test]
    fn settings_that_are_not_told_are_a_warning() {
        let topics = Topics::new("t.");
        let wanted = wanted(Role::Gateway, &topics, &[], &[]);
        let answers = wanted.iter().map(|right| (right.clone(), Answer::Allowed));
        let known = Known {
            answers: &answers.collect(),
            undescribed: &BTreeSet::from(["t.replies".to_owned(), "t.other".to_owned()]),
            prefix: "t.",
            login: None,
        };
        let findings = judge(Role::Gateway, &wanted, &known);
        assert!(
            findings[0]
                .says
                .ends_with("may not see the settings of t.replies")
        );
        assert_eq!(findings[0].verdict, Verdict::Warning);
        let mend = findings[0].mend.as_ref().unwrap();
        assert!(
            mend.contains("User:NAME --operation DescribeConfigs --topic t. "),
            "{mend}"
        );
    }
}
