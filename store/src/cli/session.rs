//! An operator's or a client's conversation with a running cluster.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::exit::Failure;
use crate::cli::settings::Settings;
use crate::coordinator::inspection::Inspection;
use crate::dump::target::cluster::Cluster;
use crate::env::real::{MonotonicClock, OsDice};
use crate::env::{Disk, Env, File, Nanos, NoProbe, Peer, millis};
use crate::id::{Epoch, NodeId};
use crate::net::key::SharedKey;
use crate::net::tcp::os::OsSockets;
use crate::net::tcp::{Book, Limits, Options, TcpNet};
use crate::router::Timing;
use crate::router::client::Client;
use crate::wire::{Command, CommandId, Message, NodeQuestion, NodeReply, Reply, decode, encode};

/// A question that was not answered is asked again this often.
const REPEAT: Nanos = millis(300);

/// One connection of so many is kept for nodes and the coordinator.
const RESERVED_PART: usize = 8;

/// An import ends with an error after so long without any success.
const IMPORT_PATIENCE: Nanos = millis(60_000);

/// A client's end of the network, after it has met the cluster.
pub struct Session {
    pub settings: Settings,
    net: TcpNet,
    env: Env,
    /// Names the session to the coordinator, which carries its commands out in the order of their numbers.
    operator: u64,
    asked: u64,
}

/// A client keeps nothing.
#[derive(Debug)]
struct NoDisk;

impl Disk for NoDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("a client has no disk for {name}")))
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// How a process with these settings takes part in the network.
pub(super) fn net_options(settings: &Settings, me: Peer) -> Result<Options, Failure> {
    let key = settings.key_file.as_deref().map(SharedKey::read).transpose();
    let key = key.map_err(|error| Failure::refused("Key", error.to_string()))?;
    let book = Book { revision: 0, coordinator: settings.coordinator.clone(), nodes: settings.node_addresses()? };
    let connections = settings.connections as usize;
    let limits = Limits { connections, reserved: connections / RESERVED_PART, ..Limits::default() };
    let (cluster, newest_wire) = (settings.cluster.clone(), settings.newest_wire);
    Ok(Options { me, cluster, listen: settings.listen, key, book, newest_wire, limits })
}

/// Whether every node of a cluster of `nodes` has answered the coordinator, and every shard has been placed.
pub async fn is_ready(settings: &Settings, nodes: u32) -> bool {
    let Ok(mut session) = Session::open(settings.clone()).await else { return false };
    let ready = match session.inspect().await {
        Ok(inspection) => {
            let known = inspection.nodes.iter().filter(|node| node.disk.is_some()).count();
            known >= nodes as usize && inspection.configs.iter().all(|config| config.epoch > Epoch::ZERO)
        }
        Err(_) => false,
    };
    session.close().await;
    ready
}

impl Session {
    /// Meets the first process of the cluster that answers.
    pub async fn open(settings: Settings) -> Result<Session, Failure> {
        let options = Options { listen: None, ..net_options(&settings, Peer::Client(0))? };
        let addresses: Vec<String> = options.book.nodes.values().chain(&options.book.coordinator).cloned().collect();
        if addresses.is_empty() {
            return Err(Failure::refused(
                "Config",
                "no address of the cluster is known; set `nodes` or `coordinator`, or name a file with --config",
            ));
        }
        let clock = Arc::new(MonotonicClock::default());
        let unreachable = |error: crate::net::tcp::NetError| Failure::nothing("Unreachable", error.to_string());
        let net = TcpNet::start(options, clock.clone(), Arc::new(OsSockets)).await.map_err(unreachable)?;
        net.meet(&addresses).await.map_err(unreachable)?;
        let env = Env {
            clock,
            dice: Arc::new(OsDice),
            disk: Arc::new(NoDisk),
            net: Arc::new(net.clone()),
            probe: Arc::new(NoProbe),
        };
        let drawn = env.dice.bits();
        let (operator, asked) = ((drawn >> 64) as u64, u64::from(drawn as u32));
        Ok(Session { settings, net, env, operator, asked })
    }

