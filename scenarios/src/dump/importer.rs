//! The process that imports: `miroir dump import` into a running cluster, on the network of the simulator.

use miroir_sim::time::{MILLIS, SECONDS};
use miroir_sim::{World, sometimes};
use miroir_store::dump::import::import;
use miroir_store::dump::limits::Limits;
use miroir_store::dump::plan::{Mode, Options, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::target::cluster::Cluster;
use miroir_store::env::Env;
use miroir_store::id::NodeId;
use miroir_store::router::Timing;

use crate::dump::made;
use crate::plan::ImportPlan;
use crate::workload::Load;

/// An import that has no success for so long ends with an error, and its operator runs it again.
const PATIENCE: u64 = 2 * SECONDS;

pub fn target(env: Env, nodes: u32) -> Cluster {
    Cluster::new(env, (1..=nodes).map(NodeId).collect(), Timing::default(), PATIENCE)
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
    load.import_begun();
    let dump = made::dump(&plan);
    let options = Options {
        limits: Limits { batch_documents: plan.batch_documents as usize, ..Limits::default() },
        ..Options::default()
    };
    let mut target = target(env, nodes);
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
