//! Types every command of docs/simulate-your-own.md and compares what it prints. `MIROIR_UPDATE=1` in front writes the page anew.
#![cfg(madsim)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the test starts the commands of a document")]

use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a person sees: standard output, then errors, then the exit code if it is not zero.
fn typed(command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(ROOT)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("there is a shell");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => text,
        code => text + &format!("(exit code {})\n", code.map_or("none".to_owned(), |code| code.to_string())),
    }
}

#[test]
fn a_newcomers_walk_is_as_the_page_says() {
    let path = format!("{ROOT}/docs/simulate-your-own.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let mut walked = String::new();
    let (mut inside, mut commands) = (false, 0);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        }
        if inside && !line.starts_with("```") && !line.starts_with("$ ") {
            continue; // what it printed the last time
        }
        walked += line;
        walked.push('\n');
        if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            walked += &typed(command);
            commands += 1;
        }
    }
    assert!(commands >= 4, "{commands} commands");
    if std::env::var_os("MIROIR_UPDATE").is_some() {
        std::fs::write(&path, &walked).expect("a place for the page");
    }
    assert_eq!(page, walked, "the page is stale; MIROIR_UPDATE=1 writes it anew");
}
