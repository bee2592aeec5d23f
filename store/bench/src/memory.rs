//! How much memory it takes to open and scan a store of 1 GiB.
//!
//! The store is written by one process, left as a crash would leave it, and then opened and read to its end by another,
//! whose greatest resident set is what is printed.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use miroir_store::store::{Batch, Ids, Store};

use crate::{id, number};

const DOCUMENTS: u64 = 1_100_000;
const BODY_BYTES: usize = 1_000;
const LIMIT_MIB: u64 = 256;

/// What the reading process is told to do, with the directory behind it.
pub const READER: &str = "memory-reader";

/// Writes a store and has it read; whether it stayed below the limit.
pub fn measure(directory: &Path) -> bool {
    let path = directory.join("memory");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(directory).expect("a directory");
    write(&path);
    let program = env::current_exe().expect("this program");
    let status = Command::new(program).arg(READER).arg(&path).status().expect("it starts");
    let _ = fs::remove_dir_all(&path);
    status.success()
}

fn write(path: &Path) {
    let store = Store::open(path).expect("a new store");
    for first in (0..DOCUMENTS).step_by(1_000) {
        let mut batch = Batch::new();
        for n in first..first + 1_000 {
            let body: Vec<u8> =
                (0..BODY_BYTES as u64 / 8).flat_map(|word| number(n * 131 + word).to_le_bytes()).collect();
            batch.put("c", &id(n), &body).expect("a name");
        }
        store.batch(batch).expect("a batch");
    }
}

/// Opens the store, reads all of it, and says how much memory that took.
pub fn read(path: &Path) -> bool {
    let store = Store::open(path).expect("it opens");
    let opened = resident_mib();
    let (mut documents, mut bytes) = (0u64, 0u64);
    for document in store.iter("c", Ids::all()) {
        let document = document.expect("a document");
        documents += 1;
        bytes += (document.id().len() + document.body.len()) as u64;
    }
    assert_eq!(documents, DOCUMENTS);
    let stats = store.stats().expect("counts");
    println!(
        "{documents} documents of {} MiB in files of {} MiB ({} MiB of the log to replay): {opened} MiB resident after \
         opening, at most {} MiB after scanning all of it; wanted: less than {LIMIT_MIB} MiB",
        bytes >> 20,
        stats.disk_bytes >> 20,
        stats.log_bytes >> 20,
        resident_mib()
    );
    resident_mib() < LIMIT_MIB
}

/// The greatest resident set of this process so far.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a resident set");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
}
