use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn job_type(name: &str) -> JobType {
    name.parse().unwrap()
}

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

/// Everything that may run, in its order, each ending at once.
fn drain(line: &mut Line<&'static str>, limits: &Limits) -> Vec<&'static str> {
    std::iter::from_fn(|| line.take(limits)).collect()
}

#[test]
fn tenants_take_turns_and_each_keeps_its_order() {
    let mut line = Line::default();
    let echo = job_type("echo");
    for (owner, item) in [
        ("a", "a1"),
        ("a", "a2"),
        ("a", "a3"),
        ("b", "b1"),
        ("b", "b2"),
    ] {
        line.push(&echo, &tenant(owner), item);
    }
    assert_eq!(line.len(), 5);
    let order = drain(&mut line, &Limits::default());
    assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    assert!(line.is_empty());
}

#[test]
fn a_dear_job_costs_its_tenant_turns() {
    let mut line = Line::default();
    let echo = job_type("echo");
    line.push_at_cost(&echo, &tenant("a"), 3, "dear");
    for item in ["b1", "b2", "b3", "b4"] {
        line.push(&echo, &tenant("b"), item);
    }
    let order = drain(&mut line, &Limits::default());
    assert_eq!(order, ["b1", "b2", "dear", "b3", "b4"]);
}

#[test]
fn what_is_over_its_limit_is_passed_over_and_comes_again() {
    let (slow, quick) = (job_type("slow"), job_type("quick"));
    let (a, b) = (tenant("a"), tenant("b"));
    let mut limits = Limits::new(None);
    limits.set_types([(slow.clone(), 1)]);
    let mut line = Line::default();
    line.push(&slow, &a, "slow a1");
    line.push(&slow, &a, "slow a2");
    line.push(&quick, &a, "quick a");
    line.push(&slow, &b, "slow b");
    assert_eq!(line.take(&limits), Some("slow a1"));
    limits.started(&slow, &a);
    assert_eq!(line.take(&limits), Some("quick a"), "b has only slow ones");
    assert!(!line.may_run(&limits));
    // A held tenant with something that may run has its turn.
    line.push(&quick, &b, "quick b");
    assert_eq!(line.take(&limits), Some("quick b"));
    assert_eq!(line.take(&limits), None);
    limits.ended(&slow, &a);
    assert_eq!(line.take(&limits), Some("slow b"), "it waited for longest");
    limits.started(&slow, &b);
    assert_eq!(line.take(&limits), None);
    limits.ended(&slow, &b);
    assert_eq!(line.take(&limits), Some("slow a2"));
    assert!(line.is_empty());
}

#[test]
fn what_waits_for_a_limit_can_be_taken_out_but_for_the_first() {
    let (slow, quick) = (job_type("slow"), job_type("quick"));
    let mut limits = Limits::new(None);
    limits.set_types([(slow.clone(), 0)]);
    let mut line = Line::default();
    for item in ["first", "second", "kept", "third"] {
        line.push(&slow, &tenant("a"), item);
    }
    line.push(&quick, &tenant("a"), "quick");
    assert_eq!(line.limited(&limits), 4);
    let may_go = |item: &&str| *item != "kept";
    assert_eq!(line.take_limited(&limits, 1, may_go), ["third"]);
    assert_eq!(line.take_limited(&limits, 9, may_go), ["second"]);
    assert_eq!(line.take_limited(&limits, 1, |_| true), ["kept"]);
    assert_eq!(line.take_limited(&limits, 9, |_| true), Vec::<&str>::new());
    assert_eq!(line.len(), 2);
    assert_eq!(line.take(&limits), Some("quick"));
    assert_eq!(line.take(&limits), None);
    limits.set_types([]);
    assert_eq!(line.take(&limits), Some("first"));
}

#[test]
fn what_is_dropped_leaves_no_turn_behind() {
    let echo = job_type("echo");
    let limits = Limits::default();
    let mut line = Line::default();
    for (owner, item) in [("a", "a1"), ("b", "b1"), ("b", "b2")] {
        line.push(&echo, &tenant(owner), item);
    }
    line.retain(|item| *item != "a1");
    assert_eq!((line.len(), line.iter().count()), (2, 2));
    line.push(&echo, &tenant("a"), "a2");
    line.push(&echo, &tenant("a"), "a3");
    assert_eq!(drain(&mut line, &limits), ["b1", "a2", "b2", "a3"]);
}

#[derive(Clone, Debug)]
enum Step {
    Push { tenant: usize, job_type: usize },
    Take,
    End { pick: prop::sample::Index },
    Lose { modulus: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4, 0usize..3).prop_map(|(tenant, job_type)| Step::Push { tenant, job_type }),
        4 => Just(Step::Take),
        2 => any::<prop::sample::Index>().prop_map(|pick| Step::End { pick }),
        1 => (2u32..6).prop_map(|modulus| Step::Lose { modulus }),
    ]
}

