//! Requests that a configuration overtakes on their way: what nodes do with them, and what a router counts. Every message is
//! handed over by hand.

use miroir_store::config::{Form, Replica, ShardConfig};
use miroir_store::engine::Options;
use miroir_store::env::{Env, Peer, millis};
use miroir_store::id::{DiskId, Epoch, Key, NodeId, Session, ShardId, Value, Version, WriterId};
use miroir_store::node::Node;
use miroir_store::router::scan::ScanRequest;
use miroir_store::router::{Outcome, Request, Router, Timing};
use miroir_store::wire::{Answer, Message, NameRange, Op, Token};

const S0: ShardId = ShardId(0);
const CLIENT: Peer = Peer::Client(1);

fn node(n: u32) -> (Node, Env) {
    crate::scans::node(n, Options::default())
}

fn replica(n: u32, disk: DiskId) -> Replica {
    Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk }
}

/// Shard 0 at the `n`th epoch on nodes 0, 1 and 2, whose disks are all the same.
fn config(n: u64, disk: DiskId) -> ShardConfig {
    let mut config = ShardConfig::initial(S0, 1, (0..3).map(|n| replica(n, disk)).collect());
    config.epoch = epoch(n);
    config
}

fn epoch(n: u64) -> Epoch {
    Epoch { generation: 1, n }
}

fn key() -> Key {
    Key::new("c", "d").expect("a key")
}

fn version(counter: u64) -> Version {
    Version { counter, writer: WriterId(9) }
}

fn write(counter: u64, chosen_at: Epoch) -> Op {
    Op::Write { key: key(), version: version(counter), chosen_at, value: Some(value()) }
}

fn value() -> Value {
    b"body".to_vec().into()
}

fn batch(n: u64, ops: Vec<Op>) -> Message {
    let token = |operation| Token { operation, attempt: 1 };
    Message::Batch { shard: S0, epoch: epoch(n), ops: (1..).map(token).zip(ops).collect() }
}

/// What a client is answered, all of it in one commit.
fn ask((node, env): &mut (Node, Env), messages: Vec<(Peer, Message)>) -> Vec<Message> {
    for (from, message) in messages {
        node.receive(0, from, message).expect("a healthy disk");
    }
    node.commit(env).expect("a commit");
    let answers = node.drain_answers().into_iter();
    answers.filter(|(to, _)| *to == CLIENT).map(|(_, message)| message).collect()
}

fn install(config: &ShardConfig) -> (Peer, Message) {
    (Peer::Coordinator, Message::Install { config: config.clone() })
}

fn answers(n: u64, answers: &[Answer]) -> Message {
    let token = |operation| Token { operation, attempt: 1 };
    Message::Answers { shard: S0, epoch: epoch(n), answers: (1..).map(token).zip(answers.iter().cloned()).collect() }
}

fn stale(config: &ShardConfig) -> Message {
    Message::Stale { config: config.clone() }
}

fn holds((node, _): &(Node, Env), counter: u64) -> bool {
    node.engine().get(S0, &key()).expect("a read").is_some_and(|held| held.version == version(counter))
}

#[test]
fn what_is_overtaken_is_done_under_the_newer_configuration() {
    let mut it = node(0);
    let disk = it.0.engine().disk_id();
    let newer = config(3, disk);
    assert_eq!(ask(&mut it, vec![install(&newer)]), []);
    let said = ask(&mut it, vec![(CLIENT, batch(2, vec![write(4, epoch(2)), Op::Counter, Op::Read { key: key() }]))]);
    let read = Answer::Read { version: version(4), value: Some(value()) };
    assert_eq!(said, [stale(&newer), answers(3, &[Answer::Written, Answer::Counter(4), read])]);
    assert!(holds(&it, 4));

    // In the commit that installs it, what came before is answered under the one before.
    let newest = config(4, disk);
    let before = (CLIENT, batch(3, vec![write(5, epoch(3))]));
    let behind = (CLIENT, batch(3, vec![write(6, epoch(3))]));
    let said = ask(&mut it, vec![before, install(&newest), behind]);
    assert_eq!(said, [answers(3, &[Answer::Written]), stale(&newest), answers(4, &[Answer::Written])]);
    assert!(holds(&it, 6));
}

#[test]
fn a_version_below_the_barrier_is_refused_under_the_newer_configuration() {
    let mut it = node(0);
    let newer = ShardConfig { gc_barrier: epoch(3), ..config(4, it.0.engine().disk_id()) };
    ask(&mut it, vec![install(&newer)]);
    let said = ask(&mut it, vec![(CLIENT, batch(2, vec![write(4, epoch(2))]))]);
    assert_eq!(said, [stale(&newer), answers(4, &[Answer::BelowBarrier])]);
    assert!(!holds(&it, 4));
}

