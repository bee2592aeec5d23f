//! What no honest dump looks like: refused before the first write, in bounded time, with member, line and reason.

use miroir_store::dump::layout::Version;
use miroir_store::dump::limits::Limits;
use miroir_store::dump::plan::{Options, analyse};
use miroir_store::dump::progress::Silent;
use proptest::prelude::*;

use crate::build::{Dump, Kind, gzip, header, pack, tar};
use crate::support::{Scratch, refusal};

fn refused(dump: &[u8]) -> String {
    refusal(dump, &Options::default())
}

#[test]
fn every_way_of_cutting_a_dump_is_refused() {
    for version in Version::ALL {
        let dump = Dump::of(version);
        let packed = dump.pack();
        for cut in [0, 1, 9, 10, packed.len() / 3, packed.len() / 2, packed.len() - 8, packed.len() - 1] {
            refused(&packed[..cut]);
        }
        // Between two members, packed as if nothing were missing.
        let members = dump.members();
        for left_out in 0..members.len() {
            let mut rest = members.clone();
            let (path, _) = rest.remove(left_out);
            // Finished updates of V1 are history.
            if path.ends_with("updates.jsonl") {
                continue;
            }
            let text = refused(&pack(&rest));
            assert!(text.contains("cut") || text.contains("missing"), "{version} without {path}: {text}");
        }
        let plain = tar(&members);
        let text = refused(&gzip(&plain[..plain.len() - 1024]));
        assert!(text.contains("no end mark"), "{text}");
    }
}

#[test]
fn what_is_no_dump_is_told_apart() {
    let dump = Dump::of(Version::V6);
    assert!(refused(&tar(&dump.members())).contains("a plain tar"));
    assert!(refused(b"").contains("empty"));
    assert!(refused(b"PK\x03\x04").contains("does not begin like a gzip file"));
    assert!(refused(&gzip(b"hello")).contains("truncated"));
    let snapshot = pack(&[("VERSION".to_owned(), b"1.0.0".to_vec()), ("indexes/x/data.mdb".to_owned(), vec![0; 99])]);
    assert!(refused(&snapshot).contains("a snapshot, not a dump"));
    let mut members = dump.members();
    members.last_mut().expect("metadata.json").1 = br#"{"dumpVersion":"V9"}"#.to_vec();
    assert!(refused(&pack(&members)).contains("metadata.json: `V9` is no dump version"));
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut packed = Dump::of(Version::V6).pack();
    let crc = packed.len() - 8;
    packed[crc] ^= 1;
    assert!(refused(&packed).contains("corrupt"));
}

/// An archive with one entry of this kind.
fn entry(kind: tar::EntryType, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut head = header(kind, content.len() as u64);
    head.as_old_mut().name[..name.len()].copy_from_slice(name);
    head.set_cksum();
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    gzip(&bytes)
}

#[test]
fn links_devices_and_paths_that_leave_are_refused() {
    use tar::EntryType;

    for (kind, name, reason) in [
        (EntryType::Symlink, "indexes/a/documents.jsonl", "is a link"),
        (EntryType::Link, "a", "is a link"),
        (EntryType::Char, "a", "is a device"),
        (EntryType::Fifo, "a", "is a device"),
        (EntryType::GNUSparse, "a", "of a kind"),
        (EntryType::Regular, "/etc/passwd", "an absolute path"),
        (EntryType::Regular, "../a", "leaves the archive"),
        (EntryType::Regular, "indexes/../../a", "leaves the archive"),
        (EntryType::Regular, "a\u{1b}[2J/../b", "leaves the archive"),
    ] {
        let text = refused(&entry(kind, name.as_bytes(), b""));
        assert!(text.contains(reason), "{name}: {text}");
        assert!(!text.contains('\u{1b}'), "a terminal is not to be steered: {text:?}");
    }
    assert!(refused(&entry(EntryType::Regular, b"\xff", b"")).contains("not UTF-8"));
    assert!(refused(&entry(EntryType::GNULongName, b"a", &vec![b'a'; 70_000])).contains("70000 bytes"));
    assert!(refused(&entry(EntryType::XHeader, b"a", &vec![b'a'; 70_000])).contains("70000 bytes"));
    assert!(refused(&entry(EntryType::XHeader, b"a", b"99 path=x\n")).contains("PAX record"));
    assert!(refused(&entry(EntryType::XHeader, b"a", b"0 path=x\n")).contains("PAX record"));
}

#[test]
fn two_members_of_one_name_are_refused() {
    let mut members = Dump::of(Version::V6).members();
    members.push(("./keys.jsonl".to_owned(), Vec::new()));
    assert!(refused(&pack(&members)).contains("keys.jsonl: the second member"));
}

