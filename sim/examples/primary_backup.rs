//! A log on two disks: the primary writes an entry down, the backup writes it down, then the client is told. One bug can be switched on.
//!
//! The promise: an entry that was acknowledged is on both disks, so that whichever machine is left, the log is whole. After the chaos the client
//! therefore reads the backup alone, as after a failover.
//!
//! See docs/simulate-your-own.md, which walks through this file. `-- --help` lists the arguments.

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "error: built without the simulator; type RUSTFLAGS=\"--cfg madsim\" in front, and --target-dir target/madsim"
    );
    miroir_sim::verdict::ExitCode::Refused.into()
}

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    madsim_only::main()
}

#[cfg(madsim)]
mod madsim_only {
    // The command line and the profile's file are outside of the simulation.
    #![allow(clippy::disallowed_methods)]

    use std::collections::BTreeSet;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use miroir_sim::coverage::{self, Coverage};
    use miroir_sim::disk::{SimDisk, SimFile};
    use miroir_sim::history::{History, Op, OpId, Outcome};
    use miroir_sim::oracle::set;
    use miroir_sim::profile::Profile;
    use miroir_sim::time::{MILLIS, SECONDS};
    use miroir_sim::verdict::ExitCode;
    use miroir_sim::world::{Ended, Setup};
    use miroir_sim::{Dice, Incarnation, Mode, ProcessId, Seed, Trace, World, sometimes};

    const ENTRIES: u64 = 200;
    const CHAOS: u64 = 2 * SECONDS;

    /// The entries on one disk. A frame in the file is the number and its complement, so that a torn or rotten one shows.
    struct Log {
        file: SimFile,
        entries: BTreeSet<u64>,
        end: u64,
    }

    impl Log {
        fn open(disk: &SimDisk) -> io::Result<Log> {
            let file = disk.mount().open("log")?;
            let mut log = Log { file, entries: BTreeSet::new(), end: 0 };
            let mut frame = [0; 16];
            while log.end + 16 <= log.file.len()? {
                log.file.read_at(log.end, &mut frame)?;
                let (number, check) = (word(&frame, 0), word(&frame, 8));
                if check == !number {
                    log.entries.insert(number);
                }
                log.end += 16;
            }
            Ok(log)
        }

        fn write(&mut self, number: u64) -> io::Result<()> {
            let frame = [number.to_le_bytes(), (!number).to_le_bytes()].concat();
            self.file.write_at(self.end, &frame)?;
            self.end += 16;
            self.entries.insert(number);
            Ok(())
        }
    }

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// Appends what the client sends, and passes it on until the backup has it. Ends when its disk fails; the world restarts it.
    async fn primary(
        world: World,
        disk: SimDisk,
        life: Incarnation,
        backup: ProcessId,
        client: ProcessId,
    ) -> io::Result<()> {
        let endpoint = world.endpoint(life);
        let mut log = Log::open(&disk)?;
        let mut confirmed = BTreeSet::new();
        loop {
            let frames = endpoint.recv(world.now() + 20 * MILLIS).await;
            let quiet = frames.is_empty();
            for (from, frame) in frames {
                let number = word(&frame, 0);
                if from == backup {
                    confirmed.insert(number);
                    endpoint.send(client, frame);
                } else if !log.entries.contains(&number) {
                    log.write(number)?;
                    log.file.sync()?;
                    endpoint.send(backup, frame);
                } else if confirmed.contains(&number) {
                    endpoint.send(client, frame);
                }
            }
            for number in log.entries.iter().filter(|number| quiet && !confirmed.contains(number)) {
                sometimes!("an entry is sent to the backup again");
                endpoint.send(backup, number.to_le_bytes().to_vec());
            }
        }
    }

    /// Writes down what the primary sends, and says so. A sync is slow, so it is for all entries of the last 5 ms at once.
    async fn backup(world: World, disk: SimDisk, life: Incarnation, primary: ProcessId, bug: bool) -> io::Result<()> {
        let endpoint = world.endpoint(life);
        let mut log = Log::open(&disk)?;
        log.file.sync()?;
        let mut synced = log.entries.clone();
        let mut waiting: Vec<u64> = Vec::new();
        loop {
            for (_, frame) in endpoint.recv(world.now() + 5 * MILLIS).await {
                let number = word(&frame, 0);
                if !log.entries.contains(&number) {
                    log.write(number)?;
                    waiting.push(number);
                }
                // THE BUG: it is "written", and the primary has it on its disk anyway.
                if bug || synced.contains(&number) {
                    endpoint.send(primary, frame);
                }
            }
            if !waiting.is_empty() {
                world.sleep(5 * MILLIS).await;
                log.file.sync()?;
                world.sleep(disk.mount().take_latency()).await;
                for number in waiting.drain(..) {
                    synced.insert(number);
                    endpoint.send(primary, number.to_le_bytes().to_vec());
                }
            }
        }
    }

    /// Appends one entry after the other, each until it is acknowledged or given up.
    async fn client(world: World, life: Incarnation, primary: ProcessId, history: History) {
        let endpoint = world.endpoint(life);
        for number in 0..ENTRIES {
            let id: OpId = history.call(world.now(), 0, "log", Op::Write { value: number.to_string() });
            let mut outcome = Outcome::Unknown;
            for _attempt in 0..20 {
                endpoint.send(primary, number.to_le_bytes().to_vec());
                let deadline = world.now() + 30 * MILLIS;
                while outcome == Outcome::Unknown && world.now() < deadline {
                    let frames = endpoint.recv(deadline).await;
                    if frames.iter().any(|(_, frame)| word(frame, 0) == number) {
                        outcome = Outcome::Ok;
                    }
                }
                if outcome == Outcome::Ok {
                    break;
                }
            }
            history.finish(world.now(), id, outcome, None, None);
        }
    }

