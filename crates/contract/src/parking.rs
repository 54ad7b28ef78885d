//! How long a job that may not run here waits before somebody looks at it again. Pure: the random number is passed in.

use std::time::Duration;

/// By what share a pause may be shorter or longer at random, so that jobs parked together do not come back together.
const JITTER: f64 = 0.2;

/// The pause before a job that was parked `times` times comes back: it doubles from `first` up to `most`, give or take
/// a fifth; `random` is from 0 to 1.
pub fn pause(times: u32, first: Duration, most: Duration, random: f64) -> Duration {
    let factor = 2u32.checked_pow(times).unwrap_or(u32::MAX);
    let pause = first.saturating_mul(factor).min(most);
    let random = if random.is_finite() {
        random.clamp(0.0, 1.0)
    } else {
        0.5
    };
    let share = 1.0 + JITTER * (2.0 * random - 1.0);
    Duration::try_from_secs_f64(pause.as_secs_f64() * share).unwrap_or(pause)
}

/// The partition, of so many, that a parked job comes back to: any but the one that it was read from, at random. By its
/// key it would come back to the same one for ever, and so perhaps to the one worker that cannot run it.
pub fn partition(from: i32, partitions: i32, random: f64) -> Option<i32> {
    let others = partitions.checked_sub(1).filter(|others| *others > 0)?;
    let random = if random.is_finite() {
        random.clamp(0.0, 1.0)
    } else {
        0.0
    };
    // Rounded down, and the largest number is one too many.
    let step = ((f64::from(others) * random) as i32).min(others - 1) + 1;
    let to = (i64::from(from) + i64::from(step)).rem_euclid(i64::from(partitions));
    i32::try_from(to).ok()
}

/// How many of those that wait for a limit are to leave a look-ahead that is full with `all`: none while others fill
/// half of it, else all but a quarter of it, which is enough to run when the limit allows it.
pub fn surplus(limited: usize, all: usize) -> usize {
    if limited <= all / 2 {
        return 0;
    }
    limited - all / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit_give_or_take_a_fifth() {
        let (first, most) = (Duration::from_secs(5), Duration::from_secs(60));
        let all = |random| (0..6).map(move |n| pause(n, first, most, random).as_millis());
        assert_eq!(
            all(0.5).collect::<Vec<_>>(),
            [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]
        );
        assert_eq!(all(0.0).next(), Some(4_000));
        assert_eq!(all(1.0).next_back(), Some(72_000));
    }

    #[test]
    fn what_waits_for_a_limit_leaves_when_it_fills_more_than_half() {
        let leave = [(0, 0), (50, 100), (51, 100), (100, 100), (1, 1)];
        let leave = leave.map(|(limited, all)| surplus(limited, all));
        assert_eq!(leave, [0, 0, 26, 75, 1]);
    }

    #[test]
    fn the_only_partition_has_no_other_and_all_others_are_chosen() {
        assert_eq!((partition(0, 1, 0.5), partition(0, 0, 0.5)), (None, None));
        let chosen: Vec<_> = (0..4)
            .map(|n| partition(1, 4, f64::from(n) / 3.0))
            .collect();
        assert_eq!(chosen, [Some(2), Some(3), Some(0), Some(0)]);
    }

    proptest! {
        #[test]
        fn it_is_another_one_that_there_is(from in 0..i32::MAX, partitions in 2..i32::MAX, random in any::<f64>()) {
            let from = from % partitions;
            let to = partition(from, partitions, random).unwrap();
            prop_assert!(to != from && (0..partitions).contains(&to));
        }

        #[test]
        fn it_never_leaves_its_bounds(
            times in any::<u32>(),
            first in 1u64..10_000,
            most in 1u64..100_000,
            random in prop_oneof![0.0..=1.0, any::<f64>()],
        ) {
            let (first, most) = (Duration::from_millis(first), Duration::from_millis(most));
            let waited = pause(times, first, most, random);
            prop_assert!(waited <= most.mul_f64(1.2001), "{waited:?}");
            prop_assert!(waited >= first.min(most).mul_f64(0.7999), "{waited:?}");
            prop_assert!(pause(times.saturating_add(1), first, most, 0.5) >= pause(times, first, most, 0.5));
        }
    }
}
