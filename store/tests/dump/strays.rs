//! Members that belong to other versions are like unknown ones: they mean nothing, wherever the version stands.

use miroir_store::dump::layout::Version;
use miroir_store::dump::plan::{Mode, Options, analyse};
use miroir_store::dump::progress::Silent;

use crate::build::{Dump, Kind, pack};
use crate::support::{Scratch, refusal};

/// What the other versions have, with something in each that would change the outcome.
fn strays() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let v4_delete =
        r#"{"id":9,"index_uid":"films","content":{"DocumentDeletion":{"Ids":["1"]}},"events":[{"Created":"x"}]}"#;
    let v6_clear = r#"{"uid":9,"indexUid":"films","status":"enqueued","type":"documentClear"}"#;
    vec![
        ("updates/data.jsonl", text(v4_delete)),
        ("tasks/queue.jsonl", text(v6_clear)),
        (
            "x/updates.jsonl",
            text(r#"{"status":"enqueued","updateId":0,"type":{"name":"DocumentsAddition","number":3}}"#),
        ),
        ("updates/updates_files/1", text(r#"{"id":91}"#)),
        ("updates/update_files/update_1", text(r#"[{"id":92}]"#)),
        ("tasks/update_files/content-1.jsonl", text(r#"{"id":93}"#)),
        ("keys", text(r#"{"id":[1]}"#)),
        ("keys.jsonl", text(r#"{"uid":"k"}"#)),
        ("batches/queue.jsonl", text("{}")),
        ("webhooks.json", text(r#"{"webhooks":{"a":{}}}"#)),
        ("network.json", vec![b' '; (16 << 20) + 1]),
        ("experimental-features.json", text("[")),
        ("indexes/films-folder/meta.json", text(r#"{"settings":{"a":1},"primary_key":"title"}"#)),
        ("indexes/other/meta.json", text("{}")),
        ("indexes/uuid-films/settings.json", text(r#"{"a":1}"#)),
        ("indexes/uuid-films/metadata.json", text(r#"{"uid":"other","primaryKey":"title"}"#)),
        ("index_uuids/data.jsonl", text(r#"{"uid":"other","uuid":"nowhere"}"#)),
        ("tall/documents.jsonl", text("no JSON")),
        ("tall/settings.json", text("no JSON")),
    ]
}

#[test]
fn members_of_other_versions_are_ignored() {
    for version in Version::ALL {
        for metadata_last in [false, true] {
            let mut dump = Dump { metadata_last, ..Dump::of(version) }.task("films", Kind::Add("{\"id\":4}\n"));
            let plain = Scratch::new();
            let (planned, _) = plain.import(&dump.pack(), &Options::default()).expect("a good dump");
            // A folder below `indexes/` is an index in all versions but the first, whatever is in it.
            let own_folder = match version {
                Version::V1 => "tall/",
                Version::V2 => "indexes/",
                Version::V3 | Version::V4 | Version::V5 => "indexes/uuid-films/meta",
                Version::V6 => "indexes/films-folder/metadata",
            };
            let is_other = |path: &str| match version {
                Version::V1 => path == "x/updates.jsonl",
                Version::V2 => path.starts_with("updates/update_files"),
                Version::V3 => path.starts_with("updates/updates_files/"),
                Version::V4 | Version::V5 => path.starts_with("updates/updates_files/") || path == "keys",
                Version::V6 => {
                    ["batches", "webhooks", "network", "experimental"].iter().any(|own| path.starts_with(own))
                }
            };
            let in_new_folder = |path: &str| {
                let folder =
                    path.strip_prefix("indexes/").and_then(|rest| rest.split_once('/')).map(|(folder, _)| folder);
                let known = match version {
                    Version::V6 => "films-folder",
                    _ => "uuid-films",
                };
                version != Version::V1 && folder.is_some_and(|folder| folder != known)
            };
            let own = |path: &str| path.starts_with(own_folder) || is_other(path) || in_new_folder(path);
            let there: Vec<String> = dump.members().into_iter().map(|(path, _)| path).collect();
            let mut added = 0;
            for (path, content) in strays() {
                if !own(path) && !there.iter().any(|member| member == path) {
                    dump = dump.with(path, content);
                    added += 1;
                }
            }
            assert!(added >= 7, "{version}: {added}");
            for mode in [Mode::Streaming, Mode::Broadcast] {
                let scratch = Scratch::new();
                let options = Options { mode: Some(mode), ..Options::default() };
                let (plan, _) = scratch.import(&dump.pack(), &options).expect("strays mean nothing");
                assert_eq!(
                    (plan.indexes, plan.steps, plan.losses),
                    (planned.indexes.clone(), planned.steps.clone(), planned.losses.clone()),
                    "{version}"
                );
                for name in ["films", ".collections", "other", "tall"] {
                    assert_eq!(scratch.collection(name), plain.collection(name), "{version} {name}");
                }
            }
        }
    }
}

#[test]
fn a_member_of_another_version_does_not_stand_for_one_that_is_missing() {
    for metadata_last in [false, true] {
        for (version, missing, stray) in [
            (Version::V6, "keys.jsonl", "keys"),
            (Version::V6, "tasks/queue.jsonl", "updates/data.jsonl"),
            (Version::V5, "updates/data.jsonl", "tasks/queue.jsonl"),
            (Version::V6, "indexes/films-folder/settings.json", "indexes/films-folder/meta.json"),
            (Version::V4, "indexes/uuid-films/meta.json", "indexes/uuid-films/settings.json"),
        ] {
            let dump = Dump { metadata_last, ..Dump::of(version) }.with(stray, r#"{"settings":{}}"#);
            let mut members = dump.members();
            members.retain(|(path, _)| path != missing);
            let text = refusal(&pack(&members), &Options::default());
            assert!(text.contains("missing"), "{version} without {missing}: {text}");
        }
    }
    // What a task names is looked for where its version keeps it.
    let dump =
        Dump::of(Version::V6).task("films", Kind::Add("{\"id\":4}\n")).with("updates/updates_files/1", "{\"id\":5}");
    let mut members = dump.members();
    members.retain(|(path, _)| path != "tasks/update_files/1.jsonl");
    let text = refusal(&pack(&members), &Options::default());
    assert!(text.contains("tasks/update_files/1.jsonl: the documents of an unfinished task are missing"), "{text}");
}

/// Nothing of a webhook, a network, a chat or a key is in anything that is said.
#[test]
fn secrets_are_not_told() {
    const SECRET: &str = "hunter2";
    let secret = |text: &str| text.replace("SECRET", SECRET);
    let dump = Dump::of(Version::V6)
        .with(
            "webhooks.json",
            secret(r#"{"webhooks":{"u":{"url":"http://SECRET","headers":{"Authorization":"SECRET"}}}}"#),
        )
        .with(
            "network.json",
            secret(r#"{"self":"SECRET","remotes":{"SECRET":{"url":"SECRET","searchApiKey":"SECRET"}}}"#),
        )
        .with("chat-completions-settings/SECRET.json", secret(r#"{"apiKey":"SECRET"}"#))
        .with("dynamic-search-rules/SECRET.json", secret(r#"{"SECRET":"SECRET"}"#));
    let mut members = dump.members();
    for (path, content) in &mut members {
        *path = secret(path);
        if path == "keys.jsonl" {
            *content = secret("{\"uid\":\"SECRET\",\"name\":\"SECRET\"}\n").into_bytes();
        }
    }
    let mut said = Vec::new();
    let scratch = Scratch::new();
    for with_keys in [false, true] {
        let options = Options { with_keys, ..Options::default() };
        let (plan, imported) = scratch.import(&pack(&members), &options).expect("a good dump");
        said.push(format!("{plan:?} {imported:?} {}", miroir_store::dump::report::json(&plan)));
        said.push(miroir_store::dump::report::analysis(&plan, &options));
        said.extend(miroir_store::dump::report::losses(&plan));
    }
    assert!(scratch.collection(".keys").values().all(|key| key.contains(SECRET)), "they were asked for");
    assert!(scratch.collection(".collections").values().all(|record| !record.contains(SECRET)));
    // The same members, each spoilt in several ways: what is said names the member, not what stands in it.
    let mut refused = 0;
    for place in 0..members.len() {
        let whole = members[place].1.clone();
        for spoilt in [
            whole[..whole.len() / 2].to_vec(),
            [&whole[..], b"SECRET"].concat(),
            secret("\"SECRET\"").into(),
            secret("{\"uid\":\"SECRET\",\"uid\":1,\"a\":SECRET}").into(),
        ] {
            members[place].1 = spoilt;
            if let Err(error) = analyse(&&pack(&members)[..], &Options::default(), &mut Silent) {
                refused += 1;
                said.push(format!("{error} {error:?}"));
            }
        }
        members[place].1 = whole;
    }
    assert!(refused >= 15, "{refused}");
    for text in said {
        assert!(!text.contains(SECRET), "{text}");
    }
}
