//! One round: a cluster of real processes, clients, a shard that moves, and one thing that goes wrong.
//!
//! Its phases are those of a run in the simulator. *Chaos*: the trouble is there; nothing acknowledged may be lost.
//! *Heal*: it ends, and everybody is started again. *Settle*: the migration ends, clients are served, every document is
//! read once more, anti-entropy runs and the replicas are compared. Then the history is judged.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
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
use miroir_store::net::key::SharedKey;
use miroir_store::wire::Command;
use tokio::runtime::Runtime;

use super::clients::Load;
use super::judge;
use super::trouble::{Cast, Hit, Trouble};
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
/// A stage may be over before anybody can meet it. Then the shard moves back, and is met on that way, or on the next.
const MIGRATIONS: u64 = 3;
const KEY: &str = "key";
/// For what takes a second where nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(60);
pub const HISTORY: &str = "history.jsonl";

/// What a round came to.
#[derive(Debug, Default)]
pub struct Played {
    /// Where the migration was as it went wrong; `None`: the stage that was meant was over too soon each time.
    pub hit: Option<Hit>,
    /// Where it was at the end of the trouble.
    pub until: Option<Stage>,
    /// How often the shard moved, and the attempts that the last migration took.
    pub migrations: u64,
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
    let key = Trouble::has_key(seed).then(SharedKey::fresh);
    if let Some(key) = &key {
        write_key(&folder.join(KEY), key)?;
    }
    let settings = Settings { key_file: key.is_some().then(|| KEY.into()), ..settings() };
    let cables = Cables::new(runtime.handle(), key);
    let load = Load::default();
    let mut played = Played::default();
    let mut cluster = Cluster::lay_out(program, folder, NODES, &settings, Some(&cables))?;
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

fn write_key(path: &Path, key: &SharedKey) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(key.to_hex().as_bytes()));
    written.map_err(|error| Failure::io("write", path.display(), &error))
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
        cluster.miroir(&["migrate", "verify", &MigrationId(played.migrations).to_string()])?;
        match cluster.ended() {
            Some((peer, status)) => Err(Failure::internal(format!("{peer} ended by itself ({status})"))),
            None => Ok(()),
        }
    }

    fn under_load(&self, cluster: &mut Cluster, played: &mut Played) -> Result<(), Failure> {
        let mut operator = self.runtime.block_on(cluster.session())?;
        let (mut cast, mut from, mut target) = self.runtime.block_on(self.cast(cluster, &mut operator))?;
        self.load.wait_for_writes(40, PATIENCE)?;
        while !self.trouble.is_met(played.hit) && played.migrations < MIGRATIONS {
            played.migrations += 1;
            let id = MigrationId(played.migrations);
            self.tell(
                &mut operator,
                Command::Plan { id, shard: SHARD, target: target.clone(), cutover: Cutover::Delta },
            )?;
            self.strike(cluster, &mut operator, &cast, id, played)?;
            self.end(cluster, &cast)?;
            cluster.up(self.runtime)?;
            self.tell(&mut operator, Command::Start { id })?;
            self.load.wait_for_writes(40, PATIENCE)?;
            if !until(cluster, id, |stage| stage == Stage::Done, PATIENCE) {
                return Err(Failure::internal(format!("the migration has not ended: it is in {}", cluster.stage(id))));
            }
            played.attempts = self.attempts(&mut operator, id);
            (cast, from, target) = (cast.back(), target, from);
        }
        self.runtime.block_on(operator.close());
        Ok(())
    }

    /// Starts the migration, and has the trouble begin where it is meant to. It lasts when this returns, unless the stage
    /// was over too soon.
    fn strike(
        &self,
        cluster: &mut Cluster,
        operator: &mut Session,
        cast: &Cast,
        id: MigrationId,
        played: &mut Played,
    ) -> Result<(), Failure> {
        let lasts = Trouble::lasts(self.seed);
        if let Some(wanted) = self.trouble.stage() {
            self.tell(operator, Command::Start { id })?;
            let is_there_or_past = |stage| stage >= wanted && stage != Stage::Aborted;
            until(cluster, id, is_there_or_past, PATIENCE);
            if cluster.stage(id) != wanted {
                return Ok(());
            }
            played.hit = Some(self.begin(cluster, cast, id)?);
            thread::sleep(lasts);
        } else {
            played.hit = Some(self.begin(cluster, cast, id)?);
            // Whoever is stopped may be the coordinator: it is told again once it hears.
            let _may_be_unheard = self.tell(operator, Command::Start { id });
            if let Trouble::FullDisk(victim) = self.trouble {
                cast.of(victim).into_iter().try_for_each(|peer| until_full(cluster, peer))?;
            }
            match self.trouble.must_come_to() {
                None => thread::sleep(lasts),
                Some(far) if until(cluster, id, |stage| stage >= far && stage != Stage::Aborted, PATIENCE) => {}
                Some(far) => {
                    let stage = cluster.stage(id);
                    let line =
                        format!("without {} the migration has come to {stage}, not to {far}", self.trouble.victim());
                    return Err(Failure::internal(line));
                }
            }
        }
        played.until = Some(cluster.stage(id));
        Ok(())
    }

    /// Who plays which part, which nodes hold the shard, and which shall.
    async fn cast(
        &self,
        cluster: &Cluster,
        operator: &mut Session,
    ) -> Result<(Cast, Vec<NodeId>, Vec<NodeId>), Failure> {
        let inspection = operator.inspect().await.map_err(failed)?;
        let config = inspection.configs.iter().find(|config| config.shard == SHARD);
        let config = config.ok_or_else(|| Failure::internal(format!("there is no {SHARD}")))?;
        let mut held: Vec<NodeId> = config.new.iter().map(|replica| replica.node).collect();
        let joins = (1..=NODES).map(NodeId).find(|node| !held.contains(node));
        let joins = joins.ok_or_else(|| Failure::internal("every node holds the shard"))?;
        Dice::new(self.seed).stream("cast", 0).shuffle(&mut held);
        let target = vec![held[0], held[1], joins];
        Ok((Cast { stays: held[0], joins, leaves: held[2], everybody: cluster.peers() }, held, target))
    }

    /// The trouble begins. Returns where the migration is meanwhile.
    fn begin(&self, cluster: &mut Cluster, cast: &Cast, id: MigrationId) -> Result<Hit, Failure> {
        let before = cluster.stage(id);
        let victims = cast.of(self.trouble.victim());
        match self.trouble {
            Trouble::Kill(..) => victims.into_iter().for_each(|peer| cluster.kill(peer)),
            Trouble::Stop(_) => victims.into_iter().for_each(|peer| cluster.stop(peer, true)),
            Trouble::FullDisk(_) => self.disk(&victims)?.fill()?,
            Trouble::Cut(victim, way, _) => self.cables.cut(cast.directions(victim, way)),
        }
        Ok(Hit { before, after: cluster.stage(id) })
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

    /// How often the migration has begun. 0: the coordinator does not answer.
    fn attempts(&self, operator: &mut Session, id: MigrationId) -> u32 {
        let inspection = self.runtime.block_on(operator.inspect());
        let found = inspection.ok().and_then(|it| it.migrations.into_iter().find(|it| it.record.id == id));
        found.map_or(0, |it| it.record.attempt)
    }
}

/// Waits until the migration is in a stage that is wanted; `false`: it has not come there.
fn until(cluster: &Cluster, id: MigrationId, is_wanted: impl Fn(Stage) -> bool, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if is_wanted(cluster.stage(id)) {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}