    pub async fn close(self) {
        self.net.close(Duration::from_millis(200)).await;
    }

    /// A number that names one question, greater than all before it.
    pub(super) fn fresh(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    pub fn now(&self) -> Nanos {
        self.env.clock.now()
    }

    /// The cluster as the target of an import. Use it and the session by turns: both read what arrives.
    pub fn import_target(&self) -> Result<Cluster, Failure> {
        let nodes: Vec<NodeId> = self.net.book().nodes.keys().copied().collect();
        if nodes.is_empty() {
            return Err(Failure::nothing("Unreachable", "nobody has named a node yet; is the cluster being created?"));
        }
        let timing = Timing { resend: millis(200), give_up: millis(self.settings.request_timeout_ms) };
        Ok(Cluster::new(self.env.clone(), nodes, timing, IMPORT_PATIENCE))
    }

    /// A client of the documents. Use it and the session by turns: both read what arrives.
    pub fn client(&self) -> Result<Client, Failure> {
        let nodes: Vec<NodeId> = self.net.book().nodes.keys().copied().collect();
        if nodes.is_empty() {
            return Err(Failure::nothing("Unreachable", "nobody has named a node yet; is the cluster being created?"));
        }
        let timing = Timing { resend: millis(200), give_up: millis(self.settings.request_timeout_ms) };
        Ok(Client::new(self.env.clone(), nodes, timing))
    }

    /// Has the coordinator carry out a command, or, with `dry_run`, say what it would answer. A refusal is a failure.
    pub async fn command(&mut self, command: Command, dry_run: bool) -> Result<Reply, Failure> {
        let id = CommandId { operator: self.operator, n: self.fresh() };
        let question = match dry_run {
            true => Message::Rehearse { id, command },
            false => Message::Command { id, command },
        };
        let answer = |message| match message {
            Message::Reply { id: answered, reply } if answered == id => Some(reply),
            _ => None,
        };
        let reply = self.ask(Peer::Coordinator, &question, answer).await.ok_or_else(|| {
            let address = self.net.book().coordinator.unwrap_or_else(|| "an unknown address".to_owned());
            let waited = self.settings.request_timeout_ms;
            Failure::nothing("Unreachable", format!("the coordinator at {address} did not answer within {waited} ms"))
        })?;
        match reply {
            Reply::Refused { code, text } => Err(Failure::refused(code.clone(), format!("{code}: {text}"))),
            reply => Ok(reply),
        }
    }

    /// Everything that the coordinator knows.
    pub async fn inspect(&mut self) -> Result<Inspection, Failure> {
        match self.command(Command::Inspect, false).await? {
            Reply::Inspected(inspection) => Ok(*inspection),
            other => Err(Failure::internal(format!("the coordinator answered something else: {other:?}"))),
        }
    }

    /// Asks one node; `None` if it does not answer in time.
    pub async fn ask_node(&mut self, node: NodeId, question: NodeQuestion) -> Option<NodeReply> {
        let n = self.fresh();
        let answer = |message| match message {
            Message::NodeReply { n: answered, reply } if answered == n => Some(reply),
            _ => None,
        };
        self.ask(Peer::Node(node), &Message::AskNode { n, question }, answer).await
    }

    /// Sends a question until `answer` recognises what comes back, or time is up.
    pub(super) async fn ask<T>(
        &mut self,
        to: Peer,
        question: &Message,
        answer: impl Fn(Message) -> Option<T>,
    ) -> Option<T> {
        let end = self.now() + millis(self.settings.request_timeout_ms);
        let frame = encode(question);
        while self.now() < end {
            self.env.net.send(to, frame.clone());
            let until = end.min(self.now() + REPEAT);
            while self.now() < until {
                for (_, frame) in self.env.net.recv(until).await {
                    if let Some(answer) = decode(&frame).ok().and_then(&answer) {
                        return Some(answer);
                    }
                }
            }
        }
        None
    }

    /// Where each node is, as far as it is known.
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        self.net.book().nodes
    }
}
