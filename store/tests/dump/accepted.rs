//! Whatever analysing accepts, importing never refuses: once something is written, no refusal can be taken back.

use std::cell::Cell;
use std::io::{self, Read};

use miroir_store::dump::import::import;
use miroir_store::dump::layout::Version;
use miroir_store::dump::limits::Limits;
use miroir_store::dump::plan::{Mode, OnConflict, Options, Pending, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::refusal::DumpError;
use miroir_store::dump::survey::Source;
use miroir_store::dump::target::embedded::{Embedded, at_once};
use miroir_store::id::MAX_VALUE_BYTES;
use proptest::prelude::*;
use serde_json::json;

use crate::build::{Dump, Kind, Member, pack};
use crate::support::{Scratch, refusal};

/// The settings of an index and what is kept with them are a document, which may not be larger than any other.
#[test]
fn settings_that_leave_no_room_for_what_is_kept_with_them_are_refused_at_once() {
    for version in [Version::V1, Version::V4, Version::V6] {
        let with = |bytes: usize| {
            let mut dump = Dump::of(version);
            dump.indexes[0].settings = json!({ "stopWords": ["a".repeat(bytes)] });
            dump.pack()
        };
        let scratch = Scratch::new();
        scratch.import(&with(1), &Options::default()).expect("a good dump");
        let least = scratch.collection(".collections")["films"].len() - 1;
        let most = MAX_VALUE_BYTES - least;
        scratch.import(&with(most), &Options::default()).expect("it just fits");
        assert_eq!(scratch.collection(".collections")["films"].len(), MAX_VALUE_BYTES);
        let text = refusal(&with(most + 1), &Options::default());
        assert!(text.contains("the settings of `films` and what is kept with them take 16777217 bytes"), "{text}");
    }
}

fn replaced(dump: &Dump, path: &str, changes: &[(&str, &str)]) -> Vec<u8> {
    let mut members = dump.members();
    let (_, content) = members.iter_mut().find(|(member, _)| member.ends_with(path)).expect("the member");
    let mut text = String::from_utf8(content.clone()).expect("text");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replacen(from, to, 1);
    }
    *content = text.into_bytes();
    pack(&members)
}

#[test]
fn a_field_that_is_there_twice_is_refused_at_once() {
    for version in [Version::V2, Version::V3, Version::V4, Version::V5] {
        for (from, to) in
            [(r#""settings":"#, r#""settings":{},"settings":"#), ("primary_key", "primary_key\":1,\"primary_key")]
        {
            let text = refusal(&replaced(&Dump::of(version), "meta.json", &[(from, to)]), &Options::default());
            assert!(text.contains("/meta.json: not what such a member says"), "{text}");
        }
    }
}

#[test]
fn documents_of_two_unfinished_tasks_have_one_primary_key() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let documents = "{\"id\":7,\"sku\":\"a b\"}\n";
        let dump = Dump::of(version).task("films", Kind::Add(documents)).task("films", Kind::Add(documents));
        let twice = replaced(&dump, "updates/data.jsonl", &[("content-1", "content-2")]);
        let scratch = Scratch::new();
        let (_, imported) = scratch.import(&twice, &Options::default()).expect("the same documents twice");
        assert_eq!((imported.replayed, scratch.collection("films").len()), (2, 4), "{version}");
    }
    // V4's queue begins with the newest task.
    let dump = Dump::of(Version::V5)
        .task("films", Kind::Add("{\"id\":7,\"sku\":\"a b\"}\n"))
        .task("shows", Kind::Add("{\"id\":7,\"sku\":\"a b\"}\n"));
    let queue = [("content-2", "content-1"), ("\"primary_key\":null", "\"primary_key\":\"sku\"")];
    let text = refusal(&replaced(&dump, "updates/data.jsonl", &queue), &Options::default());
    assert!(text.contains("content-1: two unfinished tasks take these documents"), "{text}");
}

/// A file that is replaced once it has been analysed.
struct Replaced<'a> {
    first: &'a [u8],
    then: &'a [u8],
    openings: Cell<u32>,
}

