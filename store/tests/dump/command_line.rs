//! What an operator types and sees: texts, exit codes, files.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program is started, and dumps are files")]

use std::path::{Path, PathBuf};
use std::process::Command;

use miroir_store::dump::layout::Version;
use serde_json::Value;

use crate::build::{Dump, Kind};

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("miroir-dump-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a new folder");
        Folder(path)
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.0.join(name), content).expect("a file");
    }

    /// Exit code, stdout, stderr.
    fn miroir(&self, line: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_miroir"));
        let output = command.args(line.split_whitespace()).current_dir(&self.0).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    fn has(&self, name: &str) -> bool {
        Path::exists(&self.0.join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const OVERWRITES: &str =
    "An import overwrites documents of the same ids, also where users have written since the dump\n";
const SEE: &str = "See: docs/dump-import/compatibility-matrix.md";

#[test]
fn a_dump_is_analysed_imported_and_exported() {
    let folder = Folder::new("whole");
    let dump = Dump::of(Version::V6).task("shows", Kind::Add("{\"id\":1}\n"));
    folder.write("films.dump", &dump.pack());
    let (code, out, _) = folder.miroir("dump analyze films.dump");
    assert_eq!(code, 0);
    for part in [
        "Meilisearch dump V6",
        "films: 3 documents",
        "; goes in by streaming\n",
        "shows: 0 documents",
        "Mode: streaming",
        "Not restored: 1 finished task",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.trim_end().ends_with(SEE), "{out}");
    let (code, out, _) = folder.miroir("dump analyze films.dump --json");
    let analysis: Value = serde_json::from_str(&out).expect("one line of JSON");
    assert_eq!((code, &analysis["v"], &analysis["mode"]), (0, &1.into(), &"streaming".into()));
    let (code, out, _) = folder.miroir("dump import films.dump --store s --dry-run");
    assert!(code == 0 && out.contains("Mode: streaming") && !folder.has("s"), "{out}");
    let (code, out, err) = folder.miroir("dump import films.dump --store s");
    let inferred = "shows: primary key `id` (inferred: the only field that ends with `id`)\n";
    assert_eq!((code, err), (0, format!("{inferred}{OVERWRITES}")), "said before the first write");
    let (_, _, err) = folder.miroir("dump import films.dump --store kept --pending skip --if-exists skip");
    assert_eq!(err, "");
    assert!(out.starts_with("3 documents imported (streaming), 2 steps of unfinished tasks\n"), "{out}");
    assert!(out.trim_end().ends_with(SEE), "losses end so: {out}");
    let (code, out, _) = folder.miroir("dump export out.dump --store s --json");
    let exported: Value = serde_json::from_str(&out).expect("one line of JSON");
    assert_eq!(
        (code, exported),
        (0, serde_json::json!({"v": 1, "documents": 4, "indexes": 2, "keys": 0, "keys_left_out": 0}))
    );
    let (code, _, err) = folder.miroir("dump export out.dump --store s");
    assert!(code == 2 && err.contains("is there already"), "{err}");
    let (code, out, _) = folder.miroir("dump import out.dump --store again");
    assert!(code == 0 && out.trim_end() == "4 documents imported (streaming)", "{out}");
}

#[test]
fn a_reserved_field_is_announced() {
    let folder = Folder::new("fallback");
    folder.write("films.dump", &Dump::of(Version::V6).documents(&[r#"{"id":1,"_miroir_shard":3}"#]).pack());
    let (code, out, err) = folder.miroir("dump import films.dump --store s");
    assert_eq!(
        err,
        "⚠️  Falling back to broadcast mode\n\
         Reason: _miroir_shard field conflict detected\n\
         Impact: every node temporarily stores the full corpus (1 node / replication 1 = 1.0x)\n\
         See: docs/dump-import/compatibility-matrix.md\n\
         An import overwrites documents of the same ids, also where users have written since the dump\n"
    );
    assert!(code == 0 && out.starts_with("1 documents imported (broadcast)"), "{out}");
    let (code, _, err) = folder.miroir("dump import films.dump --store s --on-conflict refuse");
    assert!(code == 2 && err.contains("`_miroir_shard` is reserved") && err.trim_end().ends_with(SEE), "{err}");
    let (code, _, err) = folder.miroir("dump import films.dump --store s --on-conflict strip");
    assert_eq!((code, err.as_str()), (0, OVERWRITES));
}

/// What only other imports would have freed: nobody imports the same dump again.
#[test]
fn what_was_staged_for_nothing_is_discarded() {
    let folder = Folder::new("discard");
    folder.write("films.dump", &Dump::of(Version::V6).pack());
    folder.miroir("dump import films.dump --store s");
    for name in ["staging-0123456789abcdef0123456789abcdef-0", "staging-0123456789abcdef0123456789abcdef-manifest"] {
        folder.write(&format!("s/{name}"), b"abandoned");
    }
    let staged = || folder.has("s/staging-0123456789abcdef0123456789abcdef-0");
    let (code, _, _) = folder.miroir("dump import films.dump --store s --mode broadcast");
    assert!(code == 0 && staged(), "another import leaves it alone: it may be gone on with");
    let (code, out, _) = folder.miroir("dump discard --store s --dry-run");
    assert!(code == 0 && staged(), "{out}");
    let (code, out, _) = folder.miroir("dump discard --store s");
    assert_eq!((code, &out[..]), (0, "nothing is staged any more (1 node)\n"));
    assert!(!staged() && !folder.has("s/staging-0123456789abcdef0123456789abcdef-manifest"));
    let (code, out, _) = folder.miroir("dump export out.dump --store s");
    assert!(code == 0 && out.contains("3 documents"), "the documents are there: {out}");
    let (code, _, err) = folder.miroir("dump discard --store nowhere");
    assert!(code == 4 && err.trim_end().ends_with(SEE), "{err}");
}

#[test]
fn an_inferred_primary_key_is_said_before_anything_is_written() {
    let folder = Folder::new("inferred");
    let Some(dump) = crate::fixtures::fixture("synthetic/s05_pk_null_with_documents.dump") else { return };
    folder.write("s05.dump", &dump);
    let (code, out, err) = folder.miroir("dump import s05.dump --store s");
    let inferred = "movies: primary key `id` (inferred: the only field that ends with `id`)\n";
    assert_eq!((code, err), (0, format!("{inferred}{OVERWRITES}")));
    assert!(out.starts_with("12 documents imported (streaming)\n"), "{out}");
}

#[test]
fn refusals_have_an_exit_code_and_a_way_out() {
    let folder = Folder::new("refused");
    let packed = Dump::of(Version::V6).pack();
    folder.write("cut.dump", &packed[..packed.len() / 2]);
    folder.write("films.dump", &packed);
    for (line, part) in [
        ("dump import cut.dump --store s", "truncated"),
        ("dump analyze nowhere.dump", "nowhere.dump"),
        ("dump import films.dump --store s --index shows", "it has films"),
        ("dump import films.dump --store s --mode sideways", "streaming"),
        ("dump import films.dump --store s --max-document-bytes 99999999", "16777216"),
    ] {
        let (code, out, err) = folder.miroir(line);
        assert!(code == 2 && out.is_empty() && err.contains(part), "{line}: {code} {err}");
        let is_usage = part == "streaming" || part == "16777216";
        assert!(is_usage || err.trim_end().ends_with(SEE), "{line}: {err}");
        assert!(!folder.has("s"), "{line}: nothing was written");
    }
    let (code, _, err) = folder.miroir("dump export out.dump --store nowhere");
    assert!(code == 4 && err.contains("there is no store") && !folder.has("out.dump"), "{err}");
    let (code, out, _) = folder.miroir("dump import --help");
    assert!(code == 0 && out.contains("docs/dump-import/compatibility-matrix.md"), "{out}");
}
