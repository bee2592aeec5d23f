//! What others may take of a process: memory, connections, time.

use super::*;

/// Waits until a counter has come to a value.
async fn until(net: &TcpNet, counter: &str, value: u64) {
    let reached = async {
        while counted(net, counter) < value {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), reached).await;
    waited.unwrap_or_else(|_| panic!("{counter} has come to {}, not to {value}", counted(net, counter)));
}

const RECEIVED: &str = "frames_total{direction=\"received\"";
const FULL: &str = "queue full";
const TURNED_AWAY: &str = "too many connections";

/// A client, or somebody with a name, that has met `n1` and sent it a frame of so many bytes.
async fn sender(me: Peer, n1: &TcpNet, bytes: usize) -> TcpNet {
    let sender = start(Options { limits: patient(), ..options(me, None) }).await;
    sender.publish(book(n1, n1));
    sender.send(N1, vec![0; bytes]);
    sender
}

#[test]
fn queues_are_bounded_and_lose_what_has_no_room_or_is_too_old() {
    runtime().block_on(async {
        let limits = Limits { outbox_bytes: 100, outbox_frames: 3, frame_age: Duration::from_millis(30), ..quick() };
        let net = start(Options { limits, ..options(N1, None) }).await;
        let outbox = net.shared.outbox();
        for bytes in [60, 60, 10, 10, 10] {
            outbox.push(vec![0; bytes]);
        }
        assert_eq!(counted(&net, "queue full"), 2, "one by bytes, one by frames");
        assert_eq!(outbox.try_pop().map(|frame| frame.len()), Some(60));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(outbox.try_pop(), None);
        assert_eq!(counted(&net, "too late"), 2);
        assert_eq!(net.shared.queued_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
    });
}

#[test]
fn all_queues_together_are_bounded() {
    runtime().block_on(async {
        let limits = Limits { outbox_bytes: 80, outboxes_bytes: 100, ..patient() };
        let net = start(Options { limits, ..options(N1, None) }).await;
        let (one, other) = (net.shared.outbox(), net.shared.outbox());
        one.push(vec![0; 60]);
        other.push(vec![0; 60]);
        assert_eq!(counted(&net, FULL), 1, "neither is full by itself");
        assert!(one.try_pop().is_some() && other.try_pop().is_none());
        other.push(vec![0; 60]);
        assert_eq!(counted(&net, FULL), 1, "what was sent has made room");
        drop(other);
        one.push(vec![0; 80]);
        assert_eq!(counted(&net, FULL), 1, "and so has a queue that is gone");
    });
}

/// A process that reads whole frames before it has room for them holds one for each connection.
#[test]
fn a_frame_is_not_read_before_there_is_room_for_it() {
    runtime().block_on(async {
        let limits = Limits { inbox_bytes: 80_000, ..patient() };
        let n1 = start(Options { limits, ..options(N1, None) }).await;
        let first = sender(CLIENT, &n1, 30_000).await;
        until(&n1, RECEIVED, 1).await;
        let second = sender(CLIENT, &n1, 30_000).await;
        until(&n1, "side=\"accepted\"", 2).await;
        // Clients have half of the room; a node is not held up by them.
        let node = sender(N2, &n1, 30_000).await;
        until(&n1, RECEIVED, 2).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(counted(&n1, RECEIVED), 2, "the second client's frame waits outside");
        let far = n1.shared.clock.now() + crate::env::millis(60_000);
        assert_eq!(n1.recv(far).await.len(), 2);
        let (_, frame) = one(&n1).await;
        assert_eq!(frame.len(), 30_000, "it comes in once there is room");
        drop((first, second, node));
    });
}

#[test]
fn whoever_does_not_finish_a_frame_loses_its_room() {
    runtime().block_on(async {
        let limits = Limits { inbox_bytes: 400_000, frame_time: Duration::from_millis(50), ..patient() };
        let n1 = start(Options { limits, ..options(N1, None) }).await;
        let (mut reader, mut writer) = tokio::io::split(dial(&n1).await);
        let wire = crate::wire::WIRE_VERSIONS;
        let identity = handshake::Identity { me: CLIENT, cluster: "test", key: None, wire, sockets: &sockets() };
        drop(handshake::dial(&mut reader, &mut writer, identity, None).await.expect("it is let in"));
        let mut begun = 190_000_u32.to_le_bytes().to_vec();
        begun.push(seal::Kind::Message as u8);
        begun.resize(100_000, 0);
        writer.write_all(&begun).await.expect("room");
        // Without it this frame would wait for as long as the other likes.
        let other = start(Options { limits: patient(), ..options(CLIENT, None) }).await;
        other.publish(book(&n1, &n1));
        let arrived = async {
            loop {
                other.send(N1, vec![0; 60_000]);
                if !n1.recv(n1.shared.clock.now() + crate::env::millis(100)).await.is_empty() {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("there is room again");
        let mut rest = Vec::new();
        let _closed_or_reset = reader.read_to_end(&mut rest).await;
    });
}

#[test]
fn only_messages_are_long() {
    runtime().block_on(async {
        let n1 = start(Options { limits: patient(), ..options(N1, None) }).await;
        let (mut reader, mut writer) = tokio::io::split(dial(&n1).await);
        let wire = crate::wire::WIRE_VERSIONS;
        let identity = handshake::Identity { me: CLIENT, cluster: "test", key: None, wire, sockets: &sockets() };
        drop(handshake::dial(&mut reader, &mut writer, identity, None).await.expect("it is let in"));
        let mut heartbeat = 1_u32.to_le_bytes().to_vec();
        heartbeat.extend([seal::Kind::Heartbeat as u8, 0]);
        writer.write_all(&heartbeat).await.expect("room");
        let mut rest = Vec::new();
        let _closed_or_reset = reader.read_to_end(&mut rest).await;
    });
}

#[test]
fn handshakes_under_way_are_bounded() {
    runtime().block_on(async {
        let limits = Limits { handshakes: 1, ..quick() };
        let n1 = start(Options { limits, ..options(N1, None) }).await;
        let silent = dial(&n1).await;
        assert!(start(options(CLIENT, None)).await.meet(&[address(&n1)]).await.is_err());
        assert_eq!(counted(&n1, TURNED_AWAY), 1);
        let met = async { while start(options(CLIENT, None)).await.meet(&[address(&n1)]).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), met).await.expect("the silent one has lost its place");
        drop(silent);
    });
}

#[test]
fn connections_are_bounded() {
    runtime().block_on(async {
        let limits = Limits { connections: 1, reserved: 0, ..quick() };
        let net = start(Options { limits, ..options(N1, None) }).await;
        let first = start(options(CLIENT, None)).await;
        first.publish(book(&net, &net));
        first.send(N1, b"in".to_vec());
        assert_eq!(one(&net).await.1, b"in");
        assert!(start(options(CLIENT, None)).await.meet(&[address(&net)]).await.is_err());
        assert_eq!(counted(&net, "too many connections"), 1);
    });
}

#[test]
fn clients_cannot_take_the_places_of_peers_with_a_name() {
    runtime().block_on(async {
        let limits = Limits { connections: 2, reserved: 1, ..quick() };
        let n1 = start(Options { limits, ..options(N1, None) }).await;
        let client = sender(CLIENT, &n1, 1).await;
        one(&n1).await;
        let refused = refusal(&n1, options(CLIENT, None)).await;
        assert!(refused.contains("too many connections; one of them has to end first"), "{refused}");
        assert_eq!(counted(&n1, TURNED_AWAY), 1);
        let node = sender(N2, &n1, 2).await;
        assert_eq!(one(&n1).await, (N2, vec![0; 2]));
        drop((client, node));
    });
}
