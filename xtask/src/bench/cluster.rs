//! Real clusters on loopback: how soon a new one takes a put, and what clients get before, during and after migrations,
//! at replication 1 and 3.
//!
//! Clients put and get by turns, one operation at a time each, so throughput is what latency leaves of it. "During" means
//! that one of the shards moves back and forth without a pause. The clients share the machine with all processes.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use miroir_sim::dice::{Dice, Random as _};
use miroir_sim::seed::Seed;
use miroir_store::cli::session::Session;
use miroir_store::cli::settings::Settings;
use miroir_store::config::Cutover;
use miroir_store::id::{Key, MigrationId, NodeId, ShardId};
use miroir_store::migration::Stage;
use miroir_store::router::{Outcome, Request};
use miroir_store::wire::Command;

use crate::bench::first_put;
use crate::cluster::{self, Cluster, failed};
use crate::exit::{ExitCode, Failure};
use crate::print::out;
use crate::report::tables::{Table, number};
use crate::runs;
use crate::workspace::Workspace;

const NODES: u32 = 4;
const SHARDS: u32 = 4;
const CLIENTS: u32 = 8;
const DOCUMENTS: u64 = 20_000;
const VALUE_BYTES: usize = 1_024;
const MOVED: ShardId = ShardId(0);
/// How long each phase takes.
const PHASE: Duration = Duration::from_secs(6);
const PHASES: [&str; 3] = ["before", "during", "after"];

/// What was measured in a phase, in microseconds.
#[derive(Default)]
struct Measured {
    puts: Vec<u64>,
    gets: Vec<u64>,
    failed: u64,
    took: Duration,
}

/// Measures the first put of new clusters, then both replications, and prints one table.
pub fn run(workspace: &Workspace) -> Result<ExitCode, Failure> {
    let program = cluster::build(workspace, "release")?;
    let folder = runs::claim(&workspace.kept().join("bench"), "cluster-up")?;
    out(first_put::measure(&program, &folder)?);
    fs::remove_dir_all(&folder).map_err(|error| Failure::io("remove", folder.display(), &error))?;
    let header =
        ["copies", "phase", "puts/s", "put p50", "put p99", "put max", "gets/s", "get p50", "get p99", "get max"];
    let mut table = Table::new(&header, |column| column != 1);
    let mut failures = 0;
    let mut moves = Vec::new();
    for replication in [1, 3] {
        let folder = runs::claim(&workspace.kept().join("bench"), &format!("cluster-{replication}"))?;
        let (phases, moved) = measure(&program, &folder, replication)?;
        moves.push(format!("{moved} with {replication}"));
        for (phase, mut it) in PHASES.iter().zip(phases) {
            failures += it.failed;
            let mut row = vec![replication.to_string(), (*phase).to_owned()];
            row.extend(cells(&mut it.puts, it.took));
            row.extend(cells(&mut it.gets, it.took));
            table.row(row);
        }
        fs::remove_dir_all(&folder).map_err(|error| Failure::io("remove", folder.display(), &error))?;
    }
    out(table.text().trim_end());
    out(format!(
        "{NODES} nodes, {SHARDS} shards, {} documents of {VALUE_BYTES} bytes, {CLIENTS} clients on the same machine of {} \
         cores; migrations of one shard during the phase: {}; operations that failed: {failures}",
        number(DOCUMENTS),
        crate::worker::cores(),
        moves.join(", "),
    ));
    Ok(if failures == 0 { ExitCode::AsExpected } else { ExitCode::Finding })
}

/// Throughput, median, 99th percentile, greatest.
fn cells(micros: &mut [u64], took: Duration) -> [String; 4] {
    micros.sort_unstable();
    let at = |percent: usize| micros.get((micros.len() * percent / 100).min(micros.len().saturating_sub(1)));
    let ms = |micros: Option<&u64>| micros.map_or_else(|| "-".to_owned(), |it| format!("{:.2} ms", *it as f64 / 1e3));
    let per_second = micros.len() as f64 / took.as_secs_f64();
    [number(per_second as u64), ms(at(50)), ms(at(99)), ms(micros.last())]
}

fn measure(program: &Path, folder: &Path, replication: u32) -> Result<(Vec<Measured>, u64), Failure> {
    let settings = Settings { cluster: "bench".to_owned(), shards: SHARDS, replication, ..Settings::default() };
    let runtime = cluster::runtime()?;
    let mut cluster = Cluster::lay_out(program, folder, NODES, &settings, None)?;
    cluster.up(&runtime)?;
    let settings = cluster.settings()?;
    fill(&settings)?;
    // Behind the last phase, clients end.
    let phase = AtomicUsize::new(0);
    let measured: Vec<Mutex<Measured>> = PHASES.iter().map(|_| Mutex::default()).collect();
    let moved = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| (number, settings.clone()))
            .map(|(number, settings)| {
                scope.spawn({
                    let (phase, measured) = (&phase, &measured[..]);
                    move || work(number, settings, phase, measured)
                })
            })
            .collect();
        let led = lead(&cluster, &runtime, &phase, &measured);
        phase.store(PHASES.len(), Ordering::Relaxed);
        let ended: Result<Vec<()>, Failure> =
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect();
        led.and_then(|moved| ended.map(|_| moved))
    })?;
    let measured = measured.into_iter().map(|it| it.into_inner().expect("nobody panics here"));
    Ok((measured.collect(), moved))
}

