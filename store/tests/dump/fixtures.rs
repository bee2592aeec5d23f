//! The real dumps, where they are: the folder that `MIROIR_DUMPS` names, or `../shared/dumps` beside the project. What is
//! not there is counted and said.

use std::io::Write as _;
use std::path::PathBuf;

use miroir_store::dump::export;
use miroir_store::dump::plan::{KeySource, Mode, Options, Pending, Step, analyse};
use miroir_store::dump::progress::Silent;

use serde_json::Value;

use crate::support::{Scratch, refusal};

/// A dump, how it is to go in, how many documents each collection has before and after unfinished tasks are replayed, and
/// what is lost.
struct Row {
    file: &'static str,
    mode: Mode,
    documents: &'static [(&'static str, usize, usize)],
    losses: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        file: "real/dumpcrate__v1.dump",
        mode: Mode::Streaming,
        documents: &[("dnd_spells", 10, 10), ("movies", 10, 10), ("products", 10, 10)],
        losses: &["1 enqueued update cannot be recovered", "9 finished tasks"],
    },
    Row {
        file: "real/dumpcrate__v2-v0.22.0.dump",
        mode: Mode::Streaming,
        documents: &[("dnd_spells", 10, 10), ("movies", 10, 10), ("products", 10, 10)],
        losses: &["8 finished tasks"],
    },
    Row {
        file: "real/dumpcrate__v3.dump",
        mode: Mode::Streaming,
        documents: &[("dnd_spells", 10, 10), ("movies", 110, 110), ("movies_2", 0, 200), ("products", 10, 10)],
        losses: &["9 finished tasks"],
    },
    Row {
        file: "real/dumpcrate__v4.dump",
        mode: Mode::Streaming,
        documents: &[("dnd_spells", 10, 10), ("movies", 110, 110), ("movies_2", 0, 200), ("products", 10, 10)],
        losses: &["9 finished tasks", "2 keys"],
    },
    Row {
        file: "real/dumpcrate__v6-with-experimental.dump",
        mode: Mode::Streaming,
        documents: &[("test", 1, 1)],
        losses: &["2 finished tasks", "2 keys", "1 experimental feature"],
    },
    Row {
        file: "real/meili__v6_v1.13.0_batches_and_enqueued_tasks.dump",
        mode: Mode::Streaming,
        documents: &[("kefir", 1, 2)],
        losses: &["2 batches", "3 finished tasks", "2 keys"],
    },
    Row {
        file: "synthetic/s01_shard_conflict_miroir_made.dump",
        mode: Mode::Broadcast,
        documents: &[("movies", 200, 200)],
        losses: &["1 key"],
    },
    Row {
        file: "synthetic/s03_v1_30_vectorstore_null_and_chat.dump",
        mode: Mode::Streaming,
        documents: &[("movies", 20, 20)],
        losses: &["1 key"],
    },
    Row {
        file: "synthetic/s05_pk_null_with_documents.dump",
        mode: Mode::Streaming,
        documents: &[("movies", 12, 12)],
        losses: &["1 key"],
    },
    Row {
        file: "synthetic/s06_enqueued_update_for_new_index.dump",
        mode: Mode::Streaming,
        documents: &[("movies", 5, 5), ("shows", 0, 3)],
        losses: &["1 finished task", "1 key"],
    },
];

/// What is refused, and why.
const REFUSED: &[(&str, &str)] = &[
    ("synthetic/s02_truncated_gzip.dump", "truncated"),
    ("synthetic/s04_snapshot_not_dump.snapshot", "a snapshot, not a dump; restore it in Meilisearch and create a dump"),
];

/// The content of a fixture; `None` if it is not there.
#[expect(clippy::disallowed_methods, reason = "fixtures lie outside of the project")]
pub fn fixture(file: &str) -> Option<Vec<u8>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/dumps");
    let folder = std::env::var_os("MIROIR_DUMPS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    std::fs::read(folder.join(file)).ok()
}

/// Says how many real dumps there were.
fn say(read: usize, of: usize) {
    // Not `println!`, which a passing test keeps to itself.
    let skipped = of - read;
    writeln!(
        std::io::stdout(),
        "tried: {read} real dumps, {skipped} skipped: not in the folder that MIROIR_DUMPS names"
    )
    .expect("somebody listens");
}

/// Everything in a store that the dump has put there.
fn contents(scratch: &Scratch, row: &Row) -> Vec<(String, String, String)> {
    let names = row.documents.iter().map(|(name, ..)| *name).chain([".collections"]);
    let mut found = Vec::new();
    for name in names {
        found.extend(scratch.collection(name).into_iter().map(|(id, body)| (name.to_owned(), id, body)));
    }
    found
}

