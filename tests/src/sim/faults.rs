//! What goes wrong, how often, and how often it has.

use std::collections::BTreeMap;

use crate::random::Random;

macro_rules! faults {
    ($($name:ident = $word:literal, $per_mille:literal;)+) => {
        /// A thing that can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($name,)+ }

        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// How often of a thousand times, where a seed has this fault at its full rate.
            const fn per_mille(self) -> u64 {
                match self { $(Self::$name => $per_mille,)+ }
            }
        }
    };
}

faults! {
    TxDropped = "tx dropped", 100;
    TxDelayed = "tx delayed", 150;
    OrphanLost = "orphan lost", 300;
    SendTimeout = "send timeout", 80;
    SendRefused = "send refused", 40;
    RpcTimeout = "rpc timeout", 15;
    RpcInternal = "rpc internal error", 15;
    StaleHead = "stale head", 60;
    LogsMissing = "logs missing", 60;
    ReceiptsMissing = "receipts missing", 40;
    StaleNonce = "stale nonce", 100;
    FinalityNull = "finality null", 60;
    TxAgain = "tx duplicated", 60;
    // a node that contradicts the chain without a sign of it: see LIES
    LogsCut = "logs cut short", 60;
    ReceiptsCut = "receipts cut short", 60;
    ReceiptsForeign = "receipts of another block", 60;
    // decided by the scheduler
    FinalityStalled = "finality stalled", 0;
    FeeSpike = "fee spike", 0;
    Reorg = "reorg", 0;
    Crash = "crash", 0;
    Restart = "restart", 0;
    Interleaving = "interleaving", 0;
    Outage = "engine outage", 0;
    ClockDrift = "clock drift", 0;
    AgentSilent = "agent silent", 0;
    WalletRefuses = "wallet refuses", 0;
}

/// What only a second node could show to be false. A seed has them where it is asked to.
pub const LIES: &[Fault] = &[Fault::LogsCut, Fault::ReceiptsCut, Fault::ReceiptsForeign];

/// The seed's faults. Asked in the same order, it answers the same.
#[derive(Clone)]
pub struct Faults {
    random: Random,
    active: bool,
    /// Of a hundred: how bad the seed is, by fault.
    level: BTreeMap<Fault, u64>,
    pub struck: BTreeMap<Fault, u64>,
}

impl Faults {
    /// Each fault at its full rate, at a third of it, or not at all, as the seed says.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random(seed ^ 0xfa17);
        let mut level = BTreeMap::new();
        for fault in Fault::ALL.iter().filter(|fault| !LIES.contains(fault)) {
            level.insert(*fault, [0, 33, 100, 100][usize::try_from(random.below(4)).unwrap()]);
        }
        Self { random, active: true, level, struck: BTreeMap::new() }
    }

    /// The seed's faults, and nodes that lie: about all that they can, or about what has the word in its name.
    pub fn with_lies(seed: u64, about: &str) -> Self {
        let mut faults = Self::of_seed(seed);
        let told = LIES.iter().filter(|lie| lie.word().contains(about));
        faults.level.extend(told.map(|lie| (*lie, 100)));
        faults
    }

    pub fn none() -> Self {
        Self { random: Random(0), active: false, level: BTreeMap::new(), struck: BTreeMap::new() }
    }

    /// From now on nothing goes wrong.
    pub fn stop(&mut self) {
        self.active = false;
    }

    /// Whether it goes wrong this time.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        if !self.active {
            return false;
        }
        let level = self.level.get(&fault).copied().unwrap_or_default();
        let struck = self.random.below(100_000) < fault.per_mille() * level;
        if struck {
            self.note(fault);
        }
        struck
    }

    pub fn note(&mut self, fault: Fault) {
        *self.struck.entry(fault).or_default() += 1;
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.random.below(limit)
    }
}
