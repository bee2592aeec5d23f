//! The settings of every process of a cluster: one schema, from a file, then the environment, then the command line.
//!
//! The file is TOML with the keys of [`Settings`]; the variable `MIROIR_LISTEN` sets the key `listen`, and so on. A key or
//! a variable that is not in the schema is refused by name, and so is a value of another kind: nothing is ignored.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::exit::Failure;
use crate::id::{MAX_VALUE_BYTES, NodeId};
use crate::wire::WIRE_VERSIONS;

/// Names the file; the flag `--config` goes before it.
pub const FILE_VARIABLE: &str = "MIROIR_CONFIG";

/// In front of the names of variables.
const PREFIX: &str = "MIROIR_";

/// Variables with the prefix that are not settings: the file, and what the developers' command line reads.
const OTHERS: [&str; 7] =
    [FILE_VARIABLE, "MIROIR_SEED", "MIROIR_PROFILE", "MIROIR_WORKER", "MIROIR_DUMPS", "MIROIR_BLESS", "MIROIR_UPDATE"];

/// What may be set. All of it has a default, but a process may need some of it: a node its number, for instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The name of the cluster: processes of different clusters do not talk to each other.
    pub cluster: String,
    /// The number of this node.
    pub node: Option<u32>,
    /// Where this process listens. Any other address than a loopback one asks for a key.
    pub listen: Option<SocketAddr>,
    /// The folder with everything this process keeps.
    pub data: Option<PathBuf>,
    /// Where the coordinator is reached.
    pub coordinator: Option<String>,
    /// Where nodes are reached, by number. Any one of them is enough to begin with.
    pub nodes: BTreeMap<String, String>,
    /// The file with the key that the cluster shares: 64 hexadecimal digits.
    pub key_file: Option<PathBuf>,
    /// Where metrics are served: a loopback address.
    pub metrics: Option<SocketAddr>,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub log: LogLevel,
    /// `text` or `json`.
    pub log_format: LogFormat,

    /// Shards of a cluster that is to be created. Fixed from then on.
    pub shards: u32,
    /// Copies of each shard of a cluster that is to be created.
    pub replication: u32,
    /// Whether a cluster that is to be created compares replicas in the background.
    pub anti_entropy: bool,
    pub anti_entropy_period_ms: u64,

    pub page_documents: u32,
    pub page_interval_ms: u64,
    pub copy_timeout_ms: u64,
    pub drain_timeout_ms: u64,
    pub joint_timeout_ms: u64,

    /// How long a client waits for one operation.
    pub request_timeout_ms: u64,
    /// Connections that a process accepts at a time. Of eight, one is kept for nodes and the coordinator.
    pub connections: u32,
    /// The largest body that a node takes from clients, up to 16 MiB. All nodes have the same.
    pub document_bytes: u64,
    /// The newest wire version that this process speaks. Two processes use the greatest that both do.
    pub newest_wire: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cluster: "miroir".to_owned(),
            node: None,
            listen: None,
            data: None,
            coordinator: None,
            nodes: BTreeMap::new(),
            key_file: None,
            metrics: None,
            log: LogLevel::Info,
            log_format: LogFormat::Text,
            shards: 8,
            replication: 3,
            anti_entropy: true,
            anti_entropy_period_ms: 10_000,
            page_documents: 256,
            page_interval_ms: 0,
            copy_timeout_ms: 3_600_000,
            drain_timeout_ms: 5_000,
            joint_timeout_ms: 60_000,
            request_timeout_ms: 5_000,
            connections: 512,
            document_bytes: MAX_VALUE_BYTES as u64,
            newest_wire: WIRE_VERSIONS.1,
        }
    }
}

