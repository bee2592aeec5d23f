//! Clusters of real processes over TCP on this machine: the runbook's commands, and what an operator does when too much
//! is lost. What goes wrong under load is tried by `cargo xtask soak`.

#![cfg(all(unix, not(madsim)))]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, files and clocks")]

mod dump;
mod limits;
mod lost;
mod metrics;
mod operator;
mod retry;
mod runbook;
mod tombstones;
mod upgrade;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use miroir_store::env::real::FileDisk;

/// A cluster that was started detached. It is ended when this goes.
struct Cluster {
    folder: PathBuf,
}

/// The command line under test.
const MIROIR: &str = env!("CARGO_BIN_EXE_miroir");

/// An empty folder below the one that cargo keeps for tests.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("real-{name}-{}", std::process::id()));
    let _was_not_there = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

impl Cluster {
    fn up(name: &str, arguments: &[&str]) -> Cluster {
        let cluster = Cluster { folder: folder(name).join("cluster") };
        cluster.miroir(&[&["cluster", "up", "--detach", "--dir"][..], &[cluster.dir()], arguments].concat(), 0);
        cluster
    }

    fn dir(&self) -> &str {
        self.folder.to_str().expect("a name in Unicode")
    }

    /// Runs a command, demands its exit code, and returns what it printed on stdout.
    fn miroir(&self, arguments: &[&str], code: i32) -> String {
        let output = Command::new(MIROIR)
            .args(arguments)
            .env("MIROIR_CONFIG", self.folder.join("miroir.toml"))
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "miroir {}: {said}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command again and again until it ends with this exit code. Returns everything it printed then.
    fn until(&self, arguments: &[&str], code: i32) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            let mut command = Command::new(MIROIR);
            command.args(["--set", "request_timeout_ms=500"]).args(arguments);
            let output = command.env("MIROIR_CONFIG", self.folder.join("miroir.toml")).output().expect("it starts");
            if output.status.code() == Some(code) {
                return [output.stdout, output.stderr].map(|said| String::from_utf8(said).expect("text")).concat();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("`miroir {}` has not ended with {code}", arguments.join(" "));
    }

    /// Sends a process of the cluster a signal.
    fn signal(&self, name: &str, signal: &str) {
        let listed = std::fs::read_to_string(self.folder.join("processes.json")).expect("the list");
        let (_, rest) = listed.split_once(&format!("\"{name}\":")).expect("the process is listed");
        let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill starts");
        assert!(sent.success(), "{name} lives");
    }

    /// Sends a process a signal that ends it, and waits until it has.
    fn end(&self, name: &str, signal: &str) {
        self.signal(name, signal);
        // A process holds a lock on what it keeps, and its port a little longer.
        let kept = self.folder.join(name).join(if name == "coordinator" { "records" } else { "documents" });
        let settings = std::fs::read_to_string(self.folder.join(format!("{name}.toml"))).expect("its settings");
        let listen = settings.lines().find_map(|line| line.strip_prefix("listen = ")).expect("where it listens");
        let end = Instant::now() + Duration::from_secs(10);
        while FileDisk::open(&kept).is_err() || TcpListener::bind(listen.trim_matches('"')).is_err() {
            assert!(Instant::now() < end, "{name} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ended = Command::new(MIROIR).args(["cluster", "down", "--dir", self.dir()]).output();
        if !std::thread::panicking() {
            let _kept = std::fs::remove_dir_all(self.folder.parent().expect("it lies in a folder"));
        }
    }
}

#[test]
fn the_gate_cannot_be_passed_from_the_command_line() {
    let cluster = Cluster::up("gate", &["--nodes", "4", "--shards", "2"]);
    cluster.miroir(&["anti-entropy", "off"], 0);
    let target = held(&cluster);
    let plan = ["migrate", "plan", "--shard", "s0", "--to", &target];
    let refused = cluster.miroir(&[&["--json"][..], &plan, &["--skip-delta"]].concat(), 2);
    assert!(refused.starts_with(r#"{"v":1,"error":"UnsafeCutover""#), "{refused}");
    cluster.miroir(&[&plan[..], &["--skip-delta", "--dry-run"]].concat(), 2);
    cluster.miroir(&["migrate", "status"], 4);
    cluster.miroir(&[&plan[..], &["--dry-run"]].concat(), 0);
    cluster.miroir(&["migrate", "status"], 4);
    cluster.miroir(&plan, 0);
    let watched = cluster.miroir(&["migrate", "start", "m1", "--watch"], 0);
    for stage in ["DualWrite", "Drain", "DeltaPass", "Activate", "Cleanup"] {
        assert!(watched.contains(stage), "{watched}");
    }
    cluster.miroir(&["migrate", "abort", "m1"], 2);
    cluster.miroir(&["migrate", "reverse", "m1"], 0);
    cluster.miroir(&["migrate", "start", "m2", "--watch"], 0);
    cluster.miroir(&["migrate", "verify", "m2"], 0);
}

/// The nodes that hold a shard.
fn holding(cluster: &Cluster, shard: usize) -> Vec<u64> {
    let listed = cluster.miroir(&["--json", "shards", "list"], 0);
    let line = listed.lines().nth(shard).expect("a shard");
    let config: serde_json::Value = serde_json::from_str(line).expect("JSON");
    config["new"].as_array().expect("nodes").iter().map(|node| node.as_u64().expect("a number")).collect()
}

/// Three nodes for `s0` of which one of four does not hold it.
fn held(cluster: &Cluster) -> String {
    let holding = holding(cluster, 0);
    let joins = (1..=4).find(|node| !holding.contains(node)).expect("one of four is free");
    format!("n{},n{},n{joins}", holding[0], holding[1])
}

/// Has a writer stop, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `--watch` prints of a migration that is done, each stage as it ended; of attempts, the last.
fn assert_every_stage(watched: &str, id: &str) {
    let begin = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let begins: Vec<String> = watched.lines().map(begin).collect();
    assert!(begins.ends_with(&["DualWrite", "Drain", "DeltaPass", "Activate", "Cleanup", id].map(str::to_owned)));
    assert!(watched.contains(&format!("{id} is done: s0 is held by ")), "{watched}");
}

/// One process after another writes a document meanwhile, and each must be told that it is written.
#[test]
fn a_migration_an_abort_and_the_way_back_are_watched_while_documents_are_written() {
    let cluster = Cluster::up("abort", &["--nodes", "5", "--shards", "1"]);
    let holding = holding(&cluster, 0);
    let joining: Vec<String> = (1..=5).filter(|node| !holding.contains(node)).map(|node| format!("n{node}")).collect();
    let target = format!("n{},{}", holding[0], joining.join(","));
    let stop = AtomicBool::new(false);
    let acked = AtomicUsize::new(0);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let id = acked.load(Ordering::Relaxed);
                cluster.miroir(&["put", &format!("movies/{id}"), "under load"], 0);
                acked.store(id + 1, Ordering::Relaxed);
            }
            acked.load(Ordering::Relaxed)
        });
        let end = Stop(&stop);
        // What is done in here is done under load: a write begins before it and ends after it began.
        let under_load = |does: &mut dyn FnMut() -> String| {
            let before = acked.load(Ordering::Relaxed);
            let printed = does();
            while acked.load(Ordering::Relaxed) == before && !writer.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            printed
        };
        cluster.miroir(&["migrate", "plan", "--shard", "s0", "--to", &target], 0);
        // The joining nodes stand still, and they are a majority: the copy is under way when the abort comes.
        joining.iter().for_each(|node| cluster.signal(node, "-STOP"));
        let watched = under_load(&mut || {
            let watching = scope.spawn(|| cluster.until(&["migrate", "start", "m1", "--watch"], 100));
            while !cluster.miroir(&["migrate", "status", "m1"], 0).contains("DualWrite") {}
            cluster.miroir(&["migrate", "abort", "m1"], 0);
            watching.join().expect("it was aborted")
        });
        assert!(watched.starts_with("DualWrite ") && !watched.contains("Activate"), "{watched}");
        assert!(watched.contains("m1 was aborted: aborted by an operator; s0 stays with "), "{watched}");
        joining.iter().for_each(|node| cluster.signal(node, "-CONT"));
        cluster.miroir(&["migrate", "plan", "--shard", "s0", "--to", &target], 0);
        assert_every_stage(&under_load(&mut || cluster.miroir(&["migrate", "start", "m2", "--watch"], 0)), "m2");
        cluster.miroir(&["migrate", "reverse", "m2"], 0);
        assert_every_stage(&under_load(&mut || cluster.miroir(&["migrate", "start", "m3", "--watch"], 0)), "m3");
        drop(end);
        writer.join().expect("every write was acknowledged")
    });
    cluster.miroir(&["migrate", "verify", "m3"], 0);
    let scanned = cluster.miroir(&["scan", "movies"], 0);
    assert_eq!(scanned.lines().count(), written, "every document that was acknowledged is there");
    assert_eq!(cluster.miroir(&["drop", "movies", "--dry-run"], 0), format!("{written} documents would be deleted\n"));
    assert_eq!(cluster.miroir(&["drop", "movies"], 0), format!("{written} documents are deleted\n"));
    cluster.miroir(&["scan", "movies"], 4);
    cluster.miroir(&["drop", "movies"], 4);
}

