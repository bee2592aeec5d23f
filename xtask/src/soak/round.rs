//! One round: a cluster of real processes, clients, a shard that moves, and one thing that goes wrong.
//!
//! Its phases are those of a run in the simulator. *Chaos*: the trouble is there; nothing acknowledged may be lost.
//! *Heal*: it ends, and everybody is started again. *Settle*: the migration ends, clients are served, every document is
//! read once more, anti-entropy runs and the replicas are compared. Then the history is judged.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use miroir_sim::dice::{Dice, Random as _};
use miroir_sim::history::{Operation, Outcome, to_jsonl};
use miroir_sim::oracle::linearizable::{ModelKind, check_file};
use miroir_sim::seed::Seed;
use miroir_store::cli::session::Session;
use miroir_store::cli::settings::Settings;
use miroir_store::config::Cutover;
use miroir_store::env::Peer;
use miroir_store::id::{MigrationId, NodeId, ShardId};
use miroir_store::migration::Stage;
use miroir_store::wire::Command;
use tokio::runtime::Runtime;

use super::clients::Load;
use super::judge;
use super::trouble::{Cast, Trouble};
use crate::cluster::cables::Cables;
use crate::cluster::small_disk::SmallDisk;
use crate::cluster::{self, Cluster, LOOK, failed};
use crate::exit::{ExitCode, Failure};

const NODES: u32 = 4;
const CLIENTS: u32 = 4;
/// The client that writes every document before anything goes wrong, and the one that reads them all in the end.
const FILLER: u32 = 98;
const READER: u32 = 99;
const SHARD: ShardId = ShardId(0);
const MIGRATION: MigrationId = MigrationId(1);
/// For what takes a second where nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(60);
pub const HISTORY: &str = "history.jsonl";

/// What a round came to.
#[derive(Debug, Default)]
pub struct Played {
    /// The stage in which it went wrong.
    pub hit: Option<Stage>,
    pub attempts: u32,
    pub acked: u64,
    pub operations: u64,
    pub unknown: u64,
    pub longest_gap_ns: u64,
    pub missing: u64,
    pub is_linearizable: bool,
    /// What is wrong, one line each. A round without any is as expected.
    pub findings: Vec<String>,
    /// Why it was not played.
    pub skipped: Option<&'static str>,
}

/// Plays the round of a seed with the `miroir` at `program`. What processes write goes to `folder`.
pub fn play(program: &Path, folder: &Path, seed: Seed) -> Result<Played, Failure> {
    let trouble = Trouble::of(seed);
    let mut disks = Vec::new();
    if matches!(trouble, Trouble::FullDisk(_)) {
        for node in 1..=NODES {
            match SmallDisk::mount(&folder.join(format!("n{node}")))? {
                Some(disk) => disks.push((NodeId(node), disk)),
                None => {
                    let skipped = Some("no file system may be mounted here; run it as root");
                    return Ok(Played { skipped, ..Played::default() });
                }
            }
        }
    }
    let runtime = cluster::runtime()?;
    let cables = Cables::new(runtime.handle());
    let load = Load::default();
    let mut played = Played::default();
    let mut cluster = Cluster::lay_out(program, folder, NODES, &settings(), Some(&cables))?;
    let mut round = Round { seed, trouble, runtime: &runtime, cables: &cables, disks: &disks, load: &load };
    if let Err(failure) = round.run(&mut cluster, &mut played) {
        played.findings.push(failure.line);
    }
    drop(cluster);
    let mut history = load.history.operations();
    history.sort_by_key(|operation| operation.call);
    judge(folder, &history, &mut played)?;
    Ok(played)
}

/// What every process is told: timeouts that run out within a round, and pages that a copy has several of.
fn settings() -> Settings {
    Settings {
        cluster: "soak".to_owned(),
        shards: 2,
        replication: 3,
        anti_entropy_period_ms: 1_000,
        page_documents: 16,
        copy_timeout_ms: 6_000,
        drain_timeout_ms: 1_000,
        joint_timeout_ms: 2_000,
        request_timeout_ms: 2_000,
        ..Settings::default()
    }
}

