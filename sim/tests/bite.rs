//! Every kind of fault changes an outcome, alone: a counting server with a disk and a client that pings it, once without and once with the fault.
//!
//! The table in docs/faults.md is what this test measures. After a change, `MIROIR_UPDATE=1` in front of the command writes the page anew.
#![cfg(madsim)]
#![allow(clippy::disallowed_methods, reason = "the test reads a document and an environment variable")]

use std::sync::{Arc, Mutex};

use miroir_sim::disk::SimDisk;
use miroir_sim::plan::{FaultKind, SimPlan};
use miroir_sim::time::{MICROS, MILLIS, Nanos};
use miroir_sim::world::Setup;
use miroir_sim::{Incarnation, Mode, ProcessId, Seed, Trace, World, sometimes};

/// What is known after half a second.
#[derive(Clone, Debug, Default)]
struct Seen {
    replies: u64,
    timeouts: u64,
    twice: u64,
    out_of_order: u64,
    longest_gap: Nanos,
    slowest: Nanos,
    lives: u32,
    /// The greatest step from one count to the next, either way.
    leap: u64,
    disks: usize,
    clock_ms: u64,
    errors: u64,
}

type Outcome = fn(&Seen) -> String;

/// A partition whose sides are drawn.
macro_rules! split {
    ($shape:literal) => {
        concat!("split = { among = [\"server\", \"client\"], shape = \"", $shape, "\", for_ms = 100 }")
    };
}

/// A fault in a plan, what it is called, and the outcome that it has to change.
const FAULTS: &[(&str, &str, Outcome)] = &[
    ("crash", "crash = { process = \"server\", down_ms = 50 }", |it| {
        format!("{} lives, gap {} ms", it.lives, ms(it.longest_gap))
    }),
    ("crash_in_commit", "crash_in_commit = { process = \"server\", after_disk_ops = 6, down_ms = 50 }", |it| {
        format!("{} lives, gap {} ms", it.lives, ms(it.longest_gap))
    }),
    ("pause", "pause = { process = \"server\", for_ms = 60 }", |it| {
        format!("{} lives, gap {} ms", it.lives, ms(it.longest_gap))
    }),
    ("partition", "partition = { a = [\"server\"], b = [\"client\"], for_ms = 100 }", |it| {
        format!("{} timeouts, gap {} ms", it.timeouts, ms(it.longest_gap))
    }),
    ("one_way", "partition = { a = [\"server\"], b = [\"client\"], direction = \"a_to_b\", for_ms = 100 }", |it| {
        format!("{} timeouts, count leaps by {}", it.timeouts, it.leap)
    }),
    ("flapping", "partition = { a = [\"server\"], b = [\"client\"], flap_ms = 20, for_ms = 100 }", |it| {
        format!("{} timeouts, gap {} ms", it.timeouts, ms(it.longest_gap))
    }),
    ("link", "link = { from = \"server\", to = \"client\", delay_us = 5000, for_ms = 100 }", |it| {
        format!("slowest {} ms", ms(it.slowest))
    }),
    ("clog", "clog = { from = \"server\", to = \"client\", for_ms = 60 }", |it| {
        format!("{} timeouts, {} replies out of date", it.timeouts, it.out_of_order)
    }),
    ("fail_sync", "fail_sync = { process = \"server\" }", |it| {
        format!("{} lives, {} disk errors", it.lives, it.errors)
    }),
    ("stall", "stall = { process = \"server\", stall_ms = 8, for_ms = 100 }", |it| {
        format!("slowest {} ms", ms(it.slowest))
    }),
    ("disk_errors", "disk_errors = { process = \"server\", for_ms = 50 }", |it| {
        format!("{} disk errors", it.errors.min(1))
    }),
    ("disk_full", "disk_full = { process = \"server\", for_ms = 50 }", |it| {
        format!("{} disk errors", it.errors.min(1))
    }),
    ("flip_bits", "flip_bits = { process = \"server\", count = 20 }", |it| format!("count leaps: {}", it.leap > 1_000)),
    ("wipe", "wipe = { process = \"server\", down_ms = 10 }", |it| {
        format!("{} disks, counts from 1 again: {}", it.disks, it.leap > 20)
    }),
    ("clock", "clock = { process = \"server\", jump_ms = 3000, for_ms = 1000 }", |it| {
        format!("clock {} ms ahead", it.clock_ms)
    }),
];

/// When, and what.
type Planned = (&'static str, &'static str);

