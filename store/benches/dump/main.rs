//! `cargo xtask bench dump`; see [`rates`]. Not for the simulator: it measures a real machine.

use std::process::ExitCode;

#[cfg(not(madsim))]
mod rates;
#[cfg(not(madsim))]
mod synthetic;

fn main() -> ExitCode {
    // `cargo test` runs benchmarks, too, to see whether they start.
    #[cfg(not(madsim))]
    #[expect(clippy::disallowed_methods, reason = "cargo says how it was called")]
    if std::env::args().any(|argument| argument == "--bench" || argument == rates::CHILD) && !rates::run() {
        return ExitCode::from(100);
    }
    ExitCode::SUCCESS
}
