//! The store's own TCP transport, on the simulator's TCP: what ships, but for the sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use miroir_sim::tcp::{self, Stream, Tcp};
use miroir_sim::{Dice, Incarnation, ProcessId, Random, World, sometimes};
use miroir_store::env::{BoxFuture, Env, Event, Peer, Probe};
use miroir_store::id::NodeId;
use miroir_store::net::key::SharedKey;
use miroir_store::net::tcp::sockets::{Listener, Reader, Sockets, Writer};
use miroir_store::net::tcp::{Book, Limits, Options, Stats, TcpNet};
use miroir_store::wire::WIRE_VERSIONS;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Directory;
use crate::plan::{Plan, TcpPlan};

/// Where every process listens.
const PORT: u16 = 7_100;

/// How the processes of a run talk to each other. Clones are the same.
#[derive(Clone)]
pub struct Transport {
    world: World,
    directory: Arc<Directory>,
    nodes: u32,
    /// None: frame by frame over the fabric.
    plan: Option<TcpPlan>,
    key: Option<SharedKey>,
    /// Of every life so far.
    stats: Arc<Mutex<Vec<Arc<Stats>>>>,
}

fn address(process: ProcessId) -> SocketAddr {
    let [_, high, middle, low] = process.0.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, high, middle, low), PORT))
}

fn process(address: SocketAddr) -> io::Result<ProcessId> {
    match address {
        SocketAddr::V4(four) if four.ip().is_loopback() && four.port() == PORT => {
            Ok(ProcessId(u32::from(*four.ip()) & 0x00ff_ffff))
        }
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

impl Transport {
    pub fn new(world: &World, directory: &Arc<Directory>, plan: &Plan) -> Transport {
        let shared = || {
            let mut stream = world.dice().stream("shared-key", 0);
            let hex = format!("{:032x}{:032x}", stream.next_u128(), stream.next_u128());
            SharedKey::from_hex(&hex).expect("64 digits")
        };
        Transport {
            world: world.clone(),
            directory: directory.clone(),
            nodes: plan.cluster.nodes,
            key: plan.tcp.as_ref().filter(|tcp| tcp.key).map(|_| shared()),
            plan: plan.tcp.clone(),
            stats: Arc::default(),
        }
    }

    /// Where a node is reached, as the coordinator's records have it.
    pub fn node_address(&self, node: NodeId) -> String {
        match &self.plan {
            None => node.to_string(),
            Some(_) => address(self.directory.process(Peer::Node(node)).expect("a node of the plan")).to_string(),
        }
    }

    /// The same effects, with the network that the plan has.
    pub async fn over(&self, life: Incarnation, env: Env) -> Env {
        let Some(plan) = &self.plan else { return env };
        let me = self.directory.peer(life.process).expect("everybody is somebody");
        let tcp = Tcp::new(self.world.endpoint(life), self.world.timers().clone());
        self.world.spawn(tcp.serve());
        let is_old = matches!(me, Peer::Node(node) if plan.old_wire.contains(&node.0));
        let options = Options {
            me,
            cluster: "simulated".to_owned(),
            listen: (!matches!(me, Peer::Client(_))).then(|| address(life.process)),
            key: self.key.clone(),
            book: self.settings_of(me),
            newest_wire: if is_old { WIRE_VERSIONS.0 } else { WIRE_VERSIONS.1 },
            limits: Limits::default(),
        };
        let sockets = SimSockets { tcp, dice: self.world.dice(), drawn: Mutex::new(0), reached: Mutex::default() };
        let opened = TcpNet::start(options, env.clock.clone(), Arc::new(sockets)).await;
        let net = opened.expect("each life has its address to itself");
        self.stats().push(net.stats());
        let probe: Arc<dyn Probe> = match me {
            Peer::Coordinator => Arc::new(Publishing { probe: env.probe, net: net.clone() }),
            _ => env.probe,
        };
        Env { net: Arc::new(net), probe, ..env }
    }

    /// Whom a process can reach before anybody has told it more: a node knows where the coordinator is.
    fn settings_of(&self, me: Peer) -> Book {
        let nodes = (1..=self.nodes).map(NodeId).map(|node| (node, self.node_address(node)));
        let coordinator = Some(address(self.directory.coordinator()).to_string());
        let nodes = if matches!(me, Peer::Node(_)) { BTreeMap::new() } else { nodes.collect() };
        Book { revision: 0, coordinator, nodes }
    }

    fn stats(&self) -> MutexGuard<'_, Vec<Arc<Stats>>> {
        self.stats.lock().expect("nobody panics while counting")
    }

    /// What the transports of all lives have counted, together, under names that contain `name`.
    pub fn counted(&self, name: &str) -> u64 {
        let lists = self.stats().iter().flat_map(|stats| stats.list()).collect::<Vec<_>>();
        lists.into_iter().filter(|(counter, _)| counter.contains(name)).map(|(_, count)| count).sum()
    }
}

/// Tells the transport what the coordinator has decided about addresses, as its process does.
struct Publishing {
    probe: Arc<dyn Probe>,
    net: TcpNet,
}

impl Probe for Publishing {
    fn on(&self, event: Event) {
        if let Event::Members { revision, nodes } = &event {
            self.net.publish_members(*revision, nodes.clone());
        }
        self.probe.on(event);
    }

    fn wants_documents(&self) -> bool {
        self.probe.wants_documents()
    }
}

/// The sockets of one life.
struct SimSockets {
    tcp: Tcp,
    dice: Dice,
    drawn: Mutex<u64>,
    /// How often each process was reached.
    reached: Mutex<BTreeMap<ProcessId, u64>>,
}

fn halves(stream: Stream) -> (Reader, Writer) {
    let stream = Arc::new(stream);
    (Box::new(Half(stream.clone())), Box::new(Half(stream)))
}

impl Sockets for SimSockets {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let listener = SimListener { listener: self.tcp.listen(), address };
        Box::pin(std::future::ready(Ok(Box::new(listener) as Box<dyn Listener>)))
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let known = address.parse().map(|address| vec![address]).map_err(io::Error::other);
        Box::pin(std::future::ready(known))
    }

    fn connect<'a>(&'a self, addresses: &'a [SocketAddr]) -> BoxFuture<'a, io::Result<(Reader, Writer)>> {
        Box::pin(async move {
            let first = addresses.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let stream = self.tcp.connect(process(*first)?).await?;
            let mut reached = self.reached.lock().expect("nobody panics while counting");
            let count = reached.entry(stream.peer()).or_default();
            *count += 1;
            sometimes!(*count > 1, "transport: a link was dialled again");
            Ok(halves(stream))
        })
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        let life = self.tcp.life();
        let mut drawn = self.drawn.lock().expect("nobody panics while drawing");
        let mut stream = self.dice.stream("keys", u64::from(life.process.0) << 32 | u64::from(life.number)).at(*drawn);
        *drawn += 1;
        for bytes in out.chunks_mut(8) {
            bytes.copy_from_slice(&stream.next_u64().to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    }
}

struct SimListener {
    listener: tcp::Listener,
    address: SocketAddr,
}

impl Listener for SimListener {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Reader, Writer, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await;
            let (reader, writer) = halves(stream);
            Ok((reader, writer, address(from)))
        })
    }
}

/// One direction of a connection.
struct Half(Arc<Stream>);

impl AsyncRead for Half {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.0.poll_read(context, into.initialize_unfilled());
        read.map_ok(|count| into.advance(count))
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
