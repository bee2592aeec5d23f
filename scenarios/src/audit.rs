//! The omniscient observer: hears what the store does and what the network loses, feeds the loss-window auditor, and
//! keeps the books that scenarios and reports ask for. It never acts on the cluster.

mod asked;
mod books;
mod marks;
pub mod promises;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use miroir_sim::disk::SimDisk;
use miroir_sim::net::{Dropped, Why};
use miroir_sim::oracle::durable::{Auditor, How};
use miroir_sim::oracle::progress::{Access, Progress};
use miroir_sim::time::in_seconds;
use miroir_sim::trace::Mode;
use miroir_sim::{ProcessId, Ratio, World, sometimes};
use miroir_store::config::{Cutover, Form};
use miroir_store::env::{Copy, Event, Nanos, Peer, Probe};
use miroir_store::id::{Epoch, NodeId, ShardId, Version};
use miroir_store::router::Request;
use miroir_store::wire::{Message, Op, Purpose, decode};

use crate::burst::Bursts;
use crate::env::Directory;
use crate::ledger::{self, Entry, Line};
use crate::plan::Plan;
use crate::scan::Scan;

pub use books::{Books, Journey, Paged, Pass, Turn};

/// The books of a run. Clones share them.
#[derive(Clone)]
pub struct Audit(Arc<Shared>);

struct Shared {
    world: World,
    directory: Arc<Directory>,
    shard_count: u32,
    anti_entropy: AtomicBool,
    /// Whether anti-entropy may be on, and repair: from before an operator asks for it until it is said to be off.
    may_repair: AtomicBool,
    /// Whether it does with the settings that the coordinator was started with, and by which lost records are rebuilt.
    repairs: bool,
    /// The simulator overrides what a skipped delta pass keeps.
    eager_cleanup: bool,
    /// And the gate.
    unsafe_cutover: bool,
    auditor: Auditor,
    progress: Progress,
    bursts: Bursts,
    books: Mutex<Books>,
    /// Kept beside a full trace.
    ledger: Mutex<Option<Vec<Line>>>,
}

/// The signal of every commit of a configuration.
pub const COMMIT: &str = "commit";

impl Audit {
    pub fn new(world: &World, plan: &Plan, directory: Arc<Directory>, bursts: Bursts) -> Audit {
        let repairs = plan.cluster.anti_entropy && !plan.cluster.reports_only;
        Audit(Arc::new(Shared {
            world: world.clone(),
            directory,
            shard_count: plan.cluster.shards,
            anti_entropy: AtomicBool::new(repairs),
            may_repair: AtomicBool::new(repairs),
            repairs,
            eager_cleanup: plan.cluster.eager_cleanup,
            unsafe_cutover: plan.cluster.unsafe_cutover,
            auditor: Auditor::new(world.trace().clone()),
            progress: Progress::default(),
            bursts,
            books: Mutex::default(),
            ledger: Mutex::new((world.trace().mode() == Mode::Full).then(Vec::new)),
        }))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().expect("nobody panics while keeping books")
    }

    /// Writes it down, if anybody wants to read it.
    fn write_down(&self, at: Nanos, entries: impl FnOnce() -> Vec<Entry>) {
        if let Some(lines) = &mut *self.0.ledger.lock().expect("nobody panics while writing") {
            lines.extend(entries().into_iter().map(|entry| Line { at, entry }));
        }
    }

    /// What was written down so far.
    pub fn ledger(&self) -> Vec<Line> {
        self.0.ledger.lock().expect("nobody panics while writing").clone().unwrap_or_default()
    }

    /// Knows a node's disk.
    pub fn add_disk(&self, node: NodeId, disk: &SimDisk) {
        self.books().sim_disks.insert(node, (Some(disk.clone()), disk.disk_id()));
    }

    /// Listens to what the network loses.
    pub fn watch(&self, world: &World) {
        let audit = self.clone();
        world.fabric().on_drop(move |dropped| audit.lost(dropped));
    }

