//! Whether the store and the log of a partition belong together, and from where it is projected. Pure.
//!
//! The stored position is held against the offsets that the broker has ([`judge`]), and the record before it against the one
//! that was applied last ([`verify`]).

use tidegate_store::Position;

/// The offsets a partition has at the broker: the first that is kept, and one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRange {
    pub low: i64,
    pub high: i64,
}

/// What to do with a partition after the store has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Nothing is stored: project from the beginning of the log.
    Fresh { from: i64 },
    /// Go on at the stored position; there is nothing to compare with.
    Resume { from: i64 },
    /// Read the record before the position first, and compare its key.
    Verify { offset: i64, key: String, from: i64 },
    /// The store and the log do not belong together.
    Refuse(String),
}

/// Holds the stored position of a partition against the log.
pub(crate) fn judge(
    partition: i32,
    stored: Option<&Position>,
    cluster_id: &str,
    log: LogRange,
) -> Opening {
    let Some(stored) = stored else {
        return Opening::Fresh { from: log.low };
    };
    let next = stored.next_offset;
    if stored.cluster_id != cluster_id {
        return Opening::Refuse(format!(
            "the status store follows Kafka cluster {}, this is cluster {cluster_id}: point the gateway at the \
             store of this cluster, or give it an empty one",
            stored.cluster_id
        ));
    }
    if next > log.high {
        return Opening::Refuse(format!(
            "replies partition {partition} ends at offset {}, the status store is at {next}: the topic was \
             recreated; give the gateway an empty store",
            log.high
        ));
    }
    if next < log.low {
        return Opening::Refuse(format!(
            "replies partition {partition} begins at offset {}, the status store is at {next}: retention deleted \
             events that were never applied; give the gateway an empty store, or accept the gap by moving the \
             store's position",
            log.low
        ));
    }
    if next == log.low {
        return Opening::Resume { from: next };
    }
    Opening::Verify {
        offset: next - 1,
        key: stored.last_key.clone(),
        from: next,
    }
}

/// What became of the record that was to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the same record: go on behind it.
    Same,
    /// It is gone (the log has a gap here): this record is already one to project.
    Gone,
    /// The read is not where it was put.
    Earlier,
    /// It is another record.
    Refuse(String),
}

/// Compares the first record read with the one that was applied last.
pub(crate) fn verify(partition: i32, expected: (i64, &str), read: (i64, &str)) -> Verdict {
    if read.0 > expected.0 {
        return Verdict::Gone;
    }
    if read.0 < expected.0 {
        return Verdict::Earlier;
    }
    if read.1 == expected.1 {
        return Verdict::Same;
    }
    Verdict::Refuse(format!(
        "replies partition {partition} has another record at offset {} than the one the status store applied: the \
         topic was recreated; give the gateway an empty store",
        expected.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(next_offset: i64) -> Position {
        Position {
            cluster_id: "c1".into(),
            next_offset,
            last_key: "k".into(),
        }
    }

    #[test]
    fn a_store_that_fits_the_log_is_taken_up() {
        let log = LogRange { low: 5, high: 20 };
        assert_eq!(judge(0, None, "c1", log), Opening::Fresh { from: 5 });
        assert_eq!(
            judge(0, Some(&position(5)), "c1", log),
            Opening::Resume { from: 5 }
        );
        let verify = Opening::Verify {
            offset: 19,
            key: "k".into(),
            from: 20,
        };
        assert_eq!(judge(0, Some(&position(20)), "c1", log), verify);
    }

    #[test]
    fn a_store_of_another_log_is_refused() {
        let log = LogRange { low: 5, high: 20 };
        for (stored, cluster, word) in [
            (position(9), "c2", "cluster"),
            (position(21), "c1", "recreated"),
            (position(4), "c1", "retention"),
        ] {
            let Opening::Refuse(reason) = judge(7, Some(&stored), cluster, log) else {
                panic!("{stored:?}")
            };
            assert!(reason.contains(word), "{reason}");
        }
        assert_eq!(verify(0, (19, "k"), (19, "k")), Verdict::Same);
        assert_eq!(verify(0, (19, "k"), (23, "x")), Verdict::Gone);
        assert_eq!(verify(0, (19, "k"), (0, "x")), Verdict::Earlier);
        assert!(matches!(
            verify(0, (19, "k"), (19, "x")),
            Verdict::Refuse(_)
        ));
    }
}
