//! An import that is killed between any two steps, and run again.

use miroir_store::dump::import::import;
use miroir_store::dump::layout::Version;
use miroir_store::dump::limits::Limits;
use miroir_store::dump::plan::{Mode, Options, analyse};
use miroir_store::dump::progress::Silent;
use miroir_store::dump::refusal::DumpError;
use miroir_store::dump::target::embedded::{Embedded, at_once};
use miroir_store::dump::target::{Shape, Target};
use miroir_store::id::{Key, Value};
use miroir_store::router::Request;
use miroir_store::router::scan::ScanPage;
use miroir_store::wire::{NameRange, StagingAction, StagingReply};

use crate::build::{Dump, Kind};
use crate::support::Scratch;

/// A target that takes so many calls, and then is not there any more.
struct Mortal<'a> {
    target: Embedded<'a>,
    left: u32,
}

impl Mortal<'_> {
    fn live(&mut self) -> Result<(), DumpError> {
        self.left = self.left.checked_sub(1).ok_or_else(|| DumpError::Cluster("killed".to_owned()))?;
        Ok(())
    }
}

impl Target for Mortal<'_> {
    async fn shape(&mut self) -> Result<Shape, DumpError> {
        self.live()?;
        self.target.shape().await
    }

    async fn write(&mut self, writes: Vec<Request>) -> Result<(), DumpError> {
        self.live()?;
        self.target.write(writes).await
    }

    async fn read(&mut self, keys: Vec<Key>) -> Result<Vec<Option<Value>>, DumpError> {
        self.live()?;
        self.target.read(keys).await
    }

    async fn scan(&mut self, range: NameRange, documents: u32) -> Result<ScanPage, DumpError> {
        self.live()?;
        self.target.scan(range, documents).await
    }

    async fn stage(&mut self, node: u32, import: u128, action: StagingAction) -> Result<StagingReply, DumpError> {
        self.live()?;
        self.target.stage(node, import, action).await
    }
}

/// Enumerated, not sampled: as many imports as one has steps, each killed after one more of them.
fn killed_after_every_step(mode: Mode) -> (u32, u32) {
    let dump = Dump::of(Version::V5)
        .task("films", Kind::Add("{\"id\":4,\"a\":1}\n{\"id\":5}\n"))
        .task("films", Kind::Update("{\"id\":4,\"b\":2}\n"))
        .task("films", Kind::Delete(&["1"]))
        .task("shows", Kind::Add("{\"id\":1}\n"))
        .pack();
    let options =
        Options { mode: Some(mode), limits: Limits { batch_documents: 1, ..Limits::default() }, ..Options::default() };
    let plan = analyse(&&dump[..], &options, &mut Silent).expect("a good dump");
    let whole = Scratch::new();
    whole.import(&dump, &options).expect("a good dump");
    let wanted = ["films", "shows", ".collections"].map(|name| whole.collection(name));
    let (mut steps, mut resumed) = (0, 0);
    loop {
        let scratch = Scratch::new();
        let mut mortal = Mortal { target: Embedded(scratch.store()), left: steps };
        let ended = at_once(import(&&dump[..], &plan, &options, &mut mortal, &mut Silent));
        if ended.is_ok() {
            return (steps, resumed);
        }
        let (_, imported) = scratch.import(&dump, &options).expect("it completes");
        resumed += u32::from(imported.resumed);
        let found = ["films", "shows", ".collections"].map(|name| scratch.collection(name));
        assert_eq!(found, wanted, "killed after {steps} steps");
        assert!(!scratch.files().iter().any(|name| name.starts_with("staging")), "killed after {steps} steps");
        steps += 1;
    }
}

#[test]
fn a_streaming_import_that_is_killed_completes_when_it_is_run_again() {
    let (steps, _) = killed_after_every_step(Mode::Streaming);
    assert!(steps >= 10, "{steps} steps");
}

#[test]
fn a_broadcast_that_is_killed_stages_anew_or_goes_on_from_its_manifest() {
    let (steps, resumed) = killed_after_every_step(Mode::Broadcast);
    assert!(steps >= 20 && resumed >= 5 && resumed < steps, "{steps} steps, {resumed} gone on with");
}

/// A process of its own, which the system ends at any moment, later each time, until it comes to its end by itself.
#[cfg(unix)]
#[test]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program is started and killed, and dumps are files"
)]
fn a_process_that_is_killed_again_and_again_completes_in_the_end() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let documents: Vec<String> =
        (0..8_000).map(|n| format!("{{\"id\":{n},\"text\":\"{}\"}}", "abc".repeat(n % 97))).collect();
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    let dump = Dump::of(Version::V5)
        .documents(&documents)
        .task("films", Kind::Update("{\"id\":4,\"b\":2}\n"))
        .task("films", Kind::Delete(&["1"]))
        .task("shows", Kind::Add("{\"id\":1}\n"))
        .pack();
    let whole = Scratch::new();
    whole.import(&dump, &Options::default()).expect("a good dump");
    let names = ["films", "shows", ".collections"];
    let wanted = names.map(|name| whole.collection(name));
    for mode in ["streaming", "broadcast"] {
        let mut scratch = Scratch::new();
        scratch.store = None;
        let file = scratch.path().with_extension("dump");
        std::fs::write(&file, &dump).expect("a file");
        let (mut waits_ms, mut killed) = (2, 0);
        loop {
            let mut import = Command::new(env!("CARGO_BIN_EXE_miroir"));
            import.args(["dump", "import", "--mode", mode, "--store"]).arg(scratch.path()).arg(&file);
            let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
            std::thread::sleep(Duration::from_millis(waits_ms));
            import.kill().expect("it is there, or has ended");
            match import.wait().expect("it has ended").code() {
                Some(code) => break assert_eq!(code, 0, "{mode}"),
                None => killed += 1,
            }
            waits_ms += waits_ms / 4 + 1;
        }
        assert!(killed >= 5, "{mode}: killed {killed} times");
        scratch.reopen();
        assert_eq!(names.map(|name| scratch.collection(name)), wanted, "{mode}: killed {killed} times");
        assert!(!scratch.files().iter().any(|name| name.starts_with("staging")), "{mode}");
        std::fs::remove_file(&file).expect("it was made here");
    }
}