/// Keeps the history, and has the oracles look at it.
fn judge(folder: &Path, history: &[Operation], played: &mut Played) -> Result<(), Failure> {
    let path = folder.join(HISTORY);
    let text = to_jsonl(history);
    fs::write(&path, &text).map_err(|error| Failure::io("write", path.display(), &error))?;
    let checked = check_file(&path.display().to_string(), &text, ModelKind::Kv).map_err(Failure::internal)?;
    played.operations = checked.operations as u64;
    played.unknown = history.iter().filter(|operation| operation.outcome == Outcome::Unknown).count() as u64;
    played.longest_gap_ns = judge::longest_gap(history);
    played.is_linearizable = checked.exit_code() == ExitCode::AsExpected;
    if !played.is_linearizable {
        played.findings.push(checked.to_string());
    }
    let missing = judge::missing(history, READER);
    played.missing = missing.len() as u64;
    played.findings.extend(missing);
    Ok(())
}

/// Waits until a node says that its disk is full, as it does when a client or another node has it write.
fn until_full(cluster: &Cluster, peer: Peer) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    while !cluster.logged(peer).contains("writes are turned away") {
        if Instant::now() > end {
            return Err(Failure::internal(format!("{peer} has not noticed that its disk is full")));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

struct Round<'a> {
    seed: Seed,
    trouble: Trouble,
    runtime: &'a Runtime,
    cables: &'a Cables,
    disks: &'a [(NodeId, SmallDisk)],
    load: &'a Load,
}

impl Round<'_> {
    fn run(&mut self, cluster: &mut Cluster, played: &mut Played) -> Result<(), Failure> {
        cluster.up(self.runtime)?;
        let settings = cluster.settings()?;
        self.load.fill(FILLER, settings.clone())?;
        let dice = Dice::new(self.seed);
        let load = self.load;
        thread::scope(|scope| {
            let clients: Vec<_> = (1..=CLIENTS)
                .map(|number| (number, settings.clone()))
                .map(|(number, settings)| scope.spawn(move || load.work(number, settings, dice)))
                .collect();
            let moved = self.under_load(cluster, played);
            load.stop();
            played.acked = load.acked();
            let ended: Result<Vec<()>, Failure> =
                clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect();
            moved.and(ended.map(drop))
        })?;
        self.load.read_all(READER, settings)?;
        cluster.miroir(&["anti-entropy", "run"])?;
        cluster.miroir(&["migrate", "verify", &MIGRATION.to_string()])?;
        match cluster.ended() {
            Some((peer, status)) => Err(Failure::internal(format!("{peer} ended by itself ({status})"))),
            None => Ok(()),
        }
    }

    fn under_load(&self, cluster: &mut Cluster, played: &mut Played) -> Result<(), Failure> {
        let mut operator = self.runtime.block_on(cluster.session())?;
        let (cast, target) = self.runtime.block_on(self.cast(cluster, &mut operator))?;
        self.load.wait_for_writes(40, PATIENCE)?;
        let plan = Command::Plan { id: MIGRATION, shard: SHARD, target, cutover: Cutover::Delta };
        self.tell(&mut operator, plan)?;
        let begins_in = match self.trouble {
            Trouble::Kill(_, stage) | Trouble::Cut(_, _, stage) => Some(stage),
            Trouble::Stop(_) | Trouble::FullDisk(_) => None,
        };
        if begins_in.is_none() {
            self.begin(cluster, &cast)?;
        }
        // Whoever is stopped or cut off may be the coordinator: it is told once it hears.
        let started = self.tell(&mut operator, Command::Start { id: MIGRATION });
        match begins_in {
            None => {
                played.hit = Some(Stage::Planned);
                if let Trouble::FullDisk(victim) = self.trouble {
                    cast.of(victim).into_iter().try_for_each(|peer| until_full(cluster, peer))?;
                }
                self.wait(&mut operator, Stage::Cleanup, self.trouble.lasts(self.seed));
            }
            Some(stage) => {
                started?;
                self.wait(&mut operator, stage, PATIENCE);
                played.hit = self.look(&mut operator).map(|(stage, _)| stage);
                self.begin(cluster, &cast)?;
                thread::sleep(self.trouble.lasts(self.seed));
            }
        }
        self.end(cluster, &cast)?;
        cluster.up(self.runtime)?;
        self.tell(&mut operator, Command::Start { id: MIGRATION })?;
        self.load.wait_for_writes(40, PATIENCE)?;
        let done = self.wait(&mut operator, Stage::Done, PATIENCE);
        let (stage, attempts) = self.look(&mut operator).unwrap_or((Stage::Planned, 0));
        played.attempts = attempts;
        self.runtime.block_on(operator.close());
        match done {
            true => Ok(()),
            false => Err(Failure::internal(format!("the migration has not ended: it is in {stage}"))),
        }
    }

    /// Who plays which part, and which nodes shall hold the shard.
    async fn cast(&self, cluster: &Cluster, operator: &mut Session) -> Result<(Cast, Vec<NodeId>), Failure> {
        let inspection = operator.inspect().await.map_err(failed)?;
        let config = inspection.configs.iter().find(|config| config.shard == SHARD);
        let config = config.ok_or_else(|| Failure::internal(format!("there is no {SHARD}")))?;
        let mut held: Vec<NodeId> = config.new.iter().map(|replica| replica.node).collect();
        let joins = (1..=NODES).map(NodeId).find(|node| !held.contains(node));
        let joins = joins.ok_or_else(|| Failure::internal("every node holds the shard"))?;
        Dice::new(self.seed).stream("cast", 0).shuffle(&mut held);
        let target = vec![held[0], held[1], joins];
        Ok((Cast { stays: held[0], joins, leaves: held[2], everybody: cluster.peers() }, target))
    }

    /// The trouble begins.
    fn begin(&self, cluster: &mut Cluster, cast: &Cast) -> Result<(), Failure> {
        let victims = cast.of(self.trouble.victim());
        match self.trouble {
            Trouble::Kill(..) => victims.into_iter().for_each(|peer| cluster.kill(peer)),
            Trouble::Stop(_) => victims.into_iter().for_each(|peer| cluster.stop(peer, true)),
            Trouble::FullDisk(_) => self.disk(&victims)?.fill()?,
            Trouble::Cut(victim, way, _) => self.cables.cut(cast.directions(victim, way)),
        }
        Ok(())
    }

    /// The trouble ends; whoever was killed is started again by the caller.
    fn end(&self, cluster: &mut Cluster, cast: &Cast) -> Result<(), Failure> {
        let victims = cast.of(self.trouble.victim());
        match self.trouble {
            Trouble::Kill(..) => {}
            Trouble::Stop(_) => victims.into_iter().for_each(|peer| cluster.stop(peer, false)),
            Trouble::FullDisk(_) => self.disk(&victims)?.make_room()?,
            Trouble::Cut(..) => self.cables.cut(BTreeSet::new()),
        }
        Ok(())
    }

    fn disk(&self, victims: &[Peer]) -> Result<&SmallDisk, Failure> {
        let found = self.disks.iter().find(|(node, _)| victims.contains(&Peer::Node(*node)));
        found.map(|(_, disk)| disk).ok_or_else(|| Failure::internal("no node has a small disk"))
    }

    fn tell(&self, operator: &mut Session, command: Command) -> Result<(), Failure> {
        self.runtime.block_on(operator.command(command, false)).map(drop).map_err(failed)
    }

    /// Where the migration stands: its stage and its attempts. `None`: the coordinator does not answer.
    fn look(&self, operator: &mut Session) -> Option<(Stage, u32)> {
        let inspection = self.runtime.block_on(operator.inspect()).ok()?;
        let found = inspection.migrations.into_iter().find(|it| it.record.id == MIGRATION)?;
        Some((found.record.stage, found.record.attempt))
    }

    /// Waits until the migration has come to a stage, or past it; `false`: it has not.
    fn wait(&self, operator: &mut Session, wanted: Stage, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            match self.look(operator) {
                Some((Stage::Aborted, _)) | None => thread::sleep(LOOK),
                Some((stage, _)) if stage >= wanted => return true,
                Some(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
        false
    }
}
