//! A rolling upgrade: processes that speak an older wire version are replaced one at a time, while documents are written and
//! a shard moves. Files have one version so far; those of any other are refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Cluster, MIROIR, held};

const SIZE: [&str; 5] = ["--nodes", "4", "--shards", "2", "--detach"];

impl Cluster {
    /// Ends one process, or all, and starts them again as `version`.
    fn again(&self, names: &[&str], version: u8) {
        names.iter().for_each(|name| self.end(name, "-TERM"));
        for name in names {
            let path = self.folder.join(format!("{name}.toml"));
            let settings = std::fs::read_to_string(&path).expect("its settings");
            let lines = settings.lines().map(|line| match line.starts_with("newest_wire") {
                true => format!("newest_wire = {version}\n"),
                false => format!("{line}\n"),
            });
            std::fs::write(&path, lines.collect::<String>()).expect("a file");
        }
        self.miroir(&[&["cluster", "up", "--dir", self.dir()], &SIZE[..]].concat(), 0);
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.log"))).expect("a log")
    }
}

#[test]
fn processes_are_upgraded_one_at_a_time() {
    let cluster = Cluster::up("upgrade", &SIZE[..4]);
    let all = ["coordinator", "n1", "n2", "n3", "n4"];
    cluster.again(&all, 2);
    cluster.miroir(&["put", "movies/0", "before"], 0);
    let target = held(&cluster);
    cluster.miroir(&["migrate", "plan", "--shard", "s0", "--to", &target], 0);
    for (n, name) in (1..).zip(all) {
        cluster.again(&[name], 3);
        cluster.until(&["put", &format!("movies/{n}"), "between"], 0);
        if name == "n2" {
            // The coordinator and two nodes are new, two are old.
            cluster.until(&["migrate", "start", "m1", "--watch"], 0);
        }
    }
    assert_eq!(cluster.until(&["get", "movies/0"], 0), "before\n");
    cluster.miroir(&["anti-entropy", "run"], 0);
    cluster.miroir(&["migrate", "verify", "m1"], 0);
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
    for (name, role, kept, format) in [("n2", "node", "documents", 2_u32), ("coordinator", "coordinator", "records", 0)]
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
        let refusal = format!("{file}: format version {format}, this program reads 1; use the program that wrote it");
        assert!(output.status.code() == Some(70) && said.contains(&refusal), "{:?}: {said}", output.status);
        assert!(std::fs::read(&log).expect("a log") == theirs, "{name} has changed what it does not understand");
        assert_eq!(cluster.until(&["get", "movies/1"], 0), "one\n", "the others serve");
        std::fs::write(&log, &ours).expect("room");
        cluster.miroir(&["cluster", "up", "--dir", cluster.dir(), "--nodes", "3", "--shards", "2", "--detach"], 0);
    }
    cluster.until(&["anti-entropy", "run"], 0);
    assert_eq!(cluster.until(&["get", "movies/1"], 0), "one\n");
}
