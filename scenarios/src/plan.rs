//! Everything a run decides, drawn once from its seed: printable, serialisable, shrinkable.
//!
//! `Seed -> Plan` is pure. A scenario starts from [`Plan::draw`] and changes what it is about; `--set` changes single
//! values after that; `--plan FILE` replaces all of it. Chances are ratios, times are integers with their unit in the
//! name.

use miroir_sim::plan::{Fault, FaultKind, SimPlan};
use miroir_sim::profile;
use miroir_sim::time::{MILLIS, Nanos, SECONDS};
use miroir_sim::{Dice, Random, Ratio, Seed};
use miroir_store::id::{NodeId, ShardId};
use miroir_store::placement::place;
use serde::{Deserialize, Serialize};

use crate::burst::BurstPlan;
use crate::scan::ScanPlan;
use crate::script::Scripted;

mod check;
mod draw;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The scenario that directs it.
    pub scenario: String,
    /// Feeds every stream of the run that is not drawn here (each message's fate, each client's choices). A string, as
    /// TOML has no unsigned 64-bit numbers.
    pub seed: String,
    /// Feeds those streams instead of the seed: runs with the same world differ in what their plans differ in, and in
    /// nothing else up to there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<String>,
    /// How hard the world was meant to be when faults were drawn.
    pub profile: Profile,
    pub cluster: ClusterPlan,
    pub workload: WorkloadPlan,
    pub timing: TimingPlan,
    pub migrations: Vec<MigrationPlan>,
    /// A dump that is imported meanwhile, by a process of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportPlan>,
    /// Processes talk over the store's TCP transport, on simulated TCP, and not frame by frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpPlan>,
    pub sim: SimPlan,
}

/// A dump of one index, and how it is imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportPlan {
    pub documents: u32,
    /// Every document is staged on every node first.
    pub broadcast: bool,
    /// Documents of a batch.
    pub batch_documents: u32,
}

/// How the TCP transport is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpPlan {
    /// All processes share a key, and connections are sealed.
    pub key: bool,
    /// Nodes, by number, that do not know the newest wire version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub old_wire: Vec<u32>,
}

/// The process that imports a dump.
pub const IMPORTER: &str = "importer";

/// The coordinator that takes the place of one that is taken for dead.
pub const SUCCESSOR: &str = "successor";

/// How hard the world is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Latency, and nothing else.
    Calm,
    /// A little loss, duplication and reordering; in some runs a crash, a pause or a partition.
    Usual,
    /// Several faults at a time, as many as leave a majority alone.
    Storm,
    /// What a file says: ranges for network and disks, weights for faults.
    File(Box<profile::Profile>),
}

