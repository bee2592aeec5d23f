//! A cluster of real processes on this machine, for trying things out.
//!
//! Everything lies in one folder: the settings of each process (`n1.toml`, `coordinator.toml`), those of clients
//! (`miroir.toml`), logs, data. A process can be ended and started again by hand with the settings that lie there.

#![expect(clippy::disallowed_types, reason = "a cluster is made of processes")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::arguments::{ClusterCommand, Global};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::print::{self, note, out};
use crate::cli::process::runtime;
use crate::cli::session::is_ready;
use crate::cli::settings::Settings;
use crate::env::real::FileDisk;
use crate::net::key::SharedKey;
use crate::net::tcp::ports;

/// The names of the processes that were started, and their numbers.
const PROCESSES: &str = "processes.json";
/// A cluster that is not ready by then will not be.
const PATIENCE: Duration = Duration::from_secs(30);
/// A process that was told to end and has not is killed after this long.
const GRACE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run(command: &ClusterCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        ClusterCommand::Up { nodes, dir, replication, shards, with_key, detach } => {
            let replication = replication.unwrap_or(if *nodes < 3 { 1 } else { 3 });
            let plan = Plan { nodes: *nodes, replication, shards: *shards, with_key: *with_key };
            up(&plan, dir, *detach, global)
        }
        ClusterCommand::Down { dir } => down(dir, global),
    }
}

struct Plan {
    nodes: u32,
    replication: u32,
    shards: u32,
    with_key: bool,
}

/// The names of the processes of a folder that was written.
fn names(nodes: u32) -> Vec<String> {
    std::iter::once("coordinator".to_owned()).chain((1..=nodes).map(|n| format!("n{n}"))).collect()
}

fn up(plan: &Plan, dir: &Path, detach: bool, global: &Global) -> Result<ExitCode, Failure> {
    if plan.nodes < plan.replication {
        let text = format!("{} nodes cannot hold {} copies of a shard", plan.nodes, plan.replication);
        return Err(Failure::usage(text));
    }
    let names = names(plan.nodes);
    let started = Instant::now();
    let is_new = !dir.join("miroir.toml").exists();
    let are_laid_out = names.iter().all(|name| dir.join(format!("{name}.toml")).exists());
    if !is_new && (!are_laid_out || dir.join(format!("n{}.toml", plan.nodes + 1)).exists()) {
        let text =
            format!("{} holds a cluster of another size; give the same --nodes, or another --dir", dir.display());
        return Err(Failure::usage(text));
    }
    if global.dry_run {
        let absent: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_running(dir, name)).collect();
        match global.json {
            true => print::json(&json!({ "dir": dir, "would_start": absent, "dry_run": true })),
            false => out(format!("would start {} in {}", listing(&absent), dir.display())),
        }
        return Ok(ExitCode::AsExpected);
    }
    if is_new {
        write_settings(plan, dir)?;
    }
    // Those that run already are left alone: a cluster of which some were killed is made whole again.
    let mut pids = listed(dir).unwrap_or_default();
    pids.retain(|name, _| is_running(dir, name));
    let mut children = BTreeMap::new();
    for name in names.iter().filter(|name| !is_running(dir, name)) {
        let child = start(dir, name)?;
        pids.insert(name.clone(), child.id());
        children.insert(name.clone(), child);
    }
    let running = runtime(1)?;
    if let Err(failure) = running.block_on(until_ready(dir, plan.nodes, &mut children)) {
        end(children);
        return Err(failure);
    }
    write(&dir.join(PROCESSES), &serde_json::to_string(&pids).expect("numbers are JSON"))?;
    let took = started.elapsed().as_millis();
    match global.json {
        true => print::json(&json!({ "nodes": plan.nodes, "dir": dir, "ready_ms": took, "processes": pids })),
        false => {
            out(format!("{} nodes are ready after {:.1} s", plan.nodes, took as f64 / 1e3));
            out(format!("export MIROIR_CONFIG={}", absolute(&dir.join("miroir.toml")).display()));
        }
    }
    if detach {
        return Ok(ExitCode::AsExpected);
    }
    note("Ctrl-C ends them");
    running.block_on(watch(&mut children))?;
    end(children);
    let _kept_if_it_cannot_be_removed = fs::remove_file(dir.join(PROCESSES));
    Ok(ExitCode::AsExpected)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::io("write", path.display(), &error))
}

/// The settings of every process, on ports that are free now.
fn write_settings(plan: &Plan, dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|error| Failure::io("create", dir.display(), &error))?;
    let free = ports::free(plan.nodes as usize + 1).map_err(|error| Failure::io("find", "free ports", &error))?;
    let mut free = free.into_iter().map(|address| address.to_string());
    let mut port = || free.next().expect("a port for each process");
    let coordinator = port();
    let mut nodes = BTreeMap::new();
    for n in 1..=plan.nodes {
        nodes.insert(format!("n{n}"), port());
    }
    let shared = Settings {
        cluster: "local".to_owned(),
        coordinator: Some(coordinator.clone()),
        nodes: nodes.clone(),
        key_file: plan.with_key.then(|| "key".into()),
        shards: plan.shards,
        replication: plan.replication,
        anti_entropy_period_ms: 2_000,
        ..Settings::default()
    };
    if plan.with_key {
        let path = dir.join("key");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written =
            file.and_then(|mut file| std::io::Write::write_all(&mut file, SharedKey::fresh().to_hex().as_bytes()));
        written.map_err(|error| Failure::io("write", path.display(), &error))?;
    }
    let text = |settings: &Settings| toml::to_string(settings).expect("settings are TOML");
    let at = |address: &str| Some(address.parse().expect("an address of this machine"));
    let of = |name: &str, address: &str| Settings { listen: at(address), data: Some(name.into()), ..shared.clone() };
    write(&dir.join("coordinator.toml"), &text(&of("coordinator", &coordinator)))?;
    for (name, address) in &nodes {
        let node = Some(number(name));
        write(&dir.join(format!("{name}.toml")), &text(&Settings { node, ..of(name, address) }))?;
    }
    write(&dir.join("miroir.toml"), &text(&shared))
}

