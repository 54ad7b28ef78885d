//! When the content of a file that is read again and again is to be tried, and when its error is to be told. Pure:
//! contents and times come in, steps go out.
//!
//! A file may be read while somebody is writing it, and the first half of a good file is often a good file too, with
//! fewer tables. So a new content is tried only when it was read twice in a row; and an error is told only after a
//! while, since the next reading mostly finds the rest.

use std::sync::Arc;
use std::time::Duration;

/// A content that is bad for this long is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// What was refused for a reason that may pass (a topic that is missing, a broker that is away) is tried again after
/// this.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// The text, or why it cannot be read.
pub(super) type Content = Result<Arc<str>, Arc<str>>;

/// Why a content is not put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub problem: String,
    /// It may be gone without a change of the file.
    pub passes: bool,
}

/// What is to be done after a reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Try to put this content in force; then say [`Watch::taken`] or [`Watch::refused`].
    Try(Arc<str>),
    /// The content in force is back, after an error that was told.
    Mended,
}

pub(super) struct Watch {
    in_force: Arc<str>,
    candidate: Option<Candidate>,
    /// An error is shown.
    told: bool,
}

struct Candidate {
    content: Content,
    since: Duration,
    refusal: Option<(Refusal, Duration)>,
    told: bool,
}

impl Watch {
    pub(super) fn new(in_force: Arc<str>) -> Self {
        Self {
            in_force,
            candidate: None,
            told: false,
        }
    }

    /// A content was read. `asked`: somebody wants it judged at once.
    pub(super) fn read(&mut self, content: Content, now: Duration, asked: bool) -> Step {
        if content.as_ref().is_ok_and(|text| *text == self.in_force) {
            self.candidate = None;
            return match std::mem::take(&mut self.told) {
                true => Step::Mended,
                false => Step::Nothing,
            };
        }
        let known = self.candidate.as_ref();
        let again = known.is_some_and(|known| known.content == content);
        if !again {
            let refusal = content.as_ref().err().map(|problem| {
                let problem = problem.to_string();
                (
                    Refusal {
                        problem,
                        passes: false,
                    },
                    now,
                )
            });
            self.candidate = Some(Candidate {
                content,
                since: now,
                refusal,
                told: false,
            });
            if !asked {
                return Step::Nothing;
            }
        }
        match &self.candidate {
            Some(Candidate {
                content: Ok(text),
                refusal,
                ..
            }) => {
                let due = match refusal {
                    None => true,
                    Some((refusal, at)) => {
                        refusal.passes && (asked || now.saturating_sub(*at) >= AGAIN)
                    }
                };
                match due {
                    true => Step::Try(text.clone()),
                    false => Step::Nothing,
                }
            }
            _ => Step::Nothing,
        }
    }

    /// The candidate is in force now.
    pub(super) fn taken(&mut self) {
        if let Some(Candidate {
            content: Ok(text), ..
        }) = self.candidate.take()
        {
            self.in_force = text;
        }
        self.told = false;
    }