impl Profile {
    /// The profile of this name, if it is one.
    pub fn named(name: &str) -> Option<Profile> {
        match name {
            "calm" => Some(Profile::Calm),
            "usual" => Some(Profile::Usual),
            "storm" => Some(Profile::Storm),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPlan {
    pub nodes: u32,
    pub replication: u32,
    pub shards: u32,
    pub anti_entropy: bool,
    pub anti_entropy_period_ms: u64,
    /// The safety gate is overridden. Exists only in the simulator.
    pub unsafe_cutover: bool,
    /// A skipped delta pass keeps no old replicas. Exists only in the simulator.
    pub eager_cleanup: bool,
    /// What a delta pass or anti-entropy has shipped is not verified. Exists only in the simulator.
    #[serde(default, skip_serializing_if = "is_default")]
    pub skip_verify: bool,
    /// Anti-entropy finds what differs and repairs nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reports_only: bool,
    /// The nodes of each shard, by number; shards beyond its end are placed by hashing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub placement: Vec<Vec<u32>>,
    /// The coordinator is taken for dead when the first migration enters this stage: it stands still, another one with an
    /// empty disk takes its place, and then it goes on beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_in: Option<String>,
    /// A node's writes go from its log into its pages after so many; 0: as the store has it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flush_writes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadPlan {
    pub clients: u32,
    /// Over all clients; afterwards they go on at a slower pace until the migrations have ended.
    pub operations: u32,
    pub documents: u32,
    /// The last so many of them are not written before the faults begin: whoever comes first writes them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fresh_documents: u32,
    pub reads: Ratio,
    pub deletes: Ratio,
    /// Chance that a client has two to four operations under way at once.
    pub pipelined: Ratio,
    /// As many as that instead; 0: two to four.
    #[serde(default, skip_serializing_if = "is_default")]
    pub depth: u32,
    pub value_bytes: u32,
    /// A client gives an operation up after this long.
    pub give_up_ms: u64,
    /// The load ends with the planned operations, and does not go on until the migrations have ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exact: bool,
    /// Exactly these operations, at these times, instead of drawn ones; nothing else is written, also not before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub script: Vec<Scripted>,
    /// What single clients do when something happens. They take no part in the load.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bursts: Vec<BurstPlan>,
    /// One client scans instead of taking part in the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanPlan>,
}

impl WorkloadPlan {
    /// Whether this client works in a closed loop, and neither waits for bursts nor scans.
    pub fn is_worker(&self, client: u32) -> bool {
        self.bursts.iter().all(|burst| burst.client != client)
            && self.scan.as_ref().is_none_or(|scan| scan.client != client)
    }

    /// How many do.
    pub fn workers(&self) -> u32 {
        (1..=self.clients).filter(|client| self.is_worker(*client)).count() as u32
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingPlan {
    pub page_documents: u32,
    pub page_interval_ms: u64,
    pub drain_timeout_ms: u64,
    pub joint_timeout_ms: u64,
    /// Pages under way at once, over all migrations; 0: as many as the store has by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pages_under_way: u32,
    /// How long a copy may take; 0: as long as the store has it by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub copy_timeout_ms: u64,
    /// Faults end at this time at the latest, and the run heals.
    pub chaos_ms: u64,
    /// How long a healed cluster may take until its migrations have ended and its replicas are equal.
    pub settle_ms: u64,
    /// With a script: faults may happen from this time on. Without one, as soon as every document is written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chaos_from_us: u64,
    /// Between two attempts to forget the tombstones of a shard; 0: as in an ordinary cluster.
    #[serde(default, skip_serializing_if = "is_default")]
    pub collect_every_ms: u64,
    /// The run fails if it takes more simulated time than this; 0: two minutes more than chaos and settling may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limit_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationPlan {
    pub shard: u32,
    /// The nodes that shall hold the shard, by number.
    pub target: Vec<u32>,
    /// Skip the delta pass.
    pub skip_delta: bool,
    /// Starts when the clients have ended this many operations.
    pub after_operations: u32,
    /// Starts at this time instead, if it is not 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after_us: u64,
    /// What its operator does to it on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interference: Option<Interference>,
}

impl MigrationPlan {
    /// With its delta pass, and without interference.
    pub fn of(shard: u32, target: Vec<u32>, after_operations: u32) -> MigrationPlan {
        MigrationPlan { shard, target, skip_delta: false, after_operations, after_us: 0, interference: None }
    }
}

/// What an operator does when a migration has entered a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Interference {
    Abort { stage: String },
    Pause { stage: String, for_ms: u64 },
    AntiEntropyOff { stage: String, for_ms: u64 },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Kinds of faults that no plan of calm, usual or storm has, and why; a profile from a file may.
pub const NEVER_DRAWN: &[(&str, &str)] = &[
    ("clock", OPT_IN),
    ("disk_errors", OPT_IN),
    ("disk_full", OPT_IN),
    ("flip_bits", "opt-in: rot stays until it is read or scrubbed, so no budget in time covers it"),
];

const OPT_IN: &str = "opt-in: weigh it in a profile from a file";

/// What has to be known before anything else is drawn; what is `None` is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub replication: Option<u32>,
    pub nodes: Option<u32>,
    pub clients: Option<u32>,
    /// As many as the seed says, 4 to 16, where they are not given; otherwise there are 8.
    pub draws_clients: bool,
    /// Even seeds have replication 1 and odd ones 3, where it is not given.
    pub alternates_replication: bool,
    /// So many seeds in a row share everything that is drawn here; a scenario's own draws tell them apart.
    pub seeds_per_world: Option<u64>,
}

impl Plan {
    /// The standard cutover: 3 to 6 nodes, replication 1 or 3, 8 clients (or 4 to 16), about 2,000 operations, one migration that
    /// starts after a tenth of them, a link to the joining nodes that loses 2 to 5 % of the clients' writes.
    pub fn draw(scenario: &str, seed: Seed, profile: Profile, given: &Shape) -> Plan {
        let world = given.seeds_per_world.map(|count| Seed(seed.0 / count));
        let dice = Dice::new(world.unwrap_or(seed));
        let mut shape = dice.stream("plan", 0);
        let drawn = *shape.pick(&[1, 3]);
        let drawn = if given.alternates_replication { [1, 3][(seed.0 % 2) as usize] } else { drawn };
        let replication = given.replication.unwrap_or(drawn);
        let drawn = if replication == 1 { shape.range(3..=4) } else { shape.range(4..=6) } as u32;
        let nodes = given.nodes.unwrap_or(drawn).max(replication + 1);
        let drawn = if given.draws_clients { dice.stream("clients", 0).range(4..=16) as u32 } else { 8 };
        let clients = given.clients.unwrap_or(drawn);
        let mut plan = Plan {
            scenario: scenario.to_owned(),
            seed: seed.to_string(),
            world: world.map(|world| world.to_string()),
            profile,
            cluster: ClusterPlan {
                nodes,
                replication,
                shards: shape.range(1..=2) as u32,
                anti_entropy: true,
                anti_entropy_period_ms: shape.range(300..=800),
                unsafe_cutover: false,
                eager_cleanup: false,
                skip_verify: false,
                reports_only: false,
                placement: Vec::new(),
                succeeded_in: None,
                flush_writes: 0,
            },
            workload: WorkloadPlan {
                clients,
                operations: 2_000,
                documents: shape.range(200..=400) as u32,
                fresh_documents: 0,
                reads: Ratio::of(3, 10),
                deletes: Ratio::of(1, 10),
                pipelined: Ratio::of(1, 5),
                depth: 0,
                value_bytes: shape.range(16..=160) as u32,
                give_up_ms: 1_000,
                exact: false,
                script: Vec::new(),
                bursts: Vec::new(),
                scan: None,
            },
            timing: TimingPlan {
                page_documents: shape.range(6..=12) as u32,
                page_interval_ms: shape.range(12..=20),
                drain_timeout_ms: 800,
                joint_timeout_ms: 2_500,
                pages_under_way: 0,
                copy_timeout_ms: 0,
                chaos_ms: 6_000,
                settle_ms: 30_000,
                chaos_from_us: 0,
                collect_every_ms: 0,
                limit_ms: 0,
            },
            migrations: Vec::new(),
            import: None,
            tcp: None,
            sim: SimPlan::default(),
        };
        plan.draw_migration(&dice);
        plan.draw_world(&dice);
        plan
    }

    pub fn seed(&self) -> Seed {
        self.seed.parse().expect("a checked plan has a seed")
    }

    /// What the streams of the run are fed from.
    pub fn world(&self) -> Seed {
        self.world.as_ref().map_or_else(|| self.seed(), |world| world.parse().expect("a checked plan has a world"))
    }

    /// The run fails if it takes more simulated time than this.
    pub fn limit(&self) -> Nanos {
        match self.timing.limit_ms {
            0 => (self.timing.chaos_ms + self.timing.settle_ms) * MILLIS + 120 * SECONDS,
            limit_ms => limit_ms * MILLIS,
        }
    }

    pub fn node_names(&self) -> Vec<String> {
        (1..=self.cluster.nodes).map(|n| format!("n{n}")).collect()
    }

    pub fn client_names(&self) -> Vec<String> {
        (1..=self.workload.clients).map(|n| format!("client-{n}")).collect()
    }

    /// Every process of the run, in the order in which they are registered.
    pub fn process_names(&self) -> Vec<String> {
        let mut names = vec!["operator".to_owned()];
        names.extend(self.node_names());
        names.push("coordinator".to_owned());
        names.extend(self.client_names());
        names.extend(self.import.as_ref().map(|_| IMPORTER.to_owned()));
        names.extend(self.cluster.succeeded_in.as_ref().map(|_| SUCCESSOR.to_owned()));
        names
    }

    /// Whether bits of this process's disk flip at some time.
    pub fn rots(&self, process: &str) -> bool {
        let flips = |fault: &Fault| matches!(&fault.kind, FaultKind::FlipBits { process: it, .. } if it == process);
        self.sim.faults.iter().any(flips)
    }

    /// Where a shard lives before anything moves.
    pub fn placed(&self, shard: u32) -> Vec<u32> {
        if let Some(placed) = self.cluster.placement.get(shard as usize) {
            return placed.clone();
        }
        let nodes: Vec<NodeId> = (1..=self.cluster.nodes).map(NodeId).collect();
        place(ShardId(shard), &nodes, self.cluster.replication as usize).iter().map(|node| node.0).collect()
    }

    /// The nodes that a migration brings in.
    pub fn joiners(&self, migration: &MigrationPlan) -> Vec<u32> {
        let placed = self.placed(migration.shard);
        migration.target.iter().copied().filter(|node| !placed.contains(node)).collect()
    }
}

/// Writing; reading is in `check`.
impl Plan {
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan holds nothing that TOML lacks")
    }

    /// Names the plan, whatever drew it.
    pub fn hash(&self) -> String {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(self.to_toml().as_bytes()))
    }
}
