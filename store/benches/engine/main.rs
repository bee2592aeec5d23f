//! `cargo bench -p miroir-store --bench engine`; see [`table`]. Not for the simulator: it measures a real machine.

#[cfg(not(madsim))]
mod table;

fn main() {
    // `cargo test` runs benchmarks, too, to see whether they start.
    #[cfg(not(madsim))]
    #[expect(clippy::disallowed_methods, reason = "cargo says how it was called")]
    if std::env::args().any(|argument| argument == "--bench" || argument == "memory-child") {
        table::run();
    }
}
