//! The command line as scripts see it: exit codes, what goes to stdout and what to stderr, and what is left on disk.
//!
//! The worker is `tests/fake-worker.sh`, each of whose scenarios misbehaves in one way.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
    /// Where this command kept its runs.
    kept: PathBuf,
}

impl Ran {
    fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// The records, or the summary, of a `--json` command.
    fn json(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
    }

    /// The one line of an error.
    fn error(&self) -> &str {
        let line = self.stderr.trim_end().strip_prefix("error: ").unwrap_or(self.stderr.trim_end());
        assert!(!line.contains('\n'), "more than one line: {}", self.stderr);
        line
    }
}

/// Runs `cargo xtask LINE` in a target directory of the test's own, with `environment` on top.
fn xtask(test: &str, line: &str, environment: &[(&str, &str)]) -> Ran {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command_line").join(test);
    let _ = fs::remove_dir_all(&target);
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(line.split_whitespace())
        .env_remove("MIROIR_SEED")
        .env_remove("MIROIR_PROFILE")
        .env("MIROIR_WORKER", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-worker.sh"))
        .env("CARGO_TARGET_DIR", &target)
        .envs(environment.iter().copied())
        .output()
        .expect("xtask starts");
    Ran {
        code: output.status.code().expect("xtask ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("stdout is text"),
        stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        kept: target.join("miroir"),
    }
}

#[test]
fn the_seed_is_the_first_and_the_last_line_and_the_run_is_kept() {
    let ran = xtask("seed", "sim --seed 0x2a", &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!((ran.lines()[0], ran.lines()[ran.lines().len() - 1]), ("seed 42", "seed 42"));
    assert!(ran.stdout.contains("report of cutover/swarm, verdict pass"));
    assert_eq!(fs::read_to_string(ran.kept.join("runs/latest/repro.toml")).unwrap(), "seed = 42\n");
}

#[test]
fn the_environment_gives_a_seed_and_a_typed_one_wins() {
    let environment = [("MIROIR_SEED", "7")];
    assert_eq!(xtask("seed-env", "sim", &environment).lines()[0], "seed 7");
    assert_eq!(xtask("seed-wins", "sim --seed 8", &environment).lines()[0], "seed 8");
    let ran = xtask("seed-bad", "sim", &[("MIROIR_SEED", "x")]);
    assert_eq!(ran.code, 2);
    assert!(ran.error().starts_with("MIROIR_SEED: `x`"), "{}", ran.stderr);
}

#[test]
fn json_is_alone_on_stdout() {
    let ran = xtask("json", "sim fake/odd --seed 3 --json", &[]);
    assert_eq!(ran.code, 100);
    let records = ran.json();
    assert_eq!((records.len(), &records[0]["verdict"]), (1, &Value::from("violation")));
    assert!(ran.stderr.starts_with("seed 3\n") && ran.stderr.ends_with("seed 3\n"), "{}", ran.stderr);
}

#[test]
fn what_the_worker_refuses_passes_through() {
    let ran = xtask("unknown", "sim cutover/swamr --seed 1", &[]);
    assert_eq!((ran.code, ran.error()), (2, "there is no scenario `cutover/swamr`; did you mean `cutover/swarm`?"));
    assert!(!ran.kept.join("runs/latest").exists());
    let ran = xtask("unknown-set", "sim --seed 1 --set nothing=1", &[]);
    assert_eq!((ran.code, ran.error()), (2, "--set: there is no key `nothing`; allowed: replication=1|3"));
    let ran = xtask("internal", "sim fake/internal --seed 1", &[]);
    assert_eq!((ran.code, ran.error()), (70, "built without the cfg of the simulator"));
    let ran = xtask("set-help", "sim --set help", &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "replication=1|3\n"));
}

#[test]
fn a_crash_of_the_worker_is_a_verdict() {
    let ran = xtask("killed", "sim fake/killed --seed 1 --json", &[]);
    assert_eq!((ran.code, &ran.json()[0]["fingerprint"]), (100, &Value::from("was killed by signal 9")));
    assert_eq!(ran.json()[0]["detail"], "last words\n");
    let ran = xtask("panics", "sim fake/panics --seed 1", &[]);
    assert_eq!(ran.code, 100);
    assert!(ran.stdout.contains("verdict crashed: the worker panicked"), "{}", ran.stdout);
}

#[test]
fn twice_says_how_much_was_equal_or_what_differs_first() {
    let ran = xtask("twice", "sim --seed 42 --twice", &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("\ndeterministic: 4 events, trace hash 9f42\n"), "{}", ran.stdout);
    let ran = xtask("fickle", "sim fake/fickle --seed 42 --twice", &[]);
    assert_eq!(ran.code, 100);
    assert!(
        ran.stdout.contains("event 3 is the first that differs:\n  both    boot\n  both    write\n"),
        "{}",
        ran.stdout
    );
    let ran = xtask("fickle-json", "sim fake/fickle --seed 42 --twice --json", &[]);
    assert_eq!((ran.code, &ran.json()[0]["verdict"]), (100, &Value::from("diverged")));
}

#[test]
fn a_sweep_adds_up_and_keeps_every_result() {
    let ran = xtask("sweep", "sweep cutover/swarm --seeds 0..60 --jobs 3 --json", &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.json();
    let summary = &lines[60]["summary"];
    assert_eq!((&summary["seeds"], &summary["passed"], &summary["canary"]), (&60.into(), &60.into(), &"found".into()));
    let scenario = &summary["scenarios"][0];
    assert_eq!((&scenario["acked"], &scenario["marks"]["a mark"]["seeds"]), (&5940.into(), &60.into()));
    assert_eq!(scenario["seeds_compared"], 2, "the first seed, and one in fifty");
    let results = fs::read_to_string(ran.kept.join("sweeps/latest/results.jsonl")).unwrap();
    assert_eq!(results.lines().count(), 60);
    let names = fs::read_dir(ran.kept.join("sweeps/latest")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["junit.xml", "results.jsonl", "sweep.json"], "the worker's second name is gone");
}

#[test]
fn a_failing_seed_comes_with_the_command_that_reproduces_it_and_its_files() {
    let ran = xtask("odd", "sweep fake/odd --seeds 0..4 --set replication=1", &[]);
    assert_eq!(ran.code, 100, "{}", ran.stderr);
    assert!(ran.stdout.contains("  cargo xtask sim fake/odd --seed 1 --set replication=1\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("2 pass, 2 violation"), "{}", ran.stdout);
    assert!(ran.kept.join("sweeps/latest/failing/fake-odd-1/repro.toml").exists());
    assert!(ran.stdout.contains("2 runs\n  seed 1: planted\n"), "one kind of failure: {}", ran.stdout);
    let ran = xtask("max-fail", "sweep fake/odd fake/killed --seeds 0..100 --jobs 1 --max-fail 2 --json", &[]);
    let lines = ran.json();
    assert_eq!(lines[lines.len() - 1]["summary"]["stopped"], true);
    assert!((4..7).contains(&lines.len()), "two kinds by seed 1, what was under way, the summary: {}", lines.len());
}

#[test]
fn workers_that_misbehave_are_results_and_none_is_lost() {
    let line = "sweep fake/killed fake/panics fake/hangs fake/silent fake/internal fake/fickle --seeds 0..1 --wall-limit-s 1 --json";
    let ran = xtask("misbehave", line, &[]);
    assert_eq!(ran.code, 100, "{}", ran.stderr);
    let mut lines = ran.json();
    let summary = lines.pop().expect("a summary");
    let mut said: Vec<String> =
        lines.iter().map(|line| format!("{} {}: {}", line["scenario"], line["verdict"], line["fingerprint"])).collect();
    said.sort();
    let crashed = |line: &String| line.contains("\"crashed\"");
    assert_eq!((said.len(), said.iter().filter(|line| crashed(line)).count()), (6, 5), "{said:#?}");
    assert!(said[0].starts_with("\"fake/fickle\" \"diverged\""), "{said:#?}");
    assert!(said[1].contains("hung: no end within 1 s"), "{said:#?}");
    assert_eq!(summary["summary"]["findings"], 6);
}

#[test]
fn a_worker_that_somebody_kills_is_reported_as_killed_and_not_as_divergent() {
    let once = Path::new(env!("CARGO_TARGET_TMPDIR")).join("killed-once");
    let _ = fs::remove_file(&once);
    let ran =
        xtask("once", "sweep fake/once --seeds 0..3 --jobs 1 --json", &[("FAKE_ONCE", once.to_str().expect("a path"))]);
    assert_eq!(ran.code, 100, "{}", ran.stderr);
    let lines = ran.json();
    let verdicts: Vec<&Value> = lines[..3].iter().map(|line| &line["verdict"]).collect();
    assert_eq!(verdicts, ["crashed", "pass", "pass"]);
    assert_eq!(lines[0]["cause"], "was killed by signal 9; another run of the seed said pass");
    assert!(!ran.kept.join("sweeps/latest/failing/fake-once-0").exists(), "no files of a run that did not fail");
}

#[test]
fn an_unreached_mark_and_a_blind_canary_are_findings() {
    let ran = xtask("unreached", "sweep fake/unreached --seeds 0..2", &[]);
    assert_eq!(ran.code, 100);
    assert!(ran.stdout.contains("unreached: fake/unreached never reached `never`"), "{}", ran.stdout);
    let ran = xtask("blind", "sweep cutover/swarm --seeds 0..2", &[("FAKE_CANARY", "pass")]);
    assert_eq!(ran.code, 100);
    assert!(ran.stdout.contains("the alarm is broken: the canary passed"), "{}", ran.stdout);
}

#[test]
fn sweeps_that_cannot_start_say_why() {
    for (test, line, code, text) in [
        ("empty", "sweep --seeds 5..5", 4, "5..5 has no seed"),
        ("no-match", "sweep dump/* --seeds 0..1", 4, "no scenario matches `dump/*`"),
        ("sweep-unknown", "sweep cutover/swamr --seeds 0..1", 2, "did you mean `cutover/swarm`?"),
        ("count-nothing", "sweep --count 0", 4, "has no seed"),
        ("sweep-set", "sweep --seeds 0..9 --set nothing=1 --json", 2, "there is no key `nothing`"),
        ("sweep-range", "sweep --seeds 9..1", 2, "runs backwards"),
        ("no-rounds", "soak --rounds 0", 2, "--rounds"),
        ("slice", "sweep --seeds 0..9 --partition slice:3/2", 2, "write slice:m/n"),
        ("slice-random", "sweep --count 9 --partition slice:1/2", 2, "another random seed"),
        ("slice-time", "sweep --for 9s --partition slice:1/2", 2, "`--for` has no set of seeds"),
        ("slice-nowhere", "sweep --seeds 0..9 --partition auto", 2, "none of JOB_COMPLETION_INDEX"),
        ("no-file", "replay nothing.toml", 2, "there is no file nothing.toml"),
        ("no-run", "shrink nothing", 2, "there is no run `nothing`"),
        ("no-folder", "merge nothing", 2, "is not the folder of a sweep"),
        ("profile", "sim --seed 1 --trace loud", 2, "off, short, full"),
    ] {
        let ran = xtask(test, line, &[]);
        assert_eq!(ran.code, code, "{line}: {}", ran.stderr);
        assert!(ran.error().contains(text), "{line}: {}", ran.stderr);
        assert!(!ran.kept.join("sweeps/latest").exists(), "{line}: nothing ran, so nothing is kept");
    }
    assert_eq!(xtask("build", "sim --seed 1", &[("MIROIR_PROFILE", "fast")]).code, 2);
    assert_eq!(xtask("no-worker", "sim --seed 1", &[("MIROIR_WORKER", "/does/not/exist")]).code, 70);
}

/// The summary of a sweep without what differs from one machine to the next.
fn timeless(mut summary: Value) -> Value {
    let sums = summary["summary"].as_object_mut().expect("a summary");
    for field in ["wall_ms", "jobs", "seeds_per_min"] {
        sums.remove(field);
    }
    for failing in sums["failing"].as_array_mut().expect("a list") {
        // The files of exemplars are where they were found.
        failing.as_object_mut().expect("an object").remove("next");
    }
    summary
}

#[test]
fn merged_slices_say_what_one_sweep_says() {
    let what = "sweep fake/odd cutover/swarm --seeds 0..60 --max-fail all --json";
    let whole = xtask("whole", what, &[]);
    let slices: Vec<Ran> = (1..=3)
        .map(|slice| xtask(&format!("slice-{slice}"), &format!("{what} --partition slice:{slice}/3"), &[]))
        .collect();
    let folders: Vec<PathBuf> = slices.iter().map(|ran| ran.kept.join("sweeps/latest")).collect();
    let folders: Vec<&str> = folders.iter().map(|folder| folder.to_str().expect("a path")).collect();
    let merged = xtask("merged", &format!("merge --json {}", folders.join(" ")), &[]);
    assert_eq!((whole.code, merged.code), (100, 100), "{}", merged.stderr);
    let last = |ran: &Ran| timeless(ran.json().pop().expect("a summary"));
    assert_eq!(last(&merged), last(&whole));
    let sorted = |ran: &Ran| {
        let text = fs::read_to_string(ran.kept.join("sweeps/latest/results.jsonl")).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&merged), sorted(&whole));

    // The same slice twice collapses; one that is lost, or says something else, is red.
    let twice = xtask("twice-merged", &format!("merge --json {} {}", folders.join(" "), folders[0]), &[]);
    assert_eq!(last(&twice)["summary"]["problems"], serde_json::json!([]));
    let lost = xtask("lost", &format!("merge {} {}", folders[0], folders[2]), &[]);
    assert_eq!(lost.code, 100);
    assert!(lost.stdout.contains("incomplete: slice:2/3 is missing"), "{}", lost.stdout);
    let results = Path::new(folders[1]).join("results.jsonl");
    let text = fs::read_to_string(&results).unwrap();
    fs::write(&results, text.replacen("\"trace_hash\":\"9f1\"", "\"trace_hash\":\"other\"", 1)).unwrap();
    let again = whole_as_slice(&whole, 2);
    let unequal = xtask("unequal", &format!("merge --json {} {again}", folders.join(" ")), &[]);
    assert_eq!(unequal.code, 100);
    let diverged = |scenario: &Value| scenario["verdicts"]["diverged"].as_u64();
    let scenarios = last(&unequal)["summary"]["scenarios"].as_array().expect("a list").clone();
    assert_eq!(scenarios.iter().filter_map(diverged).sum::<u64>(), 1, "{}", unequal.stdout);
    assert!(unequal.stdout.contains("in one slice, "), "{}", unequal.stdout);
}

/// The folder of a whole sweep, passed off as a slice of three.
fn whole_as_slice(whole: &Ran, slice: u64) -> String {
    let folder = whole.kept.join("sweeps/latest");
    let manifest = fs::read_to_string(folder.join("sweep.json")).unwrap();
    let partition = format!("\"partition\":{{\"slice\":{slice},\"of\":3}}");
    fs::write(folder.join("sweep.json"), manifest.replacen(r#""partition":{"slice":1,"of":1}"#, &partition, 1))
        .unwrap();
    folder.to_str().expect("a path").to_owned()
}

#[test]
fn a_full_disk_loses_no_result() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("full");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.join("results.jsonl")).unwrap();
    let ran = xtask("full", &format!("sweep --seeds 0..9 --jobs 1 --out {}", folder.display()), &[]);
    assert_eq!(ran.code, 70, "{}", ran.stderr);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    let records = ran.lines().iter().filter(|line| line.starts_with("{\"v\":1,")).count();
    assert!((1..=3).contains(&records), "what ran is shown: {}", ran.stdout);
    assert!(ran.stdout.contains("stopped early (cannot write"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nresults are missing on the disk: "), "{}", ran.stdout);
}

/// A sweep of these scenarios that hears these signals, each so many milliseconds after the one before. What it prints,
/// and its results.
fn signalled(name: &str, scenarios: &str, signals: &[(u64, &str)]) -> (String, String, String) {
    use std::io::Read as _;
    use std::process::Stdio;

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command_line").join(name);
    let _ = fs::remove_dir_all(&target);
    let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(format!("sweep {scenarios} --seeds 0..40 --jobs 2 --wall-limit-s 3").split(' '))
        .env("MIROIR_WORKER", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-worker.sh"))
        .env("CARGO_TARGET_DIR", &target)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("xtask starts");
    for (after_ms, signal) in signals {
        std::thread::sleep(std::time::Duration::from_millis(*after_ms));
        let sent = Command::new("kill").args([*signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
    }
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut stdout).unwrap();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).unwrap();
    child.wait().expect("it ends");
    let results = fs::read_to_string(target.join("miroir/sweeps/latest/results.jsonl")).unwrap_or_default();
    (stdout, stderr, results)
}

#[test]
fn an_interrupted_sweep_keeps_what_it_has_and_says_what_runs_when_asked() {
    let (stdout, stderr, results) =
        signalled("interrupted", "cutover/swarm fake/hangs", &[(1_500, "-USR1"), (700, "-INT")]);
    assert!(stderr.contains("done; running:\nfake/hangs seed "), "{stderr}");
    assert!(stdout.contains("stopped early (interrupted)"), "{stdout}");
    assert!(!results.is_empty() && results.ends_with('\n'));
}

/// Runs that are killed are no results, and a sweep without them is not whole.
#[test]
fn a_sweep_that_is_interrupted_twice_at_once_is_not_whole() {
    let (stdout, stderr, _) = signalled("insisted", "fake/hangs", &[(2_000, "-INT"), (5, "-INT")]);
    assert!(stdout.contains("stopped early (interrupted)"), "{stdout}{stderr}");
}

#[test]
fn failures_are_new_then_ongoing_then_resolved() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command_line/since");
    let _ = fs::remove_dir_all(&target);
    let sweep = |odd: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args("sweep fake/odd --seeds 0..4".split(' '))
            .env("MIROIR_WORKER", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-worker.sh"))
            .env("CARGO_TARGET_DIR", &target)
            .env("FAKE_ODD", odd)
            .output()
            .expect("xtask starts");
        String::from_utf8(output.stdout).expect("stdout is text")
    };
    assert!(sweep("violation").contains("\nviolation planted of fake/odd"));
    assert!(sweep("violation").contains("Ongoing violation planted of fake/odd"));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let repaired = sweep("pass");
    assert!(repaired.contains("Resolved: violation planted of fake/odd (seed 1 passes)"), "{repaired}");
}

#[test]
fn a_history_from_anywhere_is_judged() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check.jsonl");
    let check = |text: &str, model: &str| {
        fs::write(&file, text).unwrap();
        xtask("check", &format!("check {} --model {model}", file.display()), &[])
    };
    let line = |client: u32, rest: &str| format!("{{\"client\":{client},\"key\":\"a\",{rest}}}\n");
    let written = line(1, r#""op":"write","value":"v","call":0,"return":10,"outcome":"ok""#);
    let lost = line(2, r#""op":"delete","call":20,"return":null,"outcome":"unknown""#);
    let gone = line(3, r#""op":"read","value":null,"call":30,"return":40,"outcome":"ok""#);

    let good = check(&(written.clone() + &lost + &gone), "kv");
    assert_eq!(good.code, 0, "{}", good.stderr);
    assert!(good.stdout.contains("3 operations on 1 key, 1 of unknown outcome: linearizable"), "{}", good.stdout);

    let bad = check(&(written.clone() + &gone), "register");
    assert_eq!(bad.code, 100, "{}", bad.stderr);
    assert!(bad.stdout.contains("no instant fits client 3 read a -> null (30..40)"), "{}", bad.stdout);

    let refused = |text: &str, model: &str, place: &str, why: &str| {
        let ran = check(text, model);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let found = ran.error().contains(&format!("check.jsonl, {place}")) && ran.error().contains(why);
        assert!(found, "{place}: {why}: {}", ran.error());
    };
    let backwards = gone.replace("40", "4");
    refused(&(written.clone() + &backwards), "kv", "line 2, field `return`", "4 is before the call at 30");
    let erase = lost.replace("delete", "erase");
    refused(&(written.clone() + &erase), "kv", "line 2, field `op`", "none of read, write, delete, cas");
    refused(&(written.clone() + &lost), "cas-register", "line 2, field `op`", "try kv");
    refused(&lost.replace("client", "clinet"), "kv", "line 1, field `client`", "is missing");

    let nothing = check("\n", "kv");
    assert_eq!(nothing.code, 4, "{}", nothing.stdout);
    assert!(nothing.stdout.contains("nothing was judged"), "{}", nothing.stdout);

    let missing = xtask("check-missing", "check /no/such/history.jsonl --model kv", &[]);
    assert_eq!(missing.code, 2);
    assert!(missing.error().contains("/no/such/history.jsonl"), "{}", missing.stderr);
}
