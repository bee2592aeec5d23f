mod limits;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::env::real::MonotonicClock;
use crate::id::NodeId;

const N1: Peer = Peer::Node(NodeId(1));
const N2: Peer = Peer::Node(NodeId(2));
const CLIENT: Peer = Peer::Client(0);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn quick() -> Limits {
    let short = Duration::from_millis(300);
    Limits { handshake: short, heartbeat: Duration::from_millis(50), silence: short, ..Limits::default() }
}

/// For large frames on a machine that has much else to do: nothing is given up for being late.
fn patient() -> Limits {
    let long = Duration::from_secs(60);
    Limits { handshake: long, frame_age: long, silence: long, ..Limits::default() }
}

fn options(me: Peer, key: Option<&SharedKey>) -> Options {
    let listen = (!matches!(me, Peer::Client(_))).then(|| "127.0.0.1:0".parse().expect("an address"));
    let (cluster, newest_wire) = ("test".to_owned(), crate::wire::WIRE_VERSIONS.1);
    Options { me, cluster, listen, key: key.cloned(), book: Book::default(), newest_wire, limits: quick() }
}

fn sockets() -> Arc<dyn Sockets> {
    Arc::new(os::OsSockets)
}

async fn start(options: Options) -> TcpNet {
    TcpNet::start(options, Arc::new(MonotonicClock::default()), sockets()).await.expect("a free port")
}

fn address(net: &TcpNet) -> String {
    net.listens_on().expect("a door").to_string()
}

/// Where `n1` and `n2` are.
fn book(one: &TcpNet, two: &TcpNet) -> Book {
    let nodes = BTreeMap::from([(NodeId(1), address(one)), (NodeId(2), address(two))]);
    Book { revision: 1, coordinator: None, nodes }
}

async fn one(net: &TcpNet) -> (Peer, Vec<u8>) {
    let until = net.shared.clock.now() + crate::env::millis(60_000);
    let mut frames = net.recv(until).await;
    assert_eq!(frames.len(), 1, "one frame was sent");
    frames.remove(0)
}

#[test]
fn frames_of_every_size_arrive_in_order_with_and_without_a_key() {
    runtime().block_on(async {
        for key in [None, Some(SharedKey::fresh())] {
            let patient = |me| Options { limits: patient(), ..options(me, key.as_ref()) };
            let (from, to) = (start(patient(N1)).await, start(patient(N2)).await);
            from.publish(book(&from, &to));
            for bytes in [0, 1, 65_514, 65_515, 65_519, 200_000, MAX_FRAME_BYTES] {
                let frame: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
                from.send(N2, frame.clone());
                let (sender, received) = one(&to).await;
                assert_eq!(sender, N1);
                assert!(received == frame, "{bytes} bytes");
            }
        }
    });
}

/// Bytes that `to` received for one frame of ten.
async fn bytes_of_ten(from: &TcpNet, to: &TcpNet, peer: Peer) -> u64 {
    let before = counted(to, "bytes_total{direction=\"received\"");
    from.publish(Book { revision: 2, ..book(from, to) });
    let frame = [crate::wire::WIRE_VERSION; 10].to_vec();
    from.send(peer, frame.clone());
    assert_eq!(one(to).await.1, frame);
    counted(to, "bytes_total{direction=\"received\"") - before
}

#[test]
fn neighbours_speak_the_newest_version_that_both_know() {
    runtime().block_on(async {
        for key in [None, Some(SharedKey::fresh())] {
            let of = |me, newest_wire| start(Options { newest_wire, ..options(me, key.as_ref()) });
            for (one, other, bytes) in [(2, 2, 10), (2, 3, 10), (3, 2, 10), (3, 3, 18)] {
                let (n1, n2) = (of(N1, one).await, of(N2, other).await);
                assert_eq!(bytes_of_ten(&n1, &n2, N2).await, bytes, "{one} to {other}");
            }
        }
        // Somebody of the far future.
        let n1 = start(options(N1, None)).await;
        let (reader, writer) = tokio::io::split(dial(&n1).await);
        let identity = handshake::Identity { me: N2, cluster: "test", key: None, wire: (4, 7), sockets: &sockets() };
        let refused = handshake::dial(reader, writer, identity, None).await.err().expect("nothing in common");
        assert!(refused.to_string().contains("versions 4 to 7, this one 2 to 3"), "{refused}");
    });
}

#[expect(clippy::disallowed_types, reason = "a stranger has no env")]
async fn dial(net: &TcpNet) -> tokio::net::TcpStream {
    tokio::net::TcpStream::connect(address(net)).await.expect("a port")
}

