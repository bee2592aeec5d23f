//! What goes out is a dump like any other.

use miroir_store::dump::export::{Options, export};
use miroir_store::dump::layout::Version;
use miroir_store::dump::plan;
use miroir_store::dump::progress::Silent;
use miroir_store::dump::refusal::DumpError;
use miroir_store::dump::target::embedded::{Embedded, at_once};
use miroir_store::dump::target::{Shape, Target};
use miroir_store::id::{Key, Value as Body};
use miroir_store::router::Request;
use miroir_store::router::scan::ScanPage;
use miroir_store::store::Store;
use miroir_store::wire::{NameRange, StagingAction, StagingReply};
use serde_json::{Value, json};

use crate::build::{DATE, Dump, Index, lines};
use crate::support::Scratch;

fn options() -> Options {
    Options { date: DATE.to_owned(), ..Options::default() }
}

/// The members of a dump by path.
fn members(dump: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(dump));
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("a member");
        let path = entry.path().expect("a path").display().to_string();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
        (path, text)
    });
    entries.collect()
}

fn settings(scratch: &Scratch, uid: &str) -> Value {
    let record: Value = serde_json::from_str(&scratch.collection(".collections")[uid]).expect("a record");
    record["settings"].clone()
}

#[test]
fn an_export_has_the_members_that_a_reader_requires() {
    let scratch = Scratch::new();
    scratch.import(&Dump::of(Version::V6).pack(), &plan::Options::default()).expect("a good dump");
    let members = members(&scratch.export(&options()).expect("an export"));
    let paths: Vec<&str> = members.iter().map(|(path, _)| &path[..]).collect();
    let index = ["metadata.json", "settings.json", "documents.jsonl"].map(|file| format!("indexes/films/{file}"));
    assert_eq!(paths, ["metadata.json", "tasks/queue.jsonl", "keys.jsonl", &index[0], &index[1], &index[2]]);
    let metadata: Value = serde_json::from_str(&members[0].1).expect("JSON");
    assert_eq!((&metadata["dumpVersion"], &metadata["dumpDate"]), (&json!("V6"), &json!(DATE)));
    let index: Value = serde_json::from_str(&members[3].1).expect("JSON");
    assert_eq!(index, json!({"uid": "films", "primaryKey": "id", "createdAt": DATE, "updatedAt": DATE}));
}

#[test]
fn every_version_comes_out_as_v6_and_goes_in_again() {
    for version in Version::ALL {
        let uid: &'static str = "u".repeat(400).leak();
        let long = Index { uid, primary_key: None, settings: json!({"stopWords": ["a"]}), documents: String::new() };
        let mut dump = Dump::of(version).index(long);
        dump.indexes[0].settings = match version {
            Version::V1 => {
                json!({"rankingRules": ["typo", "wordsPosition", "desc(year)"], "attributesForFaceting": ["year"]})
            }
            _ => json!({"rankingRules": ["typo"]}),
        };
        let scratch = Scratch::new();
        scratch.import(&dump.pack(), &plan::Options::default()).expect("a good dump");
        let again = Scratch::new();
        let (plan, _) = again
            .import(&scratch.export(&options()).expect("an export"), &plan::Options::default())
            .expect("it is a dump");
        assert_eq!(plan.version, Version::V6);
        assert_eq!(again.collection("films"), scratch.collection("films"), "{version}");
        let expected = match version {
            Version::V1 => json!({"rankingRules": ["typo", "year:desc"], "filterableAttributes": ["year"]}),
            _ => json!({"rankingRules": ["typo"]}),
        };
        assert_eq!(
            (settings(&again, "films"), settings(&again, uid)),
            (expected, json!({"stopWords": ["a"]})),
            "{version}"
        );
    }
}

#[test]
fn collections_that_were_never_imported_go_out_if_they_can() {
    let scratch = Scratch::new();
    scratch.store().put("shows", "7", b"{\"showId\": 7,\n \"x\": 1.10}").expect("a put");
    scratch.store().put("other", "a", b"{\"name\":\"a\"}").expect("a put");
    let only = |index: &str| Options { index: Some(index.to_owned()), ..options() };
    let error = scratch.export(&options()).expect_err("`other` has no primary key").to_string();
    assert!(error.contains("other/a cannot be exported") && error.contains("--primary-key"), "{error}");
    let again = Scratch::new();
    again.import(&scratch.export(&only("shows")).expect("an export"), &plan::Options::default()).expect("a dump");
    assert_eq!(again.collection("shows")["7"], "{\"showId\": 7,  \"x\": 1.10}");
    let named = Options { primary_key: Some("name".to_owned()), ..only("other") };
    again.import(&scratch.export(&named).expect("an export"), &plan::Options::default()).expect("a dump");
    assert_eq!(again.collection("other").len(), 1);
    assert!(scratch.export(&only("nowhere")).expect_err("there is none").to_string().contains("other, shows"));
    scratch.store().put("shows", "8", b"{\"showId\":9}").expect("a put");
    assert!(scratch.export(&only("shows")).expect_err("it is not 9").to_string().contains("its primary key says `9`"));
    scratch.store().put("shows", "8", b"no JSON").expect("a put");
    assert!(scratch.export(&only("shows")).expect_err("it is no JSON").to_string().contains("shows/8"));
}