#[test]
fn a_cluster_that_shares_a_key_works_and_turns_others_away() {
    let size = ["--nodes", "1", "--shards", "2", "--with-key"];
    let cluster = Cluster::up("key", &size);
    // As much is logged as can be.
    let processes = ["n1", "coordinator"];
    let up = [&size[..], &["--detach"]].concat();
    cluster.set(&processes, "log", "\"trace\"", &up);
    cluster.set(&processes, "log_format", "\"json\"", &up);
    cluster.miroir(&["put", "movies/1", "one"], 0);
    assert_eq!(cluster.miroir(&["get", "movies/1"], 0), "one\n");
    cluster.miroir(&["get", "movies/2"], 4);
    // Without the key, nobody answers.
    let settings = std::fs::read_to_string(cluster.folder.join("miroir.toml")).expect("the settings");
    let keyless: String =
        settings.lines().filter(|line| !line.starts_with("key_file")).map(|it| format!("{it}\n")).collect();
    let path = cluster.folder.join("keyless.toml");
    std::fs::write(&path, keyless).expect("a file");
    cluster.miroir(&["--config", path.to_str().expect("a name in Unicode"), "get", "movies/1"], 4);
    let key = std::fs::read_to_string(cluster.folder.join("key")).expect("the key");
    let key = key.trim();
    let bytes: Vec<u8> =
        (0..key.len()).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).expect("hex")).collect();
    let listed = format!("{bytes:?}");
    for name in processes {
        let log = std::fs::read(cluster.folder.join(format!("{name}.log"))).expect("a log");
        assert!(!log.windows(bytes.len()).any(|part| part == bytes), "the key's bytes are in the log of {name}");
        let log = String::from_utf8(log).expect("text");
        assert!(!log.to_lowercase().contains(key), "the key is in the log of {name}");
        assert!(!log.contains(listed.trim_matches(['[', ']'])), "the key's numbers are in the log of {name}");
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let events: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let has = |name: &str, value: &str| events.iter().any(|event| event[name] == value);
        assert!(has("level", "DEBUG"), "more than what happens by default is in the log of {name}: {log}");
        assert!(has("message", "turned away"), "{name} has met somebody without the key: {log}");
    }
}
