//! A toy system: `n1` counts pings, durably if it has a disk, and answers with the count; `client` asks. Each kind of fault must change what
//! happens to it, and the same seed must do the same twice.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::plan::{Direction, Fault, FaultKind, NetworkPlan, When};
use crate::ratio::Ratio;
use crate::time::{MICROS, MILLIS, SECONDS};
use crate::trace::{Mode, first_divergence};

/// What the client saw: the replies with their times, and how often it asked in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    replies: Vec<(Nanos, u64)>,
    timeouts: u32,
    lives: u32,
    restarts_seen: u64,
}

impl Seen {
    fn longest_gap(&self) -> Nanos {
        self.replies.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or(0)
    }
}

const TIMEOUT: Nanos = 10 * MILLIS;

fn setup(seed: u64, faults: Vec<Fault>) -> Setup {
    let plan = SimPlan { faults, ..SimPlan::default() };
    Setup { seed: Seed(seed), plan, trace: Trace::new(Mode::Full), limit: 60 * SECONDS }
}

fn fault(id: &str, at: When, kind: FaultKind) -> Fault {
    Fault { id: id.to_owned(), at, kind }
}

fn n1() -> String {
    "n1".to_owned()
}

/// Answers every ping with the number of pings it has made durable. Ends itself when its disk fails.
async fn server(world: World, disk: SimDisk, life: Incarnation) {
    let endpoint = world.endpoint(life);
    let Ok(file) = disk.mount().open("count") else { return };
    let mut bytes = [0; 8];
    let mut count = match file.read_at(0, &mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    };
    loop {
        for (from, _ping) in endpoint.recv(Nanos::MAX).await {
            count += 1;
            if file.write_at(0, &count.to_le_bytes()).and_then(|()| file.sync()).is_err() {
                return;
            }
            let mut reply = count.to_le_bytes().to_vec();
            reply.extend_from_slice(&world.clock(life.process).now().to_le_bytes());
            endpoint.send(from, reply);
        }
    }
}

/// Pings for half a second of simulated time, one at a time, then heals the world and waits for a last answer.
fn run(setup: Setup) -> Ended<Seen> {
    run_with(setup, |_, _| ())
}

fn run_with(setup: Setup, prepare: impl FnOnce(&World, ProcessId) + Send + 'static) -> Ended<Seen> {
    World::run(setup, |world| async move {
        let n1 = world.register("n1");
        let disk = world.new_disk(n1);
        let served = world.clone();
        world.start(n1, move |life| server(served.clone(), disk.clone(), life));
        let client = world.register("client");
        let slot = Arc::new(Mutex::new(None));
        let (driver, result) = (world.clone(), slot.clone());
        world.start(client, move |life| ping(driver.clone(), n1, life, result.clone()));
        prepare(&world, n1);
        world.arm_faults().expect("a good plan");
        loop {
            if let Some(seen) = lock(&slot).take() {
                return seen;
            }
            world.sleep(MILLIS).await;
        }
    })
}

async fn ping(world: World, server: ProcessId, life: Incarnation, result: Arc<Mutex<Option<Seen>>>) {
    let endpoint = world.endpoint(life);
    let mut seen = Seen { replies: Vec::new(), timeouts: 0, lives: 0, restarts_seen: 0 };
    let mut healed = false;
    for round in 0_u64.. {
        if round == 3 {
            world.signal("Third", "ping");
        }
        if world.now() > SECONDS / 2 && !healed {
            world.heal();
            healed = true;
            world.sleep(2 * MILLIS).await;
        }
        endpoint.send(server, round.to_le_bytes().to_vec());
        let frames = endpoint.recv(world.now() + TIMEOUT).await;
        if frames.is_empty() {
            seen.timeouts += 1;
            assert!(seen.timeouts < 1000, "the server never comes back");
            continue;
        }
        for (from, frame) in frames {
            assert_eq!(from, server);
            let count = u64::from_le_bytes(frame[..8].try_into().expect("eight bytes"));
            seen.restarts_seen += u64::from(seen.replies.last().is_some_and(|&(_, last)| count <= last));
            seen.replies.push((world.now(), count));
        }
        if healed {
            seen.lives = world.life(server).number;
            *lock(&result) = Some(seen);
            return std::future::pending().await;
        }
    }
}

fn seen(faults: Vec<Fault>) -> (Seen, BTreeMap<String, u64>) {
    let ended = run(setup(1, faults));
    (ended.result.expect("runs to its end"), ended.faults)
}

