//! The documents of one name: sugar over [`Store`], which takes the collection with every call.

use std::ops::ControlFlow;

use crate::error::StoreError;
use crate::id::{Key, Value};
use crate::store::{Cursor, Documents, Ids, Page, Store};

/// A collection of a store.
#[derive(Clone, Copy)]
pub struct Collection<'a> {
    store: &'a Store,
    name: &'a str,
}

impl<'a> Collection<'a> {
    pub(super) fn new(store: &'a Store, name: &'a str) -> Result<Collection<'a>, StoreError> {
        // Any id will do to see whether the name is allowed.
        Key::new(name, "id")?;
        Ok(Collection { store, name })
    }

    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The body of a document; `None` if there is none. Ids have 1 to 511 bytes and no NUL. Fails as
    /// [`Store::get`] does.
    pub fn get(&self, id: &str) -> Result<Option<Value>, StoreError> {
        self.store.get(self.name, id)
    }

    /// Writes a document, whole, durably. Bodies have at most 16 MiB. Fails as [`Store::put`] does.
    pub fn put(&self, id: &str, body: &[u8]) -> Result<(), StoreError> {
        self.store.put(self.name, id, body)
    }

    /// Deletes a document, durably. Fails as [`Store::delete`] does.
    pub fn delete(&self, id: &str) -> Result<(), StoreError> {
        self.store.delete(self.name, id)
    }

    /// The next documents: see [`Store::scan`].
    pub fn scan(&self, ids: &Ids, from: Option<&Cursor>, page: usize) -> Result<Page, StoreError> {
        self.store.scan(self.name, ids, from, page)
    }

    /// Visits documents where they lie: see [`Store::visit`].
    pub fn visit(&self, ids: &Ids, visit: impl FnMut(&str, &[u8]) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.store.visit(self.name, ids, visit)
    }

    /// All documents in these bounds, read a page at a time: see [`Store::iter`].
    pub fn iter(&self, ids: Ids) -> Documents<'a> {
        self.store.iter(self.name, ids)
    }
}
