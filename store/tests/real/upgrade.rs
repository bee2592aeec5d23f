//! A rolling upgrade: processes that speak an older wire version are replaced one at a time, while documents are written and
//! a shard moves.

use crate::{Cluster, held};

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
