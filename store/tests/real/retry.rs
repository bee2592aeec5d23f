//! A client whose answer is lost asks again, and what it wrote counts once.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Cluster;

/// Passes connections on to a node. Of the first that carries `marked` it keeps back everything that the node says from
/// then on, and ends it.
struct Toll {
    address: SocketAddr,
    kept_back: Arc<AtomicU64>,
}

impl Toll {
    fn before(node: SocketAddr, marked: &'static [u8]) -> io::Result<Toll> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, kept_back) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let (count, taken) = (kept_back.clone(), Arc::new(AtomicBool::new(false)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(node) = TcpStream::connect(node) else { continue };
                let pair =
                    |one: &TcpStream, other: &TcpStream| Ok::<_, io::Error>((one.try_clone()?, other.try_clone()?));
                let (Ok(out), Ok(back)) = (pair(&client, &node), pair(&node, &client)) else { continue };
                let (count, taken, mute) = (count.clone(), taken.clone(), Arc::new(AtomicBool::new(false)));
                let muted = mute.clone();
                std::thread::spawn(move || {
                    let _either_has_gone = pass_on(out, |part| {
                        let found = part.windows(marked.len()).any(|bytes| bytes == marked);
                        if found && !taken.swap(true, Ordering::SeqCst) {
                            mute.store(true, Ordering::SeqCst);
                        }
                        true
                    });
                });
                std::thread::spawn(move || {
                    let _either_has_gone = pass_on(back, |part| {
                        let keep = muted.load(Ordering::SeqCst);
                        count.fetch_add(if keep { part.len() as u64 } else { 0 }, Ordering::SeqCst);
                        !keep
                    });
                });
            }
        });
        Ok(Toll { address, kept_back })
    }
}

/// Passes on what `may` lets through, until it says no; then both ends hear of nothing more.
fn pass_on((mut from, mut to): (TcpStream, TcpStream), mut may: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes)?;
        if count == 0 || !may(&bytes[..count]) {
            from.shutdown(Shutdown::Both)?;
            return to.shutdown(Shutdown::Both);
        }
        to.write_all(&bytes[..count])?;
    }
}

#[test]
fn a_write_whose_answer_was_lost_is_asked_again_under_its_version() {
    let cluster = Cluster::up("retry", &["--nodes", "1", "--shards", "1"]);
    let settings = std::fs::read_to_string(cluster.folder.join("n1.toml")).expect("its settings");
    let listen = settings.lines().find_map(|line| line.strip_prefix("listen = ")).expect("an address");
    let toll = Toll::before(listen.trim_matches('"').parse().expect("an address"), b"said once").expect("a port");
    cluster.miroir(&["nodes", "add", "n1", &toll.address.to_string()], 0);
    let written = cluster.miroir(&["put", "movies/1", "said once"], 0);
    assert!(toll.kept_back.load(Ordering::SeqCst) > 0, "the node had answered, and nobody heard it");
    assert!(written.starts_with("ok v1:"), "{written}");
    // Had it been given another version when it was sent again, this would be the third.
    let later = cluster.miroir(&["put", "movies/1", "later"], 0);
    assert!(later.starts_with("ok v2:"), "{later}");
    assert_eq!(cluster.miroir(&["get", "movies/1"], 0), "later\n");
}
