//! The way back: a V6 dump of what a store holds, as Meilisearch reads it.
//!
//! A tar wants to know how long a member is before its first byte, and nothing is collected on the way. So everything is
//! read twice: first all collections to measure, then all to write. What the second reading finds in the same versions was
//! there between the two, and a dump is of that moment; if anything is found otherwise, the export ends with an error. Not
//! noticed is a document that comes and goes between the readings that might have met it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tar::{EntryType, Header};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::dump::collection::{COLLECTIONS, KEYS, Record, on_one_line};
use crate::dump::document::{candidates, inspect};
use crate::dump::layout;
use crate::dump::progress::{Phase, Progress, Step};
use crate::dump::refusal::DumpError;
use crate::dump::target::Target;
use crate::id::{Key, Value as Body, Version};
use crate::wire::NameRange;

/// Documents of one reading.
const PAGE_DOCUMENTS: u32 = 256;
const BLOCK_BYTES: usize = 512;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Now, as RFC 3339.
    pub date: String,
    /// Only this collection.
    pub index: Option<String>,
    /// For collections that were not imported, and so have no primary key on record.
    pub primary_key: Option<String>,
    /// Keys that were imported go out again.
    pub with_keys: bool,
}

/// What went out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub indexes: u64,
    pub documents: u64,
    pub keys: u64,
    /// Keys of V4, which no later version reads: they have no uid, from which a later one would make their secret.
    pub keys_left_out: u64,
}

/// Writes a dump.
pub async fn export<T: Target>(
    target: &mut T,
    options: &Options,
    out: impl Write,
    progress: &mut dyn Progress,
) -> Result<Exported, DumpError> {
    let names = collections(target).await?;
    if let Some(wanted) = options.index.as_ref().filter(|wanted| !names.contains(wanted)) {
        return Err(DumpError::Export(format!("there is no collection `{wanted}`; there are: {}", names.join(", "))));
    }
    let wanted = |name: &&String| options.index.as_ref().is_none_or(|wanted| wanted == *name);
    let mut measured = Vec::new();
    let mut measure = Measure { bytes: 0, documents: 0, progress };
    for name in names.iter().filter(wanted) {
        let key = Record::key(name).map_err(|error| DumpError::Export(error.to_string()))?;
        let record = target.read(vec![key]).await?.pop().flatten();
        let record: Option<Record> = record.and_then(|body| serde_json::from_slice(&body).ok());
        let mut index = Index::new(name, record, options);
        let sum = index.measure(target, &mut measure).await?;
        measured.push((index, sum));
    }
    let of_bytes = measured.iter().map(|(_, sum)| sum.bytes).sum();
    let mut bytes = 0;
    let mut pack = Pack::new(out);
    let metadata = json!({
        "dumpVersion": "V6", "dbVersion": env!("CARGO_PKG_VERSION"), "dumpDate": options.date,
    });
    pack.member("metadata.json", metadata.to_string().as_bytes())?;
    pack.member("tasks/queue.jsonl", b"")?;
    let mut done = Exported::default();
    let keys = if options.with_keys { keys(target, &mut done).await? } else { Vec::new() };
    pack.member("keys.jsonl", &keys)?;
    for (index, measured) in &measured {
        let name = index.name;
        for (file, content) in index.files(options) {
            pack.member(&format!("indexes/{name}/{file}"), content.as_bytes())?;
        }
        pack.begin(&format!("indexes/{name}/documents.jsonl"), measured.bytes)?;
        let mut pages = Pages::of(name);
        let mut written = Sum::default();
        while let Some(page) = pages.next(target).await? {
            for (key, version, body) in page {
                let line = index.line(&key, &body)?;
                written.add(&key, version, &line);
                if written.bytes > measured.bytes {
                    return Err(changed(&format!("collection `{name}`")));
                }
                pack.write(&line)?;
                done.documents += 1;
            }
            let (bytes, documents) = (bytes + written.bytes, done.documents);
            measure.progress.on(Step { phase: Phase::Export, bytes, of_bytes, documents });
        }
        bytes += written.bytes;
        if written != *measured {
            return Err(changed(&format!("collection `{name}`")));
        }
        pack.pad(measured.bytes)?;
        done.indexes += 1;
    }
    if collections(target).await? != names {
        return Err(changed("the list of collections"));
    }
    pack.finish()?;
    Ok(done)
}

fn changed(what: &str) -> DumpError {
    DumpError::Export(format!("{what} changed while it was exported; stop writing to it, and export again"))
}

/// What a collection held, in one number: its documents in their order, each in its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    /// Of all lines.
    bytes: u64,
    hash: u64,
}

impl Sum {
    fn add(&mut self, key: &Key, version: Version, line: &[u8]) {
        self.bytes += line.len() as u64;
        let (counter, writer) = (version.counter.to_le_bytes(), version.writer.0.to_le_bytes());
        self.hash = xxh3_64_with_seed(&[key.encoded().as_bytes(), &counter, &writer].concat(), self.hash);
    }
}