    /// One run: chaos while the client appends, then heal, then a failover: what does the backup have?
    fn run(seed: Seed, profile: &Profile, bug: bool) -> (Ended<()>, set::Report) {
        let plan = profile.draw(&Dice::new(seed), &["primary", "backup"], CHAOS);
        let setup = Setup { seed, plan, trace: Trace::new(Mode::Short), limit: 600 * SECONDS };
        let history = History::traced(setup.trace.clone());
        let (seen, done) = (history.clone(), Arc::new(AtomicBool::new(false)));
        let ended = World::run(setup, move |world| async move {
            let [first, second, third] = ["primary", "backup", "client"].map(|name| world.register(name));
            let disks = [world.new_disk(first), world.new_disk(second)];
            let (w, disk) = (world.clone(), disks[0].clone());
            world.start(first, move |life| {
                let life = primary(w.clone(), disk.clone(), life, second, third);
                async move { drop(life.await) }
            });
            let (w, disk) = (world.clone(), disks[1].clone());
            world.start(second, move |life| {
                let life = backup(w.clone(), disk.clone(), life, first, bug);
                async move { drop(life.await) }
            });
            let (w, appending, over) = (world.clone(), history.clone(), done.clone());
            world.start(third, move |life| {
                let (w, history, over) = (w.clone(), appending.clone(), over.clone());
                async move {
                    client(w, life, first, history).await;
                    over.store(true, Ordering::Relaxed);
                    std::future::pending().await
                }
            });
            world.arm_faults().expect("the profile draws good plans");
            world.signal("chaos", "anything may fail");
            world.sleep(CHAOS).await;
            world.heal();
            world.signal("heal", "nothing fails any more");
            while !done.load(Ordering::Relaxed) {
                world.sleep(50 * MILLIS).await;
            }
            world.crash(first);
            world.crash(second);
            let read = history.call(world.now(), 0, "log", Op::Read { value: None });
            let log = Log::open(&disks[1]).expect("a healed disk");
            let all: Vec<String> = log.entries.iter().map(ToString::to_string).collect();
            history.finish(world.now() + 1, read, Outcome::Ok, Some(all.join(" ")), None);
        });
        let report = set::check(&seen.operations());
        (ended, report)
    }

    const HELP: &str = "primary_backup [--bug] [--seeds A..B] [--seed N [--trace]] [--profile calm|usual|storm|FILE]";

    struct Arguments {
        seeds: std::ops::Range<u64>,
        bug: bool,
        trace: bool,
        profile: Profile,
    }

    fn arguments() -> Result<Arguments, String> {
        let profile = |name: &str| match Profile::named(name) {
            Some(profile) => Ok(profile),
            None => {
                let text = std::fs::read_to_string(name)
                    .map_err(|error| format!("`{name}` is none of calm, usual, storm, and as a file: {error}"))?;
                Profile::read(name, &text)
            }
        };
        let mut parsed = Arguments { seeds: 0..100, bug: false, trace: false, profile: profile("storm")? };
        let mut given = std::env::args().skip(1);
        while let Some(flag) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("`{flag}` needs a value; usage: {HELP}"));
            match flag.as_str() {
                "--bug" => parsed.bug = true,
                "--trace" => parsed.trace = true,
                "--profile" => parsed.profile = profile(&value()?)?,
                "--seed" => {
                    let seed: Seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?;
                    parsed.seeds = seed.0..seed.0 + 1;
                }
                "--seeds" => {
                    let text = value()?;
                    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
                    parsed.seeds = range.ok_or_else(|| format!("--seeds: `{text}` is not A..B"))?;
                }
                _ => return Err(format!("usage: {HELP}")),
            }
        }
        Ok(parsed)
    }

    pub fn main() -> std::process::ExitCode {
        coverage::init();
        let Arguments { seeds, bug, trace, profile } = match arguments() {
            Ok(arguments) => arguments,
            Err(problem) => {
                eprintln!("error: {problem}");
                return ExitCode::Refused.into();
            }
        };
        // Two machines have no minority; the log promises to outlive the failure of either.
        let mut profile = profile;
        profile.faults.hurt_at_most.get_or_insert(1);
        let mut coverage = Coverage::default();
        for seed in seeds.clone() {
            let (ended, report) = run(Seed(seed), &profile, bug);
            coverage.add(&ended.marks, &ended.matrix);
            if trace {
                ended.trace.lines().iter().for_each(|line| println!("{line}"));
            }
            if let Err(failure) = &ended.result {
                println!("seed {seed}: {failure}");
                return ExitCode::Finding.into();
            }
            if !report.wrong.is_empty() {
                println!("seed {seed}: {report}");
                println!("trace hash {}", ended.trace.hash());
                return ExitCode::Finding.into();
            }
        }
        println!("{} runs, nothing is lost", coverage.runs);
        let opt_in = "opt-in: a log on two disks cannot take it";
        let reasons = ["disk_errors", "disk_full", "flip_bits", "wipe", "clock"].map(|kind| (kind, opt_in));
        if !coverage.matrix.is_empty() {
            print!("\n{}", coverage.matrix.table(&reasons).0);
        }
        for (mark, (runs, times)) in &coverage.marks {
            println!("\nmark `{mark}`: {times} times in {runs} runs");
        }
        ExitCode::AsExpected.into()
    }
}
