//! `miroir`: a node, a coordinator, or an operator's hand on a running cluster.

#[cfg(all(unix, not(madsim)))]
fn main() -> std::process::ExitCode {
    miroir_store::cli::main()
}

#[cfg(not(all(unix, not(madsim))))]
fn main() -> std::process::ExitCode {
    #[expect(clippy::print_stderr, reason = "there is nobody else to say it")]
    {
        eprintln!(
            "error: this binary was built for the simulator and runs no cluster; build it without `--cfg madsim`"
        );
    }
    std::process::ExitCode::from(70)
}