/// The collections that there are: those with documents, and those that were imported without.
async fn collections<T: Target>(target: &mut T) -> Result<Vec<String>, DumpError> {
    let mut names = Vec::new();
    let mut from = String::new();
    loop {
        let page = target.scan(NameRange { from, until: None }, 1).await?;
        from = match (page.documents.first(), page.next) {
            (Some((key, ..)), _) => {
                names.push(key.collection().to_owned());
                // Behind every document of this collection.
                format!("{}\u{1}", key.collection())
            }
            (None, Some(next)) => next,
            (None, None) => break,
        };
    }
    let mut pages = Pages::of(COLLECTIONS);
    while let Some(page) = pages.next(target).await? {
        names.extend(page.into_iter().map(|(key, ..)| key.id().to_owned()));
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names.dedup();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match names.iter().find(|name| !name.bytes().all(allowed)) {
        Some(name) => Err(DumpError::Export(format!(
            "collection `{}` cannot be an index: uids have letters, digits, `-` and `_`; name the others with `--index`",
            name.escape_debug()
        ))),
        None => Ok(names),
    }
}

/// The keys that were imported and that V6 can read, a line each.
async fn keys<T: Target>(target: &mut T, done: &mut Exported) -> Result<Vec<u8>, DumpError> {
    #[derive(Deserialize)]
    struct Key {
        #[serde(rename = "uid")]
        _uid: String,
    }
    let mut lines = Vec::new();
    let mut pages = Pages::of(KEYS);
    while let Some(page) = pages.next(target).await? {
        for (_, _, body) in page {
            match serde_json::from_slice::<Key>(&body) {
                Ok(_) => {
                    lines.extend_from_slice(&body);
                    lines.push(b'\n');
                    done.keys += 1;
                }
                Err(_) => done.keys_left_out += 1,
            }
        }
    }
    Ok(lines)
}

/// How far the first reading has come.
struct Measure<'a> {
    bytes: u64,
    documents: u64,
    progress: &'a mut dyn Progress,
}

struct Pages {
    collection: String,
    from: Option<String>,
}

impl Pages {
    fn of(collection: &str) -> Pages {
        Pages { collection: collection.to_owned(), from: Some(format!("{collection}\0")) }
    }

    async fn next<T: Target>(&mut self, target: &mut T) -> Result<Option<Vec<(Key, Version, Body)>>, DumpError> {
        let Some(from) = self.from.take() else { return Ok(None) };
        let until = Some(format!("{}\u{1}", self.collection).into_bytes());
        let page = target.scan(NameRange { from, until }, PAGE_DOCUMENTS).await?;
        self.from = page.next;
        Ok(Some(page.documents))
    }
}

/// A collection that becomes an index.
struct Index<'a> {
    name: &'a str,
    record: Option<Record>,
    primary_key: Option<String>,
}