impl Source for Replaced<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        self.openings.set(self.openings.get() + 1);
        Ok(Box::new(if self.openings.get() == 1 { self.first } else { self.then }))
    }

    fn bytes(&self) -> u64 {
        self.first.len() as u64
    }
}

#[test]
fn what_fails_after_the_first_write_says_so() {
    let of = |documents: &[&str]| Dump::of(Version::V6).documents(documents).pack();
    let first = of(&[r#"{"id":1}"#, r#"{"id":2}"#]);
    let limits = Limits { batch_documents: 1, ..Limits::default() };
    for mode in [Mode::Streaming, Mode::Broadcast] {
        let options = Options { mode: Some(mode), limits, ..Options::default() };
        for (then, reason, is_written) in [
            (of(&[r#"{"id":1}"#, r#"{"id":2.5}"#]), "the id is a number", true),
            (of(&[r#"{"id":1}"#, r#"{"id":3}"#]), "the dump has changed since it was analysed", true),
            (of(&[r#"{"id":1.5}"#]), "the id is a number", mode == Mode::Broadcast),
            (b"PK".to_vec(), "does not begin like a gzip file", mode == Mode::Broadcast),
        ] {
            let scratch = Scratch::new();
            let source = Replaced { first: &first, then: &then, openings: Cell::new(0) };
            let plan = analyse(&source, &options, &mut Silent).expect("a good dump");
            let mut target = Embedded(scratch.store());
            let error = at_once(import(&source, &plan, &options, &mut target, &mut Silent)).expect_err("it changed");
            let text = error.to_string();
            assert!(text.contains(reason) && text.ends_with("compatibility-matrix.md"), "{text}");
            assert_eq!(matches!(error, DumpError::Incomplete(_)), is_written, "{mode}: {text}");
            assert_eq!(text.contains("the import had begun"), is_written, "{text}");
            assert_eq!(text.contains("run it again"), is_written, "{text}");
            assert!(is_written || (text.contains("nothing was written") && scratch.is_empty()), "{text}");
            scratch.import(&first, &options).expect("the right file completes");
        }
    }
}

/// How long a document gets is known only when it is put together.
#[test]
fn an_update_that_makes_a_document_too_long_ends_an_import_that_has_begun() {
    let half = |id: &str, field: &str| format!(r#"{{"id":{id},"{field}":"{}"}}"#, "x".repeat(9 << 20));
    let update: &'static str = format!("{}\n", half("1", "b")).leak();
    let dump = Dump::of(Version::V6).documents(&[&half("1", "a")]).task("films", Kind::Update(update)).pack();
    let scratch = Scratch::new();
    let error = scratch.import(&dump, &Options::default()).expect_err("18 MiB are too many");
    assert!(matches!(error, DumpError::Incomplete(_)) && error.to_string().contains("`--pending skip`"), "{error}");
    scratch.import(&dump, &Options { pending: Pending::Skip, ..Options::default() }).expect("without it");
    // Documents of more fields than an index can have.
    let fields: Vec<String> = (0..65_536).map(|n| format!("\"f{n}\":1")).collect();
    let text = refusal(
        &Dump::of(Version::V6).documents(&[&format!(r#"{{"id":1,{}}}"#, fields.join(","))]).pack(),
        &Options::default(),
    );
    assert!(text.contains("line 1: 65537 fields; allowed are 65536"), "{text}");
}

/// Parts of members, and what may stand there instead.
const TOKENS: &[(&str, &str)] = &[
    ("\"id\"", "\"sku\""),
    ("\"id\"", "\"id\":1,\"id\""),
    ("\"settings\"", "\"settings\":{},\"settings\""),
    ("{", "["),
    ("}", "},"),
    ("}", "}\n"),
    (":", ":null,\"x\":"),
    ("null", "\"sku\""),
    ("null", "\"id\""),
    ("content-1", "content-2"),
    ("films", "shows"),
    ("uuid", "uid"),
    ("1", "1.5"),
    ("2", "-0"),
    ("\"title\"", "\"_miroir_title\""),
    ("enqueued", "succeeded"),
    ("succeeded", "processing"),
    ("ReplaceDocuments", "UpdateDocuments"),
    ("V", "v"),
    ("documents_count\":1", "documents_count\":0"),
];

/// Members that belong to one version or another.
const STRAYS: &[(&str, &str)] = &[
    ("updates/data.jsonl", r#"{"id":9,"index_uid":"films","content":"IndexDeletion","events":[]}"#),
    ("tasks/queue.jsonl", r#"{"uid":9,"indexUid":"films","status":"enqueued","type":"documentClear"}"#),
    ("keys", r#"{"id":[1,2]}"#),
    ("keys.jsonl", r#"{"uid":"k"}"#),
    ("x/documents.jsonl", r#"{"id":1}"#),
    ("x/settings.json", "{}"),
    ("x/updates.jsonl", r#"{"status":"enqueued","updateId":1,"type":{}}"#),
    ("indexes/films-folder/meta.json", r#"{"settings":{},"primary_key":"title"}"#),
    ("indexes/uuid-films/settings.json", r#"{"a":1}"#),
    ("indexes/uuid-films/metadata.json", r#"{"uid":"films"}"#),
    ("indexes/other/documents.jsonl", r#"{"id":1}"#),
    ("tasks/update_files/1.jsonl", r#"{"id":50,"sku":"a"}"#),
    ("updates/updates_files/content-1", r#"{"id":"51"}"#),
    ("updates/update_files/update_content-1", r#"[{"id":52}]"#),
    ("network.json", "[]"),
];

fn task(kind: usize) -> Kind {
    match kind {
        0 | 1 => Kind::Add("{\"id\":7,\"sku\":\"a\"}\n{\"id\":8,\"sku\":\"b\"}\n"),
        2 => Kind::Update("{\"id\":7,\"x\":1}\n{\"id\":1,\"_miroir_x\":1}\n"),
        3 => Kind::Delete(&["1", "a b", "7"]),
        4 => Kind::Clear,
        5 => Kind::Create(Some("sku")),
        6 => Kind::DeleteIndex,
        _ => Kind::Settings,
    }
}

/// Changes the `nth` place where something of `TOKENS` stands.
fn change(members: &mut [Member], member: &prop::sample::Index, token: usize, nth: usize) {
    let (_, content) = &mut members[member.index(members.len())];
    let (from, to) = TOKENS[token];
    let Ok(text) = String::from_utf8(content.clone()) else { return };
    let places: Vec<usize> = text.match_indices(from).map(|(place, _)| place).collect();
    if let Some(place) = places.get(nth % places.len().max(1)) {
        *content = format!("{}{to}{}", &text[..*place], &text[*place + from.len()..]).into_bytes();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_goes_in(
        version in 0..6usize,
        tasks in prop::collection::vec((0..8usize, any::<bool>()), 0..5),
        strays in prop::collection::vec(0..STRAYS.len(), 0..3),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..TOKENS.len(), any::<usize>()), 0..3),
        (metadata_last, with_keys, is_broadcast, strips, asks) in any::<(bool, bool, bool, bool, bool)>(),
    ) {
        let mut dump = Dump { metadata_last, ..Dump::of(Version::ALL[version]) };
        for (kind, is_new) in tasks {
            dump = dump.task(if is_new { "shows" } else { "films" }, task(kind));
        }
        let mut members = dump.members();
        for stray in strays {
            let (path, content) = STRAYS[stray];
            if !members.iter().any(|(member, _)| member == path) {
                members.push((path.to_owned(), content.as_bytes().to_vec()));
            }
        }
        for (member, token, nth) in changes {
            change(&mut members, &member, token, nth);
        }
        let packed = pack(&members);
        let options = Options {
            mode: is_broadcast.then_some(Mode::Broadcast),
            on_conflict: if strips { OnConflict::Strip } else { OnConflict::Fallback },
            primary_key: asks.then(|| "title".to_owned()),
            with_keys,
            limits: Limits { batch_documents: 2, ..Limits::default() },
            ..Options::default()
        };
        if analyse(&&packed[..], &options, &mut Silent).is_ok() {
            let scratch = Scratch::new();
            let imported = scratch.import(&packed, &options);
            prop_assert!(imported.is_ok(), "{}", imported.expect_err("it was not taken"));
        }
    }
}
