//! More is lost than comes back by itself: an operator decides what is given up.

use std::process::{Child, Command, Stdio};

use crate::{Cluster, MIROIR};

impl Cluster {
    /// Ends a process in the middle of whatever it does, and throws away what it kept.
    fn lose(&self, name: &str) {
        self.end(name, "-KILL");
        std::fs::remove_dir_all(self.folder.join(name)).expect("its folder");
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_shard_that_lost_a_majority_serves_again_once_the_lost_copies_are_given_up() {
    let up = ["cluster", "up", "--nodes", "3", "--shards", "1", "--detach", "--dir"];
    let cluster = Cluster::up("give-up", &["--nodes", "3", "--shards", "1"]);
    cluster.miroir(&["put", "movies/1", "one"], 0);
    cluster.lose("n2");
    cluster.lose("n3");
    cluster.miroir(&[&up[..], &[cluster.dir()]].concat(), 0);
    // The copies on new disks are silent, and one of three is no majority.
    cluster.miroir(&["--set", "request_timeout_ms=500", "get", "movies/1"], 4);
    let give_up = |copies, more: &[&str], code| {
        cluster.miroir(&[&["shards", "give-up", "s0", "--copies", copies][..], more].concat(), code)
    };
    let refused = give_up("n2", &["--json"], 2);
    assert!(refused.contains("NotLost") && refused.contains("n2 n3; name exactly these"), "{refused}");
    assert_eq!(give_up("n2,n3", &["--dry-run"], 0), "would be done\n");
    cluster.miroir(&["--set", "request_timeout_ms=500", "get", "movies/1"], 4);
    assert_eq!(give_up("n2,n3", &[], 0), "done\n");
    assert_eq!(cluster.until(&["get", "movies/1"], 0), "one\n");
    cluster.miroir(&["put", "movies/2", "two"], 0);
    cluster.miroir(&["anti-entropy", "run"], 0);
    give_up("n2,n3", &[], 2);
}

#[test]
fn records_are_rebuilt_without_a_node_that_is_gone() {
    let cluster = Cluster::up("gone", &["--nodes", "4", "--shards", "4"]);
    cluster.miroir(&["put", "movies/1", "one"], 0);
    cluster.lose("coordinator");
    cluster.lose("n4");
    let start = |gone: &[&str]| {
        let mut command = Command::new(MIROIR);
        command.arg("coordinator").arg("--config").arg(cluster.folder.join("coordinator.toml")).args(gone);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    };
    let waiting = start(&[]);
    // It does not answer before every node has told what it holds, and n4 never will.
    assert!(cluster.until(&["shards", "list"], 2).contains("NotReady"));
    drop(waiting);
    let _rebuilt = start(&["--gone", "n4"]);
    let listed = cluster.until(&["shards", "list"], 0);
    assert!(
        listed.lines().skip(1).all(|line| line.split_whitespace().nth(1).is_some_and(|epoch| epoch > "2")),
        "{listed}"
    );
    assert_eq!(cluster.until(&["get", "movies/1"], 0), "one\n");
    cluster.until(&["put", "movies/2", "two"], 0);
    let mut stranger = start(&["--gone", "n9"]);
    let stranger = stranger.0.wait().expect("it ends");
    assert_eq!(stranger.code(), Some(2));
}
