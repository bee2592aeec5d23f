//! What a listening process does with the bytes of a connection: golden ones, drawn in `docs/formats.md`, and those that
//! nobody meant.

#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real sockets")]

#[path = "engine/accident.rs"]
mod accident;
#[path = "engine/disk.rs"]
#[allow(dead_code)]
mod disk;

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use accident::mutate;
use disk::Rng;
use miroir_store::env::real::MonotonicClock;
use miroir_store::env::{Clock as _, Nanos, Net as _, Peer, millis};
use miroir_store::id::NodeId;
use miroir_store::net::tcp::os::OsSockets;
use miroir_store::net::tcp::{Book, Limits, Options, TcpNet};
use xxhash_rust::xxh3::xxh3_64;

/// The process that listens.
const N1: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];
const N2: [u8; 8] = [0, 0, 0, 0, 2, 0, 0, 0];

/// `"miroir" | transport version | plain | length u16 | content`
fn greeting(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("it is short").to_le_bytes();
    [&b"miroir\x01\x00"[..], &length, content].concat()
}

/// `n2` says hello to `n1` of the cluster `films`, and speaks these versions of the frames.
fn hello(oldest: u8, newest: u8) -> Vec<u8> {
    greeting(&[&N2[..], &[1], &N1, &5u64.to_le_bytes(), b"films", &[oldest, newest]].concat())
}

fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_le_bytes();
    [&length[..], &[kind], payload].concat()
}

/// A frame of version 3, with its sum.
fn summed(frame: &[u8]) -> Vec<u8> {
    framed(1, &[frame, &xxh3_64(frame).to_le_bytes()].concat())
}

/// `n1` listens, and a program reads what comes to it.
struct Listener {
    runtime: tokio::runtime::Runtime,
    clock: Arc<MonotonicClock>,
    net: TcpNet,
    address: SocketAddr,
}

impl Listener {
    fn start() -> Listener {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let clock = Arc::new(MonotonicClock::default());
        let options = Options {
            me: Peer::Node(NodeId(1)),
            cluster: "films".to_owned(),
            listen: Some(([127, 0, 0, 1], 0).into()),
            key: None,
            book: Book::default(),
            newest_wire: 3,
            limits: Limits::default(),
        };
        let net = runtime.block_on(TcpNet::start(options, clock.clone(), Arc::new(OsSockets))).expect("it starts");
        let address = net.listens_on().expect("it listens");
        Listener { runtime, clock, net, address }
    }

    fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("somebody listens")
    }

    /// The frames that have come, if any come in time.
    fn received(&self, wait: Nanos) -> Vec<(Peer, Vec<u8>)> {
        self.runtime.block_on(self.net.recv(self.clock.now() + wait))
    }
}

fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).expect("an answer");
    read
}

#[test]
fn a_connection_begins_as_the_document_draws_it() {
    let listener = Listener::start();
    let wait = millis(60_000);

    // One version: the answer names nobody but who answers. The frame has no sum.
    let mut stream = listener.dial();
    stream.write_all(&hello(2, 2)).expect("it is taken");
    let welcome = greeting(&[&[0, 0, 0, 0][..], &N1].concat());
    assert_eq!(read(&mut stream, welcome.len()), welcome);
    stream.write_all(&[framed(0, b""), framed(1, b"\x02anything")].concat()).expect("it is taken");
    assert_eq!(listener.received(wait), [(Peer::Node(NodeId(2)), b"\x02anything".to_vec())]);
    drop(stream);

    // Several: the answer says which, and from version 3 on a sum follows each frame.
    let mut stream = listener.dial();
    stream.write_all(&hello(2, 3)).expect("it is taken");
    let welcome = greeting(&[&[2, 0, 0, 0][..], &N1, &[3]].concat());
    assert_eq!(read(&mut stream, welcome.len()), welcome);
    stream.write_all(&[framed(0, b""), summed(b"\x02anything")].concat()).expect("it is taken");
    assert_eq!(listener.received(wait), [(Peer::Node(NodeId(2)), b"\x02anything".to_vec())]);
    drop(stream);

    // Whoever comes is told the addresses that the listener knows.
    let nodes = [(NodeId(1), "a:1".to_owned()), (NodeId(2), "bc:22".to_owned())].into();
    listener.net.publish(Book { revision: 7, coordinator: Some("d:3".to_owned()), nodes });
    let mut stream = listener.dial();
    stream.write_all(&[hello(2, 3), framed(0, b"")].concat()).expect("it is taken");
    read(&mut stream, welcome.len());
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let nodes = [&2u64.to_le_bytes()[..], &[1, 0, 0, 0], &text("a:1"), &[2, 0, 0, 0], &text("bc:22")].concat();
    let book = framed(2, &[&7u64.to_le_bytes()[..], &[1], &text("d:3"), &nodes].concat());
    assert_eq!(read(&mut stream, book.len()), book);
    drop(stream);

    // Who is not understood is told why, in the same form.
    let mut stream = listener.dial();
    stream.write_all(&hello(4, 5)).expect("it is taken");
    let mut refusal = Vec::new();
    stream.read_to_end(&mut refusal).expect("an answer, and the end");
    let why = b"the other end speaks wire versions 4 to 5, this one 2 to 3; upgrade one step at a time";
    assert_eq!(refusal, greeting(&[&[1, 0, 0, 0][..], &(why.len() as u64).to_le_bytes(), why].concat()));
}

/// No stream of bytes stops the listener, makes it panic, or brings a frame that nobody sent.
#[test]
fn any_bytes_are_a_connection_or_the_end_of_one() {
    let panics = Arc::new(AtomicU64::new(0));
    let (counted, usual) = (panics.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
    let listener = Listener::start();
    let sent: Vec<Vec<u8>> = (0..4u8).map(|n| [&[2, n][..], &vec![n; 40 * usize::from(n)]].concat()).collect();
    let frames = sent.iter().map(|frame| summed(frame));
    let whole: Vec<u8> = [hello(2, 3), framed(0, b"")].into_iter().chain(frames).flatten().collect();
    let mut rng = Rng(42);
    let (mut tried, mut brought) = (0, 0);
    for turn in 0..2_000 {
        // A hello that says less may bring frames without a sum, so only those behind a whole one are held to theirs.
        let is_greeted = turn % 2 == 0;
        let (greeting, rest) = whole.split_at(if is_greeted { hello(2, 3).len() } else { 0 });
        let mut bytes = rest.to_vec();
        mutate(&mut bytes, &whole, &mut rng);
        bytes.splice(0..0, greeting.iter().copied());
        let mut stream = listener.dial();
        // It may hang up before it has everything.
        let talked = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let ended = talked.and_then(|()| stream.read_to_end(&mut Vec::new()).map(drop));
        let may_be = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected
            )
        };
        assert!(ended.as_ref().err().is_none_or(may_be), "{ended:?}");
        tried += 1;
        for (_, frame) in listener.received(0) {
            assert!(!is_greeted || sent.contains(&frame), "nobody sent {frame:?}");
            brought += 1;
        }
    }
    assert!(brought > tried / 4, "{brought} frames in {tried} connections: hardly anything was let through");
    let mut stream = listener.dial();
    stream.write_all(&whole).expect("it is taken");
    let mut last = Vec::new();
    while last.last() != sent.last() {
        let received = listener.received(millis(60_000));
        assert!(!received.is_empty(), "it serves the next one as well");
        last.extend(received.into_iter().map(|(_, frame)| frame));
    }
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}
