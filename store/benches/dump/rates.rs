//! How fast a dump goes into an embedded store, beside what nobody can be faster than: reading the same file and parsing
//! its lines, and writing the same documents to the same store without any dump.
//!
//! `cargo xtask bench dump` prints the rates, and the greatest resident set of an import of an index of 1 GiB above that of the
//! same process when it had opened the store and done nothing; the one is this program without an argument, the other
//! `-- memory`. A target that is missed is exit code 100. Settings come from the environment:
//!
//! - `MIROIR_BENCH_DOCUMENTS` (1000000)
//! - `MIROIR_BENCH_DIR`: where the files go; default: the build's directory for temporary files

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement of the real machine")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs, io};

use flate2::read::GzDecoder;
use miroir_store::dump::import::import;
use miroir_store::dump::plan::{Options, Plan, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::survey::Source;
use miroir_store::dump::target::embedded::{Embedded, at_once, store_options};
use miroir_store::store::{Batch, Options as StoreOptions, Store};
use serde_json::Value;

use crate::synthetic::Shape;

/// Argument of the process whose memory is measured.
pub const CHILD: &str = "memory-child";
/// Writes of a batch, as many as an import makes of them.
const BATCH: u64 = 1_024;

/// How fast an import has to be, beside the engine's batches.
const LEAST_RATIO: f64 = 0.5;
/// How much an import may take above the idle process, in MiB.
const MOST_MIB: u64 = 64;

struct FileSource(PathBuf);

impl Source for FileSource {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(&self.0)?))
    }

    fn bytes(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |metadata| metadata.len())
    }
}

/// Whether no target was missed.
pub fn run() -> bool {
    let folder =
        env::var_os("MIROIR_BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = folder.join("dump-bench");
    if env::args().any(|argument| argument == CHILD) {
        return memory(&folder);
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a directory");
    let is_met = if env::args().any(|argument| argument == "memory") {
        let shape = Shape { documents: 1_000_000, text_bytes: 1_000 };
        shape.write(&folder.join("films.dump")).expect("a dump");
        let program = env::current_exe().expect("this program");
        let status =
            Command::new(program).arg(CHILD).env("MIROIR_BENCH_DIR", folder.parent().expect("its parent")).status();
        status.expect("it starts").success()
    } else {
        rates(&folder)
    };
    let _ = fs::remove_dir_all(&folder);
    is_met
}

fn rates(folder: &Path) -> bool {
    let documents = env::var("MIROIR_BENCH_DOCUMENTS").ok().and_then(|value| value.parse().ok()).unwrap_or(1_000_000);
    let shape = Shape { documents, text_bytes: 100 };
    let source = FileSource(folder.join("films.dump"));
    shape.write(&source.0).expect("a dump");
    let bytes: u64 = (0..documents).map(|n| shape.document(n).len() as u64 + 1).sum();
    println!("{documents} documents, {:.1} MB, {:.1} MB compressed", mega(bytes), mega(source.bytes()));
    println!("{:<44} {:>12} {:>9}", "", "documents/s", "MB/s");
    let row = |name: &str, seconds: f64| {
        println!("{name:<44} {:>12.0} {:>9.1}", documents as f64 / seconds, mega(bytes) / seconds);
        seconds
    };
    row("gunzip, lines, serde_json::Value", parse(&source.0, documents));
    let mut plan = None;
    let analysed = seconds(|| plan = analyse(&source, &Options::default(), &mut Silent).ok());
    let plan = plan.expect("a good dump");
    row("analyse", analysed);
    let mut is_met = true;
    // As the command line opens a store for an import, and as a program does that says nothing: each beside its own batches.
    for (how, options) in [("little memory", store_options()), ("the store's defaults", StoreOptions::default())] {
        let batches = row(&format!("the engine's batches, {how}"), batches(&folder.join("batches"), &options, shape));
        let path = folder.join("imported");
        let written = seconds(|| write(&source, &plan, &options, &path));
        row(&format!("write, {how}"), written);
        let import = row(&format!("import (analyse, then write), {how}"), analysed + written);
        let ratio = batches / import;
        let missed = if ratio < LEAST_RATIO { "   MISSED" } else { "" };
        println!(
            "{how}: write / batches {:.2}x, import / batches {ratio:.2}x; wanted: {LEAST_RATIO}x{missed}",
            batches / written
        );
        is_met &= ratio >= LEAST_RATIO;
        for folder in [folder.join("batches"), path] {
            fs::remove_dir_all(folder).expect("it was made here");
        }
    }
    is_met
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn seconds(mut work: impl FnMut()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// Reads the lines that are objects, and nothing else of the file.
fn parse(path: &Path, documents: u64) -> f64 {
    let mut parsed = 0;
    let took = seconds(|| {
        let mut input = BufReader::with_capacity(1 << 20, GzDecoder::new(File::open(path).expect("the dump")));
        let mut head = [0; 512];
        input.read_exact(&mut head).expect("a header");
        let mut line = Vec::new();
        while parsed < documents {
            line.clear();
            input.read_until(b'\n', &mut line).expect("a line");
            let value: Value = serde_json::from_slice(&line).expect("a document");
            parsed += u64::from(value.is_object());
        }
    });
    assert_eq!(parsed, documents);
    took
}

fn batches(path: &Path, options: &StoreOptions, shape: Shape) -> f64 {
    let store = options.open(path).expect("a new store");
    let mut took = 0.0;
    for first in (0..shape.documents).step_by(BATCH as usize) {
        let mut batch = Batch::new();
        for n in first..(first + BATCH).min(shape.documents) {
            let body = shape.document(n);
            batch.put("films", &body[7..23], body.as_bytes()).expect("a name");
        }
        // Making documents up is not part of it.
        let started = Instant::now();
        store.batch(batch).expect("a batch");
        took += started.elapsed().as_secs_f64();
    }
    count(&store, shape.documents);
    took
}

fn write(source: &FileSource, plan: &Plan, options: &StoreOptions, path: &Path) {
    let store = options.open(path).expect("a new store");
    let imported = at_once(import(source, plan, &Options::default(), &mut Embedded(&store), &mut Silent));
    imported.expect("an import");
    count(&store, plan.documents() + 1);
}

fn count(store: &Store, documents: u64) {
    assert_eq!(store.stats().expect("counts").documents, documents);
}

/// Imports in this process, and says what that took.
fn memory(folder: &Path) -> bool {
    let source = FileSource(folder.join("films.dump"));
    let store = store_options().open(folder.join("memory")).expect("a new store");
    let idle = resident("VmRSS:");
    let plan = analyse(&source, &Options::default(), &mut Silent).expect("a good dump");
    let analysed = resident("VmHWM:");
    at_once(import(&source, &plan, &Options::default(), &mut Embedded(&store), &mut Silent)).expect("an import");
    let most = resident("VmHWM:");
    let above = most - idle;
    println!(
        "{} documents, {} MiB: {idle} MiB resident when idle, at most {analysed} MiB after analysing, {most} MiB after \
         importing: {above} MiB above idle; wanted: at most {MOST_MIB} MiB{}",
        plan.documents(),
        plan.unpacked_bytes >> 20,
        if above > MOST_MIB { "   MISSED" } else { "" }
    );
    above <= MOST_MIB
}

/// In MiB.
fn resident(which: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(which)).expect("a resident set");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
}
