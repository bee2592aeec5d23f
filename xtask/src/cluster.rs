//! A cluster of real processes on this machine, each of which can be killed, stopped and started again, and whose cables
//! can be cut.
//!
//! Every process listens at its own door, and its cable ([`cables`]) leads there: what the others are told is where the
//! cable begins. Without cables they are told the doors. Settings, logs and data lie in one folder, as `miroir cluster up`
//! lays them out.

pub mod cables;
pub mod small_disk;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use miroir_store::cli::session::{Session, is_ready};
use miroir_store::cli::settings::Settings;
use miroir_store::env::Peer;
use miroir_store::id::{MigrationId, NodeId};
use miroir_store::migration::Stage;
use miroir_store::net::tcp::ports;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::exit::{ExitCode, Failure};
use crate::workspace::{self, Workspace};
use cables::Cables;

/// A cluster that is not ready by then will not be.
const PATIENCE: Duration = Duration::from_secs(30);
const EVERY_STAGE: [Stage; 8] = [
    Stage::Planned,
    Stage::DualWrite,
    Stage::Drain,
    Stage::DeltaPass,
    Stage::Activate,
    Stage::Cleanup,
    Stage::Done,
    Stage::Aborted,
];
/// Between two looks at something that takes a while.
pub const LOOK: Duration = Duration::from_millis(20);

/// Builds `miroir`, with the features that the whole workspace asks for, so that nothing is built a second time.
pub fn build(workspace: &Workspace, profile: &str) -> Result<PathBuf, Failure> {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--workspace", "--bin", "miroir", "--profile", profile]);
    workspace::built_by(cargo)
}

/// A runtime for the network of this process: cables and clients.
pub fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|error| Failure::io("start", "threads", &error))
}

/// What an operator or a client was told, as a failure of this command line.
pub fn failed(failure: miroir_store::cli::exit::Failure) -> Failure {
    Failure::internal(failure.line)
}

/// Its processes end with it.
pub struct Cluster {
    program: PathBuf,
    pub folder: PathBuf,
    pub nodes: u32,
    children: BTreeMap<Peer, Child>,
}

impl Cluster {
    /// Writes the settings of a coordinator and of nodes `1..=nodes` into `folder`. `base`: what all of them share.
    pub fn lay_out(
        program: &Path,
        folder: &Path,
        nodes: u32,
        base: &Settings,
        cables: Option<&Cables>,
    ) -> Result<Cluster, Failure> {
        let peers: Vec<Peer> =
            std::iter::once(Peer::Coordinator).chain((1..=nodes).map(NodeId).map(Peer::Node)).collect();
        let doors = ports::free(peers.len()).map_err(|error| Failure::io("find", "free ports", &error))?;
        let mut told = BTreeMap::new();
        for (peer, door) in peers.iter().zip(&doors) {
            let at = match cables {
                Some(cables) => cables.lay(*peer, *door).map_err(|error| Failure::io("lay", "a cable", &error))?,
                None => *door,
            };
            told.insert(*peer, at.to_string());
        }
        let shared = Settings {
            coordinator: told.get(&Peer::Coordinator).cloned(),
            nodes: (1..=nodes).map(|n| (format!("n{n}"), told[&Peer::Node(NodeId(n))].clone())).collect(),
            ..base.clone()
        };
        for (peer, door) in peers.iter().zip(doors) {
            let node = match peer {
                Peer::Node(node) => Some(node.0),
                _ => None,
            };
            let own = Settings { node, listen: Some(door), data: Some(peer.to_string().into()), ..shared.clone() };
            write(&folder.join(format!("{peer}.toml")), &own)?;
        }
        write(&folder.join("miroir.toml"), &shared)?;
        Ok(Cluster { program: program.to_owned(), folder: folder.to_owned(), nodes, children: BTreeMap::new() })
    }

    /// Every process by its name.
    pub fn peers(&self) -> Vec<Peer> {
        std::iter::once(Peer::Coordinator).chain((1..=self.nodes).map(NodeId).map(Peer::Node)).collect()
    }

    /// The settings of a client.
    pub fn settings(&self) -> Result<Settings, Failure> {
        Settings::load(Some(&self.folder.join("miroir.toml")), [], &[]).map_err(failed)
    }

