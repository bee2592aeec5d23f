//! Cables between processes: every connection goes through here, and can be cut without either end being told.
//!
//! A cable begins at a port of its own and ends at the door of one process. Who has dialled stands in the hello that
//! each connection begins with, which cables can read because they have the key, where there is one; so each direction
//! between two processes can be cut by itself. What is sent into a cut cable waits, as in a network that loses packets and sends them again; who waits
//! too long gives the connection up by itself. What passes between the coordinator and nodes takes a while, so that each
//! stage of a migration lasts long enough to be hit.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use miroir_store::env::Peer;
use miroir_store::net::key::SharedKey;
use miroir_store::net::tcp::dialler;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

/// From the coordinator to a node, and back.
const DELAY: Duration = Duration::from_millis(12);

/// A direction: from whom, to whom.
pub type Direction = (Peer, Peer);

/// All cables of a cluster.
pub struct Cables {
    runtime: Handle,
    key: Option<SharedKey>,
    cut: watch::Sender<BTreeSet<Direction>>,
}

impl Cables {
    /// `key`: the one that the processes share, if they do.
    pub fn new(runtime: &Handle, key: Option<SharedKey>) -> Cables {
        Cables { runtime: runtime.clone(), key, cut: watch::Sender::default() }
    }

    /// Lays the cable to the door of `to`, and returns where it begins.
    pub fn lay(&self, to: Peer, door: SocketAddr) -> io::Result<SocketAddr> {
        let (cut, key) = (self.cut.subscribe(), self.key.clone());
        self.runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let begin = listener.local_addr()?;
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (cut, key) = (cut.clone(), key.clone());
                    tokio::spawn(async move {
                        let _either_end_has_gone = carry(stream, to, door, key.as_ref(), cut).await;
                    });
                }
            });
            Ok(begin)
        })
    }

    /// From now on exactly these directions are cut.
    pub fn cut(&self, directions: BTreeSet<Direction>) {
        self.cut.send_replace(directions);
    }
}

/// Reads the hello of a connection: its bytes, and who says it.
async fn hello(stream: &mut TcpStream, key: Option<&SharedKey>) -> io::Result<(Vec<u8>, Peer)> {
    let mut bytes = vec![0; 10];
    stream.read_exact(&mut bytes).await?;
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes.resize(10 + length, 0);
    stream.read_exact(&mut bytes[10..]).await?;
    let who = dialler(&bytes, key).map_err(|error| io::Error::other(error.to_string()))?;
    Ok((bytes, who))
}

async fn carry(
    mut stream: TcpStream,
    to: Peer,
    door: SocketAddr,
    key: Option<&SharedKey>,
    mut cut: watch::Receiver<BTreeSet<Direction>>,
) -> io::Result<()> {
    let (hello, from) = hello(&mut stream, key).await?;
    is_whole(&mut cut, (from, to)).await;
    let mut door = TcpStream::connect(door).await?;
    door.set_nodelay(true)?;
    stream.set_nodelay(true)?;
    door.write_all(&hello).await?;
    let (from_dialler, to_dialler) = stream.into_split();
    let (from_door, to_door) = door.into_split();
    tokio::select! {
        biased;
        end = pass_on(from_dialler, to_door, (from, to), cut.clone()) => end,
        end = pass_on(from_door, to_dialler, (to, from), cut) => end,
    }
}

/// Waits until a direction is not cut. When nobody can cut it any more, it is whole.
async fn is_whole(cut: &mut watch::Receiver<BTreeSet<Direction>>, direction: Direction) {
    drop(cut.wait_for(|cut| !cut.contains(&direction)).await);
}

async fn pass_on(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    direction: Direction,
    mut cut: watch::Receiver<BTreeSet<Direction>>,
) -> io::Result<()> {
    let slow = matches!(direction, (Peer::Coordinator, Peer::Node(_)) | (Peer::Node(_), Peer::Coordinator));
    let mut part = vec![0; 64 << 10];
    loop {
        let length = reader.read(&mut part).await?;
        if length == 0 {
            return Ok(());
        }
        if slow {
            sleep(DELAY).await;
        }
        is_whole(&mut cut, direction).await;
        writer.write_all(&part[..length]).await?;
    }
}
