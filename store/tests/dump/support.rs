//! A store to import into, and what is in it afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_store::dump::export;
use miroir_store::dump::import::{Imported, import};
use miroir_store::dump::plan::{Options, Plan, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::refusal::DumpError;
use miroir_store::dump::target::embedded::{Embedded, at_once, store_options};
use miroir_store::store::{Ids, Store};

/// A store in a folder that goes when it is dropped.
pub struct Scratch {
    pub store: Option<Store>,
    path: PathBuf,
}

static STORES: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::disallowed_methods, reason = "a folder of its own for each test")]
impl Scratch {
    pub fn new() -> Scratch {
        Scratch::open(miroir_store::store::Options::default().shards(4).cache_bytes(1 << 20))
    }

    /// As the command line opens a store for an import.
    pub fn small() -> Scratch {
        Scratch::open(store_options().shards(4))
    }

    fn open(options: miroir_store::store::Options) -> Scratch {
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("miroir-dump-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch { store: Some(options.open(&path).expect("a new store")), path }
    }

    /// The names of its files.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).expect("the folder is there");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect();
        names.sort();
        names
    }
}

impl Scratch {
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// After another process had it.
    pub fn reopen(&mut self) {
        self.store = Some(Store::open(&self.path).expect("a store"));
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("open as long as it is used")
    }

    pub fn import(&self, dump: &[u8], options: &Options) -> Result<(Plan, Imported), DumpError> {
        let plan = analyse(&dump, options, &mut Silent)?;
        let imported = at_once(import(&dump, &plan, options, &mut Embedded(self.store()), &mut Silent))?;
        Ok((plan, imported))
    }

    pub fn export(&self, options: &export::Options) -> Result<Vec<u8>, DumpError> {
        let mut dump = Vec::new();
        at_once(export::export(&mut Embedded(self.store()), options, &mut dump, &mut Silent))?;
        Ok(dump)
    }

    /// The documents of a collection by id.
    pub fn collection(&self, name: &str) -> BTreeMap<String, String> {
        let documents = self.store().iter(name, Ids::all()).map(|document| document.expect("a document"));
        documents.map(|it| (it.id().to_owned(), String::from_utf8(it.body.to_vec()).expect("text"))).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.store().stats().expect("counts").documents == 0
    }
}

impl Drop for Scratch {
    #[expect(clippy::disallowed_methods, reason = "a folder of its own for each test")]
    fn drop(&mut self) {
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Why a dump is refused; also that nothing was written.
pub fn refusal(dump: &[u8], options: &Options) -> String {
    let scratch = Scratch::new();
    let error = scratch.import(dump, options).map(|(plan, _)| plan.mode).expect_err("it is to be refused");
    assert!(matches!(error, DumpError::Refused(_)), "{error}");
    assert!(scratch.is_empty(), "something was written: {error}");
    let text = error.to_string();
    assert!(text.ends_with("\nSee: docs/dump-import/compatibility-matrix.md"), "{text}");
    text
}
