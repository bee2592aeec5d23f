//! Nodes and the coordinator are killed, stopped and started again while clients write and a shard moves; afterwards no
//! acknowledged write is missing, and the replicas are equal.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use miroir_store::cli::session::Session;
use miroir_store::cli::settings::Settings;
use miroir_store::id::{Key, Version};
use miroir_store::router::{Outcome, Request};

use crate::{Cluster, MIROIR, held};

const DOCUMENTS: usize = 40;
const CLIENTS: usize = 3;

/// The greatest acknowledged version of each document.
type Acked = Arc<Mutex<BTreeMap<Key, Version>>>;

fn settings(cluster: &Cluster) -> Settings {
    Settings::load(Some(&cluster.folder.join("miroir.toml")), [], &[]).expect("the settings")
}

fn key(n: usize) -> Key {
    Key::new("movies", &n.to_string()).expect("a short id")
}

/// Writes one document after another until told to stop.
fn write(number: usize, settings: Settings, acked: &Acked, count: &AtomicU64, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let session = Session::open(settings).await.expect("the cluster answers");
        let mut client = session.client().expect("nodes are known");
        let mut n = number;
        while !stop.load(Ordering::Relaxed) {
            n += CLIENTS;
            let key = key(n % DOCUMENTS);
            let value = format!("{number} {n}").into_bytes().into();
            if let Outcome::Ok { version, .. } = client.call(Request::Put { key: key.clone(), value }).await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut acked = acked.lock().expect("nobody panics here");
                let known = acked.entry(key).or_default();
                *known = version.max(*known);
            }
        }
    });
}

/// A process of the cluster, by its name.
struct Process<'a> {
    cluster: &'a Cluster,
    name: &'a str,
    pid: u32,
}

impl<'a> Process<'a> {
    fn of(cluster: &'a Cluster, name: &'a str) -> Process<'a> {
        let listed = std::fs::read_to_string(cluster.folder.join("processes.json")).expect("the list");
        let (_, rest) = listed.split_once(&format!("\"{name}\":")).expect("the process is listed");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Process { cluster, name, pid: digits.parse().expect("a number") }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid.to_string()]).status().expect("kill starts");
        assert!(sent.success(), "{} lives", self.name);
    }

    fn start_again(&self) -> Again {
        let role = if self.name == "coordinator" { "coordinator" } else { "node" };
        let settings = self.cluster.folder.join(format!("{}.toml", self.name));
        // The one that was killed gives the folder free as the system takes it away.
        let start = || {
            let mut command = Command::new(MIROIR);
            command.arg(role).arg("--config").arg(&settings).env_remove("MIROIR_CONFIG");
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
        };
        let mut child = start();
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(100));
            if child.try_wait().expect("a child").is_none() {
                break;
            }
            child = start();
        }
        Again(child)
    }
}

/// A process that was started again; it ends with the test.
struct Again(Child);

impl Drop for Again {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One round: what goes wrong, to whom.
fn round(name: &str, wrong: &str) {
    let cluster = Cluster::up(name, &["--nodes", "4", "--shards", "2"]);
    let target = held(&cluster);
    let joins = target.rsplit(',').next().expect("three names").to_owned();
    let stays = target.split(',').next().expect("three names").to_owned();
    let (acked, count, stop) = (Acked::default(), AtomicU64::new(0), AtomicBool::new(false));
    let more_writes = |least: u64| {
        let from = count.load(Ordering::Relaxed);
        wait_until("clients are served", Duration::from_secs(30), || count.load(Ordering::Relaxed) >= from + least);
    };
    let mut again = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (settings, acked, count, stop) = (settings(&cluster), acked.clone(), &count, &stop);
            scope.spawn(move || write(number, settings, &acked, count, stop));
        }
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            more_writes(50);
            cluster.miroir(&["migrate", "plan", "--shard", "s0", "--to", &target], 0);
            cluster.miroir(&["migrate", "start", "m1"], 0);
            match wrong {
                "kill a node" | "kill a joining node" | "kill the coordinator" => {
                    let victim = match wrong {
                        "kill a node" => stays.as_str(),
                        "kill a joining node" => joins.as_str(),
                        _ => "coordinator",
                    };
                    let victim = Process::of(&cluster, victim);
                    victim.signal("-KILL");
                    more_writes(30);
                    again.push(victim.start_again());
                }
                _ => {
                    let stopped = Process::of(&cluster, &stays);
                    stopped.signal("-STOP");
                    more_writes(30);
                    stopped.signal("-CONT");
                }
            }
            more_writes(50);
            wait_until("the migration ends", Duration::from_secs(60), || {
                let status = cluster.miroir(&["--json", "migrate", "status", "m1"], 0);
                status.contains(r#""stage":"Done""#)
            });
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = finished {
            std::panic::resume_unwind(panic);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let session = Session::open(settings(&cluster)).await.expect("the cluster answers");
        let mut client = session.client().expect("nodes are known");
        let acked = acked.lock().expect("nobody panics here").clone();
        for (key, acked) in &acked {
            match client.call(Request::Get { key: key.clone() }).await {
                Outcome::Ok { version, .. } => {
                    assert!(version >= *acked, "{key}: {acked} is missing, {version} is there")
                }
                other => panic!("{key} cannot be read: {other:?}"),
            }
        }
    });
    cluster.miroir(&["anti-entropy", "run"], 0);
    cluster.miroir(&["migrate", "verify", "m1"], 0);
    drop(again);
}

#[test]
fn no_acked_write_is_missing_after_a_node_was_killed() {
    round("kill-node", "kill a node");
}

#[test]
fn no_acked_write_is_missing_after_a_joining_node_was_killed() {
    round("kill-joiner", "kill a joining node");
}

#[test]
fn no_acked_write_is_missing_after_the_coordinator_was_killed() {
    round("kill-coordinator", "kill the coordinator");
}

#[test]
fn no_acked_write_is_missing_after_a_node_was_stopped_and_woke_up() {
    round("stop-node", "stop a node");
}
