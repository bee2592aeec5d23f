//! A rolling upgrade: processes that speak an older wire version are replaced one at a time, while documents are written and
//! a shard moves.
//!
//! *Old* is this program, told to speak no newer wire version than 2 (`newest_wire = 2`): what it says and is told on every
//! connection is what programs of that version say and are told. No program of an earlier build takes part. Files
//! of another version are refused.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::{Cluster, MIROIR, Stop, held};

const SIZE: [&str; 5] = ["--nodes", "4", "--shards", "2", "--detach"];

impl Cluster {
    /// Ends processes, and starts them again with another value of a setting. `up`: the size of the cluster.
    pub(crate) fn set(&self, names: &[&str], key: &str, value: &str, up: &[&str]) {
        names.iter().for_each(|name| self.end(name, "-TERM"));
        for name in names {
            let path = self.folder.join(format!("{name}.toml"));
            let settings = std::fs::read_to_string(&path).expect("its settings");
            let others = settings.lines().filter(|line| !line.starts_with(&format!("{key} =")));
            let others: String = others.map(|line| format!("{line}\n")).collect();
            // In front: what stands behind a table belongs to it.
            std::fs::write(&path, format!("{key} = {value}\n{others}")).expect("a file");
        }
        self.miroir(&[&["cluster", "up", "--dir", self.dir()], up].concat(), 0);
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.log"))).expect("a log")
    }
}

/// Documents that were written one after the other, and whose writer was told so.
#[derive(Default)]
struct Written(AtomicUsize);

impl Written {
    /// Writes until it is told to stop. A write that nobody confirms is made again, as clients do.
    fn write(&self, cluster: &Cluster, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let n = self.0.load(Ordering::Relaxed);
            cluster.until(&["put", &format!("movies/{n}"), &format!("body {n}")], 0);
            self.0.store(n + 1, Ordering::Relaxed);
        }
    }

    /// Waits until something more is written.
    fn grows(&self) {
        let (before, end) = (self.0.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(60));
        while self.0.load(Ordering::Relaxed) == before {
            assert!(Instant::now() < end, "nothing is written any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn processes_are_upgraded_one_at_a_time_while_documents_are_written() {
    let cluster = Cluster::up("upgrade", &SIZE[..4]);
    let all = ["coordinator", "n1", "n2", "n3", "n4"];
    cluster.set(&all, "newest_wire", "2", &SIZE);
    let target = held(&cluster);
    cluster.miroir(&["migrate", "plan", "--shard", "s0", "--to", &target], 0);
    let (written, stop) = (Written::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| written.write(&cluster, &stop));
        let end = Stop(&stop);
        written.grows();
        for name in all {
            cluster.set(&[name], "newest_wire", "3", &SIZE);
            written.grows();
            if name == "n2" {
                // The coordinator and two nodes are new, two are old.
                cluster.until(&["migrate", "start", "m1", "--watch"], 0);
                written.grows();
            }
        }
        drop(end);
        writer.join().expect("every write is acknowledged in the end");
    });
    cluster.miroir(&["anti-entropy", "run"], 0);
    cluster.miroir(&["migrate", "verify", "m1"], 0);
    let scanned = cluster.miroir(&["scan", "movies"], 0);
    let mut found: Vec<&str> = scanned.lines().collect();
    found.sort_unstable();
    let mut wanted: Vec<String> = (0..written.0.into_inner()).map(|n| format!("{n}\tbody {n}")).collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "what was acknowledged is there");
    let connected = |log: &str, version: u8| log.lines().any(|line| line.contains(&format!("wire={version}")));
    let coordinator = cluster.log("coordinator");
    assert!(connected(&coordinator, 2) && connected(&coordinator, 3), "it met old and new ones: {coordinator}");
}

/// The only log in a folder.
fn log_in(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_log = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log."));
    let logs: Vec<PathBuf> = files.filter(is_log).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs[0].clone()
}

/// A node of a program that is newer than this one, and a coordinator of one that is older, have left their files behind.
#[test]
fn files_of_another_format_are_refused_by_name_and_left_as_they_are() {
    let cluster = Cluster::up("formats", &["--nodes", "3", "--shards", "2"]);
    cluster.miroir(&["put", "movies/1", "one"], 0);
    for (name, role, kept, format) in [("n2", "node", "documents", 3_u32), ("coordinator", "coordinator", "records", 0)]
    {
        cluster.end(name, "-TERM");
        let log = log_in(&cluster.folder.join(name).join(kept));
        let ours = std::fs::read(&log).expect("a log");
        let mut theirs = ours.clone();
        theirs[8..12].copy_from_slice(&format.to_le_bytes());
        std::fs::write(&log, &theirs).expect("room");
        let settings = cluster.folder.join(format!("{name}.toml"));
        let output = Command::new(MIROIR).arg(role).arg("--config").arg(settings).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        let file = log.file_name().expect("a name").to_string_lossy();
        let refusal = format!("{file}: format version {format}, this program reads 2; use the program that wrote it");
        assert!(output.status.code() == Some(70) && said.contains(&refusal), "{:?}: {said}", output.status);
        assert!(std::fs::read(&log).expect("a log") == theirs, "{name} has changed what it does not understand");
        assert_eq!(cluster.until(&["get", "movies/1"], 0), "one\n", "the others serve");
        std::fs::write(&log, &ours).expect("room");
        cluster.miroir(&["cluster", "up", "--dir", cluster.dir(), "--nodes", "3", "--shards", "2", "--detach"], 0);
    }
    cluster.until(&["anti-entropy", "run"], 0);
    assert_eq!(cluster.until(&["get", "movies/1"], 0), "one\n");
}