    /// Starts whoever does not run, and waits until the cluster is whole.
    pub fn up(&mut self, runtime: &Runtime) -> Result<(), Failure> {
        for peer in self.peers() {
            if !self.children.contains_key(&peer) {
                self.start(peer)?;
            }
        }
        let settings = Settings { request_timeout_ms: 500, ..self.settings()? };
        let end = Instant::now() + PATIENCE;
        while !runtime.block_on(is_ready(&settings, self.nodes)) {
            if let Some((peer, status)) = self.ended() {
                return Err(Failure::internal(format!("{peer} ended ({status}); see {}", self.log(peer).display())));
            }
            if Instant::now() > end {
                let folder = self.folder.display();
                return Err(Failure::internal(format!("the cluster is not ready; see the logs in {folder}")));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    pub fn start(&mut self, peer: Peer) -> Result<(), Failure> {
        let log = self.log(peer);
        let open = File::options().create(true).append(true).open(&log);
        let log = open.map_err(|error| Failure::io("write", log.display(), &error))?;
        let role = if peer == Peer::Coordinator { "coordinator" } else { "node" };
        let mut command = Command::new(&self.program);
        command.arg(role).arg("--config").arg(self.folder.join(format!("{peer}.toml")));
        command.env_remove("MIROIR_CONFIG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| Failure::io("start", peer, &error))?;
        self.children.insert(peer, child);
        Ok(())
    }

    /// Ends a process in the middle of whatever it does.
    pub fn kill(&mut self, peer: Peer) {
        if let Some(mut child) = self.children.remove(&peer) {
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Stops a process in the middle of whatever it does, or lets it go on as if nothing had happened.
    pub fn stop(&self, peer: Peer, stopped: bool) {
        let child = self.children.get(&peer).and_then(|child| Pid::from_raw(child.id() as i32));
        if let Some(pid) = child {
            let _gone_already = kill_process(pid, if stopped { Signal::STOP } else { Signal::CONT });
        }
    }

    /// A process that has ended by itself, which none should.
    pub fn ended(&mut self) -> Option<(Peer, String)> {
        self.children.iter_mut().find_map(|(peer, child)| match child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some((*peer, status.to_string())),
            Err(error) => Some((*peer, error.to_string())),
        })
    }

    fn log(&self, peer: Peer) -> PathBuf {
        self.folder.join(format!("{peer}.log"))
    }

    /// What a process has logged so far.
    pub fn logged(&self, peer: Peer) -> String {
        fs::read_to_string(self.log(peer)).unwrap_or_default()
    }

    /// The stage of a migration that the coordinator has logged last, as it does once it is durable. Whoever has just
    /// killed the coordinator learns so in which stage it died.
    pub fn stage(&self, id: MigrationId) -> Stage {
        let logged = self.logged(Peer::Coordinator);
        let told = format!("stage migration={id} ");
        // What has no end yet is still being written.
        let line = logged.split_inclusive('\n').rfind(|line| line.ends_with('\n') && line.contains(&told));
        let name = line.and_then(|line| line.split(" stage=").nth(1)?.split_whitespace().next());
        name.map_or(Stage::Planned, |name| {
            let known = EVERY_STAGE.into_iter().find(|stage| stage.to_string() == name);
            known.unwrap_or_else(|| panic!("the coordinator has logged a stage `{name}`"))
        })
    }

    pub async fn session(&self) -> Result<Session, Failure> {
        Session::open(self.settings()?).await.map_err(failed)
    }

    /// Runs a command of the operator, which must end with exit code 0. Returns what it printed.
    pub fn miroir(&self, arguments: &[&str]) -> Result<String, Failure> {
        miroir(&self.program, &self.folder, arguments)
    }
}

/// Runs a command of the operator of the cluster whose settings lie in `folder`; it must end with exit code 0. Returns
/// what it printed.
pub fn miroir(program: &Path, folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.args(arguments).env("MIROIR_CONFIG", folder.join("miroir.toml"));
    let output = command.output().map_err(|error| Failure::io("start", "miroir", &error))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.success() {
        true => Ok(stdout.into_owned()),
        false => {
            let line = format!("`miroir {}`: {}{}", arguments.join(" "), stdout.trim(), stderr.trim());
            Err(Failure { exit: ExitCode::Finding, line })
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for peer in self.peers() {
            self.kill(peer);
        }
    }
}

fn write(path: &Path, settings: &Settings) -> Result<(), Failure> {
    let text = toml::to_string(settings).map_err(|error| Failure::internal(error.to_string()))?;
    fs::write(path, text).map_err(|error| Failure::io("write", path.display(), &error))
}
