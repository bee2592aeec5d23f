//! What a program may choose about its store.

use std::path::Path;
use std::sync::Arc;

use crate::engine;
use crate::error::StoreError;
use crate::store::Store;

/// How to open a store. Everything but the number of shards may differ from one opening to the next.
///
/// ```no_run
/// use miroir_store::store::Options;
///
/// let store = Options::default().cache_bytes(256 << 20).open("films.miroir")?;
/// # Ok::<(), miroir_store::error::StoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) shards: Option<u32>,
    cache_bytes: usize,
    memory_documents: usize,
    memory_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { shards: None, cache_bytes: 64 << 20, memory_documents: 256 << 10, memory_bytes: 64 << 20 }
    }
}

impl Options {
    /// How many shards a new store is divided into; fixed when it is created. Damage silences a shard; a scan reads
    /// all of them. At least 1; panics at 0. Default: 1.
    pub fn shards(mut self, count: u32) -> Options {
        assert!(count > 0, "a store has a shard");
        self.shards = Some(count);
        self
    }

    /// Bytes of memory for what was read: three quarters for pages, a quarter for single documents that [`Store::get`]
    /// found in them, up to some 2 KiB each, which it finds again without a search. An eighth of all may be taken on top,
    /// for names of documents, while a store is filled. Default: 64 MiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Options {
        self.cache_bytes = bytes;
        self
    }

    /// How much is written before it is moved from memory (and log) to the page file, whichever comes first: documents
    /// and bytes of keys and bodies. More makes writes faster; the log, and with it the time to open after a crash,
    /// grows in proportion. Default: 262,144 documents, 64 MiB.
    pub fn memory(mut self, documents: usize, bytes: usize) -> Options {
        (self.memory_documents, self.memory_bytes) = (documents, bytes);
        self
    }

    /// Opens the store in a directory: see [`Store::open`].
    #[cfg(unix)]
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        use crate::env::real::{FileDisk, OsDice};

        let path = path.as_ref();
        let disk = FileDisk::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::ResourceBusy => StoreError::InUse { path: path.display().to_string() },
            _ => StoreError::Open { path: path.display().to_string(), error },
        })?;
        Store::open_on(Arc::new(disk), Arc::new(OsDice), self)
    }

    pub(super) fn engine(&self) -> engine::Options {
        let row_cache_bytes = self.cache_bytes / 4;
        engine::Options {
            flush_writes: self.memory_documents,
            flush_bytes: self.memory_bytes,
            cache_bytes: self.cache_bytes - row_cache_bytes,
            row_cache_bytes,
            names_bytes: self.cache_bytes / 8,
            ..engine::Options::default()
        }
    }
}