#[test]
fn without_faults_every_ping_is_answered() {
    let (seen, faults) = seen(vec![]);
    assert_eq!((seen.timeouts, seen.lives, seen.restarts_seen), (0, 1, 0));
    assert!(seen.replies.len() > 100, "{} replies", seen.replies.len());
    assert!(seen.longest_gap() < TIMEOUT);
    assert_eq!(faults, BTreeMap::new());
}

#[test]
fn the_same_seed_does_the_same_and_the_trace_mode_changes_nothing() {
    let faults = || {
        let mut setup = setup(7, crate::fault::draw_faults(&Dice::new(Seed(7)), &["n1"], SECONDS / 2, &busy()));
        setup.plan.network =
            NetworkPlan { loss: Ratio::of(1, 20), duplicate: Ratio::of(1, 20), ..NetworkPlan::default() };
        setup
    };
    let [one, two] = [run(faults()), run(faults())];
    assert_eq!(first_divergence(&one.trace.lines(), &two.trace.lines(), 5), None);
    assert_eq!(one.trace.hash(), two.trace.hash());
    assert_eq!(one.result, two.result);
    assert!(one.faults.len() >= 3, "a lively run: {:?}", one.faults);
    for mode in [Mode::Off, Mode::Short] {
        let quiet = run(Setup { trace: Trace::new(mode), ..faults() });
        assert_eq!(quiet.trace.hash(), one.trace.hash());
    }
    let other = run(Setup { seed: Seed(8), ..faults() });
    assert_ne!(other.trace.hash(), one.trace.hash());
}

fn busy() -> crate::fault::Intensity {
    crate::fault::Intensity {
        per_second: 20,
        min_ms: 5,
        max_ms: 60,
        budget: Some(1),
        ..crate::fault::Intensity::storm()
    }
}

#[test]
fn a_crash_silences_until_the_restart_and_keeps_what_was_durable() {
    let crash = fault("f1", When::ms(100), FaultKind::Crash { process: n1(), down_ms: 150 });
    let (seen, faults) = seen(vec![crash]);
    assert_eq!((seen.lives, seen.restarts_seen, faults["crash"]), (2, 0, 1));
    assert!((150 * MILLIS..200 * MILLIS).contains(&seen.longest_gap()), "{}", seen.longest_gap());
    assert!(faults["drop_down"] > 5);
}

#[test]
fn a_crash_in_a_commit_hits_the_planned_operation() {
    let kind = FaultKind::CrashInCommit { process: n1(), after_disk_ops: 6, down_ms: 50, within_ms: 0 };
    let ended = run(setup(1, vec![fault("f1", When::ms(0), kind)]));
    let seen = ended.result.expect("ends");
    assert_eq!((seen.lives, seen.replies[1].1, seen.replies.len() > 10), (2, 2, true));
    assert!(seen.longest_gap() > 50 * MILLIS, "the third ping met its end in the third sync: {}", seen.longest_gap());
    let lines = ended.trace.lines();
    let crash = lines.iter().position(|line| line.contains("CRASH (in the middle")).expect("it crashed");
    assert!(lines[crash + 1..].iter().any(|line| line.contains("of the unsynced writes")), "{lines:#?}");
    let ends = lines.iter().any(|line| line.contains("ends f1"));
    assert!(ends, "the fault ends with the restart");
}

#[test]
fn a_pause_delays_and_loses_nothing() {
    let pause = fault("f1", When::ms(100), FaultKind::Pause { process: n1(), for_ms: 120 });
    let (seen, faults) = seen(vec![pause]);
    assert_eq!((seen.lives, faults["pause"]), (1, 1));
    assert!((100 * MILLIS..130 * MILLIS).contains(&seen.longest_gap()), "{}", seen.longest_gap());
    let burst = seen.replies.windows(5).any(|five| five[4].0 - five[0].0 < 2 * MILLIS);
    assert!(burst, "the pings of the pause waited in the inbox");
}

#[test]
fn a_partition_loses_what_crosses_it_one_way_or_both() {
    for direction in [Direction::Both, Direction::AToB, Direction::BToA] {
        let kind =
            FaultKind::Partition { a: vec![n1()], b: vec!["client".to_owned()], direction, flap_ms: 0, for_ms: 100 };
        let (seen, faults) = seen(vec![fault("f1", When::ms(100), kind)]);
        assert!(seen.longest_gap() >= 100 * MILLIS, "{direction:?}: {}", seen.longest_gap());
        assert!(faults["drop_cut"] >= 9, "{direction:?}: {faults:?}");
        let counted = seen.replies.windows(2).map(|pair| pair[1].1 - pair[0].1).max();
        let pings_arrive = direction == Direction::AToB;
        assert_eq!(
            counted > Some(5),
            pings_arrive,
            "{direction:?}: the server counted what it could not answer: {counted:?}"
        );
    }
}

