//! Runs one seed of one scenario in this process: what `cargo xtask sim` and `sweep` spawn.
//!
//! Exit codes are those of [`miroir_sim::verdict::ExitCode`]. Bad input is one line on stderr and exit code 2; a binary
//! that was built without the simulator says so and exits with 70.

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!("this binary was built without the simulator; build and run it with `cargo xtask sim`");
    miroir_sim::verdict::ExitCode::Internal.into()
}

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    miroir_scenarios::worker::main()
}
