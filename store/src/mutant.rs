//! Planted bugs. Each is one line beside the code it breaks, behind [`mutant!`], and exists only in a build for the
//! simulator (`cfg(madsim)`); there a run chooses at most one. In an ordinary build the macro is the constant `false`.

/// Whether the planted bug of this name is active: `if mutant!("M29") { ... }`.
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {{
        #[cfg(madsim)]
        {
            $crate::mutant::is_active($name)
        }
        #[cfg(not(madsim))]
        {
            false
        }
    }};
}

#[cfg(madsim)]
mod active {
    use std::cell::RefCell;

    thread_local! {
        /// One run is one thread.
        static ACTIVE: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// Chooses the planted bug of this thread's run; `None` chooses none.
    pub fn activate(name: Option<&str>) {
        ACTIVE.with(|active| *active.borrow_mut() = name.map(str::to_owned));
    }

    pub fn is_active(name: &str) -> bool {
        ACTIVE.with(|active| active.borrow().as_deref() == Some(name))
    }
}

#[cfg(madsim)]
pub use active::{activate, is_active};