/// Sides that are drawn, and other ways for a fault to begin.
const WAYS: &[(&str, &[Planned], Outcome)] = &[
    ("one against all others", &[("ms = 100", split!("isolate"))], cut_off),
    ("halves", &[("ms = 100", split!("halves"))], cut_off),
    ("drawn sides", &[("ms = 100", split!("random"))], cut_off),
    ("one way", &[("ms = 100", split!("one_way"))], cut_off),
    ("flapping", &[("ms = 100", split!("flapping"))], cut_off),
    (
        "in flight at a cut",
        &[("every_ms = 20, until_ms = 200", "partition = { a = [\"server\"], b = [\"client\"], for_ms = 1 }")],
        |it| format!("{} timeouts", it.timeouts),
    ),
    ("again and again", &[("every_ms = 100, until_ms = 450", SHORT_CRASH)], lives),
    ("at a signal", &[("signal = \"a life begins\", nth = 1, after_us = 2000", SHORT_CRASH)], lives),
    ("at a mark", &[("mark = \"a hundred pings are counted\", after_us = 0", SHORT_CRASH)], lives),
    (
        "crash during recovery",
        &[
            ("ms = 100", SHORT_CRASH),
            (
                "signal = \"a life begins\", nth = 2, after_us = 0",
                "crash_in_commit = { process = \"server\", after_disk_ops = 1, down_ms = 20 }",
            ),
        ],
        lives,
    ),
];

const SHORT_CRASH: &str = "crash = { process = \"server\", down_ms = 20 }";

fn cut_off(it: &Seen) -> String {
    format!("{} timeouts, gap {} ms", it.timeouts, ms(it.longest_gap))
}

fn lives(it: &Seen) -> String {
    format!("{} lives", it.lives)
}

/// What goes on all the time, without a planned fault.
const ALWAYS: &[(&str, &str, Outcome)] = &[
    ("loss", "[network]\nloss = \"1/10\"", |it| format!("{} timeouts", it.timeouts)),
    ("duplication", "[network]\nduplicate = \"1/10\"", |it| format!("{} replies twice", it.twice)),
    ("reordering", "[network]\nreorder = \"1/5\"\nreorder_max_us = 30000", |it| {
        format!("{} replies out of date", it.out_of_order)
    }),
    ("long tail", "[network]\ntail = \"1/20\"\ntail_mean_us = 4000", |it| format!("slowest {} ms", ms(it.slowest))),
    ("bandwidth", "[network]\nbandwidth_mbit = 1", |it| format!("slowest {} ms", ms(it.slowest))),
    ("disk stalls", "[disk]\nstall = \"1/20\"\nstall_mean_ms = 5", |it| format!("slowest {} ms", ms(it.slowest))),
    ("full disk", "[disk]\ncapacity = 4", |it| format!("{} replies", it.replies)),
];

fn ms(time: Nanos) -> u64 {
    time / MILLIS
}

/// Answers every ping with the number of pings it has made durable. Ends itself when its disk fails.
async fn server(world: World, disk: SimDisk, life: Incarnation, seen: Arc<Mutex<Seen>>) {
    let endpoint = world.endpoint(life);
    let failed = || seen.lock().expect("one thread").errors += 1;
    let Ok(file) = disk.mount().open("count") else { return };
    world.signal("a life begins", "of the server");
    let mut bytes = [0; 8];
    let mut count = match file.read_at(0, &mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
        Err(_) => return failed(),
    };
    loop {
        for (from, mut frame) in endpoint.recv(Nanos::MAX).await {
            // The count is read back each time, so that what the disk does shows at once.
            if file.read_at(0, &mut bytes).is_ok() {
                count = u64::from_le_bytes(bytes);
            }
            count = count.wrapping_add(1);
            sometimes!(count == 100, "a hundred pings are counted");
            let spare = 8 + count % 64; // so that there is always something more to find room for
            let written =
                file.write_at(0, &count.to_le_bytes()).and_then(|()| file.set_len(spare.max(file.len()? + 1)));
            if written.and_then(|()| file.sync()).is_err() {
                return failed();
            }
            world.sleep(disk.mount().take_latency()).await;
            frame.extend_from_slice(&count.to_le_bytes());
            frame.resize(200, 0);
            endpoint.send(from, frame);
        }
    }
}

async fn client(world: World, server: ProcessId, life: Incarnation, seen: Arc<Mutex<Seen>>) {
    let endpoint = world.endpoint(life);
    let (mut last_reply, mut last_count, mut answered) = (0, 0_u64, std::collections::BTreeSet::new());
    for round in 0_u64.. {
        let asked = world.now();
        endpoint.send(server, round.to_le_bytes().to_vec());
        let mut done = false;
        while !done {
            let frames = endpoint.recv(asked + 15 * MILLIS).await;
            let mut seen = seen.lock().expect("one thread");
            if frames.is_empty() {
                seen.timeouts += 1;
                done = true;
            }
            for (_, frame) in frames {
                let word = |at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().expect("eight bytes"));
                let (of, count) = (word(0), word(8));
                seen.replies += 1;
                seen.twice += u64::from(!answered.insert(of));
                seen.out_of_order += u64::from(of < round);
                seen.leap = seen.leap.max(count.abs_diff(last_count));
                seen.longest_gap = seen.longest_gap.max(world.now() - last_reply);
                seen.slowest = seen.slowest.max(if of == round { world.now() - asked } else { 0 });
                seen.clock_ms = seen.clock_ms.max((world.clock(server).now().saturating_sub(world.now())) / MILLIS);
                (last_reply, last_count) = (world.now(), count);
                done |= of == round;
            }
        }
        world.sleep(200 * MICROS).await;
    }
}

