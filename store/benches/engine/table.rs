//! The engine, and the store around it, beside raw redb and fjall, on real files, in one run.
//!
//! `cargo bench -p miroir-store --bench engine` prints a table; every row is one contender. Every put and every batch
//! is durable when it returns. All get the same documents in the same order, the same cache, and a directory of their
//! own. Writes and openings are timed by the clock, final flush included; reads, which find everything in memory, by
//! the time on the processor. The machine should have nothing else to do. Settings come from the environment:
//!
//! - `MIROIR_BENCH_DOCUMENTS` (1000000), `MIROIR_BENCH_PUTS` (5000), `MIROIR_BENCH_CACHE_MIB` (1024)
//! - `MIROIR_BENCH_DIR`: where the files go; default: the build's directory for temporary files
//! - `MIROIR_BENCH_ONLY`: one contender by name
//!
//! With `-- memory` it measures something else: see [`memory`].

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement of the real machine")]

mod contenders;
mod memory;

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use contenders::{Contender, EngineAlone, Fjall, Redb, Whole};

/// Numbers that look like chance and are the same in every run (splitmix64).
pub fn number(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 24-byte id.
fn id(n: u64) -> String {
    format!("{:016x}{:08x}", number(n), n as u32)
}

/// A 150-byte body that does not compress.
fn body(n: u64) -> Vec<u8> {
    (0..19).flat_map(|word| number(n * 31 + word + 1).to_le_bytes()).take(150).collect()
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// What was measured of one contender.
struct Row {
    name: &'static str,
    /// Per second.
    batched: f64,
    puts: f64,
    gets: f64,
    scans: f64,
    open_ms: f64,
    open_cpu_ms: f64,
    mib: f64,
}

struct Settings {
    documents: u64,
    puts: u64,
    cache: usize,
    directory: PathBuf,
}

fn per_second(count: u64, started: Instant) -> f64 {
    count as f64 / started.elapsed().as_secs_f64()
}

/// Seconds that this thread has been on a processor. Reads are measured by it, so that what else the machine does
/// counts little; where the system does not tell, it is the time of day.
fn on_cpu(since: Instant) -> f64 {
    let told = fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = told.and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| since.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

fn measure<C: Contender>(settings: &Settings) -> Row {
    let path = settings.directory.join(C::NAME.replace(' ', "-"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a directory for the files");
    let mut it = C::open(&path, settings.cache);
    let documents = settings.documents;

    let rows = |range: std::ops::Range<u64>| range.map(|n| (id(n), body(n))).collect::<Vec<_>>();
    let batches: Vec<Vec<(String, Vec<u8>)>> =
        (0..documents / 1_000).map(|batch| rows(batch * 1_000..(batch + 1) * 1_000)).collect();
    let started = Instant::now();
    for batch in &batches {
        it.batch(batch);
    }
    it.flush();
    let batched = per_second(documents, started);
    drop(batches);

    let new = rows(documents..documents + settings.puts);
    let started = Instant::now();
    for (id, body) in &new {
        it.put(id, body);
    }
    let puts = per_second(settings.puts, started);

    // What the process would leave if it died now.
    let crashed = settings.directory.join(format!("{}-crashed", C::NAME.replace(' ', "-")));
    let (mut opens, mut opens_cpu) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        copy(&path, &crashed);
        let (started, cpu) = (Instant::now(), on_cpu(Instant::now()));
        let opened = C::open(&crashed, settings.cache);
        let (id, body) = &new[new.len() - 1];
        let mut found = Vec::new();
        opened.get(id, &mut found);
        assert_eq!(&found, body, "{}: the last put is there", C::NAME);
        opens.push(started.elapsed().as_secs_f64() * 1e3);
        opens_cpu.push((on_cpu(started) - cpu) * 1e3);
        drop(opened);
    }
    opens.sort_by(f64::total_cmp);
    opens_cpu.sort_by(f64::total_cmp);
    let _ = fs::remove_dir_all(&crashed);
    let mib = bytes(&path) as f64 / f64::from(1 << 20);

    it.flush();
    let names: Vec<String> = (0..1_000_000.min(documents)).map(|n| id(number(n + 7) % documents)).collect();
    // Warm, all of them: what is measured is the work, not the file system's cache.
    let mut out = Vec::with_capacity(1 << 20);
    names.iter().for_each(|id| {
        out.clear();
        it.get(id, &mut out);
        assert_eq!(out.len(), 150);
    });
    let (now, started) = (Instant::now(), on_cpu(Instant::now()));
    for id in &names {
        out.clear();
        it.get(id, &mut out);
    }
    let gets = names.len() as f64 / (on_cpu(now) - started);

    let count = 100_000.min(names.len());
    let (now, started) = (Instant::now(), on_cpu(Instant::now()));
    let mut full = 0;
    for id in &names[..count] {
        out.clear();
        it.scan(id, 100, &mut out);
        full += usize::from(out.len() >= 100 * 174);
    }
    let scans = count as f64 / (on_cpu(now) - started);
    assert!(full > count * 99 / 100, "{}: {full} full scans", C::NAME);

    drop(it);
    let _ = fs::remove_dir_all(&path);
    Row { name: C::NAME, batched, puts, gets, scans, open_ms: opens[2], open_cpu_ms: opens_cpu[2], mib }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

fn bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { bytes(&path) } else { fs::metadata(path).map_or(0, |it| it.len()) }).sum()
}

/// Measures what the arguments ask for.
pub fn run() {
    let settings = Settings {
        documents: setting("MIROIR_BENCH_DOCUMENTS", 1_000_000),
        puts: setting("MIROIR_BENCH_PUTS", 5_000),
        cache: (setting("MIROIR_BENCH_CACHE_MIB", 1_024) << 20) as usize,
        directory: env::var_os("MIROIR_BENCH_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-engine"), PathBuf::from),
    };
    if memory::run(&settings.directory) {
        return;
    }
    let only = env::var("MIROIR_BENCH_ONLY").ok();
    let mut rows = Vec::new();
    let mut run = |name: &str, measure: fn(&Settings) -> Row| {
        if only.as_deref().is_none_or(|only| only == name) {
            rows.push(measure(&settings));
        }
    };
    run(Redb::NAME, measure::<Redb>);
    run(EngineAlone::NAME, measure::<EngineAlone>);
    run(Whole::NAME, measure::<Whole>);
    run(Fjall::NAME, measure::<Fjall>);
    let _ = fs::remove_dir_all(&settings.directory);

    println!(
        "{} documents of 24-byte ids and 150-byte bodies; cache {} MiB; {} single puts",
        settings.documents,
        settings.cache >> 20,
        settings.puts
    );
    println!("| {:<14} | durable puts/s | batched rows/s | gets/s | 100-row scans/s | open ms | on CPU | MiB |", "");
    println!("|{:-<16}|---------------:|---------------:|-------:|----------------:|--------:|-------:|----:|", "");
    for row in &rows {
        let Row { name, batched, puts, gets, scans, open_ms, open_cpu_ms, mib } = row;
        println!(
            "| {name:<14} | {puts:.0} | {batched:.0} | {gets:.0} | {scans:.0} | {open_ms:.1} | {open_cpu_ms:.1} | {mib:.0} |"
        );
    }
    let found = |name| rows.iter().find(|row: &&Row| row.name == name);
    let (Some(redb), Some(fjall)) = (found(Redb::NAME), found(Fjall::NAME)) else { return };
    for name in [EngineAlone::NAME, Whole::NAME] {
        let Some(row) = found(name) else { continue };
        println!(
            "{name}: gets {:.2}x redb, scans {:.2}x redb, open {:.2}x redb (time {:.2}x), batched {:.2}x redb and \
             {:.2}x fjall, durable puts {:.2}x fjall",
            row.gets / redb.gets,
            row.scans / redb.scans,
            redb.open_ms / row.open_ms,
            row.open_ms / redb.open_ms,
            row.batched / redb.batched,
            row.batched / fjall.batched,
            row.puts / fjall.puts
        );
    }
}