#[test]
fn keys_go_out_if_they_are_asked_for() {
    let mut members = Dump::of(Version::V6).members();
    members.iter_mut().find(|(path, _)| path == "keys.jsonl").expect("it is required").1 =
        lines(&[r#"{"uid":"k"}"#]).into();
    let scratch = Scratch::new();
    let with_keys = plan::Options { with_keys: true, ..plan::Options::default() };
    scratch.import(&crate::build::pack(&members), &with_keys).expect("a good dump");
    let keys = |options: &Options| {
        let members = self::members(&scratch.export(options).expect("an export"));
        members.into_iter().find(|(path, _)| path == "keys.jsonl").expect("it is required").1
    };
    assert_eq!(keys(&options()), "");
    assert_eq!(keys(&Options { with_keys: true, ..options() }), "{\"uid\":\"k\"}\n");
}

/// A key of V4 has no uid, and no later version can make its secret of it: it is left out, and counted.
#[test]
fn keys_of_v4_are_left_out_and_counted() {
    let dump = Dump::of(Version::V4).with("keys", lines(&[r#"{"id":[1,2],"actions":["*"]}"#, r#"{"uid":"k"}"#]));
    let scratch = Scratch::new();
    let with_keys = plan::Options { with_keys: true, ..plan::Options::default() };
    scratch.import(&dump.pack(), &with_keys).expect("a good dump");
    let mut out = Vec::new();
    let options = Options { with_keys: true, ..options() };
    let done = at_once(export(&mut Embedded(scratch.store()), &options, &mut out, &mut Silent)).expect("an export");
    assert_eq!((done.keys, done.keys_left_out), (1, 1));
    let members = members(&out);
    assert_eq!(members.iter().find(|(path, _)| path == "keys.jsonl").expect("it is required").1, "{\"uid\":\"k\"}\n");
}

#[test]
fn ranking_rules_of_v2_are_written_as_later_versions_do() {
    let exported = |rules: Value| {
        let mut dump = Dump::of(Version::V2);
        dump.indexes[0].settings = json!({"rankingRules": rules, "sortableAttributes": ["year"]});
        let scratch = Scratch::new();
        scratch.import(&dump.pack(), &plan::Options::default()).expect("a good dump");
        let members = members(&scratch.export(&options()).expect("an export"));
        let (_, text) = members.into_iter().find(|(path, _)| path.ends_with("/settings.json")).expect("it is required");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let expected = json!({"rankingRules": ["words", "year:asc", "rank:desc"], "sortableAttributes": ["year"]});
    assert_eq!(exported(json!(["words", "asc(year)", "desc(rank)"])), expected);
    assert_eq!(exported(json!(["words", "year:asc", "rank:desc"])), expected);
}

/// A store in which somebody writes a document before the `n`th scan.
struct Written<'a> {
    store: &'a Store,
    scans: u32,
    n: u32,
    document: [&'static str; 3],
}

impl Target for Written<'_> {
    async fn shape(&mut self) -> Result<Shape, DumpError> {
        Embedded(self.store).shape().await
    }

    async fn write(&mut self, writes: Vec<Request>) -> Result<(), DumpError> {
        Embedded(self.store).write(writes).await
    }

    async fn read(&mut self, keys: Vec<Key>) -> Result<Vec<Option<Body>>, DumpError> {
        Embedded(self.store).read(keys).await
    }

    async fn scan(&mut self, range: NameRange, documents: u32) -> Result<ScanPage, DumpError> {
        self.scans += 1;
        if self.scans == self.n {
            let [collection, id, body] = self.document;
            self.store.put(collection, id, body.as_bytes())?;
        }
        Embedded(self.store).scan(range, documents).await
    }

    async fn stage(&mut self, node: u32, import: u128, action: StagingAction) -> Result<StagingReply, DumpError> {
        Embedded(self.store).stage(node, import, action).await
    }
}

/// A dump is of one moment: whatever is written while it is made, and whenever, it is in the dump or there is no dump.
#[test]
fn a_dump_of_what_changes_meanwhile_is_none() {
    let (before, after) = (r#"{"id":"a","rank":1}"#, r#"{"id":"a","rank":2}"#);
    for document in [["films", "a", after], ["films", "b", r#"{"id":"b"}"#], ["books", "a", r#"{"id":"a"}"#]] {
        let (mut refused, mut without, mut with) = (0, 0, 0);
        for n in 1..=12 {
            let scratch = Scratch::new();
            scratch.store().put("films", "a", before.as_bytes()).expect("a put");
            let mut target = Written { store: scratch.store(), scans: 0, n, document };
            let mut dump = Vec::new();
            match at_once(export(&mut target, &options(), &mut dump, &mut Silent)) {
                Err(error) => {
                    assert!(error.to_string().contains("changed while it was exported"), "{error}");
                    refused += 1;
                }
                Ok(_) => {
                    let again = Scratch::new();
                    again.import(&dump, &plan::Options::default()).expect("a dump");
                    let [collection, id, body] = document;
                    match again.collection(collection).get(id).map(String::as_str) {
                        Some(found) if found == body => with += 1,
                        _ => without += 1,
                    }
                }
            }
        }
        assert!(
            refused > 0 && with > 0 && without > 0,
            "{document:?}: {refused} refused, {with} with it, {without} without"
        );
    }
}