#[test]
fn a_client_meets_one_node_learns_of_the_others_and_is_answered() {
    runtime().block_on(async {
        let key = SharedKey::fresh();
        let (n1, n2) = (start(options(N1, Some(&key))).await, start(options(N2, Some(&key))).await);
        n1.publish(book(&n1, &n2));
        let client = start(options(CLIENT, Some(&key))).await;
        assert_eq!(client.meet(&[address(&n1)]).await.expect("it answers"), N1);
        client.send(N2, b"question".to_vec());
        let (asker, question) = one(&n2).await;
        assert_eq!(question, b"question");
        n2.send(asker, b"answer".to_vec());
        assert_eq!(one(&client).await, (N2, b"answer".to_vec()));
        client.close(Duration::ZERO).await;
        let gone = tokio::time::timeout(Duration::from_secs(5), async {
            while !lock(&n2.shared.guests).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        gone.await.expect("a client that has gone is forgotten");
    });
}

#[test]
fn a_peer_that_comes_back_elsewhere_is_found_again() {
    runtime().block_on(async {
        let (n1, n2) = (start(options(N1, None)).await, start(options(N2, None)).await);
        n1.publish(book(&n1, &n2));
        n1.send(N2, b"first".to_vec());
        assert_eq!(one(&n2).await.1, b"first");
        n2.close(Duration::ZERO).await;
        let n2 = start(options(N2, None)).await;
        n1.publish(Book { revision: 2, ..book(&n1, &n2) });
        let arrived = async {
            loop {
                n1.send(N2, b"again".to_vec());
                if !n2.recv(n2.shared.clock.now() + crate::env::millis(50)).await.is_empty() {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived).await.expect("it is dialled again");
    });
}

/// What a dialler with these options is told when it meets the door of `n1`.
async fn refusal(door: &TcpNet, dialler: Options) -> String {
    start(dialler).await.meet(&[address(door)]).await.expect_err("it is refused").to_string()
}

fn counted(net: &TcpNet, reason: &str) -> u64 {
    let found = net.stats().list().into_iter().find(|(name, _)| name.contains(reason));
    found.expect("a counter of that name").1
}

#[test]
fn who_does_not_belong_is_told_why_and_who_has_no_key_is_told_nothing() {
    runtime().block_on(async {
        let key = SharedKey::fresh();
        let open = start(options(N1, None)).await;
        let other = Options { cluster: "other".to_owned(), ..options(CLIENT, None) };
        assert!(refusal(&open, other).await.contains("belongs to the cluster `other`, this one to `test`"));
        assert!(refusal(&open, options(N1, None)).await.contains("this is n1 already"));
        let keyed = start(options(N1, Some(&key))).await;
        for dialler in [options(CLIENT, None), options(CLIENT, Some(&SharedKey::fresh()))] {
            assert!(refusal(&keyed, dialler).await.contains("closed the connection in the handshake"));
        }
        assert_eq!(counted(&keyed, "reason=\"key\""), 2);
        assert_eq!(counted(&open, "cluster or name"), 2);
    });
}

#[test]
fn strangers_get_nothing_and_cannot_hold_a_place() {
    runtime().block_on(async {
        let net = start(options(N1, Some(&SharedKey::fresh()))).await;
        let call = |bytes: &'static [u8]| {
            let address = address(&net);
            async move {
                #[expect(clippy::disallowed_types, reason = "a stranger has no env")]
                let mut stream = tokio::net::TcpStream::connect(address).await.expect("a port");
                stream.write_all(bytes).await.expect("room");
                let mut answer = Vec::new();
                // Closed or reset; either way nothing was said.
                let _end = stream.read_to_end(&mut answer).await;
                answer
            }
        };
        assert_eq!(call(b"GET / HTTP/1.1\r\n\r\n").await, b"");
        assert_eq!(call(b"miroir\x09\x01").await, b"");
        assert_eq!(call(b"miroir\x01\x01\xff\xff").await, b"");
        assert_eq!(call(b"mir").await, b"", "closed when its time is over");
        assert_eq!(counted(&net, "stranger"), 2);
        assert_eq!(counted(&net, "reason=\"version\""), 1);
        assert_eq!(counted(&net, "not finished"), 1);
    });
}

#[test]
fn a_recorded_handshake_that_is_played_again_opens_nothing() {
    runtime().block_on(async {
        let key = SharedKey::fresh();
        let net = start(options(N1, Some(&key))).await;
        // Record what an honest client says.
        let (mine, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(mine);
        let (wire, sockets) = (crate::wire::WIRE_VERSIONS, &sockets());
        let identity = handshake::Identity { me: CLIENT, cluster: "test", key: Some(&key), wire, sockets };
        let recorded = async {
            let mut bytes = vec![0; 1 << 12];
            let (mut end, _) = tokio::io::split(theirs);
            let length = end.read(&mut bytes).await.expect("a hello");
            bytes.truncate(length);
            bytes
        };
        let (_, recorded) = tokio::join!(handshake::dial(reader, writer, identity, None), recorded);
        #[expect(clippy::disallowed_types, reason = "an attacker has no env")]
        let mut stream = tokio::net::TcpStream::connect(address(&net)).await.expect("a port");
        stream.write_all(&recorded).await.expect("room");
        // A heartbeat and a frame that somebody without the keys of this connection makes up.
        stream.write_all(&[21; 200]).await.expect("room");
        let mut answer = Vec::new();
        let _end = stream.read_to_end(&mut answer).await;
        assert!(answer.len() < 200, "the sealed answer to the hello and nothing else: {} bytes", answer.len());
        assert_eq!(counted(&net, "accepted"), 0);
        assert!(net.recv(net.shared.clock.now() + crate::env::millis(50)).await.is_empty());
    });
}

#[test]
fn other_machines_ask_for_a_key() {
    runtime().block_on(async {
        let everywhere = Options { listen: Some("0.0.0.0:0".parse().expect("an address")), ..options(N1, None) };
        let clock = || Arc::new(MonotonicClock::default());
        let refused = TcpNet::start(everywhere.clone(), clock(), sockets()).await.err().expect("there is no key");
        assert!(refused.to_string().contains("miroir key"), "{refused}");
        let keyed = Options { key: Some(SharedKey::fresh()), ..everywhere };
        TcpNet::start(keyed, clock(), sockets()).await.expect("there is one");
        let client = start(options(CLIENT, None)).await;
        let refused = client.meet(&["192.0.2.1:1".to_owned()]).await.expect_err("another machine").to_string();
        assert!(refused.contains("another machine's"), "{refused}");
    });
}
