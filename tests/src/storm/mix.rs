//! The jobs of a storm: what the job of a number is follows from the seed. Pure.

use serde_json::{Value, json};
use tidegate_contract::Tier;

use super::seed::Draw;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Quick,
    /// By the worker's own handler.
    Echo,
    Slow,
    /// For good, by an answer of its own.
    Failing,
    /// Every attempt.
    Hopeless,
    /// Some attempts.
    Retrying,
    Delayed,
    Cancelled,
    Deadlined,
    Serial,
    /// It kills its worker.
    Poison,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Quick,
        Kind::Echo,
        Kind::Slow,
        Kind::Failing,
        Kind::Hopeless,
        Kind::Retrying,
        Kind::Delayed,
        Kind::Cancelled,
        Kind::Deadlined,
        Kind::Serial,
        Kind::Poison,
    ];

    /// Its job type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Quick => "quick",
            Kind::Echo => "echo",
            Kind::Slow => "slow",
            Kind::Failing => "failing",
            Kind::Hopeless => "hopeless",
            Kind::Retrying => "retrying",
            Kind::Delayed => "delayed",
            Kind::Cancelled => "cancelled",
            Kind::Deadlined => "deadlined",
            Kind::Serial => "serial",
            Kind::Poison => "poison",
        }
    }
}

/// How many of a hundred jobs are of each kind; the rest are quick.
const SHARES: [(Kind, u64); 8] = [
    (Kind::Failing, 3),
    (Kind::Hopeless, 1),
    (Kind::Retrying, 7),
    (Kind::Delayed, 7),
    (Kind::Cancelled, 6),
    (Kind::Deadlined, 5),
    (Kind::Slow, 12),
    (Kind::Echo, 14),
];

/// The tenants: name, key, and the key's SHA-256 as the configuration has it.
pub const TENANTS: [(&str, &str, &str); 3] = [
    (
        "ash",
        "storm-key-a",
        "625eab5170cf5e46eb8abbed2e7d58aba887509788168ff1db0f62147a63bd43",
    ),
    (
        "birch",
        "storm-key-b",
        "a5ecd138eb671fa74a1dc3e07ddcfeb4078f8ed60b690858a8fa14519db33a19",
    ),
    (
        "cedar",
        "storm-key-c",
        "e0f6208c410ee236d9ca8b1404a6c05b22878d137e203712f203e48ec20b6382",
    ),
];

/// How many serial keys there are.
pub const SERIAL_KEYS: u64 = 4;

/// One job to submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub number: u64,
    pub kind: Kind,
    /// Index into [`TENANTS`].
    pub tenant: usize,
    pub tier: Tier,
    /// Seconds; `None` does not wait.
    pub wait: Option<u64>,
    /// With an `Idempotency-Key`.
    pub keyed: bool,
    /// The same request goes to two gateways at once.
    pub doubled: bool,
    /// How long its handler takes, in milliseconds.
    pub work: u64,
    /// So many attempts fail.
    pub fails: u32,
    pub delay: Option<u64>,
    /// Seconds.
    pub deadline: Option<u64>,
    /// Milliseconds after it was accepted.
    pub cancel_after: Option<u64>,
    pub serial_key: Option<u64>,
    /// It asks to be called back.
    pub callback: bool,
    /// Its status is looked at until it has ended, and again later.
    pub followed: bool,
    pub padding: usize,
    /// Which of the gateways there are, modulo their number.
    pub gateway: u64,
}