#[test]
fn bombs_are_refused() {
    // Small members that are not small.
    let large = vec![b' '; (16 << 20) + 1];
    let text = refused(&Dump::of(Version::V6).with("network.json", &large).pack());
    assert!(text.contains("network.json: 16777217 bytes"), "{text}");
    // A document that is larger than allowed.
    let long = format!(r#"{{"id":9,"text":"{}"}}"#, "x".repeat(1 << 20));
    let options = Options { limits: Limits { document_bytes: 1 << 20, ..Limits::default() }, ..Options::default() };
    let dump = Dump::of(Version::V6).documents(&[r#"{"id":1}"#, &long]).pack();
    let text = refusal(&dump, &options);
    assert!(text.contains("documents.jsonl, line 2: larger than 1048576 bytes"), "{text}");
    assert!(Scratch::new().import(&dump, &Options::default()).is_ok());
    // Much out of little.
    let blank = vec![b'\n'; 80 << 20];
    let text = refused(&Dump::of(Version::V6).with("unknown/member.bin", &blank).pack());
    assert!(text.contains("this is a bomb"), "{text}");
}

#[test]
fn too_many_members_are_refused() {
    let mut bytes = Vec::new();
    for number in 0..200_001 {
        let mut head = header(tar::EntryType::Regular, 0);
        head.set_path(format!("f{number}")).expect("a short path");
        head.set_cksum();
        bytes.extend(head.as_bytes());
    }
    bytes.resize(bytes.len() + 1024, 0);
    // Headers compress well, so this has to be stored to look honest.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut encoder, &bytes).expect("memory takes it");
    let text = refused(&encoder.finish().expect("memory takes it"));
    assert!(text.contains("more than 200000 members"), "{text}");
}

#[test]
fn bad_json_and_bad_ids_are_named_with_their_lines() {
    let v6 = |documents: &[&str]| refused(&Dump::of(Version::V6).documents(documents).pack());
    let text = v6(&[r#"{"id":1}"#, "", r#"{"id":2"#]);
    assert!(text.contains("indexes/films-folder/documents.jsonl, line 3: not valid JSON"), "{text}");
    assert!(v6(&["[1]"]).contains("line 1: not a JSON object"));
    assert!(v6(&["7"]).contains("line 1: not a JSON object"));
    let text = v6(&[r#"{"id":1}"#, r#"{"id":1.5}"#, r#"{"id":null}"#, r#"{"id":"a b"}"#, r#"{"name":1}"#]);
    assert!(text.contains("line 2: 4 of 5 documents have no usable id in `id`"), "{text}");
    for part in
        ["line 2: the id is a number", "line 3: the id is null", "line 4: the id has other", "line 5: the primary"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = refused(&Dump::of(Version::V6).with("batches/queue.jsonl", "{}\n{").pack());
    assert!(text.contains("batches/queue.jsonl, line 2: not valid JSON"), "{text}");
    let text = refused(&Dump::of(Version::V3).task("films", Kind::Add(r#"{"id":1.5}"#)).pack());
    assert!(text.contains("updates/updates_files/content-1, line 1"), "{text}");
}

#[test]
fn an_array_of_documents_has_to_be_one() {
    for (content, reason) in [
        (r#"[{"id":1}"#, "the array does not end"),
        (r#"[{"id":1}] x"#, "something behind the end"),
        ("[] x", "line 1: something behind the end"),
        (r#"[{"id":1},]"#, "an element is missing"),
        (r#"[,{"id":1}]"#, "an element is missing"),
        (r#"[{"id":1}}]"#, "line 1: not valid JSON"),
        (r#"[{"id":1},{"id":"]"}]"#, "line 2: the id has other"),
    ] {
        let mut members = Dump::of(Version::V2).task("films", Kind::Add("x")).members();
        let file = members.iter_mut().find(|(path, _)| path.ends_with("update_content-1")).expect("the content");
        file.1 = content.as_bytes().to_vec();
        let text = refused(&pack(&members));
        assert!(text.contains(reason), "{content}: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever bytes stand there, the decoder ends with a plan or a refusal.
    #[test]
    fn flipped_bytes_are_read_or_refused(version in 0..6usize, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), inside in any::<bool>()) {
        let dump = Dump::of(Version::ALL[version])
            .task("films", Kind::Add("{\"id\":7}\n"))
            .task("films", Kind::Delete(&["1"]))
            .task("films", Kind::Update("{\"id\":2,\"x\":1}\n"));
        // Behind the checksum, or in what it is computed over.
        let mut bytes = if inside { tar(&dump.members()) } else { dump.pack() };
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let packed = if inside { gzip(&bytes) } else { bytes };
        let _ = analyse(&&packed[..], &Options::default(), &mut Silent);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(analyse(&&bytes[..], &Options::default(), &mut Silent).is_err());
        prop_assert!(analyse(&&gzip(&bytes)[..], &Options::default(), &mut Silent).is_err());
    }
}
