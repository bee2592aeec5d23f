//! Runs every command of `docs/migration_runbook.md`, in order, against a local cluster, and compares what it prints.
//!
//! Addresses, times, versions, disks and large numbers differ from run to run and are not compared. With `MIROIR_BLESS=1` the
//! outputs in the document are written anew:
//! `MIROIR_BLESS=1 cargo test -p miroir-store --test real runbook`.

use std::path::{Path, PathBuf};
use std::process::Command;

use miroir_store::cli::settings::Settings;

use crate::{MIROIR, folder};

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration_runbook.md")
}

/// A command of the document and what it printed there.
struct Step {
    line: usize,
    command: String,
    printed: Vec<String>,
}

/// The steps, and the document in pieces: text, step, text, ...
fn read(text: &str) -> Vec<Result<Step, String>> {
    let mut pieces = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        match (inside, line) {
            (false, "```console") | (true, "```") => {
                inside = !inside;
                pieces.push(Err(line.to_owned()));
            }
            (true, line) => match (line.strip_prefix("$ "), pieces.last_mut()) {
                (Some(command), _) => {
                    pieces.push(Ok(Step { line: number, command: command.to_owned(), printed: Vec::new() }));
                }
                (None, Some(Ok(step))) => step.printed.push(line.to_owned()),
                (None, _) => panic!("line {number}: an output without a command"),
            },
            (false, line) => pieces.push(Err(line.to_owned())),
        }
    }
    pieces
}

/// What of a line is the same in every run.
fn lasting(line: &str) -> String {
    let masked = line.split_whitespace().map(|word| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if word.starts_with("127.0.0.1:") {
            "ADDRESS"
        } else if word.contains("MIROIR_CONFIG=") {
            "SETTINGS"
        } else if word.split_once(':').is_some_and(|(version, writer)| version.starts_with('v') && is_hex(writer)) {
            "VERSION"
        } else if word.len() == 8 && is_hex(word) {
            // Before numbers: a disk may have no letter in its name.
            "DISK"
        } else if word.parse::<f64>().is_ok() && (word.contains('.') || digits > 3) {
            "NUMBER"
        } else {
            word
        }
    });
    masked.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_runbook_runs_and_prints_what_it_says() {
    let text = std::fs::read_to_string(document()).expect("the runbook");
    let folder = folder("runbook");
    let programs = Path::new(MIROIR).parent().expect("a program lies in a folder");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let run = |command: &str| -> Vec<String> {
        let output = Command::new("bash")
            .args(["-c", &format!("exec 2>&1; {command}")])
            .current_dir(&folder)
            .env("PATH", &path)
            .env("MIROIR_CONFIG", folder.join("miroir-cluster/miroir.toml"))
            .env_remove("MIROIR_BLESS")
            .output()
            .expect("bash starts");
        let printed = String::from_utf8_lossy(&output.stdout).replace(&folder.display().to_string(), "~");
        printed.lines().map(str::to_owned).collect()
    };
    let mut written = String::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for piece in read(&text) {
        match piece {
            Err(line) => written += &format!("{line}\n"),
            Ok(step) => {
                count += 1;
                let printed = run(&step.command);
                written += &format!("$ {}\n", step.command);
                printed.iter().for_each(|line| written += &format!("{line}\n"));
                let mask = |lines: &[String]| lines.iter().map(|line| lasting(line)).collect::<Vec<_>>();
                if mask(&printed) != mask(&step.printed) {
                    wrong.push(format!("line {}: $ {}\n{}", step.line, step.command, printed.join("\n")));
                }
            }
        }
    }
    // In case the document did not come to its end.
    run("miroir cluster down; kill $(cat spare/n5.pid)");
    if std::env::var_os("MIROIR_BLESS").is_some() {
        std::fs::write(document(), written).expect("the runbook is written");
        return;
    }
    assert!(wrong.is_empty(), "these commands print something else:\n{}", wrong.join("\n\n"));
    assert!(count > 20, "the runbook has commands");
    std::fs::remove_dir_all(&folder).expect("cleaned up");
}

/// Thresholds that name a setting follow from its default: `| ... 20 s ... | 2 x `anti_entropy_period_ms` |`.
#[test]
fn thresholds_follow_from_the_settings_that_are_named_beside_them() {
    let text = std::fs::read_to_string(document()).expect("the runbook");
    let settings = serde_json::to_value(Settings::default()).expect("settings are JSON");
    let (_, table) = text.split_once("| metric | look into it when").expect("the table of metrics");
    let mut followed = 0;
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, when, from] = cells[..] else { panic!("three cells: {row}") };
        let (factor, name) = from.split_once(" x ").unwrap_or(("1", from));
        let name = name.trim_matches('`');
        if name.is_empty() {
            continue;
        }
        let ms = settings[name].as_f64().unwrap_or_else(|| panic!("`{name}` is a setting: {row}"));
        let seconds = factor.parse::<f64>().expect("a factor") * ms / 1e3;
        assert!(when.contains(&format!(" {seconds} s")), "{seconds} s follows from the default: {row}");
        followed += 1;
    }
    assert!(followed > 5, "thresholds follow from settings");
}
