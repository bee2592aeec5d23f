//! Ports for the processes of a cluster on one machine.

#![expect(clippy::disallowed_types, reason = "whether a port is free only the system knows")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

/// Below the ports that systems give to connections that go out, so that no connection, of whatever process, is in the way of
/// a process that starts, or starts again.
const RANGE: Range<u16> = 10_000..32_000;

/// So many loopback addresses on which nobody listens now. Fails with `AddrInUse` if there are not so many.
pub fn free(count: usize) -> io::Result<Vec<SocketAddr>> {
    // From a place of its own, so that two clusters that are made at the same instant do not try the same ports.
    #[expect(clippy::disallowed_methods, reason = "which ports a process tries first is no part of a run")]
    let first = std::process::id() as usize * 97 % RANGE.len();
    let addresses =
        RANGE.cycle().skip(first).take(RANGE.len()).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let found: Vec<SocketAddr> = addresses.filter(|address| TcpListener::bind(address).is_ok()).take(count).collect();
    if found.len() < count {
        let text = format!("{} of {count} between {} and {}", found.len(), RANGE.start, RANGE.end);
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_can_be_listened_on() {
        let found = free(3).expect("three free ports");
        let held: Vec<_> = found.iter().map(|address| TcpListener::bind(address).expect("a free port")).collect();
        assert!(held.len() == 3 && found.iter().all(|address| RANGE.contains(&address.port())));
        let next = free(3).expect("three more");
        assert!(next.iter().all(|address| !found.contains(address)), "{next:?} and {found:?}");
        drop(held);
    }

    #[test]
    fn more_ports_than_there_are_is_an_error() {
        let error = free(usize::from(u16::MAX)).expect_err("there are not so many");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
