//! What the observer takes for a broken promise, and what it does not.

use std::sync::{Arc, Mutex};

use miroir_sim::seed::Seed;
use miroir_sim::time::SECONDS;
use miroir_sim::trace::{Mode, Trace};
use miroir_sim::world::Setup;
use miroir_store::config::{Replica, ShardConfig};
use miroir_store::id::{DiskId, Key, Session, WriterId};

use super::*;
use crate::catalog;
use crate::plan::Profile;

const SHARD: ShardId = ShardId(0);

fn replica(n: u32) -> Replica {
    Replica { node: NodeId(n), session: Session(Epoch::FIRST), disk: DiskId(n.into()) }
}

fn stable() -> ShardConfig {
    ShardConfig::initial(SHARD, 1, vec![replica(1), replica(2), replica(3)])
}

fn after(config: &ShardConfig) -> ShardConfig {
    ShardConfig { epoch: config.epoch.next(), ..config.clone() }
}

fn installed(n: u32, config: &ShardConfig) -> Event {
    Event::Installed { node: NodeId(n), config: config.clone(), wiped: false }
}

fn applied(n: u32) -> Event {
    Event::Applied { node: NodeId(n), shard: SHARD, key: key(), version: version() }
}

fn opened(n: u32, config: &ShardConfig, documents: Vec<(Key, Version)>) -> Event {
    let copy = Copy { shard: SHARD, installed: Some(config.epoch), damaged: false, documents };
    Event::Opened { node: NodeId(n), disk: DiskId(n.into()), copies: vec![copy] }
}

fn served(n: u32, config: &ShardConfig) -> Event {
    Event::Served { node: NodeId(n), shard: SHARD, epoch: config.epoch, read_at: None }
}

fn key() -> Key {
    Key::new("movies", "d000001").unwrap()
}

fn version() -> Version {
    Version { counter: 7, writer: WriterId(1) }
}

/// The books after three nodes have opened their disks and these things have happened.
fn heard(events: Vec<Event>) -> Books {
    watched(move |audit| events.into_iter().for_each(|event| audit.on(event))).0
}

