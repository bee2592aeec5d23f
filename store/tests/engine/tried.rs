//! How much is tried, and how it is told.
//!
//! The defaults suit a test; `cargo xtask qualify engine` asks for more, by the environment, and reads the lines that
//! [`tell`] prints.

#![expect(clippy::disallowed_methods, reason = "how much to try is the caller's choice and no part of a run")]

use std::io::Write as _;

/// How many to try: what the environment says under this name, else `default`.
pub fn wanted(name: &str, default: u64) -> u64 {
    all_wanted(name, &[default])[0]
}

/// The same for a list, `10000,100000`.
pub fn all_wanted(name: &str, default: &[u64]) -> Vec<u64> {
    let Ok(text) = std::env::var(name) else { return default.to_vec() };
    let numbers: Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
    numbers.unwrap_or_else(|_| panic!("{name}: `{text}` is not numbers with commas between them"))
}

/// Says what was tried: `tried: crashes: 1500 crashes, 320 while an engine was being opened`. It is shown although the test passes.
pub fn tell(what: &str, counts: &[(u64, &str)]) {
    let counts: Vec<String> = counts.iter().map(|(count, of_what)| format!("{count} {of_what}")).collect();
    // Not `println!`, which a passing test keeps to itself.
    writeln!(std::io::stdout(), "tried: {what}: {}", counts.join(", ")).expect("somebody listens");
}
