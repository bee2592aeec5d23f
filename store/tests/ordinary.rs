//! An ordinary build contains no planted bug and no way past the safety gate: not switched off, but not there.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods, reason = "the program looks at itself")]

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;

use miroir_store::coordinator::records::RecordsError;
use miroir_store::env::Env;
use miroir_store::error::EngineError;
use miroir_store::id::NodeId;
use miroir_store::{coordinator, engine, node};

/// The macro is a constant, so every branch behind it is gone before code is made of it.
const PLANTED: bool = miroir_store::mutant!("M29");

/// Node and coordinator, and with them everything they call, are linked into this program.
fn node(env: Env) -> Pin<Box<dyn Future<Output = EngineError>>> {
    Box::pin(node::serve(NodeId(1), env, engine::Options::default()))
}

fn coordinator(env: Env) -> Pin<Box<dyn Future<Output = RecordsError>>> {
    Box::pin(coordinator::serve(env, coordinator::Options::default()))
}

#[test]
fn nothing_is_planted() {
    const { assert!(!PLANTED) };
    black_box((node as fn(Env) -> _, coordinator as fn(Env) -> _));
    let program = std::env::current_exe().and_then(std::fs::read).expect("a test can read itself");
    let contains = |backwards: &str| {
        let name: String = backwards.chars().rev().collect();
        program.windows(name.len()).any(|window| window == name.as_bytes())
    };
    // Spelt backwards, or the test would find itself.
    assert!(contains("demrifnoc_egap"), "names of functions stand in a build for tests");
    let planted =
        ["evitca6tnatum6", "sseldrager_tup", "ecno_ta_llet", "dellatsni_rof_ekat", "revotuc_efasnu", "punaelc_regae"];
    for name in planted {
        assert!(!contains(name), "{name}, spelt backwards, is in an ordinary build");
    }
}
