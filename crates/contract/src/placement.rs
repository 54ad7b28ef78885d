//! In which partition of a jobs topic a job is put: shuffle sharding.
//!
//! Each tenant has a few of the partitions, drawn by its name, and its jobs go to the least backlogged of those. A
//! tenant that floods its own leaves the others with partitions in which they do not stand behind it: of 12
//! partitions and 4 a tenant, two tenants have the same four once in 495.

use crate::names::Tenant;
use crate::time::Millis;

/// The partitions of a tenant, in no meaningful order: `size` of `partitions`, or all if `size` is 0 or not less.
///
/// Rendezvous hashing: each partition gets a number by tenant and index, and the highest are taken. Every gateway
/// comes to the same, whatever its version; another partition takes the place of at most one of a tenant's.
pub fn shards(tenant: &Tenant, partitions: i32, size: usize) -> Vec<i32> {
    let mut all: Vec<i32> = (0..partitions.max(0)).collect();
    if size == 0 || size >= all.len() {
        return all;
    }
    let seed = fnv1a(tenant.as_str().as_bytes());
    let rank = |partition: &i32| std::cmp::Reverse((mixed(seed, *partition), *partition));
    all.select_nth_unstable_by_key(size - 1, rank);
    all.truncate(size);
    all
}

/// Backlogs are compared in steps of so many records: one or two more than elsewhere are no reason to go elsewhere.
pub const STEP: u64 = 16;
/// For so many milliseconds the same partition is preferred among equals.
pub const SLOT: Millis = 10;

/// The least backlogged of `shards` for a job that comes at `at`; `backlog` tells the records of a partition that are not
/// done, `None` where that is not known. What is not known counts as nothing. `None` if there are no shards.
///
/// Jobs that come one right after the other go to the same partition, whatever their tenants, as far as they share it:
/// Kafka's clients send one request a partition, so that scattered jobs cost a request each and these go together. Over
/// time all are used alike: among equals the time decides, by slots of [`SLOT`], and the backlog does by steps of [`STEP`].
pub fn place(shards: &[i32], at: Millis, backlog: impl Fn(i32) -> Option<u64>) -> Option<i32> {
    let slot = at.div_euclid(SLOT).unsigned_abs();
    let rank = |partition: &i32| {
        let steps = backlog(*partition).unwrap_or(0) / STEP;
        (steps, mixed(slot, *partition))
    };
    shards.iter().copied().min_by_key(rank)
}

/// The partition of a serial key: all jobs of a key go to one, so that the log has them in their order and one worker has
/// them all. It is another one for most keys once the topic has another number of partitions. `None` if that is 0.
pub fn of_serial_key(tenant: &Tenant, key: &str, partitions: i32) -> Option<i32> {
    let seed = fnv1a(key.as_bytes()) ^ fnv1a(tenant.as_str().as_bytes()).rotate_left(32);
    (0..partitions).max_by_key(|partition| mixed(seed, *partition))
}

