//! What can be typed. Every refusal is one line with exit code 2.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use crate::cli::dump::DumpCommand;
use crate::cli::exit::Failure;
use crate::cli::settings::parse_node;
use crate::id::{Key, MigrationId, NodeId, ShardId};

#[derive(Debug, Parser)]
#[command(name = "miroir", version, disable_help_subcommand = true, max_term_width = 110)]
/// Runs a cluster of the document store, and moves its shards.
///
/// Exit codes: 0 done, 2 bad input or refused before anything was changed, 4 nothing there or nobody answered, 70 the
/// tool failed, 100 something was found (replicas that differ, rot, an aborted migration, a write of unknown outcome).
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// The settings, as TOML (also: MIROIR_CONFIG; each key also as a variable, MIROIR_LISTEN for `listen`)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the settings, whatever file and environment say
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print JSON on stdout, one value per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Say whether it would be done, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node: it keeps copies of shards and answers for them
    Node,
    /// Run the coordinator: it moves shards between nodes and keeps the records that say who holds what
    Coordinator {
        /// Nodes that will never come back. Where the records are lost, they are rebuilt without these, and what these
        /// alone held or had installed is given up; where there are records, this changes nothing
        #[arg(long, value_name = "NODES", value_delimiter = ',', value_parser = read_node)]
        gone: Vec<NodeId>,
    },
    /// A cluster of processes on this machine, for trying things out
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Write a document: `put movies/7 '{"title":"Alien"}'`
    Put {
        #[arg(value_name = "COLLECTION/ID", value_parser = read_key)]
        key: Key,
        /// The body; `-` reads it from stdin
        #[arg(allow_hyphen_values = true)]
        body: String,
    },
    /// Read a document
    Get {
        #[arg(value_name = "COLLECTION/ID", value_parser = read_key)]
        key: Key,
    },
    /// Delete a document
    Delete {
        #[arg(value_name = "COLLECTION/ID", value_parser = read_key)]
        key: Key,
    },
    /// Read the documents of a collection in id order
    Scan {
        collection: String,
        /// Only ids that begin so
        #[arg(long, default_value = "")]
        prefix: String,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        limit: u64,
    },
    /// Delete every document of a collection
    Drop { collection: String },
    /// The nodes of the cluster
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// The shards of the cluster
    #[command(subcommand)]
    Shards(ShardsCommand),
    /// Move a shard to other nodes
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// The comparison of replicas in the background
    #[command(subcommand)]
    AntiEntropy(AntiEntropyCommand),
    /// Read every document of every node back and find rot
    Scrub {
        /// Only this node
        #[arg(long, value_name = "NODE", value_parser = read_node)]
        node: Option<NodeId>,
    },
    /// What each node holds
    Stats,
    /// Dumps of Meilisearch: see what is in one, import it, export one
    #[command(subcommand)]
    Dump(DumpCommand),
    /// Print a new key for a cluster to share: 64 hexadecimal digits, for a file that only its processes may read
    Key,
    /// Check the settings, and print them as they are in effect
    Config,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Start a coordinator and nodes, and run them until Ctrl-C
    Up {
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=32))]
        nodes: u32,
        /// Where their settings, logs and data go
        #[arg(long, value_name = "DIR", default_value = "miroir-cluster")]
        dir: PathBuf,
        /// Copies of each shard. Default: 3, or 1 with fewer than three nodes
        #[arg(long, value_name = "N")]
        replication: Option<u32>,
        #[arg(long, value_name = "N", default_value_t = 8)]
        shards: u32,
        /// Have the processes share a key
        #[arg(long)]
        with_key: bool,
        /// Leave the processes running; `cluster down` ends them
        #[arg(long)]
        detach: bool,
    },
    /// End the processes that `cluster up --detach` left running
    Down {
        #[arg(long, value_name = "DIR", default_value = "miroir-cluster")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum NodesCommand {
    /// Every node: where it is, when it answered last, what it holds
    List,
    /// Make a node that runs already part of the cluster, or give it another address
    Add {
        #[arg(value_parser = read_node)]
        node: NodeId,
        /// Where it listens
        #[arg(value_name = "HOST:PORT")]
        address: String,
    },
    /// Forget a node that holds no shard any more
    Remove {
        #[arg(value_parser = read_node)]
        node: NodeId,
    },
}