impl Ask {
    /// The job of a number.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut draw = Draw::of(seed, 1_000 + number);
        let mut ticket = draw.between(0, 99);
        let mut kind = Kind::Quick;
        for (of, share) in SHARES {
            if ticket < share {
                kind = of;
                break;
            }
            ticket -= share;
        }
        Self::draw(draw, number, kind)
    }

    /// A job of that kind.
    pub fn of_kind(seed: u64, number: u64, kind: Kind) -> Self {
        Self::draw(Draw::of(seed, 1_000 + number), number, kind)
    }

    fn draw(mut draw: Draw, number: u64, kind: Kind) -> Self {
        let tier = match draw.between(0, 9) {
            0..=1 => Tier::High,
            2..=7 => Tier::Normal,
            _ => Tier::Low,
        };
        let waits = match kind {
            Kind::Quick | Kind::Echo | Kind::Failing | Kind::Slow => draw.percent(50),
            Kind::Retrying | Kind::Deadlined => draw.percent(30),
            _ => false,
        };
        let keyed = draw.percent(35);
        Self {
            number,
            kind,
            // One of them asks for half of it all.
            tenant: [0, 0, 1, 2][draw.between(0, 3) as usize],
            tier,
            wait: waits.then(|| draw.between(2, 12)),
            keyed,
            doubled: keyed && draw.percent(15),
            work: match kind {
                Kind::Slow => draw.between(500, 5_000),
                Kind::Cancelled => draw.between(0, 3_000),
                Kind::Deadlined => draw.between(0, 1_500),
                Kind::Serial => draw.between(20, 300),
                _ => draw.between(0, 20),
            },
            fails: match kind {
                Kind::Retrying => draw.between(1, 2) as u32,
                Kind::Hopeless => u32::MAX,
                _ => 0,
            },
            delay: (kind == Kind::Delayed).then(|| draw.between(1, 8)),
            deadline: (kind == Kind::Deadlined).then(|| draw.between(1, 4)),
            cancel_after: (kind == Kind::Cancelled).then(|| draw.between(0, 3_000)),
            serial_key: (kind == Kind::Serial).then(|| draw.between(0, SERIAL_KEYS - 1)),
            followed: draw.percent(40),
            padding: draw.between(0, 600) as usize,
            gateway: draw.number(),
            callback: draw.percent(30),
        }
    }

    /// What no other job has, and what its answer must bear.
    pub fn nonce(&self) -> String {
        format!("{}-{}", self.kind.as_str(), self.number)
    }

    /// The body of the request, which tells the handler what to do.
    pub fn body(&self) -> Value {
        json!({
            "nonce": self.nonce(),
            "work": self.work,
            "fails": self.fails,
            "refuses": self.kind == Kind::Failing,
            "padding": "x".repeat(self.padding),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_job_of_a_number_is_the_same_every_time() {
        let jobs = |seed| {
            (0..500)
                .map(|number| Ask::of(seed, number))
                .collect::<Vec<_>>()
        };
        assert_eq!(jobs(3), jobs(3));
        assert_ne!(jobs(3), jobs(4));
        let nonces: BTreeSet<_> = jobs(3).iter().map(Ask::nonce).collect();
        assert_eq!(nonces.len(), 500);
    }

    #[test]
    fn the_shares_are_as_said_and_every_option_is_met() {
        let jobs: Vec<_> = (0..20_000).map(|number| Ask::of(9, number)).collect();
        let mut counts = BTreeMap::<Kind, u64>::new();
        for job in &jobs {
            *counts.entry(job.kind).or_default() += 1;
        }
        for (kind, share) in SHARES {
            let found = counts[&kind] / 2; // of ten thousand
            assert!(found.abs_diff(share * 100) < 80, "{kind:?}: {found}");
        }
        for tenant in 0..TENANTS.len() {
            assert!(jobs.iter().any(|job| job.tenant == tenant));
        }
        for tier in [Tier::High, Tier::Normal, Tier::Low] {
            assert!(jobs.iter().any(|job| job.tier == tier));
        }
        assert!(jobs.iter().any(|job| job.doubled && job.wait.is_some()));
        assert!(jobs.iter().any(|job| job.keyed && job.wait.is_none()));
        assert!(jobs.iter().any(|job| job.callback && job.wait.is_some()));
        let cancelled = jobs.iter().filter(|job| job.kind == Kind::Cancelled);
        assert!(
            cancelled
                .clone()
                .all(|job| job.cancel_after.is_some() && job.wait.is_none())
        );
    }
}