    /// The candidate was refused.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Duration) {
        if let Some(candidate) = &mut self.candidate {
            // The same content with another reason is worth telling again.
            let before = candidate.refusal.as_ref();
            if before.is_some_and(|(known, _)| known.problem != refusal.problem) {
                candidate.told = false;
            }
            candidate.refusal = Some((refusal, now));
        }
    }

    /// The error that is to be told now, once for each content and reason.
    pub(super) fn tell(&mut self, now: Duration, asked: bool) -> Option<String> {
        let candidate = self.candidate.as_mut()?;
        let (refusal, _) = candidate.refusal.as_ref()?;
        let due = asked || now.saturating_sub(candidate.since) >= PATIENCE;
        if candidate.told || !due {
            return None;
        }
        candidate.told = true;
        self.told = true;
        Some(refusal.problem.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Content {
        Ok(text.into())
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn bad(problem: &str, passes: bool) -> Refusal {
        Refusal {
            problem: problem.to_owned(),
            passes,
        }
    }

    #[test]
    fn a_new_content_is_tried_when_it_was_read_twice() {
        let mut watch = Watch::new("a".into());
        assert_eq!(watch.read(text("a"), at(0), false), Step::Nothing);
        assert_eq!(watch.read(text("half"), at(500), false), Step::Nothing);
        assert_eq!(watch.read(text("whole"), at(1000), false), Step::Nothing);
        assert_eq!(
            watch.read(text("whole"), at(1500), false),
            Step::Try("whole".into())
        );
        watch.taken();
        assert_eq!(watch.read(text("whole"), at(2000), false), Step::Nothing);
        assert_eq!(watch.tell(at(9000), false), None);
        // Back to the first one is a change like any other.
        assert_eq!(
            watch.read(text("a"), at(2500), true),
            Step::Try("a".into()),
            "asked for"
        );
    }

    #[test]
    fn an_error_is_told_once_and_only_when_it_stays() {
        let mut watch = Watch::new("a".into());
        watch.read(text("b"), at(0), false);
        assert_eq!(watch.read(text("b"), at(500), false), Step::Try("b".into()));
        watch.refused(bad("no", false), at(500));
        assert_eq!(watch.tell(at(500), false), None);
        assert_eq!(
            watch.read(text("b"), at(2000), false),
            Step::Nothing,
            "judged already"
        );
        assert_eq!(watch.tell(at(2000), false).as_deref(), Some("no"));
        assert_eq!(watch.read(text("b"), at(60_000), false), Step::Nothing);
        assert_eq!(watch.tell(at(60_000), false), None);
        assert_eq!(watch.read(text("a"), at(61_000), false), Step::Mended);
        assert_eq!(watch.read(text("a"), at(62_000), false), Step::Nothing);

        // What was mended before it was told leaves no trace.
        watch.read(text("c"), at(63_000), false);
        watch.read(text("c"), at(63_500), false);
        watch.refused(bad("no", false), at(63_500));
        assert_eq!(watch.read(text("a"), at(64_000), false), Step::Nothing);
        assert_eq!(watch.tell(at(70_000), false), None);
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_no_error() {
        let mut watch = Watch::new("a".into());
        let gone = || Err("gone".into());
        assert_eq!(watch.read(gone(), at(0), false), Step::Nothing);
        assert_eq!(watch.tell(at(0), false), None);
        assert_eq!(watch.read(text("b"), at(500), false), Step::Nothing);
        assert_eq!(watch.read(gone(), at(1000), false), Step::Nothing);
        assert_eq!(watch.tell(at(2500), false), None);
        assert_eq!(watch.tell(at(3000), false).as_deref(), Some("gone"));
        assert_eq!(watch.read(text("b"), at(3500), false), Step::Nothing);
        assert_eq!(
            watch.read(text("b"), at(4000), false),
            Step::Try("b".into())
        );
    }

    #[test]
    fn what_may_pass_is_tried_again_and_told_anew_for_another_reason() {
        let mut watch = Watch::new("a".into());
        watch.read(text("b"), at(0), false);
        watch.read(text("b"), at(500), false);
        watch.refused(bad("broker away", true), at(500));
        assert_eq!(watch.tell(at(2000), false).as_deref(), Some("broker away"));
        assert_eq!(watch.read(text("b"), at(5000), false), Step::Nothing);
        assert_eq!(
            watch.read(text("b"), at(5500), false),
            Step::Try("b".into())
        );
        watch.refused(bad("broker away", true), at(5500));
        assert_eq!(watch.tell(at(5500), false), None);
        assert_eq!(
            watch.read(text("b"), at(6000), true),
            Step::Try("b".into()),
            "asked for"
        );
        watch.refused(bad("topic missing", true), at(6000));
        assert_eq!(
            watch.tell(at(6000), false).as_deref(),
            Some("topic missing")
        );
        watch.read(text("b"), at(11_000), false);
        watch.taken();
        assert_eq!(
            watch.read(text("b"), at(11_500), false),
            Step::Nothing,
            "nothing is shown any more"
        );
    }
}