impl Settings {
    /// Reads the file (`None` where there is none), then the variables, then `key=value` pairs.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        pairs: &[String],
    ) -> Result<Settings, Failure> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::refused("Config", format!("cannot read {}: {error}", path.display())))?;
            // Parsed as what it must be, so that an error names its line.
            let _checked: Settings = toml::from_str(&text)
                .map_err(|error| Failure::refused("Config", format!("{}: {}", path.display(), one_line(&error))))?;
            table = toml::from_str(&text).expect("it was read once already");
            resolve_paths(&mut table, path.parent().unwrap_or(Path::new("")));
        }
        for (variable, value) in variables {
            let Some(key) = variable.strip_prefix(PREFIX).filter(|_| !OTHERS.contains(&variable.as_str())) else {
                continue;
            };
            table.extend(one_key(&variable, &key.to_lowercase(), &value)?);
        }
        for pair in pairs {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Failure::refused("Config", format!("--set {pair}: write key=value; `miroir config` lists the keys"))
            })?;
            table.extend(one_key(&format!("--set {key}"), key, value)?);
        }
        let settings: Settings = table.try_into().map_err(|error| Failure::refused("Config", one_line(&error)))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |line: String| Err(Failure::refused("Config", line));
        if self.cluster.is_empty() || self.cluster.len() > 64 {
            return wrong("cluster: a name has 1 to 64 bytes".to_owned());
        }
        if self.node == Some(0) {
            return wrong("node: nodes are numbered from 1".to_owned());
        }
        if self.shards == 0 || self.shards > 65_536 {
            return wrong(format!("shards: {} is not between 1 and 65536", self.shards));
        }
        if !matches!(self.replication, 1 | 3 | 5) {
            return wrong(format!("replication: {} is none of 1, 3, 5", self.replication));
        }
        let (oldest, newest) = WIRE_VERSIONS;
        if !(oldest..=newest).contains(&self.newest_wire) {
            return wrong(format!("newest_wire: {} is not between {oldest} and {newest}", self.newest_wire));
        }
        if !(1..=MAX_VALUE_BYTES as u64).contains(&self.document_bytes) {
            return wrong(format!("document_bytes: {} is not between 1 and {MAX_VALUE_BYTES}", self.document_bytes));
        }
        if let Some(metrics) = self.metrics.filter(|metrics| !metrics.ip().is_loopback()) {
            return wrong(format!(
                "metrics: {metrics} is no loopback address; metrics are served to this machine alone"
            ));
        }
        for (key, value) in [
            ("anti_entropy_period_ms", self.anti_entropy_period_ms),
            ("copy_timeout_ms", self.copy_timeout_ms),
            ("drain_timeout_ms", self.drain_timeout_ms),
            ("joint_timeout_ms", self.joint_timeout_ms),
            ("request_timeout_ms", self.request_timeout_ms),
            ("page_documents", u64::from(self.page_documents)),
            ("connections", u64::from(self.connections)),
        ] {
            if value == 0 {
                return wrong(format!("{key}: must be more than 0"));
            }
        }
        self.node_addresses().map(|_| ())
    }

    /// The addresses of the nodes, by number.
    pub fn node_addresses(&self) -> Result<BTreeMap<NodeId, String>, Failure> {
        let read = |(name, address): (&String, &String)| Ok((parse_node(name)?, address.clone()));
        self.nodes.iter().map(read).collect()
    }
}

/// Reads `3` or `n3`.
pub fn parse_node(text: &str) -> Result<NodeId, Failure> {
    let number = text.strip_prefix('n').unwrap_or(text).parse().ok().filter(|&number| number > 0);
    number.map(NodeId).ok_or_else(|| Failure::usage(format!("`{text}` is no node; write n1 or 1")))
}

/// Reads the value of one key, given in `place`.
fn one_key(place: &str, key: &str, value: &str) -> Result<toml::Table, Failure> {
    let one = toml::Table::from_iter([(key.to_owned(), meant(value))]);
    match one.clone().try_into::<Settings>() {
        Ok(_) => Ok(one),
        Err(error) => Err(Failure::refused("Config", format!("{place}: {}", one_line(&error)))),
    }
}

/// Paths in a file are relative to its folder.
fn resolve_paths(table: &mut toml::Table, folder: &Path) {
    for key in ["data", "key_file"] {
        if let Some(toml::Value::String(path)) = table.get_mut(key) {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
    }
}

/// A variable's value as the kind that it looks like: a number, a truth value, an inline table, else a text.
fn meant(text: &str) -> toml::Value {
    let parsed: Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let parsed = parsed.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|')).collect();
    lines.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        Settings::load(None, variables.iter().map(|(key, value)| (key.to_string(), value.to_string())), &[])
    }

    #[test]
    fn variables_set_what_the_file_could_set() {
        let set = [("MIROIR_SHARDS", "3"), ("MIROIR_LISTEN", "127.0.0.1:7000"), ("MIROIR_ANTI_ENTROPY", "false")];
        let settings = load(&set).expect("all of them are settings");
        assert_eq!((settings.shards, settings.anti_entropy), (3, false));
        assert_eq!(settings.listen, Some("127.0.0.1:7000".parse().expect("an address")));
        let nodes = load(&[("MIROIR_NODES", r#"{ 1 = "a:1", n2 = "b:2" }"#)]).expect("a table").node_addresses();
        assert_eq!(nodes.expect("two nodes").len(), 2);
        assert!(load(&[("MIROIR_SEED", "x"), ("PATH", "y")]).is_ok(), "not ours");
        let variable = [("MIROIR_SHARDS".to_owned(), "3".to_owned())];
        let typed = Settings::load(None, variable, &["shards=4".to_owned()]).expect("a setting");
        assert_eq!(typed.shards, 4, "what was typed goes before");
    }

    #[test]
    fn what_is_not_in_the_schema_is_refused_by_name() {
        let refusal = |set: &[(&str, &str)]| load(set).expect_err("refused").line;
        assert!(refusal(&[("MIROIR_SHARD", "3")]).contains("MIROIR_SHARD: unknown field `shard`"));
        assert!(refusal(&[("MIROIR_SHARDS", "many")]).contains("MIROIR_SHARDS: invalid type"));
        assert!(refusal(&[("MIROIR_REPLICATION", "2")]).contains("none of 1, 3, 5"));
        assert!(refusal(&[("MIROIR_DOCUMENT_BYTES", "16777217")]).contains("not between 1 and 16777216"));
        assert!(refusal(&[("MIROIR_METRICS", "0.0.0.0:9000")]).contains("no loopback address"));
        assert!(refusal(&[("MIROIR_NODES", r#"{ x = "a:1" }"#)]).contains("`x` is no node"));
        for line in [refusal(&[("MIROIR_SHARDS", "\n3")]), refusal(&[("MIROIR_LOG", "loud")])] {
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
