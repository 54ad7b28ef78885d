//! What a database looks like before anything is done to it. Nothing is made, upgraded or locked.

use sqlx::migrate::Migrator;
use tidegate_contract::Millis;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Of the server or library, such as `PostgreSQL 15.8`.
    pub version: String,
    pub tables: Tables,
    /// The database's clock; `None` if it is that of this process.
    pub now: Option<Millis>,
    /// The Kafka clusters whose replies it has applied: one, or none yet.
    pub clusters: Vec<String>,
}

/// How far the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// None of ours: the first gateway makes them.
    Missing,
    /// As this program wants them, at this migration.
    Current(i64),
    /// The next gateway upgrades them.
    Older { found: i64, wanted: i64 },
    /// Made by a later program.
    Newer(i64),
    /// A migration of that number that is not ours.
    Foreign(i64),
    /// A migration that was begun and not ended.
    Unfinished(i64),
}

/// A migration as the database remembers it: number, whether it succeeded, checksum.
pub(crate) type Made = (i64, bool, Vec<u8>);

/// Compares what was made, by rising number, with what there is to make.
pub(crate) fn tables(made: &[Made], migrations: &Migrator) -> Tables {
    let wanted: Vec<(i64, &[u8])> = migrations
        .iter()
        .map(|migration| (migration.version, &*migration.checksum))
        .collect();
    compare(made, &wanted)
}

fn compare(made: &[Made], wanted: &[(i64, &[u8])]) -> Tables {
    let last = |list: &[(i64, &[u8])]| list.last().map_or(0, |(version, _)| *version);
    let newest = last(wanted);
    for (version, success, checksum) in made {
        match wanted.iter().find(|(known, _)| known == version) {
            None if *version > newest => return Tables::Newer(*version),
            None => return Tables::Foreign(*version),
            Some((_, known)) if *known != checksum.as_slice() => return Tables::Foreign(*version),
            Some(_) if !success => return Tables::Unfinished(*version),
            Some(_) => {}
        }
    }
    match made.last() {
        None => Tables::Missing,
        Some((found, ..)) if made.len() < wanted.len() => Tables::Older {
            found: *found,
            wanted: newest,
        },
        Some((found, ..)) => Tables::Current(*found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_apart() {
        let wanted: [(i64, &[u8]); 2] = [(1, b"one"), (2, b"two")];
        let made = |list: &[(i64, bool, &str)]| -> Tables {
            let made = list.iter();
            let made: Vec<Made> = made
                .map(|(version, done, sum)| (*version, *done, sum.as_bytes().to_vec()))
                .collect();
            compare(&made, &wanted)
        };
        assert_eq!(made(&[]), Tables::Missing);
        assert_eq!(
            made(&[(1, true, "one")]),
            Tables::Older {
                found: 1,
                wanted: 2
            }
        );
        let both = (1, true, "one");
        assert_eq!(made(&[both, (2, true, "two")]), Tables::Current(2));
        assert_eq!(made(&[both, (2, false, "two")]), Tables::Unfinished(2));
        assert_eq!(made(&[(1, true, "other")]), Tables::Foreign(1));
        assert_eq!(
            made(&[both, (2, true, "two"), (3, true, "three")]),
            Tables::Newer(3)
        );
        assert_eq!(made(&[(0, true, "zero")]), Tables::Foreign(0));
    }
}
