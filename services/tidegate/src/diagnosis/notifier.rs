//! Callbacks and e-mails: whether they can be sent, and whether somebody sends them.

use tidegate_contract::{FollowUpKind, JobType, Millis};
use tidegate_store::Waiting;

use super::{Finding, many};

const CHECK: &str = "notifier";
/// Due for longer than this and taken by nobody is a problem: a notifier that works takes them within its tick, and what
/// one that died has held is due again after its lease.
const LATE: Millis = 60_000;

/// What is known of one kind.
#[derive(Debug)]
pub struct Seen {
    /// What notifiers need to send them.
    pub set_up: SetUp,
    /// How many wait in the store.
    pub waiting: Stored,
}

/// Whether notifiers of this configuration can send.
#[derive(Debug, PartialEq, Eq)]
pub enum SetUp {
    /// Nobody asks for it.
    Unused,
    /// It is ready, in words.
    Ready(String),
    Wrong(Finding),
}

/// The keys that sign, if there are some and they can be used.
pub fn signing(keys: Result<bool, String>) -> SetUp {
    match keys {
        Ok(false) => SetUp::Unused,
        Ok(true) => SetUp::Ready("callbacks have keys to sign with".to_owned()),
        Err(why) => SetUp::Wrong(Finding::problem(
            CHECK,
            format!("callbacks.keys: {why}"),
            "make one with `openssl rand -base64 32` and put whsec_ in front",
        )),
    }
}

/// The mail server, if there is one: its name, and whether it would take a mail. The types that ask for some.
pub fn mailing(server: Option<(String, Result<(), String>)>, types: &[&JobType]) -> SetUp {
    match (server, types) {
        (Some((server, Ok(()))), _) => SetUp::Ready(format!("mail server {server} answers")),
        (Some((server, Err(why))), _) => SetUp::Wrong(Finding::problem(
            CHECK,
            format!("mail server {server}: {why}"),
            "start it, or correct notifier.email",
        )),
        (None, []) => SetUp::Unused,
        // Gateways take such jobs all the same: it may be a configuration of theirs.
        (None, [one, ..]) => SetUp::Wrong(Finding::warning(
            CHECK,
            format!("e-mails of type {one} wait as long as no notifier has a mail server"),
            "give notifiers notifier.email.host",
        )),
    }
}

/// What the store says.
#[derive(Debug)]
pub enum Stored {
    Found(Waiting),
    /// Only the process that has it for itself delivers from it.
    Private,
    /// Why nothing was found.
    Unknown(String),
}

impl Stored {
    /// Of a store that did not answer.
    pub fn away() -> Self {
        Self::Unknown("the store is not there".to_owned())
    }
}

/// A line for each kind that is used or waits; one for both if there is none.
pub fn judge(callbacks: &Seen, emails: &Seen, now: Millis) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (kind, seen) in FollowUpKind::ALL.into_iter().zip([callbacks, emails]) {
        let before = findings.len();
        if let SetUp::Wrong(finding) = &seen.set_up {
            findings.push(finding.clone());
        }
        findings.extend(waiting(kind, seen, now));
        if let (true, SetUp::Ready(says)) = (findings.len() == before, &seen.set_up) {
            let pending = match &seen.waiting {
                Stored::Found(waiting) => waiting.pending,
                Stored::Private | Stored::Unknown(_) => 0,
            };
            let says = format!("{says}; {} waiting", count(kind, pending));
            findings.push(Finding::ok(CHECK, says));
        }
    }
    if findings.is_empty() {
        let says = "nobody asks for callbacks or e-mails here, and none waits";
        findings.push(Finding::ok(CHECK, says));
    }
    findings
}

/// What is wrong with those that wait.
fn waiting(kind: FollowUpKind, seen: &Seen, now: Millis) -> Option<Finding> {
    let waiting = match &seen.waiting {
        Stored::Found(waiting) => waiting,
        Stored::Private if seen.set_up == SetUp::Unused => return None,
        Stored::Private => {
            let what = plural(kind);
            return Some(Finding::warning(
                CHECK,
                format!(
                    "{what} are set up on a SQLite store, from which only `tidegate dev` sends"
                ),
                "give gateways and notifiers PostgreSQL in store.url",
            ));
        }
        Stored::Unknown(_) if seen.set_up == SetUp::Unused => return None,
        Stored::Unknown(why) => {
            let says = format!("{} that wait: {why}", plural(kind));
            return Some(Finding::not_checked(CHECK, says));
        }
    };
    let late = now.saturating_sub(waiting.oldest_due?);
    if late < LATE {
        return None;
    }
    let says = format!(
        "{} waiting, the oldest due for {} min",
        count(kind, waiting.pending),
        late / 60_000
    );
    if waiting.held_until.is_some_and(|until| until > now) {
        return Some(Finding::warning(
            CHECK,
            format!("{says}, though a notifier sends"),
            "its receivers are slow or away, or it has too few slots: see its log, or start another one",
        ));
    }
    let mend = match kind {
        FollowUpKind::Callback => "start `tidegate notifier`; if one runs, see its readiness",
        FollowUpKind::Email => {
            "start `tidegate notifier` with notifier.email.host; if one runs, its log says why the mail server is paused"
        }
    };
    let says = format!("{says}, and no notifier takes them");
    Some(Finding::problem(CHECK, says, mend))
}

