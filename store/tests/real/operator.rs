//! What holds for every command of an operator: `--dry-run` changes nothing, and `--json` prints JSON and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use miroir_store::cli::arguments::Cli;
use serde_json::Value;

use crate::{Cluster, MIROIR, held, holding};

/// Commands that change nothing, with or without `--dry-run`.
const READ_ONLY: [&str; 13] = [
    "get",
    "scan",
    "nodes list",
    "shards list",
    "migrate status",
    "migrate verify",
    "migrate explain",
    "anti-entropy status",
    "stats",
    "dump analyze",
    "key",
    "config",
    // Tried by the tests of lost copies, where it has something to do.
    "shards give-up",
];

/// Every command that can be typed.
fn commands() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut open = vec![(String::new(), Cli::command())];
    while let Some((path, command)) = open.pop() {
        if !command.has_subcommands() {
            all.insert(path.clone());
        }
        let below = |sub: &clap::Command| (format!("{path} {}", sub.get_name()).trim().to_owned(), sub.clone());
        open.extend(command.get_subcommands().map(below));
    }
    all
}

/// The lines of a command's stdout, each of which must be JSON of the first version.
fn json_lines(cluster: &Cluster, arguments: &[&str], code: i32) -> Vec<Value> {
    let printed = cluster.miroir(&[arguments, &["--json"]].concat(), code);
    let lines: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {line}")))
        .collect();
    assert!(!lines.is_empty(), "{arguments:?} printed nothing");
    assert!(lines.iter().all(|line| line["v"] == 1), "{arguments:?}: {lines:?}");
    lines
}

/// Everything that a command may change.
fn state(cluster: &Cluster) -> Vec<String> {
    let nodes = json_lines(cluster, &["nodes", "list"], 0);
    let nodes = nodes.iter().map(|node| format!("{} {} {}", node["node"], node["address"], node["damaged"]));
    let switch = cluster.miroir(&["anti-entropy", "status"], 0).lines().next().map(str::to_owned);
    let seen = [&["shards", "list"][..], &["migrate", "status"], &["scan", "movies", "--json"]];
    let seen = seen.map(|arguments| cluster.miroir(arguments, 0));
    let above = cluster.folder.parent().expect("it lies in a folder");
    let entries = |folder: &Path| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let files: BTreeSet<String> =
        entries(above).chain(entries(&cluster.folder)).map(|entry| entry.path().display().to_string()).collect();
    let pids = std::fs::read_to_string(cluster.folder.join("processes.json")).expect("the list");
    nodes.chain(switch).chain(seen).chain(files).chain([pids]).collect()
}