/// The number in a name that was made here.
fn number(name: &str) -> u32 {
    name.strip_prefix('n').and_then(|number| number.parse().ok()).expect("nodes are named n1, n2, ...")
}

/// Names of processes for a person.
fn listing(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
}

/// Starts the process of this name; it outlives this one unless it is ended.
fn start(dir: &Path, name: &str) -> Result<Child, Failure> {
    let failed = |error| Failure::io("start", name, &error);
    let program = std::env::current_exe().map_err(failed)?;
    let log = dir.join(format!("{name}.log"));
    let log = File::options().create(true).append(true).open(&log).map_err(failed)?;
    let role = if name == "coordinator" { "coordinator" } else { "node" };
    Command::new(program)
        .arg(role)
        .arg("--config")
        .arg(dir.join(format!("{name}.toml")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for the parent, which ends them in order.
        .process_group(0)
        .spawn()
        .map_err(failed)
}

/// Waits until every node has answered the coordinator and knows every configuration.
async fn until_ready(dir: &Path, nodes: u32, children: &mut BTreeMap<String, Child>) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    let file = dir.join("miroir.toml");
    let settings = Settings::load(Some(&file), [], &["request_timeout_ms=500".to_owned()])?;
    loop {
        for (name, child) in children.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                let log = dir.join(format!("{name}.log"));
                let said = fs::read_to_string(&log).unwrap_or_default();
                let said = said.lines().last().unwrap_or_default();
                return Err(Failure::internal(format!(
                    "{name} ended at once ({status}): {said}; see {}",
                    log.display()
                )));
            }
        }
        if is_ready(&settings, nodes).await {
            return Ok(());
        }
        if Instant::now() > end {
            let text =
                format!("the cluster is not ready after {} s; see the logs in {}", PATIENCE.as_secs(), dir.display());
            return Err(Failure::internal(text));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for Ctrl-C or SIGTERM, and says if a process ends by itself.
async fn watch(children: &mut BTreeMap<String, Child>) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::io("listen for", "signals", &error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut gone = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        for (name, child) in children.iter_mut().filter(|(name, _)| !gone.contains(*name)).collect::<Vec<_>>() {
            if let Ok(Some(status)) = child.try_wait() {
                note(format!("{name} has ended ({status})"));
                gone.push(name.clone());
            }
        }
    }
}

/// Tells all to end, and kills those that do not.
fn end(children: BTreeMap<String, Child>) {
    for child in children.values() {
        tell(child.id(), Signal::TERM);
    }
    let end = Instant::now() + GRACE;
    for (name, mut child) in children {
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                note(format!("{name} did not end in time and is killed"));
                let _gone = child.kill();
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn tell(pid: u32, what: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _gone = kill_process(pid, what);
    }
}

/// The processes that were left running, or once were.
fn listed(dir: &Path) -> Option<BTreeMap<String, u32>> {
    serde_json::from_str(&fs::read_to_string(dir.join(PROCESSES)).ok()?).ok()
}

/// Ends the processes that were left running.
fn down(dir: &Path, global: &Global) -> Result<ExitCode, Failure> {
    let path = dir.join(PROCESSES);
    let listed = listed(dir)
        .ok_or_else(|| Failure::nothing("NotRunning", format!("no cluster was left running in {}", dir.display())))?;
    // Whoever holds the lock on its data is the process that was started; a number alone may be another's by now.
    let alive: BTreeMap<&String, u32> =
        listed.iter().filter(|(name, _)| is_running(dir, name)).map(|(name, pid)| (name, *pid)).collect();
    if global.dry_run {
        let names: Vec<&str> = alive.keys().map(|name| name.as_str()).collect();
        match global.json {
            true => print::json(&json!({ "dir": dir, "would_end": names, "dry_run": true })),
            false => out(format!("would end {}", listing(&names))),
        }
        return Ok(ExitCode::AsExpected);
    }
    alive.values().for_each(|pid| tell(*pid, Signal::TERM));
    let end = Instant::now() + GRACE;
    for (name, &pid) in &alive {
        while Pid::from_raw(pid as i32).is_some_and(|pid| test_kill_process(pid).is_ok()) && is_running(dir, name) {
            if Instant::now() > end {
                note(format!("{name} did not end in time and is killed"));
                tell(pid, Signal::KILL);
            }
            std::thread::sleep(LOOK);
        }
    }
    fs::remove_file(&path).map_err(|error| Failure::io("remove", path.display(), &error))?;
    match global.json {
        true => print::json(&json!({ "ended": alive.len() })),
        false => out(format!("{} processes have ended", alive.len())),
    }
    Ok(ExitCode::AsExpected)
}

fn is_running(dir: &Path, name: &str) -> bool {
    let kept = if name == "coordinator" { "records" } else { "documents" };
    let data = dir.join(name).join(kept);
    data.exists() && FileDisk::open(&data).is_err()
}
