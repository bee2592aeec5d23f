//! The compatibility matrix: a table of variants that are imported here, in both modes, and what was seen.
//!
//! `docs/dump-import/compatibility-matrix.md` is made of it and compared with it, so that no row claims what was not
//! observed. `MIROIR_BLESS=1 cargo test -p miroir-store --test dump matrix` writes it anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use miroir_store::dump::layout::Version;
use miroir_store::dump::limits;
use miroir_store::dump::plan::{IfExists, Mode, OnConflict, Options, Pending, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::refusal::DumpError;
use miroir_store::dump::report;
use miroir_store::dump::target::Shape;
use serde_json::json;

use crate::build::{Dump, Index, Kind, gzip, header, lines, pack, tar};
use crate::support::Scratch;

/// A kind of dump, and what one asks for.
struct Variant {
    name: String,
    dump: Vec<u8>,
    options: Options,
    /// A document of the same id, and other content, is in the store before.
    occupied: bool,
    workaround: &'static str,
}

fn variant(name: impl Into<String>, dump: Vec<u8>, workaround: &'static str) -> Variant {
    Variant { name: name.into(), dump, options: Options::default(), occupied: false, workaround }
}

impl Variant {
    fn asking(mut self, options: Options) -> Variant {
        self.options = options;
        self
    }

    fn occupied(mut self) -> Variant {
        self.occupied = true;
        self
    }

    /// What happens, and what is lost.
    fn observe(&self, mode: Mode) -> (String, String) {
        let scratch = Scratch::new();
        if self.occupied {
            scratch.store().put("films", "2", b"{\"id\":2,\"mine\":true}").expect("a put");
        }
        let options = Options { mode: Some(mode), ..self.options.clone() };
        match scratch.import(&self.dump, &options) {
            Ok((plan, imported)) => {
                let documents: usize = plan.indexes.iter().map(|index| scratch.collection(&index.uid).len()).sum();
                let mut text = if plan.mode == mode { String::new() } else { format!("{}: ", plan.mode) };
                let _ = write!(text, "{documents} documents");
                if imported.replayed > 0 {
                    let _ = write!(text, " after {} steps of unfinished tasks", imported.replayed);
                }
                if imported.skipped > 0 {
                    let _ = write!(text, ", {} kept as they were", imported.skipped);
                }
                let bodies = plan.indexes.iter().flat_map(|index| scratch.collection(&index.uid).into_values());
                for body in bodies {
                    let body: serde_json::Map<_, _> = serde_json::from_str(&body).expect("an object");
                    assert!(!body.keys().any(|name| name.starts_with("_miroir_")), "{}", self.name);
                }
                (text, plan.losses.to_string())
            }
            Err(DumpError::Refused(refusal)) => {
                assert_eq!(
                    scratch.store().stats().expect("counts").documents,
                    u64::from(self.occupied),
                    "{}",
                    self.name
                );
                (format!("refused: {refusal}"), "-".to_owned())
            }
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    fn row(&self) -> String {
        let (streaming, losses) = self.observe(Mode::Streaming);
        let (broadcast, same) = self.observe(Mode::Broadcast);
        assert_eq!(losses, same, "{}: what is lost does not depend on the mode", self.name);
        let broadcast = if broadcast == streaming { "the same".to_owned() } else { broadcast };
        let cells = [&self.name[..], &streaming, &broadcast, &losses, self.workaround];
        format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    }
}

const NONE: &str = "-";

/// Dumps as Meilisearch writes them.
fn whole() -> Vec<Variant> {
    let mut variants = Vec::new();
    for version in Version::ALL {
        variants.push(variant(format!("{version}"), Dump::of(version).pack(), NONE));
    }
    for version in Version::ALL {
        let dump = Dump::of(version)
            .task("films", Kind::Add("{\"id\":4}\n"))
            .task("films", Kind::Update("{\"id\":4,\"a\":1}\n"))
            .task("films", Kind::Delete(&["1"]));
        let workaround = match version {
            Version::V1 => "let Meilisearch finish its updates, then create another dump",
            _ => "`--pending skip` leaves them out",
        };
        variants.push(variant(format!("{version} with unfinished tasks"), dump.pack(), workaround));
    }
    let skipped = Dump::of(Version::V6).task("films", Kind::Add("{\"id\":4}\n")).pack();
    variants.push(
        variant("V6 with unfinished tasks, `--pending skip`", skipped, "`--pending replay`")
            .asking(Options { pending: Pending::Skip, ..Options::default() }),
    );
    let created = Dump::of(Version::V6).task("shows", Kind::Create(None)).task("shows", Kind::Add("{\"id\":1}\n"));
    variants.push(variant("V6, an index that only an unfinished task creates", created.pack(), NONE));
    let other = Dump::of(Version::V6).task("films", Kind::Settings).pack();
    variants.push(variant(
        "V6 with an unfinished change of settings",
        other,
        "let Meilisearch finish it, then create another dump",
    ));
    let mut hidden = Dump::of(Version::V1);
    hidden.indexes[0].settings = json!({"displayedAttributes": ["id"]});
    variants.push(variant(
        "V1 with fields that are not displayed",
        hidden.pack(),
        "display all fields in Meilisearch, then create another dump",
    ));
    let more = Dump::of(Version::V6)
        .with("batches/queue.jsonl", "{}\n{}\n")
        .with("experimental-features.json", r#"{"a":true,"b":false}"#)
        .with("network.json", r#"{"remotes":{"x":{}}}"#)
        .with("webhooks.json", r#"{"webhooks":{"x":{}}}"#)
        .with("chat-completions-settings/x.json", "{}")
        .with("dynamic-search-rules/x.json", "{}")
        .with("indexes/.meili_dsr/documents.jsonl", "{}\n");
    variants.push(variant("V6 with everything that is optional", more.pack(), "set these up anew"));
    let key = "keep keys with `--with-keys`";
    let plain = tar(&Dump::of(Version::V6).members());
    let (first, second) = plain.split_at(plain.len() / 2);
    variants.push(variant("several gzip members in one file", [gzip(first), gzip(second)].concat(), NONE));
    let apple = Dump::of(Version::V6)
        .with("._metadata.json", b"\x00\x05\x16\x07")
        .with("indexes/films-folder/._documents.jsonl", b"\x00\x05\x16\x07");
    variants.push(variant("AppleDouble files (`._*`)", apple.pack(), NONE));
    let foreign = Dump::of(Version::V6).with("some/other/member", "x").with("updates/data.jsonl", "no task");
    variants.push(variant("V6 with unknown members, and with members of other versions", foreign.pack(), NONE));
    let uid: &'static str = "u".repeat(400).leak();
    let long = Index { uid, primary_key: Some("id"), settings: json!({}), documents: lines(&[r#"{"id":1}"#]) };
    variants.push(variant("a second index, whose uid has 400 bytes", Dump::of(Version::V6).index(long).pack(), NONE));
    variants.push(variant("V6 with keys", with_keys(), key));
    variants.push(
        variant("V6 with keys, `--with-keys`", with_keys(), NONE)
            .asking(Options { with_keys: true, ..Options::default() }),
    );
    variants
}

fn with_keys() -> Vec<u8> {
    let mut members = Dump::of(Version::V6).members();
    members.iter_mut().find(|(path, _)| path == "keys.jsonl").expect("it is required").1 =
        b"{\"uid\":\"k\"}\n".to_vec();
    pack(&members)
}

/// Primary keys, ids, and documents of all kinds.
fn documents() -> Vec<Variant> {
    let of = |documents: &[&str]| Dump::of(Version::V6).documents(documents);
    let asked = Options { primary_key: Some("name".to_owned()), ..Options::default() };
    let name = "name it with `--primary-key FIELD`";
    vec![
        variant(
            "numbers of any length and form",
            of(&[r#"{"id":1,"a":1.10,"b":1E+2,"c":123456789012345678901}"#]).pack(),
            NONE,
        ),
        variant("Windows line ends, blank lines, no last line end", odd_lines(), NONE),
        variant("`7` and `\"7\"`", of(&[r#"{"id":7}"#, r#"{"id":"7"}"#]).pack(), NONE),
        variant("no primary key, no documents", of(&[]).primary_key(None).pack(), NONE),
        variant("no primary key, one field ends with `id`", of(&[r#"{"tmdbID":1}"#]).primary_key(None).pack(), NONE),
        variant("no primary key, no field ends with `id`", of(&[r#"{"name":"a"}"#]).primary_key(None).pack(), name),
        variant(
            "no primary key, two fields end with `id`",
            of(&[r#"{"id":1,"uid":1}"#]).primary_key(None).pack(),
            name,
        ),
        variant("the same, `--primary-key name`", of(&[r#"{"name":"a"}"#]).primary_key(None).pack(), NONE)
            .asking(asked),
        variant(
            "nested primary key `meta.sku`",
            of(&[r#"{"meta":{"sku":"x"}}"#]).primary_key(Some("meta.sku")).pack(),
            NONE,
        ),
        variant(
            "two fields for one nested primary key",
            of(&[r#"{"meta":{"sku":"x"},"meta.sku":1}"#]).primary_key(Some("meta.sku")).pack(),
            "rename one field",
        ),
        variant(
            "ids that are no ids",
            of(&[r#"{"id":1.5}"#, r#"{"id":null}"#, r#"{"id":"a b"}"#]).pack(),
            "correct these documents in Meilisearch",
        ),
    ]
}

fn odd_lines() -> Vec<u8> {
    let mut dump = Dump::of(Version::V6);
    dump.indexes[0].documents = "{\"id\":1}\r\n\n{\"id\":2}".to_owned();
    dump.pack()
}

/// Fields that are reserved, and documents that are there already.
fn conflicts() -> Vec<Variant> {
    let reserved = || Dump::of(Version::V6).documents(&[r#"{"id":1,"_miroir_shard":3}"#, r#"{"id":2}"#]).pack();
    let on = |on_conflict| Options { on_conflict, ..Options::default() };
    let exists = |if_exists| Options { if_exists, ..Options::default() };
    let plain = || Dump::of(Version::V6).pack();
    let pending = Dump::of(Version::V6).task("films", Kind::Clear).pack();
    let nested = Dump::of(Version::V6).documents(&[r#"{"id":1,"a":{"_miroir_shard":3}}"#]).pack();
    vec![
        variant("`_miroir_shard` in a document", reserved(), "`--on-conflict strip` strips it and streams"),
        variant("the same, `--on-conflict strip`", reserved(), NONE).asking(on(OnConflict::Strip)),
        variant("the same, `--on-conflict refuse`", reserved(), "`--on-conflict fallback` or `strip`")
            .asking(on(OnConflict::Refuse)),
        variant("`_miroir_shard` below another field", nested, NONE),
        variant("a document is there already", plain(), "`--if-exists skip` or `fail`").occupied(),
        variant("the same, `--if-exists skip`", plain(), NONE).asking(exists(IfExists::Skip)).occupied(),
        variant("the same, `--if-exists fail`", plain(), "`--if-exists overwrite` or `skip`")
            .asking(exists(IfExists::Fail))
            .occupied(),
        variant("unfinished tasks, `--if-exists skip`", pending, "`--pending skip`").asking(exists(IfExists::Skip)),
    ]
}

/// What is refused, whatever is asked for.
fn refused() -> Vec<Variant> {
    let dump = || Dump::of(Version::V6);
    let packed = dump().pack();
    let again = "create or fetch the dump again";
    let mut without = dump().members();
    without.retain(|(path, _)| !path.ends_with("settings.json"));
    let mut unknown = dump().members();
    unknown.last_mut().expect("metadata.json").1 = br#"{"dumpVersion":"V7"}"#.to_vec();
    let mut twice = dump().members();
    twice.push(("keys.jsonl".to_owned(), Vec::new()));
    let mut corrupt = packed.clone();
    let place = corrupt.len() - 8;
    corrupt[place] ^= 1;
    let snapshot = [("VERSION".to_owned(), b"1".to_vec()), ("indexes/x/data.mdb".to_owned(), vec![0])];
    let large: String = format!(r#"{{"id":1,"a":"{}"}}"#, "x".repeat(limits::Limits::default().document_bytes));
    let long_name = "n".repeat(limits::MAX_NAME_RECORD_BYTES as usize + 1).into_bytes();
    let long = Dump::of(Version::V6).with("network.json", vec![b' '; limits::MAX_SMALL_BYTES as usize + 1]);
    let bomb = Dump::of(Version::V6).with("unknown.bin", vec![0; 80 << 20]);
    vec![
        variant("cut in the middle", packed[..packed.len() / 2].to_vec(), again),
        variant("cut between two members", pack(&without), again),
        variant("a wrong checksum", corrupt, again),
        variant("a tar without gzip", tar(&dump().members()), "use the file as Meilisearch wrote it"),
        variant("a snapshot", pack(&snapshot), "restore it in Meilisearch and create a dump"),
        variant("a version of the future", pack(&unknown), NONE),
        variant("invalid JSON", dump().documents(&[r#"{"id":1}"#, r#"{"id":"#]).pack(), again),
        variant("a link", entry(tar::EntryType::Symlink, "a", b""), NONE),
        variant("a device", entry(tar::EntryType::Block, "a", b""), NONE),
        variant("a pipe", entry(tar::EntryType::Fifo, "a", b""), NONE),
        variant("an absolute path", entry(tar::EntryType::Regular, "/a", b""), NONE),
        variant("a path that leaves the archive", entry(tar::EntryType::Regular, "../a", b""), NONE),
        variant("a long name that is too long", entry(tar::EntryType::GNULongName, "a", &long_name), NONE),
        variant("a PAX record that is too long", entry(tar::EntryType::XHeader, "a", &long_name), NONE),
        variant("more members than allowed", many_members(), NONE),
        variant("a document over 16 MiB", dump().documents(&[&large]).pack(), "shorten it in Meilisearch"),
        variant("two members of one name", pack(&twice), NONE),
        variant("a small member that is large", long.pack(), NONE),
        variant("a bomb", bomb.pack(), NONE),
    ]
}

/// An archive with one entry.
fn entry(kind: tar::EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = header(kind, content.len() as u64);
    head.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    head.set_cksum();
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    gzip(&bytes)
}

/// One member more than are allowed. It is stored, so that it is no bomb.
fn many_members() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..=limits::MAX_MEMBERS {
        let mut head = header(tar::EntryType::Regular, 0);
        head.set_path(format!("f{number}")).expect("a short path");
        head.set_cksum();
        bytes.extend(head.as_bytes());
    }
    bytes.resize(bytes.len() + 1024, 0);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut encoder, &bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn table(title: &str, variants: &[Variant]) -> String {
    let rows: Vec<String> = variants.iter().map(Variant::row).collect();
    format!(
        "### {title}\n\n| dump | streaming | broadcast | not restored | workaround |\n|---|---|---|---|---|\n{}\n\n",
        rows.join("\n")
    )
}

/// A dump whose analysis is shown.
fn shown() -> String {
    let shows = Index { uid: "shows", primary_key: None, settings: json!({}), documents: lines(&[r#"{"showId":1}"#]) };
    let dump = Dump::of(Version::V6)
        .documents(&[r#"{"id":1,"_miroir_shard":3}"#, r#"{"id":2}"#])
        .index(shows)
        .task("shows", Kind::Add("{\"showId\":2}\n"))
        .with("batches/queue.jsonl", "{}\n");
    let packed = dump.pack();
    let plan = analyse(&&packed[..], &Options::default(), &mut Silent).expect("a good dump");
    let analysis = report::analysis(&plan, &Options::default());
    // How well a library compresses is none of our business.
    let analysis =
        analysis.replace(&format!("{} bytes, {} unpacked", plan.bytes, plan.unpacked_bytes), "… bytes, … unpacked");
    let conflict = plan.conflict.expect("a reserved field");
    let fallback = report::fallback(&conflict, Shape { nodes: 1, replication: 1, shards: 1 });
    format!(
        "```text\n$ miroir dump analyze films.dump\n{analysis}\n```\n\n```text\n$ miroir dump import films.dump --store films.miroir\n{fallback}\n```\n"
    )
}

fn document() -> String {
    let mib = |bytes: u64| bytes >> 20;
    let limits = format!(
        "- a member other than documents: {} MiB; a document: {} MiB, less with `--max-document-bytes`\n\
         - a long name or a PAX record: {} KiB; members: {}\n\
         - {} bytes out of one compressed byte, after the first {} MiB\n\
         - unfinished tasks, as they stand in the queue, of at least {} bytes each: {} MiB\n\
         - names, primary keys and dates of all indexes and tasks together: {} MiB\n\
         - fields of a document: {}\n",
        mib(limits::MAX_SMALL_BYTES),
        limits::Limits::default().document_bytes >> 20,
        limits::MAX_NAME_RECORD_BYTES >> 10,
        limits::MAX_MEMBERS,
        limits::MAX_RATIO,
        mib(limits::RATIO_FREE_BYTES),
        limits::MIN_TASK_BYTES,
        mib(limits::MAX_PENDING_BYTES),
        limits::MAX_KEPT_BYTES >> 20,
        limits::MAX_FIELDS,
    );
    let tables = [
        table("Dumps as Meilisearch writes them", &whole()),
        table("Primary keys, ids and documents", &documents()),
        table("Field conflicts, and documents that are there already", &conflicts()),
        table("Refused, with nothing written", &refused()),
    ];
    include_str!("matrix.md")
        .replace("{tables}", tables.concat().trim_end())
        .replace("{limits}", limits.trim_end())
        .replace("{output}", shown().trim_end())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a document is a file")]
fn the_matrix_is_what_was_observed() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/dump-import/compatibility-matrix.md");
    let observed = document();
    if std::env::var_os("MIROIR_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, &observed).expect("the document is written");
    }
    let committed = std::fs::read_to_string(&path).expect("the document is there");
    let differs = committed.lines().zip(observed.lines()).find(|(committed, observed)| committed != observed);
    assert_eq!(differs, None, "MIROIR_BLESS=1 cargo test -p miroir-store --test dump matrix writes it anew");
    assert_eq!(committed, observed);
}
