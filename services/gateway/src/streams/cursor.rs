//! Where a follower of a job is in its events, and what comes next. Pure.
//!
//! Events have numbers: the creation is 0, what happens then follows the row's history, the end is the last number and one.

use tidegate_store::{HistoryEntry, JobRow};

/// From where a client wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// After this number.
    After(i64),
    /// It named something that is no number.
    Unknown,
}

impl Asked {
    /// What `Last-Event-ID` or `after` says. Nothing at all is no wish.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text {
            "" => None,
            _ if !digits => Some(Self::Unknown),
            // More than fit are from the future.
            _ => Some(Self::After(text.parse().unwrap_or(i64::MAX))),
        }
    }
}

/// Why a follower cannot go on from where it wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Unknown,
    TooOld,
    Future,
}

impl Lost {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => {
                "the id that was named is none of this stream: this is the present state"
            }
            Self::TooOld => {
                "what followed the id that was named is not kept any more: this is the present state"
            }
            Self::Future => "the id that was named is of no event yet: this is the present state",
        }
    }
}

/// One event, and its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'r> {
    pub id: i64,
    pub what: What<'r>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What<'r> {
    Accepted,
    /// The present state, in place of what cannot be told one by one.
    Snapshot(Lost),
    Happened(&'r HistoryEntry),
    Ended,
}

/// How far one follower is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The number of the last event that it was given.
    sent: Option<i64>,
    lost: Option<Lost>,
    over: bool,
}

impl Cursor {
    /// At the beginning of all that is kept, or behind what the client knows. `None`: it knows the end.
    pub fn start(row: &JobRow, asked: Option<Asked>) -> Option<Self> {
        let at = |sent, lost| Cursor {
            sent,
            lost,
            over: false,
        };
        let end = row.events.saturating_add(1);
        let ended = row.status.is_terminal();
        let oldest = row.history.first().map_or(end, |entry| entry.sequence);
        Some(match asked {
            None => at(None, None),
            Some(Asked::Unknown) => at(None, Some(Lost::Unknown)),
            Some(Asked::After(id)) if ended && id == end => return None,
            Some(Asked::After(id)) if id > row.events => at(None, Some(Lost::Future)),
            Some(Asked::After(id)) if id.saturating_add(1) < oldest => at(None, Some(Lost::TooOld)),
            Some(Asked::After(id)) => at(Some(id), None),
        })
    }