impl<'a> Index<'a> {
    fn new(name: &'a str, record: Option<Record>, options: &Options) -> Index<'a> {
        let recorded = record.as_ref().and_then(|record| record.primary_key.clone());
        Index { name, record, primary_key: recorded.or_else(|| options.primary_key.clone()) }
    }

    /// Looks at every document.
    async fn measure<T: Target>(&mut self, target: &mut T, measure: &mut Measure<'_>) -> Result<Sum, DumpError> {
        let mut sum = Sum::default();
        let mut pages = Pages::of(self.name);
        while let Some(page) = pages.next(target).await? {
            for (key, version, body) in page {
                if self.primary_key.is_none() {
                    let [only] = &candidates(&body)[..] else {
                        return Err(
                            self.refuse(&key, "the collection has no primary key; name one with `--primary-key FIELD`")
                        );
                    };
                    self.primary_key = Some(only.clone());
                }
                let line = self.line(&key, &body)?;
                sum.add(&key, version, &line);
                measure.bytes += line.len() as u64;
                measure.documents += 1;
            }
            let (bytes, documents) = (measure.bytes, measure.documents);
            measure.progress.on(Step { phase: Phase::Measure, bytes, of_bytes: 0, documents });
        }
        Ok(sum)
    }

    /// A document as a line, if it is one that Meilisearch can have.
    fn line(&self, key: &Key, body: &[u8]) -> Result<Vec<u8>, DumpError> {
        let seen = inspect(body, self.primary_key.as_deref()).map_err(|why| self.refuse(key, &why))?;
        let id = seen.id.map_err(|why| self.refuse(key, &why))?;
        if id != key.id() {
            return Err(self.refuse(key, &format!("its primary key says `{id}`")));
        }
        let mut line: Vec<u8> = body.to_vec();
        on_one_line(&mut line);
        line.push(b'\n');
        Ok(line)
    }

    fn files(&self, options: &Options) -> [(&'static str, String); 2] {
        let date = |date: Option<&String>| date.unwrap_or(&options.date).clone();
        let record = self.record.as_ref();
        let metadata = json!({
            "uid": self.name,
            "primaryKey": self.primary_key,
            "createdAt": date(record.and_then(|record| record.created_at.as_ref())),
            "updatedAt": date(record.and_then(|record| record.updated_at.as_ref())),
        });
        let settings = match record {
            None => "{}".to_owned(),
            Some(record) if record.dump_version == layout::Version::V1.to_string() => v1(record.settings.get()),
            Some(record) if record.dump_version == layout::Version::V2.to_string() => v2(record.settings.get()),
            Some(record) => record.settings.get().to_owned(),
        };
        [("metadata.json", metadata.to_string()), ("settings.json", settings)]
    }

    fn refuse(&self, key: &Key, why: &str) -> DumpError {
        DumpError::Export(format!("{key} cannot be exported: {why}"))
    }
}

/// Settings of V1 in the words of later versions, which refuse those they do not know.
fn v1(settings: &str) -> String {
    let Ok(old) = serde_json::from_str::<Map<String, Value>>(settings) else { return "{}".to_owned() };
    let mut new = Map::new();
    for (name, value) in old {
        match &name[..] {
            "displayedAttributes" | "searchableAttributes" | "stopWords" | "synonyms" | "distinctAttribute" => {
                new.insert(name, value);
            }
            "attributesForFaceting" => drop(new.insert("filterableAttributes".to_owned(), value)),
            "rankingRules" => {
                let rules = value.as_array().into_iter().flatten().filter_map(Value::as_str).filter_map(rule);
                new.insert(name, rules.collect());
            }
            _ => {}
        }
    }
    Value::Object(new).to_string()
}

/// Settings of V2: 0.21 wrote `asc(year)` where later versions write `year:asc`. Nothing else of them has changed.
fn v2(settings: &str) -> String {
    let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(settings) else { return settings.to_owned() };
    let rules = fields.get_mut("rankingRules").and_then(Value::as_array_mut).into_iter().flatten();
    let mut is_changed = false;
    for rule in rules {
        if let Some(new) = rule.as_str().and_then(by_field) {
            *rule = new.into();
            is_changed = true;
        }
    }
    if is_changed { Value::Object(fields).to_string() } else { settings.to_owned() }
}

/// A ranking rule of V1; `None` if there is no such rule any more.
fn rule(rule: &str) -> Option<String> {
    match rule {
        "wordsPosition" => None,
        "typo" | "words" | "proximity" | "attribute" | "exactness" => Some(rule.to_owned()),
        _ => by_field(rule),
    }
}

/// `asc(year)` as `year:asc`.
fn by_field(rule: &str) -> Option<String> {
    let by = |order: &str| {
        let field = rule.strip_prefix(order)?.strip_prefix('(')?.strip_suffix(')')?;
        Some(format!("{field}:{order}"))
    };
    by("asc").or_else(|| by("desc"))
}

/// gzip(tar), a member at a time.
pub struct Pack<W: Write> {
    out: GzEncoder<W>,
}

impl<W: Write> Pack<W> {
    pub fn new(out: W) -> Pack<W> {
        Pack { out: GzEncoder::new(out, Compression::default()) }
    }

    pub fn member(&mut self, path: &str, content: &[u8]) -> Result<(), DumpError> {
        self.begin(path, content.len() as u64)?;
        self.write(content)?;
        self.pad(content.len() as u64)
    }

    fn begin(&mut self, path: &str, bytes: u64) -> Result<(), DumpError> {
        let mut header = header(EntryType::Regular, bytes);
        if header.set_path(path).is_err() {
            // The name stands in a record of its own, and the header has as much of it as there is room.
            let name = [path.as_bytes(), b"\0"].concat();
            let mut long = self::header(EntryType::GNULongName, name.len() as u64);
            let _: Result<(), _> = long.set_path("././@LongLink");
            long.set_cksum();
            self.write(long.as_bytes())?;
            self.write(&name)?;
            self.pad(name.len() as u64)?;
            for (byte, part) in header.as_old_mut().name.iter_mut().zip(path.bytes()) {
                *byte = part;
            }
        }
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DumpError> {
        self.out.write_all(bytes).map_err(|error| DumpError::Io { what: "write the dump", error })
    }

    fn pad(&mut self, bytes: u64) -> Result<(), DumpError> {
        let used = (bytes % BLOCK_BYTES as u64) as usize;
        self.write(&[0; BLOCK_BYTES][..(BLOCK_BYTES - used) % BLOCK_BYTES])
    }

    /// Writes the end of the archive and hands the output back.
    pub fn finish(mut self) -> Result<W, DumpError> {
        self.write(&[0; 2 * BLOCK_BYTES])?;
        let done = self.out.finish().and_then(|mut out| out.flush().map(|()| out));
        done.map_err(|error| DumpError::Io { what: "write the dump", error })
    }
}

fn header(kind: EntryType, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes);
    header
}