#[test]
fn a_bad_link_loses_and_delays() {
    let link = |loss, delay_us| FaultKind::Link {
        from: n1(),
        to: "client".to_owned(),
        loss,
        delay_us,
        bandwidth_mbit: 0,
        frames: 0,
        for_ms: 200,
    };
    let (lossy, faults) = seen(vec![fault("f1", When::ms(100), link(Ratio::of(1, 2), 0))]);
    assert!(lossy.timeouts > 3 && faults["drop"] > 3, "{faults:?}");
    let (slow, faults) = seen(vec![fault("f1", When::ms(100), link(Ratio::ZERO, 5_000))]);
    assert_eq!((slow.timeouts, faults.contains_key("drop")), (0, false));
    assert!((5 * MILLIS..TIMEOUT).contains(&slow.longest_gap()), "{}", slow.longest_gap());
}

#[test]
fn a_failed_sync_ends_the_server_which_is_restarted() {
    let (seen, _) = seen(vec![fault("f1", When::ms(100), FaultKind::FailSync { process: n1() })]);
    assert_eq!(seen.lives, 2);
    assert!(seen.longest_gap() >= 10 * MILLIS);
}

#[test]
fn a_full_disk_has_no_room_for_more_and_enough_for_the_same() {
    let full = |at| vec![fault("f1", When::ms(at), FaultKind::DiskFull { process: n1(), for_ms: 100 })];
    let (seen_early, _) = seen(full(0));
    assert!(seen_early.lives > 2 && seen_early.replies[0].0 > 90 * MILLIS, "{seen_early:?}");
    let (seen_late, _) = seen(full(100));
    assert_eq!(seen_late.lives, 1, "overwriting needs no room");
}

#[test]
fn flipped_bits_are_read_back_after_a_restart() {
    let flips = fault("f1", When::ms(100), FaultKind::FlipBits { process: n1(), count: 3 });
    let crash = fault("f2", When::Time(100 * MILLIS + 1), FaultKind::Crash { process: n1(), down_ms: 10 });
    let (damaged, faults) = seen(vec![flips, crash]);
    assert_eq!(faults["flip_bits"], 1);
    let steps: Vec<i128> =
        damaged.replies.windows(2).map(|pair| i128::from(pair[1].1) - i128::from(pair[0].1)).collect();
    assert!(steps.iter().any(|step| step.abs() > 20), "the count jumped: {steps:?}");
}

#[test]
fn a_wiped_disk_is_empty_and_another_disk() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let keep = ids.clone();
    let wipe = fault("f1", When::ms(100), FaultKind::Wipe { process: n1(), down_ms: 10 });
    let ended = run_with(setup(1, vec![wipe]), move |world, n1| {
        let disk = world.state().process(n1).disks[0].clone();
        lock(&keep).push(disk.disk_id());
        let (late, world) = (world.clone(), world.clone());
        world.spawn(async move {
            late.sleep(SECONDS / 5).await;
            lock(&keep).push(disk.disk_id());
        });
    });
    let seen = ended.result.expect("ends");
    assert_eq!((seen.lives, seen.restarts_seen), (2, 1), "it counts from one again");
    let ids = lock(&ids);
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn a_clock_fault_moves_one_clock() {
    let kind = FaultKind::Clock { process: n1(), jump_ms: 3_000, drift_ppm: 0, for_ms: 100 };
    let shown = Arc::new(Mutex::new(Vec::new()));
    let keep = shown.clone();
    let ended = run_with(setup(1, vec![fault("f1", When::ms(100), kind)]), move |world, n1| {
        let (late, world) = (world.clone(), world.clone());
        world.spawn(async move {
            for _ in 0..3 {
                late.sleep(80 * MILLIS).await;
                lock(&keep).push(late.clock(n1).now().saturating_sub(late.now()) / MILLIS);
            }
        });
    });
    ended.result.expect("ends");
    assert_eq!(*lock(&shown), [0, 3_000, 0]);
}

#[test]
fn a_signal_triggers_at_once() {
    let crash = fault("f1", When::signal("Third"), FaultKind::Crash { process: n1(), down_ms: 100 });
    let ended = run(setup(1, vec![crash]));
    assert_eq!((ended.matrix.get("Third", "crash"), ended.faults["crash"]), (1, 1));
    let seen = ended.result.expect("ends");
    assert_eq!(seen.replies[2].1, 3);
    assert!(seen.replies[3].0 - seen.replies[2].0 > 100 * MILLIS);
}