    /// A frame was lost: if it carried writes to a node, that node has missed them.
    fn lost(&self, dropped: &Dropped<'_>) {
        let Some(node) = self.0.directory.node(dropped.to) else { return };
        let Ok(Message::Batch { shard, ops, .. }) = decode(dropped.frame) else { return };
        let why = match dropped.why {
            Why::Loss => self.loss(dropped.from, dropped.to),
            why => why.text(&node.to_string()).to_string(),
        };
        let mut books = self.books();
        let joins = books.configs.get(&shard).is_some_and(|config| config.joiners().iter().any(|it| it.node == node));
        let what = if joins { "dual-write" } else { "write" };
        let text = format!("{what} to {node} lost at {} ({why})", in_seconds(dropped.at));
        for (_, op) in ops {
            if let Op::Write { key, version, .. } = op {
                let doc = self.0.auditor.intern(key.id());
                self.0.auditor.missed(dropped.at, dropped.to, shard.0, doc, pair(version), &text);
                self.write_down(dropped.at, || vec![ledger::missed(node, shard, &key, version, text.clone())]);
                books.missed.insert((node, key), (version, dropped.at));
            }
        }
    }

    /// How much a link loses, as the plan has it; where nothing is lost by chance, a fault lost it.
    fn loss(&self, from: ProcessId, to: ProcessId) -> String {
        let (names, network) = (self.0.world.trace().names(), &self.0.world.plan().network);
        let (from, to) = (names.name(from), names.name(to));
        let link = network.links.iter().find(|link| *link.from == *from && *link.to == *to);
        match link.and_then(|link| link.loss).unwrap_or(network.loss) {
            chance if chance == Ratio::ZERO => "a fault of the link".to_owned(),
            chance => format!("loss {chance}"),
        }
    }

    /// A client begins an operation.
    pub fn called(&self, at: Nanos, request: &Request) {
        let shard = request.key().shard(self.0.shard_count);
        self.0.progress.call(at, shard.0, access(request));
    }

    /// A client's operation has ended; `version` if it succeeded.
    pub fn returned(&self, called: Nanos, at: Nanos, client: u32, request: &Request, version: Option<Version>) {
        let shard = request.key().shard(self.0.shard_count);
        self.0.progress.done(at, shard.0, access(request), version.is_some());
        if let (Some(version), Access::Write) = (version, access(request)) {
            let doc = self.0.auditor.intern(request.key().id());
            let moves = || self.books().configs.get(&shard).is_some_and(|config| config.form != Form::Stable);
            let is_first = self.0.auditor.newest_acked(doc).is_none();
            sometimes!(is_first && moves(), "a document was written for the first time while its shard moved");
            self.0.auditor.acked(at, shard.0, doc, pair(version), client);
            self.write_down(at, || vec![ledger::acked(client, shard, request.key(), version)]);
            let mut books = self.books();
            if matches!(request, Request::Delete { .. }) {
                let newest = books.deletions.entry(doc).or_insert(pair(version));
                *newest = pair(version).max(*newest);
            }
            let current = books.settled_since.get(&shard).is_some_and(|since| *since < called);
            if current && self.0.auditor.is_under_acked(shard.0, doc, pair(version)) {
                let text = format!("client-{client} was told that {} is safe, and no majority has it", request.key());
                books.wrong.push((at, text));
            }
        }
    }

    /// From here on the versions of all writes are kept that become durable somewhere.
    pub fn keep_versions(&self) {
        self.books().versions = Some(BTreeSet::new());
    }

    /// A client has read a shard, or a part of it, page by page.
    pub fn scanned(&self, scan: Scan) {
        self.books().scans.push(scan);
    }

    /// What was written down; leaves nothing.
    pub fn take_books(&self) -> Books {
        std::mem::take(&mut self.books())
    }

    /// A coordinator that restarts repeats what it has committed.
    fn is_known(&self, event: &Event) -> bool {
        let books = self.books();
        match event {
            Event::Committed { config } => books.configs.get(&config.shard) == Some(config),
            Event::Staged { migration, stage, reason, .. } => books.journeys.get(migration).is_some_and(|journey| {
                let same_stage = journey.stages.last().is_some_and(|(_, last)| last == stage);
                same_stage && (reason.is_none() || journey.reasons.last() == reason.as_ref())
            }),
            _ => false,
        }
    }