#[derive(Debug, Subcommand)]
pub enum ShardsCommand {
    /// Every shard: its configuration and who holds it
    List,
    /// Have a shard that lost a majority of its copies serve again from those that are left. What only the lost copies
    /// held is gone for good
    GiveUp {
        #[arg(value_parser = read_shard)]
        shard: ShardId,
        /// The nodes whose copies are lost, all of them and no others
        #[arg(long, value_name = "NODES", value_delimiter = ',', required = true, value_parser = read_node)]
        copies: Vec<NodeId>,
    },
}

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Write a plan down: nothing moves yet
    Plan {
        #[arg(long, value_name = "SHARD", value_parser = read_shard)]
        shard: ShardId,
        /// The nodes that shall hold it, as in n2,n3,n4
        #[arg(long, value_name = "NODES", value_delimiter = ',', required = true, value_parser = read_node)]
        to: Vec<NodeId>,
        /// Cut over without the delta pass: a loss window opens at Activate and lasts until anti-entropy has closed it
        #[arg(long)]
        skip_delta: bool,
    },
    /// Begin a planned migration
    Start {
        #[arg(value_parser = read_migration)]
        id: MigrationId,
        /// Then show its stages until it ends
        #[arg(long)]
        watch: bool,
    },
    /// Where migrations stand
    Status {
        /// Only this one
        #[arg(value_parser = read_migration)]
        id: Option<MigrationId>,
        /// Show its stages until it ends
        #[arg(long, requires = "id")]
        watch: bool,
    },
    /// Keep it in its stage; the timeouts of Drain and of the delta pass still run
    Pause {
        #[arg(value_parser = read_migration)]
        id: MigrationId,
    },
    /// Let it go on
    Resume {
        #[arg(value_parser = read_migration)]
        id: MigrationId,
    },
    /// Back to the old replicas; not possible after Activate
    Abort {
        #[arg(value_parser = read_migration)]
        id: MigrationId,
    },
    /// Plan the way back of a migration that has activated
    Reverse {
        #[arg(value_parser = read_migration)]
        id: MigrationId,
    },
    /// Compare the replicas of its shard, document by document where they differ
    Verify {
        #[arg(value_parser = read_migration)]
        id: MigrationId,
    },
    /// Say what it is waiting for, and what comes next
    Explain {
        #[arg(value_parser = read_migration)]
        id: MigrationId,
    },
}

#[derive(Debug, Subcommand)]
pub enum AntiEntropyCommand {
    /// Whether it is on, and the last pass over each shard
    Status,
    /// A pass over every shard, now
    Run,
    /// Switch it on
    On,
    /// Switch it off; refused while a skipped delta pass depends on it
    Off,
}

fn read_key(text: &str) -> Result<Key, String> {
    text.parse().map_err(|error: crate::error::KeyError| error.to_string())
}

fn read_node(text: &str) -> Result<NodeId, String> {
    parse_node(text).map_err(|failure| failure.line)
}

fn read_shard(text: &str) -> Result<ShardId, String> {
    let number = text.strip_prefix('s').unwrap_or(text).parse();
    number.map(ShardId).map_err(|_| format!("`{text}` is no shard; write s0 or 0"))
}

fn read_migration(text: &str) -> Result<MigrationId, String> {
    let number = text.strip_prefix('m').unwrap_or(text).parse();
    number.map(MigrationId).map_err(|_| format!("`{text}` is no migration; write m1 or 1"))
}

/// Why there is no command to run.
#[derive(Debug)]
pub enum Stop {
    /// Help was asked for.
    Help(String),
    Failure(Failure),
}

/// Reads a command line, the program's name first.
pub fn parse<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Cli, Stop> {
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Help(error.render().ansi().to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Stop::Failure(Failure::usage("a command is missing; `miroir --help` lists them"))
        }
        _ => Stop::Failure(Failure::usage(explain(&error))),
    })
}

/// Whether a command line that could not be read asks for JSON all the same.
pub fn want_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Clap's error as one line.
fn explain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => Some(value.clone()),
        Some(ContextValue::Strings(values)) => Some(values.join(", ")),
        _ => None,
    };
    let mut line = first.trim_end_matches(':').to_owned();
    if first.ends_with(':') {
        // What is missing stands on lines of its own.
        let missing: Vec<&str> = text.lines().skip(1).take_while(|line| line.starts_with(' ')).map(str::trim).collect();
        line = format!("{line}: {}", missing.join(", "));
    }
    if let Some(suggested) = named(ContextKind::SuggestedSubcommand).or_else(|| named(ContextKind::SuggestedArg)) {
        line = format!("{line}; did you mean `{suggested}`?");
    }
    if let Some(possible) = named(ContextKind::ValidValue).filter(|possible| !possible.is_empty()) {
        line = format!("{line}; allowed: {possible}");
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_mistake_is_one_line() {
        let id = format!("get movies/{}", "x".repeat(512));
        let mistakes = [
            "",
            "kye",
            "key --jsn",
            "config --config",
            "get movies",
            "migrate",
            "migrate plan --shard x",
            "dmup",
            "dump",
            "dump import",
            "dump import x --stroe y",
            "dump import x --store y --mode z",
            &id,
        ];
        for line in mistakes {
            match parse(format!("miroir {line}").split_whitespace()) {
                Err(Stop::Failure(failure)) => assert!(!failure.line.contains('\n'), "{failure}"),
                other => panic!("`{line}` was not refused: {other:?}"),
            }
        }
    }

    #[test]
    fn nothing_that_can_be_typed_gets_past_the_gate() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                let long = argument.get_long().unwrap_or_default();
                assert!(!["force", "unsafe", "override", "yes"].iter().any(|word| long.contains(word)), "--{long}");
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
