//! The known ways to be non-deterministic, each planted, caught over two processes of the operating system, and named.
//!
//! The test starts itself as a child twice per kind; the children write their whole traces down, and the first event in which they differ has to
//! be the planted one. As in a sweep, one child has run another seed before: some kinds depend on what a process did earlier.
#![cfg(madsim)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is forbidden everywhere else is planted here"
)]

use std::collections::HashSet;
use std::hash::RandomState;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use miroir_sim::time::{MILLIS, Nanos, SECONDS};
use miroir_sim::trace::first_divergence;
use miroir_sim::world::Setup;
use miroir_sim::{Mode, Seed, Trace, World};

const KIND: &str = "PLANTED_KIND";
const FILE: &str = "PLANTED_FILE";
const RUNS_BEFORE: &str = "PLANTED_RUNS_BEFORE";

/// What a process brings into a run that was made outside.
struct Outside {
    /// A map's keys, as of a map in a `static`.
    keys: RandomState,
    started: SystemTime,
}

/// Two processes exchange frames; after a while one of them lets the planted thing decide the length of a frame.
fn run(seed: u64, kind: &str, outside: Arc<Outside>) -> Vec<String> {
    let setup = Setup {
        seed: Seed(seed),
        plan: miroir_sim::plan::SimPlan::default(),
        trace: Trace::new(Mode::Full),
        limit: 10 * SECONDS,
    };
    let kind = kind.to_owned();
    let ended = World::run(setup, move |world| async move {
        let listener = world.register("listener");
        let inner = world.clone();
        world.start(listener, move |life| {
            let endpoint = inner.endpoint(life);
            async move {
                loop {
                    endpoint.recv(Nanos::MAX).await;
                }
            }
        });
        let inner = world.clone();
        world.process("speaker", move |life| {
            let (world, kind, outside) = (inner.clone(), kind.clone(), outside.clone());
            async move {
                for round in 0..60_u64 {
                    world.sleep(MILLIS).await;
                    if round == 30 {
                        world.note(&format!("planted: {kind}"));
                    }
                    let len = if round < 30 { 5 } else { planted(&kind, &outside).await };
                    world.endpoint(life).send(listener, vec![0; len]);
                }
                std::future::pending().await
            }
        });
        world.sleep(100 * MILLIS).await;
    });
    ended.result.expect("runs");
    ended.trace.lines()
}

async fn planted(kind: &str, outside: &Outside) -> usize {
    match kind {
        "unbiased select" => {
            let mut winner = 0;
            for round in 0..10 {
                let (first, second) = (async { 0 }, async { 1 });
                winner |= tokio::select! { it = first => it, it = second => it } << round;
            }
            winner
        }
        "hash-map iteration" => {
            let mut set = HashSet::with_hasher(outside.keys.clone());
            set.extend(0..1_000_usize);
            set.into_iter().next().unwrap_or(0)
        }
        "wall clock" => {
            outside.started.duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos() as usize % 10_007
        }
        "OS entropy" => {
            let mut bytes = [0; 2];
            let mut file = std::fs::File::open("/dev/urandom").expect("a source of entropy");
            std::io::Read::read_exact(&mut file, &mut bytes).expect("it never ends");
            usize::from(u16::from_le_bytes(bytes))
        }
        "nothing" => 7,
        other => panic!("no kind {other}"),
    }
}

/// Not a test: one of the two processes. It does nothing unless it was started by one.
#[test]
fn child() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let outside = Arc::new(Outside { keys: RandomState::new(), started: SystemTime::now() });
    let before: u64 = std::env::var(RUNS_BEFORE).expect("a number").parse().expect("a number");
    for seed in 0..before {
        run(seed, &kind, outside.clone());
    }
    let lines = run(42, &kind, outside);
    std::fs::write(std::env::var(FILE).expect("a file"), lines.join("\n")).expect("a place for the trace");
}

/// The trace of the kind's run, from a process of its own.
fn trace_of(kind: &str, before: u64) -> Vec<String> {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let file = format!("{folder}/planted-{}-{before}", kind.replace(' ', "-"));
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--quiet"])
        .envs([(KIND, kind), (FILE, &file), (RUNS_BEFORE, &before.to_string())])
        .stdout(std::process::Stdio::null())
        .status()
        .expect("starts");
    assert!(status.success(), "{kind}");
    let text = std::fs::read_to_string(&file).expect("the child wrote it");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_known_kind_is_caught_and_named() {
    for kind in ["unbiased select", "hash-map iteration", "wall clock", "OS entropy"] {
        let (one, two) = (trace_of(kind, 0), trace_of(kind, 1));
        let found = first_divergence(&one, &two, 6).unwrap_or_else(|| panic!("{kind} was not caught"));
        let named = found.before.iter().chain(&found.left).any(|line| line.contains(&format!("planted: {kind}")));
        let text = found.to_string();
        let first = found.left.first().expect("both go on");
        assert!(first.contains("speaker -> listener") && first.contains("send"), "{kind}: {text}");
        assert!(named || kind == "unbiased select", "{kind}: its neighbours say what was planted: {text}");
        println!("{kind}: {text}");
    }
}

#[test]
fn without_them_two_processes_do_the_same() {
    let (one, two) = (trace_of("nothing", 0), trace_of("nothing", 2));
    assert_eq!(first_divergence(&one, &two, 3), None);
    assert!(one.len() > 100);
}