    /// Tells the auditor which members of a shard answer nobody: their disk is not the one the configuration names, their
    /// copy has rotted, or they are being readmitted.
    fn silence(&self, at: Nanos, books: &Books, shard: ShardId) {
        let Some(config) = books.configs.get(&shard) else { return };
        let silent = self.0.directory.nodes().filter(|(node, _)| {
            let named = config.replica(*node).map(|replica| replica.disk);
            let replaced = named.is_some() && books.disks.get(node).is_some_and(|disk| Some(*disk) != named);
            let rotted = books.rotted.contains(&(shard, *node));
            replaced || rotted || config.is_recovering(*node)
        });
        self.0.auditor.silence(at, shard.0, silent.map(|(_, process)| process).collect());
    }

    fn notice(&self, at: Nanos, event: Event) {
        let process = |node: NodeId| self.0.directory.process(Peer::Node(node)).expect("a node");
        let auditor = &self.0.auditor;
        let mut books = self.books();
        let books = &mut *books;
        books.watch_boundaries(&event);
        let life = |node: NodeId| self.0.world.life(process(node)).number;
        marks::mark(&event, books, life);
        match event {
            Event::Opened { node, disk, copies } => {
                books.lives.insert(node, life(node));
                if books.disks.insert(node, disk).is_some_and(|known| known != disk) {
                    if !books.was_wiped(node) {
                        books.wrong.push((at, format!("{node} formatted a disk that nobody had wiped")));
                    }
                    for shard in 0..self.0.shard_count {
                        // First silent, then empty: it never answers with nothing.
                        self.silence(at, books, ShardId(shard));
                        auditor.dropped(at, process(node), shard, "its disk was lost");
                    }
                    books.installed.retain(|(_, of), _| *of != node);
                    books.rotted.retain(|(_, of)| *of != node);
                    books.silenced.retain(|(_, of)| *of != node);
                    books.settled_since.clear();
                }
                let mut found = BTreeMap::new();
                for Copy { shard, installed, damaged, documents } in copies {
                    let epoch = installed.unwrap_or(Epoch::ZERO);
                    let known = books.installed.get(&(shard, node)).copied().unwrap_or(Epoch::ZERO);
                    if epoch < known {
                        let text = format!("{node} had installed epoch {known} of {shard} and came back with {epoch}");
                        books.wrong.push((at, text));
                    }
                    books.install(at, &self.0.directory, node, shard, epoch);
                    if damaged {
                        self.rots(at, books, node, shard);
                    }
                    let entries: Vec<_> =
                        documents.into_iter().map(|(key, version)| (auditor.intern(key.id()), pair(version))).collect();
                    let (before, now) = (books.session(shard, node, known), books.session(shard, node, epoch));
                    let kept = |(doc, version): &&(_, _)| auditor.held(process(node), *doc) == Some(*version);
                    let left = entries.iter().filter(kept).count();
                    books.breaks(at, promises::of_return(node, epoch, before, now, left));
                    // A drop or a wipe may have become durable in the very commit in which the node died; after the wipe, the
                    // first writes of the new session as well.
                    let is_out = books.installed_config(shard, node).is_some_and(|config| !config.is_member(node));
                    let is_another = now.is_some() && now != before;
                    if is_another || (is_out && entries.is_empty()) {
                        auditor.dropped(at, process(node), shard.0, "dropped or wiped as it died");
                    }
                    found.insert(shard.0, entries);
                }
                for shard in 0..self.0.shard_count {
                    let entries = found.remove(&shard).unwrap_or_default();
                    // Tombstones may have been forgotten in that very commit as well. Those that nobody was told of are not
                    // known; windows show if it was more than that.
                    let config = books.installed_config(ShardId(shard), node);
                    let forgets = config.is_some_and(|config| config.gc_barrier == config.epoch);
                    if forgets {
                        for (doc, held) in auditor.lacking(process(node), shard, &entries) {
                            if books.deletions.get(&doc) == Some(&held) {
                                auditor.forgot(at, process(node), shard, doc, held);
                            }
                        }
                    }
                    let mut vanished = auditor.reset(at, process(node), shard, entries);
                    if forgets {
                        vanished.retain(|vanished| vanished.has.is_some());
                    }
                    books.vanished.extend(vanished.into_iter().map(|vanished| (at, vanished)));
                    self.silence(at, books, ShardId(shard));
                }
            }
            Event::Applied { node, shard, key, version } => {
                let doc = auditor.intern(key.id());
                books.breaks(at, promises::of_replacing(auditor, process(node), node, &key, version, "a write"));
                auditor.applied(at, process(node), shard.0, doc, pair(version), How::Write);
                books.versions.iter_mut().for_each(|versions| _ = versions.insert(pair(version)));
            }
            Event::Installed { node, config, wiped } => {
                books.breaks(at, promises::of_commitment(node, &config, books.committed(config.shard, config.epoch)));
                let known = books.installed.get(&(config.shard, node)).copied().unwrap_or(Epoch::ZERO);
                let held = auditor.holdings(process(node), config.shard.0);
                books.breaks(at, promises::of_install(books, node, &config, known, wiped, held));
                books.install(at, &self.0.directory, node, config.shard, config.epoch);
                if config.is_member(node) {
                    books.dropped.remove(&(node, config.shard));
                }
                if wiped {
                    auditor.dropped(at, process(node), config.shard.0, "wiped for a new session");
                    books.silenced.remove(&(config.shard, node));
                    if books.rotted.remove(&(config.shard, node)) {
                        self.silence(at, books, config.shard);
                    }
                }
            }
            Event::Dropped { node, shard } => {
                books.breaks(at, promises::of_drop(node, books.installed_config(shard, node)));
                if !books.dropped.insert((node, shard)) {
                    books.wrong.push((at, format!("{node} dropped {shard} twice, and was no member in between")));
                }
                auditor.dropped(at, process(node), shard.0, "dropped in cleanup");
            }
            Event::Fenced { node, shard, epoch, installed, writes } => {
                sometimes!(epoch > installed, "a write met an older configuration");
                let why = format!("it came to {node} under epoch {epoch}, which had installed {installed}");
                for (key, version) in writes {
                    auditor.missed(at, process(node), shard.0, auditor.intern(key.id()), pair(version), &why);
                }
            }
            Event::Overtaken { writes, .. } => sometimes!(writes > 0, "a write met a newer configuration"),
            Event::Committed { config } => {
                let groups: Vec<Vec<ProcessId>> =
                    config.groups().map(|group| group.iter().map(|replica| process(replica.node)).collect()).collect();
                auditor.config(at, config.shard.0, &config.to_string(), groups);
                let shard = config.shard;
                if let Some(last) = books.configs.get(&shard).filter(|last| last.epoch >= config.epoch) {
                    books.wrong.push((at, format!("{config} was committed after {last}")));
                }
                let passes = books.verified.remove(&shard).unwrap_or_default();
                if let Some(last) = books.configs.get(&shard).cloned() {
                    books.breaks(at, promises::of_commit(&last, &config, passes, self.0.eager_cleanup));
                    let may_repair = self.0.may_repair.load(Ordering::Relaxed) || self.0.unsafe_cutover;
                    books.breaks(at, promises::of_cutover(&last, &config, may_repair));
                    if last.recovering != config.recovering {
                        let owed = books.owed.remove(&shard).unwrap_or_default();
                        if config.recovering.is_empty() && last.epoch.generation == config.epoch.generation {
                            books.breaks(at, promises::of_readmission(auditor, &self.0.directory, &last, &owed));
                        }
                        books.owed.insert(shard, promises::owed(auditor, &self.0.directory, &config));
                    }
                }
                if books.configs.get(&shard).is_some_and(|last| last.epoch.generation < config.epoch.generation) {
                    // Migrations were records of the coordinator that is gone, and so was what operators had switched.
                    books.journeys.clear();
                    self.0.may_repair.fetch_or(self.0.repairs, Ordering::Relaxed);
                }
                books.settled_since.remove(&shard);
                books.config_log.push((at, config.clone()));
                books.configs.insert(shard, config);
                self.silence(at, books, shard);
            }
            Event::Staged { migration, shard, stage, reason } => {
                let journey = books.journeys.entry(migration).or_default();
                journey.shard = shard.0;
                journey.stages.push((at, stage));
                journey.reasons.extend(reason);
                auditor.note(Some(shard.0), &stage.to_string());
            }
            Event::Copied { node, shard, through } => {
                if through.is_none() {
                    auditor.passed(at, shard.0, "the copy");
                }
                books.copied.entry((node, shard)).or_default().push((at, through));
            }
            Event::Repaired { node, shard, key, version, purpose, session, read_at } => {
                books.breaks(at, promises::of_repair(node, books.installed_config(shard, node), session, read_at));
                let how = ledger::by(purpose);
                books.breaks(at, promises::of_replacing(auditor, process(node), node, &key, version, how));
                auditor.applied(at, process(node), shard.0, auditor.intern(key.id()), pair(version), How::Shipped(how));
                books.repaired(node, shard, &key, version, purpose);
            }
            Event::Forgotten { node, shard, key, version } => {
                let doc = auditor.intern(key.id());
                let config = books.installed_config(shard, node);
                let wrong = promises::of_forgetting(auditor, books, &self.0.directory, config, node, (&key, version));
                books.breaks(at, wrong);
                auditor.forgot(at, process(node), shard.0, doc, pair(version));
                books.forgotten_tombstones += 1;
                books.forgotten.insert((shard, key));
            }
            Event::Reconciling { shard, purpose: Purpose::AntiEntropy } => {
                books.turns.entry(shard).or_default().push(Turn { began: at, ended: None });
            }
            Event::Reconciled { shard, purpose, shipped, verified: replicas, .. } => {
                let verified = books.verified.entry(shard).or_default();
                verified.delta |= purpose == Purpose::Delta;
                verified.anti_entropy |= purpose == Purpose::AntiEntropy;
                // A skipped delta pass carries counters only.
                let config = books.configs.get(&shard);
                let skipped = config.is_some_and(|it| it.form == Form::Joint && it.cutover == Cutover::Skipped);
                if !skipped {
                    auditor.passed(at, shard.0, ledger::by(purpose));
                }
                if purpose == Purpose::AntiEntropy {
                    books.passes.entry(shard).or_default().push(Pass { ended: at, shipped, verified: replicas });
                    if let Some(turn) = books.turns.entry(shard).or_default().last_mut() {
                        turn.ended = Some(at);
                    }
                }
            }
            Event::Contradicted { shard, key, version } => {
                let text = format!("{shard}: replicas hold different values of {key} under version {version}");
                if books.wrong.iter().all(|(_, wrong)| *wrong != text) {
                    books.wrong.push((at, text));
                }
            }
            Event::Served { node, shard, epoch, read_at } => {
                books.breaks(at, promises::of_service(books, node, shard, epoch, read_at));
            }
            Event::Rotted { node, shard } => {
                books.silenced.insert((shard, node));
                self.rots(at, books, node, shard);
            }
            Event::TurnedAway { .. } | Event::Reconciling { .. } => {}
            Event::Warned { text } => books.warnings.push((at, text)),
            // Addresses and counts mean nothing here, and refusals are told to whoever asked.
            Event::Members { .. } | Event::Refused { .. } | Event::Counted { .. } => {}
        }
    }