/// Goes from phase to phase. Returns how many migrations there were.
fn lead(
    cluster: &Cluster,
    runtime: &tokio::runtime::Runtime,
    phase: &AtomicUsize,
    measured: &[Mutex<Measured>],
) -> Result<u64, Failure> {
    let mut moved = 0;
    for (number, name) in PHASES.iter().enumerate() {
        let began = Instant::now();
        phase.store(number, Ordering::Relaxed);
        match *name {
            "during" => runtime.block_on(async {
                let mut operator = cluster.session().await?;
                while began.elapsed() < PHASE {
                    moved += 1;
                    move_once(&mut operator, MigrationId(moved)).await?;
                }
                operator.close().await;
                Ok::<(), Failure>(())
            })?,
            _ => thread::sleep(PHASE),
        }
        measured[number].lock().expect("nobody panics here").took = began.elapsed();
    }
    Ok(moved)
}

/// Moves the shard: one of its nodes gives way to one that has no copy.
async fn move_once(operator: &mut Session, id: MigrationId) -> Result<(), Failure> {
    let inspection = operator.inspect().await.map_err(failed)?;
    let config = inspection.configs.iter().find(|config| config.shard == MOVED);
    let mut target: Vec<NodeId> = config.expect("there is a first shard").new.iter().map(|it| it.node).collect();
    let joins = (1..=NODES).map(NodeId).find(|node| !target.contains(node)).expect("not every node holds it");
    target[0] = joins;
    let plan = Command::Plan { id, shard: MOVED, target, cutover: Cutover::Delta };
    operator.command(plan, false).await.map_err(failed)?;
    operator.command(Command::Start { id }, false).await.map_err(failed)?;
    loop {
        let inspection = operator.inspect().await.map_err(failed)?;
        if inspection.migrations.iter().any(|it| it.record.id == id && it.record.stage == Stage::Done) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn key(n: u64) -> Key {
    Key::new("bench", &n.to_string()).expect("a short name")
}

fn fill(settings: &Settings) -> Result<(), Failure> {
    current(async {
        let session = Session::open(settings.clone()).await.map_err(failed)?;
        let mut client = session.client().map_err(failed)?;
        let all: Vec<u64> = (0..DOCUMENTS).collect();
        for some in all.chunks(200) {
            let puts = some.iter().map(|n| Request::Put { key: key(*n), value: vec![b'x'; VALUE_BYTES].into() });
            let mut waiting = client.submit_all(puts.collect()).len();
            while waiting > 0 {
                match client.completed(u64::MAX).await {
                    Some((_, Outcome::Ok { .. })) => waiting -= 1,
                    other => return Err(Failure::internal(format!("the cluster was not filled: {other:?}"))),
                }
            }
        }
        session.close().await;
        Ok(())
    })
}

fn current<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::io("start", "a client", &error))?.block_on(work)
}

/// One client: an operation counts for the phase in which it began.
fn work(number: u32, settings: Settings, phase: &AtomicUsize, measured: &[Mutex<Measured>]) -> Result<(), Failure> {
    current(async {
        let session = Session::open(settings).await.map_err(failed)?;
        let mut client = session.client().map_err(failed)?;
        let mut stream = Dice::new(Seed(1)).stream("client", number.into());
        let mut is_put = false;
        while let Some(measured) = measured.get(phase.load(Ordering::Relaxed)) {
            is_put = !is_put;
            let key = key(stream.below(DOCUMENTS));
            let request = match is_put {
                true => Request::Put { key, value: vec![b'y'; VALUE_BYTES].into() },
                false => Request::Get { key },
            };
            let began = Instant::now();
            let outcome = client.call(request).await;
            let micros = began.elapsed().as_micros() as u64;
            let mut measured = measured.lock().expect("nobody panics here");
            match outcome {
                Outcome::Ok { .. } if is_put => measured.puts.push(micros),
                Outcome::Ok { .. } => measured.gets.push(micros),
                _ => measured.failed += 1,
            }
        }
        session.close().await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut micros: Vec<u64> = (1..=1_000).rev().map(|n| n * 10).collect();
        assert_eq!(cells(&mut micros, Duration::from_secs(2)), ["500", "5.01 ms", "9.91 ms", "10.00 ms"]);
        assert_eq!(cells(&mut [], Duration::from_secs(1)), ["0", "-", "-", "-"]);
    }
}