/// The same, and how many loss windows there were.
fn watched(happens: impl FnOnce(&Audit) + Send + 'static) -> (Books, usize) {
    let scenario = catalog::find("steady/smoke").unwrap();
    let plan = catalog::draw(scenario, Seed(1), Profile::Calm, &["nodes=3".to_owned()]).unwrap();
    let trace = Trace::new(Mode::Off);
    let setup = Setup { seed: Seed(1), plan: plan.sim.clone(), trace, limit: SECONDS };
    let seen = Arc::new(Mutex::new((Books::default(), 0)));
    let kept = seen.clone();
    let ended = World::run(setup, move |world| async move {
        for name in plan.process_names() {
            world.register(&name);
        }
        let names = world.trace().names().clone();
        let directory = Directory::from_names(&names, &plan.node_names(), &plan.client_names());
        let audit = Audit::new(&world, &plan, Arc::new(directory), Bursts::default());
        (1..=3).for_each(|n| audit.on(opened(n, &stable(), Vec::new())));
        happens(&audit);
        let windows = audit.auditor().finish().len();
        *kept.lock().unwrap() = (audit.take_books(), windows);
    });
    ended.result.unwrap();
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// A tombstone on every replica, one of which dies, and comes back without it under `last`.
fn without_its_tombstone(last: &ShardConfig) -> Vec<Event> {
    let mut events = vec![Event::Committed { config: stable() }, Event::Committed { config: last.clone() }];
    events.extend((1..=3).flat_map(|n| [applied(n), installed(n, last)]));
    events.push(opened(2, last, Vec::new()));
    events
}

#[test]
fn a_tombstone_that_was_forgotten_as_its_node_died_is_no_finding() {
    let barrier = ShardConfig { gc_barrier: stable().epoch.next(), ..after(&stable()) };
    let books = heard(without_its_tombstone(&barrier));
    assert!(books.vanished.is_empty() && books.wrong.is_empty(), "{:?} {:?}", books.vanished, books.wrong);
}

/// With one replica nobody else holds it, so that its loss would be a window.
#[test]
fn a_deletion_that_was_forgotten_as_its_only_node_died_opens_no_window() {
    let windows = |request: Request| {
        let alone = ShardConfig { new: vec![replica(1)], ..stable() };
        let barrier = ShardConfig { gc_barrier: alone.epoch.next(), ..after(&alone) };
        let (books, windows) = watched(move |audit| {
            audit.on(Event::Committed { config: alone.clone() });
            [installed(1, &alone), applied(1)].into_iter().for_each(|event| audit.on(event));
            let now = audit.0.world.now();
            audit.called(now, &request);
            audit.returned(now, now, 1, &request, Some(version()));
            audit.on(Event::Committed { config: barrier.clone() });
            [installed(1, &barrier), opened(1, &barrier, Vec::new())].into_iter().for_each(|event| audit.on(event));
        });
        assert!(books.vanished.is_empty(), "{:?}", books.vanished);
        windows
    };
    assert_eq!(windows(Request::Delete { key: key() }), 0);
    assert_eq!(windows(Request::Put { key: key(), value: b"kept"[..].into() }), 1);
}

#[test]
fn without_a_barrier_or_with_an_older_version_left_a_document_has_vanished() {
    let books = heard(without_its_tombstone(&after(&stable())));
    assert_eq!(books.vanished.len(), 1);
    let barrier = ShardConfig { gc_barrier: stable().epoch.next(), ..after(&stable()) };
    let mut events = without_its_tombstone(&barrier);
    events.pop();
    let older = Version { counter: 6, ..version() };
    events.push(opened(2, &barrier, vec![(key(), older)]));
    assert_eq!(heard(events).vanished.len(), 1);
}

#[test]
fn a_copy_that_was_dropped_as_its_node_died_is_no_finding() {
    let left = ShardConfig { new: vec![replica(1), replica(3)], ..after(&stable()) };
    let back = ShardConfig { new: vec![replica(1), replica(3), replica(2)], ..after(&left) };
    let mut events = vec![Event::Committed { config: stable() }];
    events.extend([applied(2), Event::Committed { config: left.clone() }]);
    let vanished = |dies_under: &ShardConfig, meanwhile: &[Event]| {
        let mut events = events.clone();
        events.extend((*dies_under != stable()).then(|| installed(2, dies_under)));
        events.extend(meanwhile.to_vec());
        events.push(opened(2, dies_under, Vec::new()));
        heard(events).vanished.len()
    };
    let moved_back = [Event::Committed { config: back }];
    assert_eq!(vanished(&left, &[]), 0, "dropped under the configuration that took its copy from it");
    assert_eq!(vanished(&left, &moved_back), 0, "nor when it is a member again and has not heard of it");
    assert_eq!(vanished(&stable(), &[]), 1, "a member drops nothing, whatever was committed meanwhile");
}

#[test]
fn a_copy_that_was_wiped_as_its_node_died_may_have_the_first_writes_of_its_new_session() {
    let left = ShardConfig { new: vec![replica(1), replica(3)], ..after(&stable()) };
    let fresh = Replica { session: Session(left.epoch.next()), ..replica(2) };
    let new = vec![replica(1), fresh];
    let joins = ShardConfig { form: Form::DualWrite, old: left.new.clone(), new, ..after(&left) };
    let found = |documents: Vec<(Key, Version)>| {
        let mut events = vec![Event::Committed { config: stable() }, applied(2)];
        events.extend([Event::Committed { config: left.clone() }, Event::Committed { config: joins.clone() }]);
        events.push(opened(2, &joins, documents));
        heard(events)
    };
    let other = Key::new("movies", "d000002").unwrap();
    let books = found(vec![(other, version())]);
    assert!(books.vanished.is_empty() && books.wrong.is_empty(), "{:?} {:?}", books.vanished, books.wrong);
    let wrong = found(vec![(key(), version())]).wrong;
    assert!(wrong[0].1.contains("came back with the documents of its old copy"), "{wrong:?}");
}

#[test]
fn a_copy_that_has_to_be_silent_may_not_answer() {
    let last = after(&stable());
    let recovering = ShardConfig { recovering: vec![replica(2)], ..after(&last) };
    let moved = ShardConfig { new: vec![replica(1), Replica { disk: DiskId(9), ..replica(2) }], ..after(&last) };
    let rotted = Event::Rotted { node: NodeId(2), shard: SHARD };
    let wrong = |config: &ShardConfig, before: Vec<Event>| -> Vec<String> {
        let mut events = vec![Event::Committed { config: config.clone() }, installed(2, config)];
        events.extend(before);
        events.push(served(2, config));
        heard(events).wrong.into_iter().map(|(_, wrong)| wrong).collect()
    };
    assert_eq!(wrong(&last, vec![]), Vec::<String>::new());
    assert!(wrong(&last, vec![rotted])[0].ends_with("after it had found rot in its copy"));
    assert!(wrong(&recovering, vec![])[0].ends_with("while it was being readmitted"));
    let behind = Event::Served { node: NodeId(2), shard: SHARD, epoch: Epoch::FIRST, read_at: Some(last.epoch) };
    assert!(wrong(&last, vec![behind])[0].ends_with("and had installed epoch 1.1"));
    assert!(wrong(&moved, vec![])[0].ends_with("does not name it with the disk it has"));
}

#[test]
fn a_replica_votes_again_only_with_what_the_others_held() {
    let session = Session(stable().epoch.next());
    let fresh = Replica { session, ..replica(2) };
    let begun = ShardConfig { new: vec![replica(1), fresh, replica(3)], recovering: vec![fresh], ..after(&stable()) };
    let ended = ShardConfig { recovering: Vec::new(), ..after(&begun) };
    let wrong = |is_repaired: bool| {
        let mut events =
            vec![Event::Committed { config: stable() }, applied(3), Event::Committed { config: begun.clone() }];
        events.extend(is_repaired.then(|| applied(2)));
        events.push(Event::Committed { config: ended.clone() });
        heard(events).wrong
    };
    assert!(wrong(true).is_empty(), "{:?}", wrong(true));
    let wrong = &wrong(false)[0].1;
    assert!(wrong.starts_with("n2 was readmitted without version 7 of d000001, which n3 held"), "{wrong}");
}