/// A copy that does not serve is no copy to write to, whichever epoch a request carries.
#[test]
fn copies_that_do_not_serve_do_nothing() {
    let elsewhere = |config: ShardConfig| {
        let others = (1..4).map(|n| replica(n, DiskId(7))).collect();
        ShardConfig { new: others, ..config }
    };
    let recovering = |config: ShardConfig| ShardConfig { recovering: vec![config.new[0]], ..config };
    let another_disk = |config: ShardConfig| {
        let mut config = config;
        config.new[0].disk = DiskId(70);
        config
    };
    for change in [elsewhere as fn(ShardConfig) -> ShardConfig, recovering, another_disk] {
        let mut it = node(0);
        let newer = change(config(3, it.0.engine().disk_id()));
        ask(&mut it, vec![install(&newer)]);
        assert_eq!(ask(&mut it, vec![(CLIENT, batch(2, vec![write(4, epoch(2))]))]), [stale(&newer)]);
        assert!(!holds(&it, 4));
    }
}

/// It takes writes, and has no say in anything else.
#[test]
fn a_joining_node_takes_writes_alone() {
    let mut it = node(3);
    let disk = it.0.engine().disk_id();
    let joins = Replica { session: Session(epoch(3)), ..replica(3, disk) };
    let old = config(3, disk);
    let new = vec![old.new[0], old.new[1], joins];
    let newer = ShardConfig { form: Form::DualWrite, old: old.new.clone(), new, ..old };
    ask(&mut it, vec![install(&newer)]);
    let said = ask(&mut it, vec![(CLIENT, batch(2, vec![write(4, epoch(2)), Op::Counter, Op::Read { key: key() }]))]);
    assert_eq!(said, [stale(&newer), answers(3, &[Answer::Written])]);
}

#[test]
fn who_found_a_node_behind_is_told_when_it_has_caught_up() {
    let mut it = node(0);
    let disk = it.0.engine().disk_id();
    ask(&mut it, vec![install(&config(2, disk))]);
    let said = ask(&mut it, vec![(CLIENT, batch(4, vec![Op::Counter]))]);
    assert_eq!(said, [Message::Behind { shard: S0, epoch: epoch(2) }]);
    assert_eq!(ask(&mut it, vec![install(&config(3, disk))]), [], "that is not what the client waits for");
    assert_eq!(ask(&mut it, vec![install(&config(4, disk))]), [stale(&config(4, disk))]);
    assert_eq!(ask(&mut it, vec![install(&config(5, disk))]), [], "it was told");
}

/// A router that knows the configuration of epoch 2.
fn router() -> Router {
    let timing = Timing { give_up: millis(60_000), ..Timing::default() };
    let mut router = Router::new(WriterId(9), vec![NodeId(0)], timing);
    router.receive(0, Peer::Node(NodeId(0)), Message::Configs { configs: vec![config(2, DiskId(7))] });
    router
}

/// What is asked, by node: the token and epoch of the one operation.
fn asked(router: &mut Router) -> Vec<(NodeId, Epoch, Token, Op)> {
    let sends = router.drain_sends().into_iter();
    let sends = sends.map(|(node, message)| match message {
        Message::Batch { epoch, mut ops, .. } => {
            let (token, op) = ops.remove(0);
            (node, epoch, token, op)
        }
        other => panic!("{other:?}"),
    });
    sends.collect()
}

fn say(router: &mut Router, node: u32, n: u64, token: Token, answer: Answer) {
    let message = Message::Answers { shard: S0, epoch: epoch(n), answers: vec![(token, answer)] };
    router.receive(0, Peer::Node(NodeId(node)), message);
}

fn tell(router: &mut Router, node: u32, n: u64) {
    router.receive(0, Peer::Node(NodeId(node)), stale(&config(n, DiskId(7))));
}

