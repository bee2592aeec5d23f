//! The engine, and the store around it, beside raw redb and fjall, on real files, in one run: `cargo xtask bench engine`.
//!
//! Every row of the table is one contender. Every put and every batch is durable when it returns. All get the same
//! documents in the same order, the same cache, and a directory of their own. Writes and openings are timed by the
//! clock, final flush included; reads, which find everything in memory, by the time on the processor. The machine should
//! have nothing else to do. Ends with exit code 100 if the engine misses one of its targets. Settings come from the
//! environment:
//!
//! - `MIROIR_BENCH_DOCUMENTS` (1000000), `MIROIR_BENCH_PUTS` (5000), `MIROIR_BENCH_CACHE_MIB` (1024)
//! - `MIROIR_BENCH_DIR`: where the files go; default: the system's directory for temporary files
//!
//! Then it measures [`memory`]. With `table` or `memory` behind the command it does one of the two.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement of the real machine")]

mod contenders;
mod memory;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use miroir_store::engine::{Digest, Mark};
use miroir_store::id::{Key, Version, WriterId};
use rustix::time::{ClockId, clock_gettime};

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

struct Settings {
    documents: u64,
    puts: u64,
    cache: usize,
    directory: PathBuf,
}

/// Rounds of each measurement. All contenders take part in a round, one after the other, so that whatever else the
/// machine does meets all of them.
const ROUNDS: u64 = 10;

type Open = fn(&Path, usize) -> Box<dyn Contender>;

const CONTENDERS: [(&str, Open); 4] = [
    ("redb", |path, cache| Box::new(Redb::open(path, cache))),
    ("miroir engine", |path, cache| Box::new(EngineAlone::open(path, cache))),
    ("miroir store", |path, cache| Box::new(Whole::open(path, cache))),
    ("fjall", |path, cache| Box::new(Fjall::open(path, cache))),
];

/// One contender and what was measured of it.
struct Row {
    name: &'static str,
    path: PathBuf,
    open: Open,
    it: Box<dyn Contender>,
    /// Seconds in all.
    batching_s: f64,
    putting_s: f64,
    open_ms: f64,
    open_cpu_ms: f64,
    /// Per second, in the best round.
    gets: f64,
    scans: f64,
    mib: f64,
}