    /// What the row tells beyond what was given already; `None` until it tells more.
    pub fn next<'r>(&mut self, row: &'r JobRow) -> Option<Step<'r>> {
        let step = self.peek(row)?;
        self.sent = Some(step.id);
        self.lost = None;
        self.over = step.what == What::Ended;
        Some(step)
    }

    fn peek<'r>(&self, row: &'r JobRow) -> Option<Step<'r>> {
        if self.over {
            return None;
        }
        if let Some(lost) = self.lost {
            return Some(Step {
                id: row.events,
                what: What::Snapshot(lost),
            });
        }
        let Some(sent) = self.sent else {
            return Some(Step {
                id: 0,
                what: What::Accepted,
            });
        };
        if let Some(entry) = row.history.iter().find(|entry| entry.sequence > sent) {
            return Some(Step {
                id: entry.sequence,
                what: What::Happened(entry),
            });
        }
        row.status.is_terminal().then_some(Step {
            id: row.events.saturating_add(1),
            what: What::Ended,
        })
    }

    /// Whether the end was given.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{a_job, new_job, pending};
    use proptest::prelude::*;
    use tidegate_contract::{EventKind, Status};

    /// A row with `events` events, the last `kept` of which are kept.
    fn row(events: i64, kept: i64, status: Status) -> JobRow {
        let entry = |sequence| HistoryEntry {
            sequence,
            kind: EventKind::Progress,
            status: Status::Processing,
            at: sequence,
            attempt: 1,
            percent: None,
            message: None,
            partial: None,
            next_attempt_at: None,
            error: None,
        };
        JobRow {
            status,
            events,
            history: (events - kept + 1..=events).map(entry).collect(),
            ..pending(&new_job(&a_job("default")))
        }
    }

    /// What a follower is given; a snapshot is less than zero.
    fn given(cursor: &mut Cursor, row: &JobRow) -> Vec<i64> {
        let steps = std::iter::from_fn(|| cursor.next(row));
        let ids = steps.map(|step| match step.what {
            What::Snapshot(_) => -1 - step.id,
            _ => step.id,
        });
        ids.collect()
    }

    fn from(row: &JobRow, asked: Option<Asked>) -> Option<Vec<i64>> {
        Some(given(&mut Cursor::start(row, asked)?, row))
    }

    #[test]
    fn a_name_is_a_number_or_unknown() {
        for (text, asked) in [
            ("", None),
            ("0", Some(Asked::After(0))),
            ("17", Some(Asked::After(17))),
            ("99999999999999999999", Some(Asked::After(i64::MAX))),
            ("-1", Some(Asked::Unknown)),
            ("7a", Some(Asked::Unknown)),
            (" 7", Some(Asked::Unknown)),
            ("\u{fffd}", Some(Asked::Unknown)),
        ] {
            assert_eq!(Asked::read(text), asked, "{text}");
        }
    }

    #[test]
    fn a_follower_goes_on_behind_what_it_knows() {
        let after = |id| Some(Asked::After(id));
        let open = row(3, 3, Status::Processing);
        assert_eq!(from(&open, None), Some(vec![0, 1, 2, 3]));
        assert_eq!(from(&open, after(0)), Some(vec![1, 2, 3]));
        assert_eq!(from(&open, after(3)), Some(vec![]));
        assert_eq!(from(&open, after(4)), Some(vec![-4]), "from the future");
        assert_eq!(from(&open, Some(Asked::Unknown)), Some(vec![-4]));
        let ended = row(3, 3, Status::Failed);
        assert_eq!(from(&ended, None), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(from(&ended, after(3)), Some(vec![4]));
        assert_eq!(from(&ended, after(4)), None, "it knows the end");
        assert_eq!(from(&ended, after(5)), Some(vec![-4, 4]));
        let quick = row(0, 0, Status::Completed);
        assert_eq!(from(&quick, None), Some(vec![0, 1]));
        assert_eq!(from(&quick, after(0)), Some(vec![1]));
        assert_eq!(from(&quick, after(1)), None);
        // Of the first ones nothing is kept.
        let long = row(9, 4, Status::Processing);
        assert_eq!(from(&long, None), Some(vec![0, 6, 7, 8, 9]));
        assert_eq!(from(&long, after(5)), Some(vec![6, 7, 8, 9]));
        assert_eq!(from(&long, after(4)), Some(vec![-10]), "too old");
        let none = row(9, 0, Status::Processing);
        assert_eq!(from(&none, after(8)), Some(vec![-10]), "written before");
        assert_eq!(from(&none, after(9)), Some(vec![]));
    }

    #[test]
    fn the_end_is_told_once_even_if_the_numbers_went_back() {
        let mut cursor = Cursor::start(&row(5, 5, Status::Processing), None).unwrap();
        assert_eq!(given(&mut cursor, &row(5, 5, Status::Processing)).len(), 6);
        let rebuilt = row(2, 2, Status::Completed);
        assert_eq!(given(&mut cursor, &rebuilt), [3]);
        assert!(cursor.is_over());
        assert!(given(&mut cursor, &rebuilt).is_empty());
    }

    proptest! {
        /// However a log is cut, and wherever a follower is cut off and comes back, it is given every event once.
        #[test]
        fn nothing_is_missed_or_told_twice(events in 0i64..40, ended: bool, looks in prop::collection::vec((0i64..6, any::<bool>()), 0..30)) {
            let end = if ended { Status::Completed } else { Status::Processing };
            let (mut seen, mut now) = (Vec::new(), 0);
            let mut cursor = Cursor::start(&row(0, 0, Status::Pending), None).unwrap();
            for (more, cut) in looks {
                now = (now + more).min(events);
                let row = row(now, now, Status::Processing);
                seen.extend(given(&mut cursor, &row));
                if cut {
                    cursor = Cursor::start(&row, seen.last().map(|id| Asked::After(*id))).unwrap();
                }
            }
            let last = row(events, events, end);
            seen.extend(given(&mut cursor, &last));
            prop_assert_eq!(seen, (0..=events + i64::from(ended)).collect::<Vec<_>>());
        }
    }
}