#[test]
fn nothing_changes_in_a_dry_run_and_what_it_says_is_json_if_asked() {
    let cluster = Cluster::up("dry", &["--nodes", "4", "--shards", "2"]);
    cluster.miroir(&["put", "movies/1", r#"{"id":1}"#], 0);
    let above = cluster.folder.parent().expect("it lies in a folder").to_owned();
    let name = |file: &str| above.join(file).to_str().expect("a name in Unicode").to_owned();
    let (dump, absent, elsewhere) = (name("there.dump"), name("absent.dump"), name("elsewhere"));
    cluster.miroir(&["dump", "export", &dump], 0);
    let target = held(&cluster);
    cluster.miroir(&["migrate", "plan", "--shard", "s0", "--to", &target], 0);
    cluster.miroir(&["migrate", "start", "m1", "--watch"], 0);
    let second = holding(&cluster, 1);
    let joins = (1..=4).find(|node| !second.contains(node)).expect("one of four is free");
    let other = format!("n{},n{},n{joins}", second[0], second[1]);
    cluster.miroir(&["migrate", "plan", "--shard", "s1", "--to", &other], 0);
    let dir = cluster.dir();
    let table: [(&str, i32); 25] = [
        ("put movies/2 two", 0),
        ("delete movies/1", 0),
        ("drop movies", 0),
        ("nodes add n5 127.0.0.1:1", 0),
        ("nodes remove n9", 0),
        ("nodes remove n1", 2),
        // m2 is planned for the shard.
        (&format!("migrate plan --shard s1 --to {other}"), 2),
        ("migrate reverse m1", 0),
        ("migrate start m2", 0),
        ("migrate start m2 --watch", 0),
        ("migrate pause m2", 0),
        ("migrate resume m2", 0),
        ("migrate abort m2", 0),
        ("migrate abort m1", 2),
        ("anti-entropy off", 0),
        ("anti-entropy on", 0),
        ("anti-entropy run", 0),
        ("scrub", 0),
        (&format!("dump export {absent}"), 0),
        (&format!("dump import {dump}"), 0),
        ("dump discard", 0),
        (&format!("cluster up --nodes 3 --dir {elsewhere}"), 0),
        (&format!("cluster down --dir {dir}"), 0),
        // What runs until it is ended.
        ("node", 2),
        ("coordinator --gone n1", 2),
    ];
    let before = state(&cluster);
    let mut tried: BTreeSet<String> = READ_ONLY.map(str::to_owned).into();
    for (line, code) in table {
        let words: Vec<&str> = line.split(' ').collect();
        cluster.miroir(&[&words[..], &["--dry-run"]].concat(), code);
        let said = json_lines(&cluster, &[&words[..], &["--dry-run"]].concat(), code);
        let is_marked = |said: &Value| said["dry_run"] == true || said["error"].is_string() || words[0] == "dump";
        assert!(said.iter().all(is_marked), "{line}: {said:?}");
        assert_eq!(state(&cluster), before, "`miroir {line} --dry-run` has changed something");
        let is_named = |command: &&String| line == command.as_str() || line.starts_with(&format!("{command} "));
        tried.extend(commands().iter().find(is_named).cloned());
    }
    assert_eq!(tried, commands(), "every command is here, or is known to change nothing");
    // The same processes end when it is meant.
    assert_eq!(json_lines(&cluster, &["cluster", "down", "--dir", dir], 0)[0]["ended"], 5);
}

#[test]
fn what_has_no_result_is_json_as_well() {
    let cluster = Cluster::up("json", &["--nodes", "1", "--shards", "2"]);
    let refusals: [(&[&str], i32, &str); 6] = [
        (&["scan", "movies"], 4, "Absent"),
        (&["migrate", "status"], 4, "NoMigrations"),
        (&["anti-entropy", "run"], 4, "NothingToCompare"),
        (&["migrate", "plan", "--shard", "x"], 2, "Usage"),
        (&["kye"], 2, "Usage"),
        (&["cluster", "up", "--nodes", "2", "--dir", cluster.dir()], 2, "Usage"),
    ];
    for (arguments, code, error) in refusals {
        assert_eq!(json_lines(&cluster, arguments, code)[0]["error"], error, "{arguments:?}");
    }
    let key = json_lines(&cluster, &["key"], 0)[0]["key"].as_str().expect("a key").to_owned();
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    for arguments in [&["nodes", "list"][..], &["shards", "list"], &["stats"], &["scrub"], &["anti-entropy", "status"]]
    {
        json_lines(&cluster, arguments, 0);
    }
    // Behind `--` it is a value, and the mistake is told to a person.
    let output = Command::new(MIROIR).args(["kye", "--", "--json"]).output().expect("it starts");
    assert!(output.stdout.is_empty() && output.status.code() == Some(2));
}

#[test]
fn a_pass_that_does_not_end_is_given_up_with_a_word_and_ends_when_nodes_are_back() {
    let cluster = Cluster::up("unfinished", &["--nodes", "3", "--shards", "2"]);
    cluster.miroir(&["put", "movies/1", "one"], 0);
    let signal = |signal| ["n2", "n3"].iter().for_each(|node| cluster.signal(node, signal));
    // A majority of each shard's replicas is silent.
    signal("-STOP");
    let said = json_lines(&cluster, &["--set", "request_timeout_ms=200", "anti-entropy", "run"], 4);
    assert_eq!(said[0]["error"], "Unfinished", "{said:?}");
    assert!(said[0]["text"].to_string().contains("no pass over s0 s1 has ended"), "{said:?}");
    signal("-CONT");
    assert!(cluster.until(&["anti-entropy", "run"], 0).starts_with("2 shards compared"));
}