impl Row {
    fn of(settings: &Settings, (name, open): (&'static str, Open)) -> Row {
        let path = settings.directory.join(name.replace(' ', "-"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory for the files");
        let it = open(&path, settings.cache);
        let (batching_s, putting_s, open_ms, open_cpu_ms) = (0.0, 0.0, 0.0, 0.0);
        let (gets, scans, mib) = (0.0, 0.0, 0.0);
        Row { name, path, open, it, batching_s, putting_s, open_ms, open_cpu_ms, gets, scans, mib }
    }

    fn batched(&self, settings: &Settings) -> f64 {
        settings.documents as f64 / self.batching_s
    }

    fn puts(&self, settings: &Settings) -> f64 {
        settings.puts as f64 / self.putting_s
    }
}

/// Seconds that this thread has been on a processor. Reads are measured by it, so that what else the machine does
/// counts little.
fn on_cpu() -> f64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

fn rows(range: std::ops::Range<u64>) -> Vec<(String, Vec<u8>)> {
    range.map(|n| (id(n), body(n))).collect()
}

/// Batches of 1,000, in an order that has nothing to do with that of the ids, and the final flush.
fn write_batches(settings: &Settings, contenders: &mut [Row]) {
    let batches = settings.documents / 1_000;
    for round in 0..ROUNDS {
        let of_round = batches * round / ROUNDS..batches * (round + 1) / ROUNDS;
        let batches: Vec<_> = of_round.map(|batch| rows(batch * 1_000..(batch + 1) * 1_000)).collect();
        for row in &mut *contenders {
            let started = Instant::now();
            batches.iter().for_each(|batch| row.it.batch(batch));
            row.batching_s += started.elapsed().as_secs_f64();
        }
    }
    for row in contenders {
        let started = Instant::now();
        row.it.flush();
        row.batching_s += started.elapsed().as_secs_f64();
    }
}

fn write_one_by_one(settings: &Settings, contenders: &mut [Row]) {
    let Settings { documents, puts, .. } = settings;
    for round in 0..ROUNDS {
        let new = rows(documents + puts * round / ROUNDS..documents + puts * (round + 1) / ROUNDS);
        for row in &mut *contenders {
            let started = Instant::now();
            new.iter().for_each(|(id, body)| row.it.put(id, body));
            row.putting_s += started.elapsed().as_secs_f64();
        }
    }
}

/// Opens what the process would leave if it died now, and reads the last document that was put.
fn open_after_a_crash(settings: &Settings, row: &mut Row) {
    let crashed = settings.directory.join("crashed");
    row.mib = copy(&row.path, &crashed) as f64 / f64::from(1 << 20);
    let (started, cpu) = (Instant::now(), on_cpu());
    let opened = (row.open)(&crashed, settings.cache);
    let last = settings.documents + settings.puts - 1;
    let mut found = Vec::new();
    opened.get(&id(last), &mut found);
    assert_eq!(found, body(last), "{}: the last put is there", row.name);
    row.open_ms = started.elapsed().as_secs_f64() * 1e3;
    row.open_cpu_ms = (on_cpu() - cpu) * 1e3;
    drop(opened);
    let _ = fs::remove_dir_all(&crashed);
}

fn read(settings: &Settings, contenders: &mut [Row]) {
    let names: Vec<String> =
        (0..1_000_000.min(settings.documents)).map(|n| id(number(n + 7) % settings.documents)).collect();
    let mut out = Vec::with_capacity(1 << 20);
    // Warm, all of them: what is measured is the work, not the file system's cache.
    for row in &mut *contenders {
        row.it.flush();
        for id in &names {
            out.clear();
            row.it.get(id, &mut out);
            assert_eq!(out.len(), 150);
        }
    }
    for names in names.chunks(names.len() / ROUNDS as usize) {
        for row in &mut *contenders {
            let started = on_cpu();
            for id in names {
                out.clear();
                row.it.get(id, &mut out);
            }
            row.gets = row.gets.max(names.len() as f64 / (on_cpu() - started));

            let names = &names[..names.len() / 20];
            let started = on_cpu();
            let mut full = 0;
            for id in names {
                out.clear();
                row.it.scan(id, 100, &mut out);
                full += usize::from(out.len() >= 100 * 174);
            }
            row.scans = row.scans.max(names.len() as f64 / (on_cpu() - started));
            assert!(full * 100 > names.len() * 98, "{}: {full} full scans", row.name);
        }
    }
}

/// Copies a directory, durably; how many bytes.
fn copy(from: &Path, to: &Path) -> u64 {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).expect("a directory");
    let mut bytes = 0;
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            bytes += copy(&entry.path(), &place);
        } else {
            bytes += fs::copy(entry.path(), &place).expect("a copy");
            // Otherwise the first sync of whoever opens it would wait for the copy.
            fs::File::open(&place).and_then(|file| file.sync_all()).expect("a sync");
        }
    }
    bytes
}

/// What the engine is to reach beside the others; whether it does. What the store adds around it is shown beside it.
fn judge(settings: &Settings, [redb, engine, store, fjall]: &[Row; 4]) -> bool {
    let of = |row: &Row| {
        [
            row.gets / redb.gets,
            row.scans / redb.scans,
            redb.open_ms / row.open_ms,
            row.batched(settings) / redb.batched(settings),
            row.puts(settings) / fjall.puts(settings),
        ]
    };
    let wanted = [
        ("gets, beside redb's", 0.8),
        ("scans, beside redb's", 0.8),
        ("opening, beside redb's", 0.8),
        ("batched rows, beside redb's", 2.0),
        ("durable puts, beside fjall's", 1.0),
    ];
    println!("{:<30} {:>8} {:>8} {:>8}", "", "wanted", "engine", "store");
    let mut all = true;
    for (((what, wanted), engine), store) in wanted.into_iter().zip(of(engine)).zip(of(store)) {
        let word = if engine >= wanted { "" } else { "   MISSED" };
        all &= engine >= wanted;
        println!("{what:<30} {wanted:>8.1} {engine:>8.2} {store:>8.2}{word}");
    }
    let batched = |row: &Row| row.batched(settings) / fjall.batched(settings);
    println!("{:<30} {:>8} {:>8.2} {:>8.2}", "batched rows, beside fjall's", "", batched(engine), batched(store));
    all
}