#[test]
fn answers_to_what_was_overtaken_count_under_the_newer_configuration() {
    let mut router = router();
    router.start(0, Request::Put { key: key(), value: value() });
    let first = asked(&mut router)[0].2;
    // Before the client knows of epoch 3, an answer under it is none.
    say(&mut router, 2, 3, first, Answer::Counter(8));
    tell(&mut router, 0, 3);
    let again = asked(&mut router);
    assert_eq!((again.len(), again[0].1), (3, epoch(3)));
    say(&mut router, 0, 3, first, Answer::Counter(4));
    say(&mut router, 0, 3, first, Answer::Counter(4));
    say(&mut router, 1, 2, first, Answer::Counter(4));
    assert!(asked(&mut router).is_empty(), "one node is no quorum, and epoch 2 is past");
    // Two epochs on: what was asked first is still what is asked.
    tell(&mut router, 0, 4);
    asked(&mut router);
    say(&mut router, 0, 4, first, Answer::Counter(5));
    say(&mut router, 1, 3, first, Answer::Counter(9));
    assert!(asked(&mut router).is_empty());
    say(&mut router, 1, 4, first, Answer::Counter(6));
    let (_, at, token, op) = asked(&mut router).remove(0);
    assert_eq!(
        (at, op),
        (epoch(4), Op::Write { key: key(), version: version(7), chosen_at: epoch(4), value: Some(value()) })
    );
    // What answered the question before says nothing about this one.
    say(&mut router, 0, 4, first, Answer::Written);
    say(&mut router, 1, 4, first, Answer::Written);
    assert_eq!(router.drain_done(), []);
    say(&mut router, 0, 4, token, Answer::Written);
    say(&mut router, 2, 4, token, Answer::Written);
    assert!(matches!(router.drain_done()[..], [(_, Outcome::Ok { .. })]));
}

/// A get that writes back reads again under a newer configuration, and may write back something newer.
#[test]
fn a_write_back_of_another_version_is_not_counted() {
    let mut router = router();
    router.start(0, Request::Get { key: key() });
    let said = |counter: u64| Answer::Read { version: version(counter), value: Some(value()) };
    let read = asked(&mut router)[0].2;
    say(&mut router, 0, 2, read, said(1));
    say(&mut router, 1, 2, read, said(2));
    let first = asked(&mut router)[0].2;
    tell(&mut router, 0, 3);
    let again = asked(&mut router)[0].2;
    say(&mut router, 0, 3, again, said(2));
    say(&mut router, 1, 3, again, said(3));
    let second = asked(&mut router)[0].clone();
    assert!(matches!(second.3, Op::Write { version: it, .. } if it == version(3)));
    // The first one was carried out under epoch 3, where it was overtaken: it wrote version 2.
    for node in 0..3 {
        say(&mut router, node, 3, first, Answer::Written);
    }
    assert_eq!(router.drain_done(), []);
    say(&mut router, 0, 3, second.2, Answer::Written);
    say(&mut router, 1, 3, second.2, Answer::Written);
    let done = router.drain_done();
    assert!(matches!(&done[..], [(_, Outcome::Ok { version: it, .. })] if *it == version(3)), "{done:?}");
}

#[test]
fn a_node_that_has_caught_up_is_asked_again_at_once() {
    let mut router = router();
    tell(&mut router, 0, 3);
    router.start(0, Request::Put { key: key(), value: value() });
    let range = NameRange { from: String::new(), until: None };
    router.scan(0, ScanRequest { shard: S0, range, documents: 5 });
    assert_eq!(router.drain_sends().len(), 6);
    router.receive(0, Peer::Node(NodeId(1)), Message::Behind { shard: S0, epoch: epoch(2) });
    tell(&mut router, 2, 3);
    assert_eq!(router.drain_sends(), [], "another node was not behind");
    tell(&mut router, 1, 3);
    let again = router.drain_sends();
    assert!(again.iter().all(|(node, _)| *node == NodeId(1)) && again.len() == 2, "{again:?}");
    tell(&mut router, 1, 3);
    assert_eq!(router.drain_sends(), [], "once");
}

/// Replicas may allow different lengths for a while; who has taken the write may keep it.
#[test]
fn a_write_that_somebody_took_is_not_called_too_long() {
    let mut router = router();
    router.start(0, Request::Put { key: key(), value: value() });
    let counter = asked(&mut router)[0].2;
    say(&mut router, 0, 2, counter, Answer::Counter(0));
    say(&mut router, 1, 2, counter, Answer::Counter(0));
    let token = asked(&mut router)[0].2;
    say(&mut router, 0, 2, token, Answer::Written);
    tell(&mut router, 1, 3);
    let token = asked(&mut router)[0].2;
    for node in 0..3 {
        say(&mut router, node, 3, token, Answer::TooLong { limit: 1 });
    }
    assert_eq!(router.drain_done(), []);
    router.tick(millis(60_000));
    assert!(matches!(router.drain_done()[..], [(_, Outcome::Unknown { version: Some(_) })]));
}
