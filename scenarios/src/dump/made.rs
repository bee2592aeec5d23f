//! The dump that a plan asks for: some documents, and unfinished tasks that change some of them.

use std::collections::BTreeMap;

use miroir_store::dump::export::Pack;

use crate::plan::ImportPlan;

/// What its index is called.
pub const COLLECTION: &str = "films";

fn document(n: u32) -> String {
    format!(r#"{{"id":"i{n:06}","title":"Film {n}","rating":{}.10}}"#, n % 10)
}

fn id(n: u32) -> String {
    format!("i{n:06}")
}

/// Every seventh document is updated by an unfinished task, every eleventh deleted by another.
fn is_updated(n: u32) -> bool {
    n % 7 == 3
}

fn is_deleted(n: u32) -> bool {
    n % 11 == 5
}

/// A V6 dump, whose version stands behind its documents.
pub fn dump(plan: &ImportPlan) -> Vec<u8> {
    let field = if plan.broadcast { r#""_miroir_shard":1,"# } else { "" };
    let all = || 0..plan.documents;
    let lines = |documents: Vec<String>| documents.concat();
    let documents = all().map(|n| format!("{{{field}{}\n", &document(n)[1..])).collect();
    let updates =
        all().filter(|n| is_updated(*n)).map(|n| format!("{{\"id\":\"{}\",\"seen\":1E+2}}\n", id(n))).collect();
    let deleted: Vec<String> = all().filter(|n| is_deleted(*n)).map(|n| format!("{:?}", id(n))).collect();
    let task = |uid: u32, kind: &str| {
        format!(r#"{{"uid":{uid},"indexUid":"{COLLECTION}","status":"enqueued","type":{kind}}}"#) + "\n"
    };
    let tasks = [
        task(
            1,
            r#"{"documentImport":{"primary_key":null,"method":"UpdateDocuments","documents_count":1,"allow_index_creation":true}}"#,
        ),
        task(2, &format!(r#"{{"documentDeletion":{{"documents_ids":[{}]}}}}"#, deleted.join(","))),
    ];
    let mut pack = Pack::new(Vec::new());
    let mut member = |path: &str, content: &str| {
        pack.member(path, content.as_bytes()).expect("memory takes it");
    };
    member("tasks/update_files/1.jsonl", &lines(updates));
    member("indexes/films/documents.jsonl", &lines(documents));
    member("indexes/films/settings.json", "{}");
    member("indexes/films/metadata.json", r#"{"uid":"films","primaryKey":"id"}"#);
    member("tasks/queue.jsonl", &tasks.concat());
    member("keys.jsonl", "");
    member("metadata.json", r#"{"dumpVersion":"V6"}"#);
    pack.finish().expect("memory takes it")
}

/// What is there when it is in.
pub fn expected(plan: &ImportPlan) -> BTreeMap<String, String> {
    let left = (0..plan.documents).filter(|n| !is_deleted(*n));
    let body = |n: u32| {
        let document = document(n);
        match is_updated(n) {
            true => format!("{},\"seen\":1E+2}}", &document[..document.len() - 1]),
            false => document,
        }
    };
    left.map(|n| (id(n), body(n))).collect()
}
