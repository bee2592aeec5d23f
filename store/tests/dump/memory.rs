//! What an import allocates, at most: 64 MiB above the open store, whatever the dump holds.
//!
//! Everything that is imported into an embedded store happens in one thread, so each thread counts for itself and tests
//! may run beside each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use miroir_store::dump::import::import;
use miroir_store::dump::layout::Version;
use miroir_store::dump::plan::{Mode, Options, Pending, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::refusal::DumpError;
use miroir_store::dump::target::embedded::{Embedded, at_once};

use crate::build::{Dump, Kind, Member, gzip, pack, tar};
use crate::support::Scratch;

struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // A thread that ends frees what it had counted with.
    let _ended = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ended = MOST.try_with(|most| most.set(most.get().max(live.get())));
    });
}

// SAFETY: everything is passed on to the system's allocator; the counters are on the side, and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MOST_BYTES: i64 = 64 << 20;

/// The most that was allocated at any time beyond what there was before.
fn most_of<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = LIVE.get();
    MOST.set(before);
    let done = work();
    (done, MOST.get() - before)
}

/// Analyses and imports; the most that took.
fn import_of(dump: &[u8], options: &Options) -> i64 {
    let scratch = Scratch::small();
    let (done, most) = most_of(|| {
        let plan = analyse(&dump, options, &mut Silent)?;
        at_once(import(&dump, &plan, options, &mut Embedded(scratch.store()), &mut Silent))
    });
    done.expect("a good dump");
    most
}

fn refused(dump: &[u8]) -> (String, i64) {
    let (plan, most) = most_of(|| analyse(&dump, &Options::default(), &mut Silent));
    let Err(DumpError::Refused(refusal)) = plan else { panic!("it is to be refused") };
    (refusal.to_string(), most)
}

fn broadcast() -> Options {
    Options { mode: Some(Mode::Broadcast), ..Options::default() }
}

/// Text that does not compress like a bomb.
fn text(bytes: usize, seed: u64) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:08x}", state >> 32)
    };
    let mut text = String::with_capacity(bytes + 8);
    while text.len() < bytes {
        text.push_str(&next());
    }
    text
}

#[test]
fn documents_of_a_mebibyte_and_updates_of_as_much() {
    const DOCUMENTS: u64 = 48;
    let lines = |field: &str, seed: u64| -> String {
        let line = |n| format!("{{\"id\":{n},\"{field}\":\"{}\"}}\n", text(1 << 20, seed + n));
        (0..DOCUMENTS).map(line).collect()
    };
    let (update, replacement): (&'static str, &'static str) = (lines("b", 1_000).leak(), lines("c", 2_000).leak());
    let mut dump = Dump::of(Version::V6).task("films", Kind::Update(update)).task("films", Kind::Add(replacement));
    dump.indexes[0].documents = lines("a", 0);
    dump = dump.task("films", Kind::Update("{\"id\":1,\"d\":1}\n")).task("films", Kind::Delete(&["1", "2", "3"]));
    let packed = dump.pack();
    let again = Options { pending: Pending::Skip, ..Options::default() };
    for options in [Options::default(), broadcast(), again] {
        let most = import_of(&packed, &options);
        assert!(most <= MOST_BYTES, "{options:?}: {} MiB", most >> 20);
    }
    // Whatever clears a collection need not hold it.
    let packed = dump.task("films", Kind::Clear).pack();
    let most = import_of(&packed, &Options::default());
    assert!(most <= MOST_BYTES, "{} MiB", most >> 20);
}

