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

/// Every planted bug of this crate: its name, and what it breaks.
#[cfg(madsim)]
pub const PLANTED: &[(&str, &str)] = &[
    ("M03", "the delta pass begins before a majority of the old replicas has installed Joint"),
    ("M05", "the delta pass reads a single old replica instead of a majority"),
    ("M06", "pages and repairs are merged without comparing versions"),
    ("M09", "tombstones are forgotten when a majority, not all, hold them"),
    ("M11", "Joint writes are acknowledged by a majority of the old replicas alone"),
    ("M13", "acknowledgements given under different epochs are counted together"),
    ("M26", "a second version is chosen when a write is retried under a new epoch"),
    ("M27", "a get returns what it read without writing it back"),
    ("M29", "a node answers before its commit is durable"),
    ("M31", "a replica with an empty disk votes at once"),
    ("M34", "a node serves requests of epochs that it has not installed"),
    ("M36", "the safety gate is not evaluated at Activate"),
    ("M41", "a writer's counter forgets what it issued itself"),
    ("M42", "tombstones are forgotten without the epoch barrier"),
    ("M43", "pages and repairs read below the tombstone barrier are accepted"),
    ("M46", "a new migration opens before the cleanup gate is met"),
    ("M51", "readmission after a skipped delta pass reads a majority of the new replicas only"),
    ("M53", "a damaged replica serves as a source"),
    ("M55", "a recovering replica votes"),
];