fn run(plan: &str) -> Seen {
    let plan = SimPlan::from_toml(plan).unwrap_or_else(|error| panic!("{error}: {plan}"));
    let setup = Setup { seed: Seed(1), plan, trace: Trace::new(Mode::Off), limit: 10_000 * MILLIS };
    let seen = Arc::new(Mutex::new(Seen::default()));
    let result = seen.clone();
    let ended = World::run(setup, move |world| async move {
        let id = world.register("server");
        let disk = world.new_disk(id);
        let mut disks = vec![disk.disk_id()];
        let (inner, books, its) = (world.clone(), seen.clone(), disk.clone());
        world.start(id, move |life| server(inner.clone(), its.clone(), life, books.clone()));
        let (inner, books) = (world.clone(), seen.clone());
        world.process("client", move |life| client(inner.clone(), id, life, books.clone()));
        world.arm_faults().expect("a good plan");
        for _ in 0..10 {
            world.sleep(50 * MILLIS).await;
            disks.push(disk.disk_id());
        }
        disks.dedup();
        let mut seen = seen.lock().expect("one thread");
        (seen.lives, seen.disks) = (world.life(id).number, disks.len());
    });
    ended.result.expect("runs");
    let seen = result.lock().expect("one thread");
    seen.clone()
}

fn page() -> String {
    let mut page = String::from(
        "# Faults\n\nA client pings a server that counts on its disk, for half a simulated second. Each line is one run without the fault and one with it, of the\n\
         same seed: the fault alone changes the outcome. `at = { ms = 100 }` unless shown.\n\n\
         This page is written and checked by `cargo test -p miroir-sim --test bite` (with `RUSTFLAGS=\"--cfg madsim\"`).\n\n\
         ## Planned\n\n| fault | in a plan | without | with |\n|---|---|---|---|\n",
    );
    let calm = run("");
    for (name, kind, outcome) in FAULTS {
        let plan = format!("[[faults]]\nid = \"f\"\nat = {{ ms = 100 }}\nkind = {{ {kind} }}");
        let (without, with) = (outcome(&calm), outcome(&run(&plan)));
        assert_ne!(without, with, "{name} changes nothing");
        page += &format!("| {name} | `{kind}` | {without} | {with} |\n");
    }
    page += "\n## Drawn sides, and other ways to begin\n\n| way | in a plan | without | with |\n|---|---|---|---|\n";
    for (name, faults, outcome) in WAYS {
        let (mut plan, mut shown) = (String::new(), Vec::new());
        for (number, (at, kind)) in faults.iter().enumerate() {
            plan += &format!("[[faults]]\nid = \"f{number}\"\nat = {{ {at} }}\nkind = {{ {kind} }}\n");
            shown.push(format!("`at = {{ {at} }}` `{kind}`"));
        }
        let (without, with) = (outcome(&calm), outcome(&run(&plan)));
        assert_ne!(without, with, "{name} changes nothing");
        page += &format!("| {name} | {} | {without} | {with} |\n", shown.join(", "));
    }
    page += "\n## All the time\n\n| behaviour | in a plan | without | with |\n|---|---|---|---|\n";
    for (name, plan, outcome) in ALWAYS {
        let (without, with) = (outcome(&calm), outcome(&run(plan)));
        assert_ne!(without, with, "{name} changes nothing");
        page += &format!("| {name} | `{}` | {without} | {with} |\n", plan.replace('\n', "` `"));
    }
    page += "\nWhat a crash leaves of unsynced writes (`[disk] survive`, `torn`) is shown by the disk's own tests, over 300 seeds each.\n";
    page
}

#[test]
fn every_fault_bites_and_the_page_says_how() {
    miroir_sim::coverage::init(); // faults wait for marks
    let mut named: Vec<&str> = FAULTS.iter().map(|(name, ..)| *name).collect();
    let mut all = FaultKind::NAMES.to_vec();
    named.sort_unstable();
    all.sort_unstable();
    assert_eq!(named, all, "each kind has its line");
    let page = page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/faults.md");
    if std::env::var_os("MIROIR_UPDATE").is_some() {
        std::fs::write(path, &page).expect("a place for the page");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, page, "docs/faults.md is stale; MIROIR_UPDATE=1 writes it anew");
}