#[test]
fn names_are_not_kept_without_end() {
    let name = |n: usize| format!("{n:05}{}", "n".repeat(60_000));
    let members = |path: &dyn Fn(&str) -> String, content: &str| -> Vec<Member> {
        (0..2_000).map(|n| (path(&name(n)), content.as_bytes().to_vec())).collect()
    };
    let document = r#"{"id":1}"#;
    for members in [
        members(&|name| format!("{name}/documents.jsonl"), document),
        members(&|name| format!("indexes/{name}/documents.jsonl"), document),
        members(&|name| format!("indexes/{name}/settings.json"), "{}"),
        members(&|name| format!("tasks/update_files/{name}.jsonl"), document),
        members(&|name| format!("updates/updates_files/{name}"), "{"),
    ] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        std::io::Write::write_all(&mut encoder, &tar(&members)).expect("memory takes it");
        let (text, most) = refused(&encoder.finish().expect("memory takes it"));
        assert!(text.contains("what is to be kept of all members"), "{}", &text[text.len() - 200..]);
        assert!(most <= MOST_BYTES, "{} MiB", most >> 20);
    }
}

#[test]
fn a_uid_map_and_lists_are_not_kept_without_end() {
    let map: String = (0..300_000).map(|n| format!("{{\"uid\":\"u{n}\",\"uuid\":\"{}\"}}\n", text(32, n))).collect();
    let (text, most) = refused(&Dump::of(Version::V6).with("index_uuids/data.jsonl", map).pack());
    assert!(text.contains("what is to be kept"), "{text}");
    assert!(most <= MOST_BYTES, "{} MiB", most >> 20);
    let listed: Vec<String> = (0..200_000).map(|n| format!("{{\"uid\":\"index-{n:09}-{n:09}-{n:09}\"}}")).collect();
    let metadata = format!("{{\"dumpVersion\":\"V1\",\"indexes\":[{}]}}", listed.join(","));
    let (text, most) = refused(&pack(&[("metadata.json".to_owned(), metadata.into_bytes())]));
    assert!(text.contains("what is to be kept"), "{text}");
    assert!(most <= MOST_BYTES, "{} MiB", most >> 20);
}

/// One of many values takes no more than its text.
#[test]
fn small_members_of_many_values_take_what_their_text_takes() {
    let many = |bytes: usize| "0,".repeat(bytes / 2) + "0";
    let settings = format!("{{\"stopWords\":[{}]}}", many(12 << 20));
    for (path, content) in [
        ("network.json", format!("{{\"remotes\":[{}]}}", many(12 << 20))),
        ("experimental-features.json", format!("{{\"a\":[{}]}}", many(12 << 20))),
        ("batches/queue.jsonl", format!("[{}]\n", many(12 << 20))),
    ] {
        let most = import_of(&Dump::of(Version::V6).with(path, content).pack(), &Options::default());
        assert!(most <= MOST_BYTES, "{path}: {} MiB", most >> 20);
    }
    let mut members = Dump::of(Version::V6).members();
    members.iter_mut().find(|(path, _)| path.ends_with("settings.json")).expect("it is required").1 = settings.into();
    let dump = pack(&members);
    let (plan, most) = most_of(|| analyse(&&dump[..], &Options::default(), &mut Silent).expect("a good dump"));
    assert!(most <= MOST_BYTES, "{} MiB for {} indexes", most >> 20, plan.indexes.len());
}

/// A deletion may name millions of documents.
#[test]
fn unfinished_tasks_take_little_more_than_their_text() {
    let ids: Vec<String> = (0..1_000_000).map(|n| n.to_string()).collect();
    let queue = |line: String| {
        let mut members = Dump::of(Version::V6).members();
        members.iter_mut().find(|(path, _)| path == "tasks/queue.jsonl").expect("it is required").1 = line.into();
        gzip(&tar(&members))
    };
    let line = format!(
        r#"{{"uid":1,"indexUid":"films","status":"enqueued","type":{{"documentDeletion":{{"documents_ids":[{}]}}}}}}"#,
        ids.join(",")
    );
    let most = import_of(&queue(line), &Options::default());
    assert!(most <= MOST_BYTES, "{} MiB", most >> 20);
    let clear = |uid: u32| {
        format!("{{\"uid\":{uid},\"indexUid\":\"films\",\"status\":\"enqueued\",\"type\":\"documentClear\"}}\n")
    };
    let (text, most) = refused(&queue((0..200_000).map(clear).collect()));
    assert!(text.contains("bytes of unfinished tasks"), "{text}");
    assert!(most <= MOST_BYTES, "{} MiB", most >> 20);
}
