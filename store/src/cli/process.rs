//! Nodes and the coordinator as processes: log, network, metrics, and an orderly end.
//!
//! The work itself is [`node::serve`](crate::node::serve) and [`coordinator::serve`](crate::coordinator::serve), the same
//! code that runs in the simulator. Either ends only when its disk fails; the process then ends too, with exit code 70, and
//! whoever supervises it starts it again. SIGTERM and Ctrl-C end it between two rounds: what was answered is durable.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::cli::exit::{ExitCode, Failure};
use crate::cli::metrics::{self, Meter};
use crate::cli::session::net_options;
use crate::cli::settings::{LogFormat, LogLevel, Settings};
use crate::coordinator::gate::AntiEntropy;
use crate::coordinator::{self, NewCluster};
use crate::engine;
use crate::env::real::{FileDisk, MonotonicClock, OsDice};
use crate::env::{Env, Peer, millis};
use crate::id::NodeId;
use crate::net::tcp::os::OsSockets;
use crate::net::tcp::{Book, NetError, TcpNet};
use crate::node;

/// For connections; the node or the coordinator itself runs on the main thread.
const NETWORK_THREADS: usize = 2;
/// For answers that are still queued when the process is told to end.
const GRACE: Duration = Duration::from_millis(500);

/// A runtime with so many threads besides the caller's.
pub(super) fn runtime(threads: usize) -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    built.map_err(|error| Failure::io("start", "threads", &error))
}

/// Runs a node until it is told to end.
pub(super) fn node(settings: Settings) -> Result<ExitCode, Failure> {
    start_log(&settings);
    let id = NodeId(need(settings.node, "node", "the number of this node")?);
    let data = need(settings.data.clone(), "data", "the folder that this node keeps its documents in")?;
    need(settings.listen, "listen", "the address where others reach this node")?;
    need(settings.coordinator.as_ref(), "coordinator", "the address of the coordinator")?;
    let disk = open_disk(&data, "documents")?;
    let addresses = data.join("addresses.toml");
    runtime(NETWORK_THREADS)?.block_on(async {
        let mut options = net_options(&settings, Peer::Node(id))?;
        if let Some(known) = read_addresses(&addresses) {
            // Where the coordinator is, the settings know better.
            options.book = Book { coordinator: options.book.coordinator.or(known.coordinator), ..known };
        }
        let (net, _, env) = start(&settings, options, disk).await?;
        let remembering = tokio::spawn(remember_addresses(net.clone(), addresses));
        tracing::info!(node = %id, listen = ?net.listens_on(), "ready");
        let engine = engine::Options { document_bytes: settings.document_bytes as usize, ..engine::Options::default() };
        let serving = async { node::serve(id, env, engine).await.to_string() };
        let ended = until_told(&format!("{id}"), serving).await;
        remembering.abort();
        net.close(GRACE).await;
        ended
    })
}

/// Runs the coordinator until it is told to end. `gone`: nodes that need not be asked where the records are lost.
pub(super) fn coordinator(settings: Settings, gone: &[NodeId]) -> Result<ExitCode, Failure> {
    start_log(&settings);
    let data = need(settings.data.clone(), "data", "the folder that the coordinator keeps its records in")?;
    let listen = need(settings.listen, "listen", "the address where others reach the coordinator")?;
    let nodes = settings.node_addresses()?;
    if nodes.len() < settings.replication as usize {
        let (nodes, copies) = (nodes.len(), settings.replication);
        return Err(Failure::refused("Config", format!("nodes: {nodes} nodes cannot hold {copies} copies of a shard")));
    }
    if let Some(node) = gone.iter().find(|node| !nodes.contains_key(node)) {
        return Err(Failure::usage(format!("--gone: {node} is not among the `nodes` of the settings")));
    }
    let disk = open_disk(&data, "records")?;
    let options = coordinator_options(&settings, nodes, gone);
    runtime(NETWORK_THREADS)?.block_on(async {
        let mut net_options = net_options(&settings, Peer::Coordinator)?;
        net_options.book.coordinator.get_or_insert_with(|| listen.to_string());
        let (net, meter, env) = start(&settings, net_options, disk).await?;
        meter.publish_members_to(net.clone());
        tracing::info!(listen = ?net.listens_on(), "ready");
        let serving = async { coordinator::serve(env, options).await.to_string() };
        let ended = until_told("the coordinator", serving).await;
        net.close(GRACE).await;
        ended
    })
}