#[test]
fn every_fixture_goes_in_as_the_table_says() {
    let mut read = 0;
    for row in ROWS {
        let Some(dump) = fixture(row.file) else { continue };
        read += 1;
        let scratch = Scratch::new();
        let (plan, imported) = scratch.import(&dump, &Options::default()).expect(row.file);
        assert_eq!(plan.mode, row.mode, "{}", row.file);
        for (collection, _, documents) in row.documents {
            assert_eq!(scratch.collection(collection).len(), *documents, "{} {collection}", row.file);
        }
        let before = Scratch::new();
        before.import(&dump, &Options { pending: Pending::Skip, ..Options::default() }).expect(row.file);
        for (collection, documents, _) in row.documents {
            assert_eq!(before.collection(collection).len(), *documents, "{} {collection} before", row.file);
        }
        assert_eq!(plan.indexes.len(), row.documents.len(), "{}", row.file);
        assert_eq!(plan.losses.phrases(), row.losses, "{}", row.file);
        assert_eq!(imported.documents, plan.documents(), "{}", row.file);
        for body in row.documents.iter().flat_map(|(name, ..)| scratch.collection(name).into_values()) {
            assert!(!body.contains("_miroir_"), "{}: {body}", row.file);
        }

        // Again: nothing changes.
        let before = contents(&scratch, row);
        scratch.import(&dump, &Options::default()).expect(row.file);
        assert_eq!(contents(&scratch, row), before, "{}", row.file);

        // Broadcast: the same end, and nothing of the staging is left.
        let other = Scratch::new();
        let broadcast = Options { mode: Some(Mode::Broadcast), ..Options::default() };
        let (plan, _) = other.import(&dump, &broadcast).expect(row.file);
        assert_eq!(plan.mode, Mode::Broadcast);
        assert_eq!(contents(&other, row), before, "{}", row.file);
        assert!(!other.files().iter().any(|name| name.starts_with("staging")), "{:?}", other.files());

        // Out, and in again: the same documents.
        let options = export::Options { date: "2024-01-01T00:00:00Z".to_owned(), ..export::Options::default() };
        let exported = scratch.export(&options).expect(row.file);
        let again = Scratch::new();
        let (plan, imported) = again.import(&exported, &Options::default()).expect(row.file);
        assert_eq!((plan.mode, plan.losses.is_empty(), imported.replayed), (Mode::Streaming, true, 0), "{}", row.file);
        for (collection, ..) in row.documents {
            assert_eq!(again.collection(collection), scratch.collection(collection), "{} {collection}", row.file);
        }
    }
    for (file, reason) in REFUSED {
        let Some(dump) = fixture(file) else { continue };
        read += 1;
        let text = refusal(&dump, &Options::default());
        assert!(text.contains(reason), "{file}: {text}");
    }
    say(read, ROWS.len() + REFUSED.len());
}

/// The members of a dump, in their order.
fn members(dump: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(dump));
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("a member");
        let path = entry.path().expect("a path").display().to_string();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
        (path.trim_start_matches("./").to_owned(), text)
    });
    entries.collect()
}

#[test]
fn fixtures_tell_what_they_are_known_for() {
    if let Some(dump) = fixture("real/dumpcrate__v1.dump") {
        let scratch = Scratch::new();
        let (plan, _) = scratch.import(&dump, &Options::default()).expect("V1");
        let products = plan.indexes.iter().find(|index| index.uid == "products").expect("it is there");
        assert_eq!(products.primary_key, Some(("sku".to_owned(), KeySource::Dump)));
        for (id, body) in scratch.collection("products") {
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(body["sku"].as_u64().expect("an integer").to_string(), id);
        }
    }
    if let Some(dump) = fixture("real/dumpcrate__v2-v0.22.0.dump") {
        assert_eq!(members(&dump).last().expect("a member").0, "metadata.json", "the version stands last");
    }
    if let Some(dump) = fixture("real/dumpcrate__v4.dump") {
        let plan = analyse(&&dump[..], &Options::default(), &mut Silent).expect("V4");
        let created = plan.indexes.iter().find(|index| index.uid == "movies_2").expect("it is planned");
        assert_eq!((&created.folder, created.documents, created.pending_documents), (&None, 0, 200));
        let steps: Vec<&Step> = plan.steps.iter().collect();
        let [Step::Create { uid }, Step::Add { uid: same, .. }] = steps[..] else { panic!("{steps:?}") };
        assert_eq!((&uid[..], &same[..]), ("movies_2", "movies_2"));
        // Skipped, it creates nothing.
        let scratch = Scratch::new();
        scratch.import(&dump, &Options { pending: Pending::Skip, ..Options::default() }).expect("V4");
        assert!(!scratch.collection(".collections").contains_key("movies_2"));
    }
    if let Some(dump) = fixture("synthetic/s05_pk_null_with_documents.dump") {
        let plan = analyse(&&dump[..], &Options::default(), &mut Silent).expect("s05");
        assert_eq!(plan.indexes[0].primary_key, Some(("id".to_owned(), KeySource::Inferred)));
    }
    if let Some(dump) = fixture("synthetic/s03_v1_30_vectorstore_null_and_chat.dump") {
        let scratch = Scratch::new();
        scratch.import(&dump, &Options::default()).expect("s03");
        let record = &scratch.collection(".collections")["movies"];
        let members = members(&dump);
        let (_, settings) =
            members.iter().find(|(path, _)| path == "indexes/movies/settings.json").expect("it is there");
        assert!(record.ends_with(&format!("\"settings\":{settings}}}")), "as they are: {record}");
        assert!(record.contains(r#""vectorStore":null"#) && record.contains(r#""chat":{"#), "{record}");
    }
}