fn plural(kind: FollowUpKind) -> String {
    format!("{}s", kind.noun())
}

fn count(kind: FollowUpKind, n: u64) -> String {
    many(usize::try_from(n).unwrap_or(usize::MAX), kind.noun())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const NOW: Millis = 10_000_000;

    fn seen(set_up: SetUp, waiting: Stored) -> Seen {
        Seen { set_up, waiting }
    }

    fn ready() -> SetUp {
        SetUp::Ready("signed with 1 key".to_owned())
    }

    fn stored(pending: u64, due_for: Option<Millis>, held_for: Option<Millis>) -> Stored {
        Stored::Found(Waiting {
            pending,
            oldest_due: due_for.map(|late| NOW - late),
            held_until: held_for.map(|rest| NOW + rest),
        })
    }

    fn unused() -> Seen {
        seen(SetUp::Unused, stored(0, None, None))
    }

    fn said(callbacks: &Seen, emails: &Seen) -> Vec<(Verdict, String)> {
        let findings = judge(callbacks, emails, NOW).into_iter();
        findings
            .map(|finding| (finding.verdict, finding.sentence()))
            .collect()
    }

    #[test]
    fn what_nobody_asks_for_is_one_line() {
        let nothing = "nobody asks for callbacks or e-mails here, and none waits";
        let expected = [(Verdict::Ok, nothing.to_owned())];
        assert_eq!(said(&unused(), &unused()), expected);
        for waiting in [Stored::Private, Stored::Unknown("away".to_owned())] {
            assert_eq!(said(&seen(SetUp::Unused, waiting), &unused()), expected);
        }
    }

    #[test]
    fn what_is_sent_in_time_is_well() {
        let callbacks = seen(ready(), stored(2, Some(LATE - 1), None));
        let says = "signed with 1 key; 2 callbacks waiting";
        assert_eq!(
            said(&callbacks, &unused()),
            [(Verdict::Ok, says.to_owned())]
        );
        // Whoever holds them has time.
        let held = seen(ready(), stored(1, Some(-20_000), Some(20_000)));
        assert_eq!(said(&held, &unused())[0].0, Verdict::Ok);
    }

    #[test]
    fn what_is_due_for_long_and_taken_by_nobody_needs_a_notifier() {
        for (kind, held, verdict, part) in [
            (
                0,
                None,
                Verdict::Problem,
                "start `tidegate notifier`; if one runs",
            ),
            (0, Some(-1), Verdict::Problem, "no notifier takes them"),
            (
                0,
                Some(1),
                Verdict::Warning,
                "3 callbacks waiting, the oldest due for 2 min, though",
            ),
            (
                1,
                None,
                Verdict::Problem,
                "start `tidegate notifier` with notifier.email.host",
            ),
        ] {
            // Also where this configuration does not ask for them.
            for set_up in [SetUp::Unused, ready()] {
                let late = seen(set_up, stored(3, Some(2 * LATE), held));
                let said = match kind {
                    0 => said(&late, &unused()),
                    _ => said(&unused(), &late),
                };
                assert_eq!((said.len(), said[0].0), (1, verdict), "{said:?}");
                assert!(said[0].1.contains(part), "{said:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_is_told_beside_what_waits() {
        let broken = || mailing(Some(("mx:25".to_owned(), Err("no".to_owned()))), &[]);
        let emails = seen(broken(), stored(1, Some(LATE), None));
        let verdicts: Vec<_> = said(&unused(), &emails).iter().map(|it| it.0).collect();
        assert_eq!(verdicts, [Verdict::Problem, Verdict::Problem]);
        let unknown = seen(broken(), Stored::Unknown("the store is away".to_owned()));
        let said = said(&unused(), &unknown);
        let says = "mail server mx:25: no: start it, or correct notifier.email";
        assert_eq!(said[0], (Verdict::Problem, says.to_owned()));
        let says = "e-mails that wait: the store is away".to_owned();
        assert_eq!(said[1], (Verdict::NotChecked, says));
    }

    #[test]
    fn what_is_set_up_is_what_notifiers_need() {
        let wrong = |set_up| match set_up {
            SetUp::Wrong(finding) => (finding.verdict, finding.says),
            other => panic!("{other:?}"),
        };
        assert_eq!(signing(Ok(false)), SetUp::Unused);
        assert!(matches!(signing(Ok(true)), SetUp::Ready(_)));
        let says = "callbacks.keys: too short".to_owned();
        let short = signing(Err("too short".to_owned()));
        assert_eq!(wrong(short), (Verdict::Problem, says));

        let invoice: JobType = "invoice".parse().unwrap();
        assert_eq!(mailing(None, &[]), SetUp::Unused);
        let (verdict, says) = wrong(mailing(None, &[&invoice]));
        assert_eq!(verdict, Verdict::Warning);
        assert!(says.contains("type invoice wait"), "{says}");
        let there = mailing(Some(("mx:25".to_owned(), Ok(()))), &[&invoice]);
        assert_eq!(there, SetUp::Ready("mail server mx:25 answers".to_owned()));
    }

    #[test]
    fn a_store_of_one_process_is_of_no_use_to_notifiers() {
        let said = said(&seen(ready(), Stored::Private), &unused());
        assert_eq!(said[0].0, Verdict::Warning);
        assert!(said[0].1.contains("PostgreSQL"), "{said:?}");
    }
}