fn main() -> ExitCode {
    let settings = Settings {
        documents: setting("MIROIR_BENCH_DOCUMENTS", 1_000_000),
        puts: setting("MIROIR_BENCH_PUTS", 5_000),
        cache: (setting("MIROIR_BENCH_CACHE_MIB", 1_024) << 20) as usize,
        directory: env::var_os("MIROIR_BENCH_DIR").map_or_else(|| env::temp_dir().join("miroir-bench"), PathBuf::from),
    };
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let reached = match arguments[..] {
        [] => [beside_others(&settings), memory::measure(&settings.directory)] == [true; 2],
        ["table"] => beside_others(&settings),
        ["memory"] => memory::measure(&settings.directory),
        [memory::READER, directory] => memory::read(Path::new(directory)),
        _ => {
            eprintln!("error: nothing (both), `table` or `memory`, not `{}`", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    if reached { ExitCode::SUCCESS } else { ExitCode::from(100) }
}

/// Nanoseconds on the processor for what a digest costs a write: the document's checksum and bucket, and the bucket's sum
/// without what was there and with what is there now.
fn digest_ns(documents: u64) -> f64 {
    let writes: Vec<(Key, Vec<u8>)> =
        (0..documents.min(100_000)).map(|n| (Key::new("bench", &id(n)).expect("a key"), body(n))).collect();
    let mut digest = Digest::default();
    let started = on_cpu();
    for (n, (key, body)) in (1..).zip(&writes) {
        let mark = Mark::of(key, Version { counter: n, writer: WriterId(1) }, Some(body));
        let sum = &mut digest.0[usize::from(Digest::bucket(key))];
        *sum = sum.wrapping_sub(n).wrapping_add(mark.sum);
    }
    std::hint::black_box(digest);
    (on_cpu() - started) * 1e9 / writes.len() as f64
}

/// Whether the engine reaches its targets.
fn beside_others(settings: &Settings) -> bool {
    let mut rows = CONTENDERS.map(|contender| Row::of(settings, contender));
    write_batches(settings, &mut rows);
    write_one_by_one(settings, &mut rows);
    rows.iter_mut().for_each(|row| open_after_a_crash(settings, row));
    read(settings, &mut rows);

    println!(
        "{} documents of 24-byte ids and 150-byte bodies; cache {} MiB; {} single puts",
        settings.documents,
        settings.cache >> 20,
        settings.puts
    );
    println!("| {:<14} | durable puts/s | batched rows/s | gets/s | 100-row scans/s | open ms | on CPU | MiB |", "");
    println!("|{:-<16}|---------------:|---------------:|-------:|----------------:|--------:|-------:|----:|", "");
    for row in &rows {
        let Row { name, gets, scans, open_ms, open_cpu_ms, mib, .. } = row;
        let (puts, batched) = (row.puts(settings), row.batched(settings));
        println!(
            "| {name:<14} | {puts:.0} | {batched:.0} | {gets:.0} | {scans:.0} | {open_ms:.1} | {open_cpu_ms:.1} | {mib:.0} |"
        );
    }
    let reached = judge(settings, &rows);
    let (digest, batched) = (digest_ns(settings.documents), 1e9 / rows[1].batched(settings));
    println!("digests cost a write {digest:.0} ns, {:.1} % of a batched row of the engine", digest / batched * 100.0);
    drop(rows);
    let _ = fs::remove_dir_all(&settings.directory);
    reached
}
