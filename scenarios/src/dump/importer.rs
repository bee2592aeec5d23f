//! The process that imports: `miroir dump import` into a running cluster, on the network of the simulator.
//!
//! What it wrote and when is noted, so that the scenario can say whether that was while shards moved.

use std::cell::RefCell;

use miroir_sim::time::{MILLIS, Nanos, SECONDS};
use miroir_sim::{ProcessId, World, sometimes};
use miroir_store::dump::import::import;
use miroir_store::dump::limits::Limits;
use miroir_store::dump::plan::{Mode, Options, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::refusal::DumpError;
use miroir_store::dump::target::cluster::Cluster;
use miroir_store::dump::target::{Shape, Target};
use miroir_store::env::Env;
use miroir_store::id::{Key, NodeId, Value};
use miroir_store::router::scan::ScanPage;
use miroir_store::router::{Request, Timing};
use miroir_store::wire::{NameRange, StagingAction, StagingReply};

use crate::dump::made;
use crate::plan::ImportPlan;
use crate::workload::Load;

/// An import that has no success for so long ends with an error, and its operator runs it again.
const PATIENCE: u64 = 2 * SECONDS;

pub fn target(env: Env, nodes: u32) -> Cluster {
    Cluster::new(env, (1..=nodes).map(NodeId).collect(), Timing::default(), PATIENCE)
}

/// What became of a batch: sent and acknowledged at these times, to these shards.
#[derive(Clone, Debug)]
pub struct Batch {
    pub sent_at: Nanos,
    pub acked_at: Nanos,
    pub shards: Vec<u32>,
}

thread_local! {
    /// One run is one thread, and has one importer.
    static BATCHES: RefCell<Vec<Batch>> = const { RefCell::new(Vec::new()) };
}

/// The batches of this run so far.
pub fn batches() -> Vec<Batch> {
    BATCHES.with_borrow(Clone::clone)
}

/// A cluster as a target, whose batches are noted, and the coordinator's lives beside them.
struct Watched {
    target: Cluster,
    world: World,
    /// As the target has told.
    shards: u32,
    coordinator: ProcessId,
}

impl Watched {
    /// Notes whether the coordinator died while something was under way.
    async fn beside<T>(&mut self, doing: impl AsyncFnOnce(&mut Cluster) -> T) -> T {
        let life = self.world.life(self.coordinator);
        let was_up = self.world.is_up(self.coordinator);
        let done = doing(&mut self.target).await;
        let died = was_up && (self.world.life(self.coordinator) != life || !self.world.is_up(self.coordinator));
        sometimes!(died, "the coordinator died during an import");
        done
    }
}

impl Target for Watched {
    async fn shape(&mut self) -> Result<Shape, DumpError> {
        let shape = self.beside(async |target| target.shape().await).await?;
        self.shards = shape.shards;
        Ok(shape)
    }

    async fn write(&mut self, writes: Vec<Request>) -> Result<(), DumpError> {
        let sent_at = self.world.now();
        let shards = writes.iter().map(|write| write.key().shard(self.shards).0).collect();
        self.beside(async |target| target.write(writes).await).await?;
        let batch = Batch { sent_at, acked_at: self.world.now(), shards };
        BATCHES.with_borrow_mut(|batches| batches.push(batch));
        Ok(())
    }

    async fn read(&mut self, keys: Vec<Key>) -> Result<Vec<Option<Value>>, DumpError> {
        self.beside(async |target| target.read(keys).await).await
    }

    async fn scan(&mut self, range: NameRange, documents: u32) -> Result<ScanPage, DumpError> {
        self.beside(async |target| target.scan(range, documents).await).await
    }

    async fn stage(&mut self, node: u32, import: u128, action: StagingAction) -> Result<StagingReply, DumpError> {
        self.beside(async |target| target.stage(node, import, action).await).await
    }
}

/// One life: imports the dump from its beginning, as an operator would who runs the command again.
pub async fn work(world: World, env: Env, nodes: u32, plan: ImportPlan, load: Load) {
    while !load.has_begun() {
        world.sleep(MILLIS).await;
    }
    if load.imports() > 0 {
        // It died after its work was done: nobody runs it again.
        return std::future::pending().await;
    }
    if load.imports_begun() == 0 {
        BATCHES.with_borrow_mut(Vec::clear);
    }
    load.import_begun();
    let dump = made::dump(&plan);
    let options = Options {
        limits: Limits { batch_documents: plan.batch_documents as usize, ..Limits::default() },
        ..Options::default()
    };
    let coordinator = world.trace().names().find("coordinator").expect("every cluster has one");
    let mut target = Watched { target: target(env, nodes), world: world.clone(), shards: 1, coordinator };
    let planned = analyse(&&dump[..], &options, &mut Silent).expect("the dump that was made is a good one");
    assert_eq!(planned.mode == Mode::Broadcast, plan.broadcast, "reserved fields lead to broadcast");
    match import(&&dump[..], &planned, &options, &mut target, &mut Silent).await {
        Ok(imported) => {
            sometimes!(imported.resumed, "a broadcast went on from its manifest");
            sometimes!(load.imports_begun() > 1, "an import that was cut short was run again and completed");
            world.note("the import has ended");
            load.imported();
            std::future::pending::<()>().await;
        }
        Err(error) => world.note(&format!("the import failed: {error}")),
    }
}
