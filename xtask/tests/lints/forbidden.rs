//! Code that must not pass clippy. Every line marked `//~` has to be refused, and no other line.

use std::collections::BTreeMap;
use std::collections::HashMap; //~

pub fn wall_clocks() {
    let _ = std::time::Instant::now(); //~
    let _ = std::time::SystemTime::now(); //~
    std::thread::sleep(std::time::Duration::ZERO); //~
    let _ = tokio::time::Instant::now(); //~
}

pub fn hash_order(map: &HashMap<u32, u32>) -> u64 { //~
    let mut sum = 0;
    for (key, value) in map { //~
        sum += u64::from(key ^ value);
    }
    sum
}

pub fn hash_keys() {
    let _ = std::hash::RandomState::new(); //~
    let _ = std::collections::HashSet::<u8>::new(); //~
}

pub fn threads() {
    std::thread::spawn(|| {}); //~
    std::thread::scope(|_| {}); //~
    let _ = std::thread::available_parallelism(); //~
}

pub fn files() {
    let _ = std::fs::File::open("a"); //~
    let _ = std::fs::read("a"); //~
    let _ = std::path::Path::new("a").exists(); //~
    let _ = redb::Database::create("a"); //~
}

pub fn surroundings() {
    let _ = std::env::var("a"); //~
    let _ = std::process::id(); //~
    let _ = std::process::Command::new("a"); //~
    let _ = std::net::TcpStream::connect("127.0.0.1:1"); //~
}

pub async fn unbiased() -> u8 {
    tokio::select! { a = async { 1 } => a, b = async { 2 } => b } //~
}

#[allow(deprecated)]
pub async fn blocking() {
    let _ = tokio::task::spawn_blocking(|| {}).await; //~
}

pub fn half_an_assertion(a: u8) {
    debug_assert!(a > 0); //~
    debug_assert_eq!(a, 1); //~
    debug_assert_ne!(a, 2); //~
}

#[cfg(madsim)]
pub fn the_schedulers_stream() -> u32 {
    let _ = madsim::rand::thread_rng(); //~ madsim
    madsim::rand::random() //~ madsim
}

/// What the rules leave: simulated time, ordered maps, `biased`, and an exception that names its reason.
pub async fn allowed() -> u8 {
    tokio::time::sleep(std::time::Duration::ZERO).await;
    let _ = BTreeMap::<u8, u8>::new();
    tokio::select! { biased; a = async { 1 } => a, b = async { 2 } => b }
}

#[expect(clippy::disallowed_methods, reason = "outside the simulator, this is the clock of the env")]
#[expect(clippy::disallowed_types, reason = "outside the simulator, this is the clock of the env")]
pub fn production_clock() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
