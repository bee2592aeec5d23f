//! One way to take a lock. A run is single-threaded, so a poisoned lock only says that some simulated process panicked; the world still has
//! to be taken down and the trace still has to be read, so the poison is ignored.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