    /// A copy has rotted: first it is silent, then it holds nothing that counts.
    fn rots(&self, at: Nanos, books: &mut Books, node: NodeId, shard: ShardId) {
        books.rot_found = true;
        books.rotted.insert((shard, node));
        // Acknowledgements under way were given before.
        books.settled_since.remove(&shard);
        self.silence(at, books, shard);
        let process = self.0.directory.process(Peer::Node(node)).expect("a node");
        self.0.auditor.dropped(at, process, shard.0, "it had rotted");
    }
}

impl Probe for Audit {
    fn on(&self, event: Event) {
        let at = self.0.world.now();
        let world = &self.0.world;
        if self.is_known(&event) {
            return;
        }
        let committed = matches!(event, Event::Committed { .. });
        let staged = match &event {
            Event::Committed { config } => {
                world.note(&format!("commit {}: {config}", config.shard));
                None
            }
            Event::Staged { migration, shard, stage, reason } => {
                let because = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                Some((stage.to_string(), format!("{migration} of {shard}{because}")))
            }
            Event::Warned { text } => {
                world.note(&format!("warning: {text}"));
                None
            }
            _ => None,
        };
        self.write_down(at, || ledger::entries(&event));
        self.notice(at, event);
        // Last, and with the books closed: a fault that waits for this commit or stage strikes at once.
        if committed {
            self.0.bursts.hear(at, COMMIT);
            world.count_signal(COMMIT);
        }
        if let Some((stage, text)) = staged {
            self.0.bursts.hear(at, &stage);
            world.signal(&stage, &text);
        }
    }
}

fn access(request: &Request) -> Access {
    match request {
        Request::Get { .. } => Access::Read,
        Request::Put { .. } | Request::Delete { .. } => Access::Write,
    }
}

fn pair(version: Version) -> (u64, u128) {
    (version.counter, version.writer.0)
}
