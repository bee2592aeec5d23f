//! The operating system's TCP.

#![expect(clippy::disallowed_types, reason = "this is the network that the rules point to")]

use std::io;
use std::net::SocketAddr;

use snow::resolvers::{CryptoResolver as _, DefaultResolver};
use tokio::net::{TcpListener, TcpStream};

use super::sockets::{Listener, Reader, Sockets, Writer};
use crate::env::BoxFuture;

/// Sockets of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsSockets;

fn halves(stream: TcpStream) -> (Reader, Writer) {
    // A connection that is broken already shows it when it is read.
    let _slower = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    (Box::new(reader), Box::new(writer))
}

impl Sockets for OsSockets {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Ok(Box::new(OsListener(TcpListener::bind(address).await?)) as Box<dyn Listener>) })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(address).await?.collect()) })
    }

    fn connect<'a>(&'a self, addresses: &'a [SocketAddr]) -> BoxFuture<'a, io::Result<(Reader, Writer)>> {
        Box::pin(async move { Ok(halves(TcpStream::connect(addresses).await?)) })
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        let mut rng = DefaultResolver.resolve_rng().expect("this build has the system's random numbers");
        rng.try_fill_bytes(out).map_err(|_| io::Error::other("the system gives no random numbers"))
    }
}

struct OsListener(TcpListener);

impl Listener for OsListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Reader, Writer, SocketAddr)>> {
        Box::pin(async move {
            let (stream, address) = self.0.accept().await?;
            let (reader, writer) = halves(stream);
            Ok((reader, writer, address))
        })
    }
}
