//! Planted bugs. Each is one line beside the code it breaks, behind [`mutant!`], and exists only in a build for the
//! simulator (`cfg(madsim)`); there a run chooses at most one. In an ordinary build the macro is the constant `false`.

/// Whether the planted bug of this name, or one of these names, is active: `if mutant!("M29") { ... }`.
#[macro_export]
macro_rules! mutant {
    ($($name:literal),+) => {{
        #[cfg(madsim)]
        {
            $($crate::mutant::is_active($name))||+
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
    ("M01", "after a delta pass that found nothing to do, the migration ends and Stable(N) is never installed"),
    ("M02", "copying goes on behind the greatest key that the joining node holds, not behind the last page"),
    ("M03", "the delta pass begins, and reads, before a majority of the old replicas has installed Joint"),
    ("M04", "the delta pass ends at the first document that no joining node lacks"),
    ("M05", "the delta pass reads a single old replica instead of a majority"),
    ("M06", "pages and repairs are merged without comparing versions"),
    ("M07", "deletes are not forwarded to the joining nodes, and listings leave tombstones out"),
    ("M08", "reconciling takes a tombstone for a document that is missing, and brings an older one back"),
    ("M09", "tombstones are forgotten when a majority, not all, hold them"),
    ("M10", "a joining node takes no tombstones from pages"),
    ("M11", "Joint writes are acknowledged by a majority of the old replicas alone"),
    ("M12", "Joint reads are answered by a majority of the new replicas alone"),
    ("M13", "acknowledgements given under different epochs are counted together"),
    ("M14", "an installed configuration is not made durable"),
    ("M15", "configurations are told to nodes before their commit is durable"),
    ("M16", "a commit whose sync failed is taken for committed"),
    ("M17", "a timeout tells nodes to serve as before, and the migration goes on"),
    ("M18", "ex-owners are told to drop before Activate is durable"),
    ("M19", "a drop that names an earlier epoch is carried out"),
    ("M20", "pages and repairs meant for another session are accepted"),
    ("M21", "the copy of a node that joins again is not wiped"),
    ("M22", "an abort gives the replicas that stay a new session, which wipes them"),
    ("M23", "a page that is not confirmed in time ends the copy, and the cutover goes on"),
    ("M24", "a coordinator that restarts resumes only the first open migration"),
    ("M25", "two migrations to one node share the page under way: the first to end its copy ends the other's"),
    ("M26", "a second version is chosen when a write is retried under a new epoch"),
    ("M27", "a get returns what it read without writing it back"),
    ("M28", "a node that restarts has forgotten its counters"),
    ("M29", "a node answers before its commit is durable"),
    ("M30", "a sync of the log that failed is taken for done"),
    ("M31", "a replica with an empty disk votes at once"),
    ("M32", "digests are not updated on deletes"),
    ("M33", "reconciling ships the older of two versions"),
    ("M34", "a node serves requests of epochs that it has not installed"),
    ("M35", "the cleanup gate is met by an anti-entropy pass that began before Activate"),
    ("M36", "the safety gate is not evaluated at Activate"),
    ("M37", "Drain watches the epochs that nodes have installed of another shard"),
    ("M38", "anti-entropy always picks the same shards first"),
    ("M39", "a coordinator that restarts believes that what it committed is installed"),
    ("M40", "where a list lies in memory decides which node is asked first"),
    ("M41", "a writer's counter forgets what it issued itself"),
    ("M42", "tombstones are forgotten without the epoch barrier"),
    ("M43", "pages and repairs read below the tombstone barrier are accepted"),
    ("M44", "the copy of another session is not wiped when its node appears among the old replicas"),
    ("M45", "a skipped delta pass does not carry the counter either"),
    ("M46", "a new migration opens before the cleanup gate is met"),
    ("M47", "the delta pass reads replicas that have not installed Joint"),
    ("M48", "a drop takes the installed configuration along"),
    ("M49", "a newer configuration relabels the replies that are counted already"),
    ("M50", "wipe and install are two durable steps"),
    ("M51", "readmission after a skipped delta pass reads a majority of the new replicas only"),
    ("M52", "a replica is given a new session while Joint is open"),
    ("M53", "a damaged replica serves as a source"),
    ("M54", "a replica that joined again stays among those that leave, and drops its copy when told to"),
    ("M55", "a recovering replica votes"),
    ("M56", "a link whose connection has ended is not dialled again"),
    ("M57", "a door answers in its own newest wire version, whatever the dialler speaks"),
    ("M58", "what a client sends counts as from the client that came before it, who gets the answers"),
    ("M59", "a node answers scans whichever configuration they were asked under, also when it has left the shard"),
    ("M60", "anti-entropy leaves four turns of a shard out while its cleanup gate is unmet"),
    ("M61", "a client is told that a write has failed which it gave up waiting for"),
    ("M62", "a broadcast's manifest is durable before everything that it stands for is staged"),
    ("M63", "a node that does under a newer epoch what a client asked for says that it did it under the older one"),
    ("M64", "a node installs what a lost coordinator had committed, although it has promised not to"),
];