proptest! {
    /// Against a plain list: what is handed out may run, is the first of its tenant that may, nothing is handed out
    /// only if nothing may run, no limit is passed, and nothing is lost or doubled.
    #[test]
    fn the_line_agrees_with_a_plain_list(
        per_tenant in prop::option::of(1usize..3),
        per_type in 1usize..3,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let tenants: Vec<Tenant> = names("t", 4).iter().map(|name| tenant(name)).collect();
        let types: Vec<JobType> = names("j", 3).iter().map(|name| job_type(name)).collect();
        let mut limits = Limits::new(per_tenant);
        // The last type has no limit.
        limits.set_types([(types[0].clone(), per_type), (types[1].clone(), 1)]);
        let mut line = Line::default();
        let mut model: Vec<(u32, usize, usize)> = Vec::new();
        let mut running: Vec<(usize, usize)> = Vec::new();
        for (number, step) in (0u32..).zip(steps) {
            match step {
                Step::Push { tenant, job_type } => {
                    line.push(&types[job_type], &tenants[tenant], (number, tenant, job_type));
                    model.push((number, tenant, job_type));
                }
                Step::Take => {
                    let may = |job: &&(u32, usize, usize)| limits.may(&types[job.2], &tenants[job.1]);
                    let any = model.iter().any(|job| may(&job));
                    prop_assert_eq!(line.may_run(&limits), any);
                    let taken = line.take(&limits);
                    prop_assert_eq!(taken.is_some(), any);
                    if let Some(taken) = taken {
                        let first = model.iter().filter(may).find(|job| job.1 == taken.1);
                        prop_assert_eq!(first, Some(&taken));
                        model.retain(|job| *job != taken);
                        limits.started(&types[taken.2], &tenants[taken.1]);
                        running.push((taken.1, taken.2));
                    }
                }
                Step::End { pick } if !running.is_empty() => {
                    let (tenant, job_type) = running.swap_remove(pick.index(running.len()));
                    limits.ended(&types[job_type], &tenants[tenant]);
                }
                Step::End { .. } => {}
                Step::Lose { modulus } => {
                    line.retain(|job| job.0 % modulus != 0);
                    model.retain(|job| job.0 % modulus != 0);
                }
            }
            prop_assert_eq!(line.len(), model.len());
            prop_assert_eq!(line.iter().count(), model.len());
            let of_type = running.iter().filter(|job| job.1 == 0).count();
            prop_assert!(of_type <= per_type);
            for tenant in 0..4 {
                let of_tenant = running.iter().filter(|job| job.0 == tenant).count();
                prop_assert!(per_tenant.is_none_or(|limit| of_tenant <= limit));
            }
        }
    }

    /// The bound of deficit round robin: between any two moments, two tenants that always have something in line differ in
    /// what they were given by at most a quantum and two of the largest costs; with a cost of 1 each, by one job.
    #[test]
    fn backlogged_tenants_are_served_alike(
        quantum in 1u32..8,
        costs in prop::collection::vec(prop::collection::vec(1u32..9, 80..120), 2..6),
        window in (0usize..60, 1usize..60),
        unit in any::<bool>(),
    ) {
        let quantum = if unit { 1 } else { quantum };
        let echo = job_type("echo");
        let mut line = Line::new(quantum);
        for (index, costs) in costs.iter().enumerate() {
            let owner = tenant(&format!("t{index}"));
            for cost in costs {
                let cost = if unit { 1 } else { *cost };
                line.push_at_cost(&echo, &owner, cost, (index, u64::from(cost)));
            }
        }
        let mut served: BTreeMap<usize, u64> = (0..costs.len()).map(|index| (index, 0)).collect();
        for taken in 0..window.0 + window.1 {
            let Some((index, cost)) = line.take(&Limits::default()) else { break };
            let all_backlogged = (0..costs.len()).all(|t| line.iter().any(|item| item.0 == t));
            if !all_backlogged { break }
            if taken >= window.0 {
                *served.entry(index).or_default() += cost;
            }
        }
        let most = served.values().max().copied().unwrap_or(0);
        let least = served.values().min().copied().unwrap_or(0);
        let bound = if unit { 1 } else { u64::from(quantum) + 2 * 8 };
        prop_assert!(most - least <= bound, "{served:?}");
    }

    /// A tenant with something that may run waits for no more turns than there are other tenants.
    #[test]
    fn nobody_waits_for_more_than_a_round(
        floods in 1usize..20,
        depth in 1usize..30,
        before in 0usize..50,
    ) {
        let echo = job_type("echo");
        let mut line = Line::default();
        for index in 0..floods {
            for _ in 0..depth + 50 {
                line.push(&echo, &tenant(&format!("flood{index}")), "flood");
            }
        }
        for _ in 0..before {
            line.take(&Limits::default());
        }
        line.push(&echo, &tenant("small"), "small");
        let turns = std::iter::from_fn(|| line.take(&Limits::default())).position(|item| item == "small");
        prop_assert!(turns.is_some_and(|turns| turns <= floods), "{turns:?}");
    }
}
