//! Where connections come from: the operating system's TCP, or that of a simulator. Everything else of the transport is
//! the same code in both.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::env::BoxFuture;

/// What comes in on a connection.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What goes out on it. The connection ends when both are dropped.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Opens connections and lets others in.
pub trait Sockets: Send + Sync {
    /// Listens at an address, whose port may be 0: any that is free.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
    /// What `host:port` stands for.
    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
    /// Opens a connection to the first of these that accepts one.
    fn connect<'a>(&'a self, addresses: &'a [SocketAddr]) -> BoxFuture<'a, io::Result<(Reader, Writer)>>;
    /// Fills `out` with bytes that nobody can guess: a connection's keys come from them.
    fn random(&self, out: &mut [u8]) -> io::Result<()>;
}

/// A place where others come in.
pub trait Listener: Send + Sync {
    /// Where that is.
    fn address(&self) -> io::Result<SocketAddr>;
    /// The next connection, and from where it comes.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Reader, Writer, SocketAddr)>>;
}
