//! Dumps of every version go in, whole and once, in both modes.

use std::collections::BTreeMap;

use miroir_store::dump::layout::Version;
use miroir_store::dump::plan::{IfExists, KeySource, Mode, OnConflict, Options, Pending, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::store::Batch;
use serde_json::json;

use crate::build::{Dump, Index, Kind, gzip, lines, tar};
use crate::support::{Scratch, refusal};

fn documents(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(id, body)| ((*id).to_owned(), (*body).to_owned())).collect()
}

fn broadcast() -> Options {
    Options { mode: Some(Mode::Broadcast), ..Options::default() }
}

fn plain() -> BTreeMap<String, String> {
    documents(&[
        ("1", r#"{"id":1,"title":"One","price":1.10}"#),
        ("2", r#"{"id":"2","title":"Two","big":123456789012345678901234567890}"#),
        ("3", r#"{"title":"Three","id":3,"x":1E+2}"#),
    ])
}

#[test]
fn every_version_goes_in_byte_for_byte() {
    for version in Version::ALL {
        for (metadata_last, dot_slash) in [(true, true), (true, false), (false, true), (false, false)] {
            let dump = Dump { metadata_last, dot_slash, ..Dump::of(version) }.pack();
            for options in [Options::default(), broadcast()] {
                let scratch = Scratch::new();
                let (plan, imported) = scratch.import(&dump, &options).expect("a good dump");
                assert_eq!((plan.version, imported.documents), (version, 3));
                assert_eq!(scratch.collection("films"), plain(), "{version}");
                let record = &scratch.collection(".collections")["films"];
                assert!(record.contains(r#""settings":{"rankingRules":["words"]}"#), "{version}: {record}");
                assert!(record.contains(r#""primaryKey":"id""#), "{version}: {record}");
                assert_eq!(plan.losses.phrases(), ["1 finished task"], "{version}");
            }
        }
    }
}

#[test]
fn unfinished_tasks_are_replayed_in_order() {
    for version in Version::ALL.into_iter().filter(|version| *version != Version::V1) {
        let dump = Dump::of(version)
            .task("films", Kind::Add("{\"id\":3,\"title\":\"Drei\"}\n{\"id\":4,\"a\":1.0,\"b\":2}\n"))
            .task("films", Kind::Update("{\"id\":4,\"b\":3}\n{\"id\":5,\"new\":true}\n{\"id\":4,\"c\":4}\n"))
            .task("films", Kind::Delete(&["1", "not an id", "77"]))
            .pack();
        let expected = documents(&[
            ("2", r#"{"id":"2","title":"Two","big":123456789012345678901234567890}"#),
            ("3", r#"{"id":3,"title":"Drei"}"#),
            ("4", r#"{"id":4,"a":1.0,"b":3,"c":4}"#),
            ("5", r#"{"id":5,"new":true}"#),
        ]);
        for options in [Options::default(), broadcast()] {
            let scratch = Scratch::new();
            for _ in 0..2 {
                let (_, imported) = scratch.import(&dump, &options).expect("a good dump");
                assert_eq!(scratch.collection("films"), expected, "{version}");
                assert_eq!(imported.replayed, 3, "{version}");
            }
        }
        let scratch = Scratch::new();
        let skip = Options { pending: Pending::Skip, ..Options::default() };
        let (plan, _) = scratch.import(&dump, &skip).expect("a good dump");
        assert_eq!(scratch.collection("films"), plain(), "{version}");
        let lost = plan.losses.to_string();
        assert!(lost.contains("1 unfinished task `document update`"), "{version}: {lost}");
    }
}

#[test]
fn what_a_v1_dump_does_not_hold_is_said() {
    let dump = Dump::of(Version::V1).task("films", Kind::Add("{\"id\":3}\n")).pack();
    let (plan, _) = Scratch::new().import(&dump, &Options::default()).expect("a good dump");
    assert_eq!(plan.losses.to_string(), "1 enqueued update cannot be recovered and 1 finished task");
    let mut hiding = Dump::of(Version::V1);
    hiding.indexes[0].settings = json!({"displayedAttributes": ["id"]});
    let (plan, _) = Scratch::new().import(&hiding.pack(), &Options::default()).expect("a good dump");
    assert!(plan.losses.to_string().contains("1 index without the fields that were not displayed"));
}

#[test]
fn clearing_creating_and_deleting_indexes() {
    for version in [Version::V4, Version::V5, Version::V6] {
        let dump = Dump::of(version)
            .task("films", Kind::Clear)
            .task("shows", Kind::Create(Some("sku")))
            .task("shows", Kind::Add("{\"sku\":\"a\",\"id\":1}\n"))
            .task("gone", Kind::Create(None))
            .task("gone", Kind::Add("{\"id\":1}\n"))
            .task("gone", Kind::DeleteIndex)
            .task("films", Kind::Settings)
            .pack();
        let scratch = Scratch::new();
        let (plan, _) = scratch.import(&dump, &Options::default()).expect("a good dump");
        assert_eq!(scratch.collection("films"), documents(&[]));
        assert_eq!(scratch.collection("gone"), documents(&[]));
        assert_eq!(scratch.collection("shows"), documents(&[("a", r#"{"sku":"a","id":1}"#)]), "{version}");
        let names: Vec<String> = scratch.collection(".collections").into_keys().collect();
        assert_eq!(names, ["films", "shows"], "{version}");
        assert_eq!(plan.losses.not_replayed.len(), 1, "{version}: settings were going to change");
    }
}

#[test]
fn contents_of_tasks_may_stand_in_any_order_and_size() {
    // Larger than what is kept when it comes too early, last first.
    let large = |id: u32| format!("{{\"id\":{id},\"text\":\"{}\"}}\n", "x".repeat(3 << 20));
    let contents: Vec<&'static str> = (10..14).map(|id| &*large(id).leak()).collect();
    let mut dump = Dump::of(Version::V6);
    for content in &contents {
        dump = dump.task("films", Kind::Add(content));
    }
    dump = dump.task("films", Kind::Update("{\"id\":13,\"text\":\"short\"}\n"));
    let scratch = Scratch::new();
    let (_, imported) = scratch.import(&dump.pack(), &Options::default()).expect("a good dump");
    assert_eq!(imported.replayed, 5);
    let films = scratch.collection("films");
    assert_eq!(films["13"], r#"{"id":13,"text":"short"}"#);
    assert_eq!(films["10"].len(), large(10).len() - 1);
}

#[test]
fn a_primary_key_is_told_inferred_or_asked_for() {
    let key = |dump: Dump, options: &Options| {
        let plan = analyse(&&dump.pack()[..], options, &mut Silent).expect("a good dump");
        plan.indexes[0].primary_key.clone()
    };
    let asked = Options { primary_key: Some("name".to_owned()), ..Options::default() };
    let none = || Dump::of(Version::V6).primary_key(None);
    let given = |key: &str, source| Some((key.to_owned(), source));
    assert_eq!(key(none(), &Options::default()), given("id", KeySource::Inferred));
    assert_eq!(
        key(none().documents(&[r#"{"tmdbID":1,"name":"a"}"#]), &Options::default()),
        given("tmdbID", KeySource::Inferred)
    );
    assert_eq!(key(none().documents(&[r#"{"id":1,"name":"a"}"#]), &asked), given("name", KeySource::Asked));
    assert_eq!(key(none().documents(&[]), &Options::default()), None, "an empty index needs none");
    // The dump knows best, also where the guess would have been another.
    let sku = Dump::of(Version::V6).primary_key(Some("meta.sku")).documents(&[r#"{"id":1,"meta":{"sku":"x"}}"#]);
    let scratch = Scratch::new();
    scratch.import(&sku.pack(), &asked).expect("a good dump");
    assert_eq!(scratch.collection("films"), documents(&[("x", r#"{"id":1,"meta":{"sku":"x"}}"#)]));

    for (document, found) in [(r#"{"name":"a"}"#, "no field"), (r#"{"id":1,"uuid":2}"#, "several fields")] {
        let text = refusal(&none().documents(&[document]).pack(), &Options::default());
        assert!(text.contains(found) && text.contains("`--primary-key FIELD`"), "{text}");
    }
    let both = Dump::of(Version::V6).primary_key(Some("a.b")).documents(&[r#"{"a.b":1,"a":{"b":2}}"#]);
    assert!(refusal(&both.pack(), &Options::default()).contains("more than one field matches"));
}

#[test]
fn reserved_fields_lead_to_broadcast_or_are_stripped_or_refused() {
    let dump = Dump::of(Version::V6)
        .documents(&[r#"{"id":1,"a":1.10}"#, r#"{"id":2,"_miroir_shard":3,"a":2}"#])
        .task("films", Kind::Add("{\"_miroir_x\":1,\"id\":3}\n"))
        .pack();
    let expected = documents(&[("1", r#"{"id":1,"a":1.10}"#), ("2", r#"{"id":2,"a":2}"#), ("3", r#"{"id":3}"#)]);
    for (on_conflict, mode) in [(OnConflict::Fallback, Mode::Broadcast), (OnConflict::Strip, Mode::Streaming)] {
        let options = Options { on_conflict, ..Options::default() };
        let scratch = Scratch::new();
        let (plan, _) = scratch.import(&dump, &options).expect("a good dump");
        assert_eq!((plan.mode, plan.fell_back(&options)), (mode, mode == Mode::Broadcast));
        assert_eq!(plan.conflict.as_ref().map(|it| (&it.field[..], it.documents)), Some(("_miroir_shard", 2)));
        assert_eq!(scratch.collection("films"), expected, "{on_conflict:?}");
    }
    let text = refusal(&dump, &Options { on_conflict: OnConflict::Refuse, ..Options::default() });
    assert!(
        text.contains("line 2: the field `_miroir_shard` is reserved, and 2 documents have such a field"),
        "{text}"
    );
}

/// What importers strip, the ways in that people use refuse.
#[test]
fn a_put_refuses_what_an_import_strips() {
    let scratch = Scratch::new();
    let reserved = br#"{"id":1,"_miroir_shard":3}"#;
    for error in [
        scratch.store().put("films", "1", reserved).expect_err("it is reserved"),
        Batch::new().put("films", "1", reserved).map(drop).expect_err("it is reserved"),
        scratch.store().collection("films").expect("a name").put("1", reserved).expect_err("it is reserved"),
    ] {
        assert!(error.to_string().contains("the field `_miroir_shard` is reserved"), "{error}");
    }
    assert!(scratch.is_empty());
    for body in [&br#"{"id":1,"a":{"_miroir_shard":3}}"#[..], b"_miroir_shard, which is no JSON"] {
        scratch.store().put("films", "1", body).expect("nothing of it is a field of the document");
    }
}

#[test]
fn what_is_there_is_overwritten_kept_or_reported() {
    let dump = Dump::of(Version::V6).pack();
    let with = |if_exists| Options { if_exists, ..Options::default() };
    let mine = r#"{"mine":true}"#;
    let scratch = Scratch::new();
    scratch.store().put("films", "2", mine.as_bytes()).expect("a put");
    let error = scratch.import(&dump, &with(IfExists::Fail)).expect_err("something else is there").to_string();
    assert!(error.contains("films/2 is there with other content"), "{error}");
    assert_eq!(scratch.store().stats().expect("counts").documents, 1, "nothing was written");
    // What is kept of an index besides its documents is there the second time as well, and is none of them.
    for (mode, skipped) in [(Mode::Streaming, 1), (Mode::Broadcast, 3)] {
        let options = Options { mode: Some(mode), ..with(IfExists::Skip) };
        let (_, imported) = scratch.import(&dump, &options).expect("a good dump");
        assert_eq!((imported.documents, imported.skipped), (3 - skipped, skipped));
        assert_eq!(scratch.collection("films")["2"], mine);
        assert_eq!(scratch.collection("films").len(), 3);
    }
    scratch.import(&dump, &Options::default()).expect("a good dump");
    assert_eq!(scratch.collection("films"), plain());
    scratch.import(&dump, &with(IfExists::Fail)).expect("the same content is no conflict");
    let pending = Dump::of(Version::V6).task("films", Kind::Clear).pack();
    assert!(refusal(&pending, &with(IfExists::Skip)).contains("`--pending skip`"));
}

#[test]
fn one_index_of_several() {
    let shows =
        Index { uid: "shows", primary_key: Some("id"), settings: json!({}), documents: lines(&[r#"{"id":1}"#]) };
    // What is not wanted may be as wrong as it likes.
    let mut dump = Dump::of(Version::V6).index(shows);
    dump.indexes[0].documents = lines(&[r#"{"id":1.5}"#]);
    let only = |uid: &str| Options { index: Some(uid.to_owned()), ..Options::default() };
    let scratch = Scratch::new();
    scratch.import(&dump.pack(), &only("shows")).expect("a good index");
    assert_eq!(scratch.collection("shows").len(), 1);
    assert!(scratch.collection("films").is_empty());
    assert!(refusal(&dump.pack(), &only("nowhere")).contains("it has films, shows"));
}

#[test]
fn keys_are_kept_only_if_they_are_asked_for() {
    let mut members = Dump::of(Version::V6).members();
    members.iter_mut().find(|(path, _)| path == "keys.jsonl").expect("it is required").1 =
        b"{\"uid\":\"secret\"}\n".to_vec();
    let dump = crate::build::pack(&members);
    let scratch = Scratch::new();
    let (plan, _) = scratch.import(&dump, &Options::default()).expect("a good dump");
    assert_eq!(plan.losses.counts.keys, 1);
    assert!(!format!("{plan:?}").contains("secret"));
    assert!(scratch.collection(".keys").is_empty());
    let (plan, _) = scratch.import(&dump, &Options { with_keys: true, ..Options::default() }).expect("a good dump");
    assert_eq!((plan.losses.counts.keys, scratch.collection(".keys").len()), (0, 1));
}

#[test]
fn odd_but_legitimate_dumps_go_in() {
    // Windows line ends, blank lines, no last line end, blanks around a document.
    let mut dump = Dump::of(Version::V6);
    dump.indexes[0].documents = " {\"id\":1} \r\n\r\n\n{\"id\":2}\r\n{\"id\":3}".to_owned();
    // Names longer than a header has room for, members of other programs, an internal index, several gzip members.
    let uid: &'static str = "u".repeat(400).leak();
    let long = Index { uid, primary_key: Some("id"), settings: json!({}), documents: lines(&[r#"{"id":1}"#]) };
    let dump = dump
        .index(long)
        .with("._metadata.json", b"\x00\x05")
        .with("indexes/films-folder/._documents.jsonl", b"\x00\x05")
        .with("some/other/member", b"x")
        .with("indexes/.meili_dsr/documents.jsonl", b"{}");
    let plain = tar(&dump.members());
    let packed = [gzip(&plain[..1_000]), gzip(&plain[1_000..])].concat();
    let scratch = Scratch::new();
    let (plan, _) = scratch.import(&packed, &Options::default()).expect("a good dump");
    assert_eq!(
        scratch.collection("films"),
        documents(&[("1", r#"{"id":1}"#), ("2", r#"{"id":2}"#), ("3", r#"{"id":3}"#)])
    );
    assert_eq!(scratch.collection(uid).len(), 1);
    assert_eq!(plan.losses.counts.internal_indexes, 1);
}