fn coordinator_options(settings: &Settings, nodes: BTreeMap<NodeId, String>, gone: &[NodeId]) -> coordinator::Options {
    let mut options = coordinator::Options {
        create: Some(NewCluster {
            nodes,
            shard_count: settings.shards,
            replication: settings.replication,
            anti_entropy: AntiEntropy {
                enabled: settings.anti_entropy,
                repair: true,
                period: millis(settings.anti_entropy_period_ms),
            },
            placement: Vec::new(),
            gone: gone.to_vec(),
        }),
        resend: millis(200),
        ping: millis(500),
        ..coordinator::Options::default()
    };
    options.migration.page_documents = settings.page_documents;
    options.migration.page_interval = millis(settings.page_interval_ms);
    options.migration.page_resend = millis(1_000);
    options.migration.copy_timeout = millis(settings.copy_timeout_ms);
    options.migration.drain_timeout = millis(settings.drain_timeout_ms);
    options.migration.joint_timeout = millis(settings.joint_timeout_ms);
    options
}

fn need<T>(value: Option<T>, key: &str, what: &str) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::refused("Config", format!("{key} is not set: {what}")))
}

fn open_disk(data: &Path, folder: &str) -> Result<FileDisk, Failure> {
    let path = data.join(folder);
    std::fs::create_dir_all(data).map_err(|error| Failure::io("create", data.display(), &error))?;
    FileDisk::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::ResourceBusy => {
            Failure::refused("InUse", format!("{} is in use by another process; end that one first", path.display()))
        }
        _ => Failure::io("open", path.display(), &error),
    })
}

fn start_log(settings: &Settings) {
    let level = match settings.log {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(false);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Network, metrics and effects of this process.
async fn start(
    settings: &Settings,
    options: crate::net::tcp::Options,
    disk: FileDisk,
) -> Result<(TcpNet, Arc<Meter>, Env), Failure> {
    let clock = Arc::new(MonotonicClock::default());
    let net = TcpNet::start(options, clock.clone(), Arc::new(OsSockets)).await.map_err(|error| match error {
        NetError::NeedsKey { .. } => Failure::refused("NeedsKey", error.to_string()),
        error => Failure::internal(error.to_string()),
    })?;
    let meter = Arc::new(Meter::new(clock.clone(), net.stats()));
    if let Some(address) = settings.metrics {
        metrics::serve(address, meter.clone())
            .await
            .map_err(|error| Failure::io("serve metrics on", address, &error))?;
    }
    let env =
        Env { clock, dice: Arc::new(OsDice), disk: Arc::new(disk), net: Arc::new(net.clone()), probe: meter.clone() };
    Ok((net, meter, env))
}

/// Serves until a signal or a failure of the disk.
async fn until_told(who: &str, serving: impl Future<Output = String>) -> Result<ExitCode, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::io("listen for", "signals", &error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        error = serving => {
            tracing::error!(%error, "stopped");
            return Err(Failure::internal(format!("{who} stops: {error}")));
        }
    }
    tracing::info!("ending, as told");
    Ok(ExitCode::AsExpected)
}

/// The addresses that this node knew last.
fn read_addresses(path: &Path) -> Option<Book> {
    let text = std::fs::read_to_string(path).ok()?;
    let read = toml::from_str(&text);
    if let Err(error) = &read {
        tracing::warn!(path = %path.display(), %error, "the known addresses cannot be read; they are asked for again");
    }
    read.ok()
}

/// Keeps the addresses for the next start, when the coordinator may be away.
async fn remember_addresses(net: TcpNet, path: PathBuf) {
    let mut book = net.watch_book();
    while book.changed().await.is_ok() {
        let known = book.borrow_and_update().clone();
        let text = toml::to_string(&known).expect("addresses are TOML");
        let temporary = path.with_extension("new");
        let kept = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &path));
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), %error, "the addresses of the cluster were not kept");
        }
    }
}