/// FNV-1a: the same on every machine and in every version, which the standard library does not promise of its own.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// One step of SplitMix64: FNV alone leaves neighbours alike.
fn mixed(seed: u64, partition: i32) -> u64 {
    let index = u64::from(partition.unsigned_abs()).wrapping_add(1);
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn tenant(number: u32) -> Tenant {
        format!("tenant-{number}").parse().unwrap()
    }

    fn set(tenant: &Tenant, partitions: i32, size: usize) -> BTreeSet<i32> {
        shards(tenant, partitions, size).into_iter().collect()
    }

    /// Gateways of other versions must come to the same: these never change.
    #[test]
    fn known_shards_stay() {
        let shop: Tenant = "shop".parse().unwrap();
        assert_eq!(set(&shop, 12, 4), BTreeSet::from([0, 1, 2, 6]));
        assert_eq!(set(&Tenant::default(), 12, 4), BTreeSet::from([1, 2, 5, 9]));
    }

    /// Gateways of other versions must come to the same: these never change.
    #[test]
    fn serial_keys_have_one_partition_and_use_all_alike() {
        let shop = tenant(1);
        assert_eq!(of_serial_key(&shop, "order-7", 0), None);
        let known = ["order-7", "order-8", "x"].map(|key| of_serial_key(&shop, key, 12));
        assert_eq!(known, [Some(11), Some(4), Some(7)]);
        let mut used = [0u32; 12];
        for key in 0..12_000 {
            let partition = of_serial_key(&shop, &format!("order-{key}"), 12).unwrap();
            used[partition as usize] += 1;
        }
        assert!(
            used.iter().all(|count| (850..1150).contains(count)),
            "{used:?}"
        );
    }

    #[test]
    fn partitions_are_used_alike_and_two_tenants_share_few() {
        let (tenants, partitions, size) = (2000u32, 12i32, 4usize);
        let mut used = vec![0u32; 12];
        let sets: Vec<_> = (0..tenants)
            .map(|n| set(&tenant(n), partitions, size))
            .collect();
        for partition in sets.iter().flatten() {
            used[*partition as usize] += 1;
        }
        let mean = f64::from(tenants) * 4.0 / 12.0;
        for count in used {
            assert!(
                (f64::from(count) - mean).abs() < mean * 0.15,
                "{count} of {mean}"
            );
        }
        // 4 of 12 and 4 of 12 have 4/3 in common on average.
        let pairs = sets.windows(2);
        let common: usize = pairs
            .map(|pair| pair[0].intersection(&pair[1]).count())
            .sum();
        let average = common as f64 / f64::from(tenants - 1);
        assert!((average - 4.0 / 3.0).abs() < 0.1, "{average}");
        let same = sets.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(
            same <= 12,
            "{same} neighbours of 2000 have the same shards: 4 are to be expected"
        );
    }

    #[test]
    fn jobs_go_where_the_least_waits_and_evenly_among_equals() {
        let backlog = |partition| [Some(900), Some(33), None, Some(15)][partition as usize];
        let all = [0, 1, 2, 3];
        let mut used = [0u32; 4];
        for slot in 0..1000 {
            used[place(&all, slot * SLOT, backlog).unwrap() as usize] += 1;
        }
        assert_eq!((used[0], used[1]), (0, 0));
        assert!(used[2] > 400 && used[3] > 400, "{used:?}");
        assert_eq!(place(&[0, 1], 5, backlog), Some(1));
        assert_eq!(place(&[], 5, backlog), None);
    }

    /// What comes in one slot of time goes together, also of tenants that share only some of their partitions.
    #[test]
    fn jobs_of_one_moment_go_to_few_partitions() {
        let together = |at: Millis| -> BTreeSet<i32> {
            let shards = (0..50).map(|n| shards(&tenant(n), 12, 4));
            shards
                .filter_map(|mine| place(&mine, at, |_| None))
                .collect()
        };
        let sizes: Vec<_> = (0..100).map(|slot| together(slot * SLOT).len()).collect();
        let average = sizes.iter().sum::<usize>() as f64 / 100.0;
        assert!(
            average < 9.0,
            "50 tenants went to {average} of 12 partitions at a time"
        );
        let alone: BTreeSet<_> = (0..SLOT)
            .filter_map(|at| place(&[0, 1, 2, 3], at, |_| None))
            .collect();
        assert_eq!(alone.len(), 1);
    }

    proptest! {
        #[test]
        fn shards_are_distinct_and_there_are_as_many_as_asked_for(
            number in any::<u32>(), partitions in 0i32..100, size in 0usize..20,
        ) {
            let found = shards(&tenant(number), partitions, size);
            let all = usize::try_from(partitions).unwrap();
            let expected = if size == 0 { all } else { size.min(all) };
            prop_assert_eq!(found.len(), expected);
            prop_assert_eq!(set(&tenant(number), partitions, size).len(), expected);
            prop_assert!(found.iter().all(|p| (0..partitions).contains(p)));
            prop_assert_eq!(&shards(&tenant(number), partitions, size), &found);
        }

        /// Another partition moves at most one of a tenant's.
        #[test]
        fn more_partitions_move_little(number in any::<u32>(), partitions in 4i32..100, size in 1usize..5) {
            let before = set(&tenant(number), partitions, size);
            let after = set(&tenant(number), partitions + 1, size);
            let lost = before.difference(&after).count();
            prop_assert!(lost <= 1);
            prop_assert!(lost == 0 || after.contains(&partitions));
        }

        #[test]
        fn the_place_is_a_shard_with_the_least_backlog(
            backlog in prop::collection::vec(prop::option::of(0u64..100), 12),
            number in any::<u32>(), at in any::<Millis>(),
        ) {
            let mine = shards(&tenant(number), 12, 4);
            let of = |partition: i32| backlog[usize::try_from(partition).unwrap()];
            let placed = place(&mine, at, of).unwrap();
            let steps = |partition| of(partition).unwrap_or(0) / STEP;
            prop_assert!(mine.contains(&placed));
            prop_assert!(mine.iter().all(|p| steps(*p) >= steps(placed)));
            prop_assert_eq!(place(&mine, at, of), Some(placed), "the same moment, the same place");
        }
    }
}