#[test]
fn taking_one_fault_away_moves_no_other() {
    let pause = || fault("f1", When::ms(50), FaultKind::Pause { process: n1(), for_ms: 20 });
    let crash = || fault("f2", When::ms(200), FaultKind::Crash { process: n1(), down_ms: 100 });
    let faults_of = |faults| {
        let lines = run(setup(1, faults)).trace.lines();
        lines.into_iter().filter(|line| line.contains("f2: crash")).collect::<Vec<_>>()
    };
    let (both, one) = (faults_of(vec![pause(), crash()]), faults_of(vec![crash()]));
    assert_eq!((both.len(), one.len()), (2, 2));
    let instants = |lines: &[String]| lines.iter().map(|line| line[..14].trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(instants(&both), instants(&one));
}

#[test]
fn sleeps_below_a_millisecond_are_exact() {
    let ended = World::run(setup(1, vec![]), |world| async move {
        let mut late = Vec::new();
        for duration in [1, 100, 1_000, 40 * MICROS, 999 * MICROS, 3 * MILLIS] {
            let before = world.now();
            world.sleep(duration).await;
            late.push(world.now() - before - duration);
        }
        late
    });
    let late = ended.result.expect("sleeps");
    assert!(late.iter().all(|&late| late < 2 * MICROS), "{late:?}");
}

#[test]
fn a_panic_is_a_result_with_its_trace() {
    for in_task in [false, true] {
        let ended = World::run(setup(1, vec![]), move |world| async move {
            world.process("n1", move |_| async move {
                if in_task {
                    spawn_beside(async { panic!("no cabbage left") });
                    std::future::pending::<()>().await;
                }
                panic!("no cabbage left");
            });
            world.sleep(SECONDS).await;
        });
        let Err(Failure::Panic { process, message, location }) = ended.result else { panic!("it panicked") };
        assert_eq!((message.as_str(), process.as_deref()), ("no cabbage left", (!in_task).then_some("n1")));
        assert!(location.is_some_and(|place| place.contains("tests.rs")));
        assert!(ended.trace.lines().iter().any(|line| line.contains("start, life 1")));
    }
    let ended = World::run(setup(1, vec![]), |_| async { panic!("main") });
    let text = ended.result.map(|(): ()| ()).expect_err("it panicked").to_string();
    assert!(text.starts_with("main panicked: main ("), "{text}");
}

#[test]
fn a_run_without_end_is_ended() {
    let ended = World::run(setup(1, vec![]), |_| std::future::pending::<()>());
    assert_eq!(ended.result, Err(Failure::TimeLimit { limit: 60 * SECONDS }));
    assert!(ended.simulated_ns >= 60 * SECONDS);
}

#[test]
fn everything_is_dropped_when_a_run_ends() {
    static ALIVE: AtomicU64 = AtomicU64::new(0);
    struct Guard;
    impl Guard {
        fn new() -> Guard {
            ALIVE.fetch_add(1, Ordering::Relaxed);
            Guard
        }
    }
    impl Drop for Guard {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }
    for breaks in [false, true] {
        let ended = World::run(setup(1, vec![]), move |world| async move {
            let captured = Guard::new();
            let inner = world.clone();
            let process = world.process("n1", move |life| {
                let (guard, world) = (Guard::new(), inner.clone());
                let _ = &captured;
                async move {
                    let other = Guard::new();
                    let sleeper = world.clone();
                    spawn_beside(async move {
                        sleeper.sleep(SECONDS).await;
                        drop(other);
                    });
                    world.endpoint(life).recv(Nanos::MAX).await;
                    drop(guard);
                }
            });
            world.pause(process);
            let guard = Guard::new();
            world.fabric().on_drop(move |_| _ = &guard);
            world.sleep(MILLIS).await;
            assert!(!breaks, "on purpose");
        });
        assert_eq!(ended.result.is_err(), breaks);
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "breaks: {breaks}");
    }
}

#[test]
fn a_process_that_ends_is_restarted_unless_told_otherwise() {
    let lives = |restart| {
        let ended = World::run(setup(1, vec![]), move |world| async move {
            let process = world.process("n1", |_| async {});
            world.set_restart(process, restart);
            world.sleep(SECONDS).await;
            world.heal();
            world.life(process).number
        });
        ended.result.expect("ends")
    };
    assert_eq!(lives(Restart::Never), 1);
    assert!(lives(Restart::Auto) > 4);
}

#[test]
fn marks_are_counted_and_first_reaches_are_in_the_trace() {
    coverage::init();
    let ended = World::run(setup(1, vec![]), |world| async move {
        for _ in 0..3 {
            crate::sometimes!("a cabbage was sold");
            world.sleep(MILLIS).await;
        }
    });
    assert_eq!(ended.marks["a cabbage was sold"], 3);
    let lines = ended.trace.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("mark           a cabbage was sold")).count(), 1, "{lines:?}");
}
