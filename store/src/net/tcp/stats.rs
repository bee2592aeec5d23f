//! What the network counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::handshake::HandshakeError;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $field:ident: $name:literal),* $(,)?) => {
        /// Counters since the start of the process.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[doc = $doc])* $field: AtomicU64,)*
        }

        impl Stats {
            $(pub(super) fn $field(&self, more: u64) {
                self.$field.fetch_add(more, Ordering::Relaxed);
            })*

            /// Every counter: its name, with labels, as Prometheus has it, and its value.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    sent_frames: "miroir_net_frames_total{direction=\"sent\"}",
    received_frames: "miroir_net_frames_total{direction=\"received\"}",
    sent_bytes: "miroir_net_bytes_total{direction=\"sent\"}",
    received_bytes: "miroir_net_bytes_total{direction=\"received\"}",
    /// A queue had no room.
    lost_full: "miroir_net_lost_frames_total{reason=\"queue full\"}",
    /// A frame waited too long.
    lost_late: "miroir_net_lost_frames_total{reason=\"too late\"}",
    /// Nobody knows where the peer is, or the client has gone.
    lost_unreachable: "miroir_net_lost_frames_total{reason=\"unreachable\"}",
    accepted: "miroir_net_connections_total{side=\"accepted\"}",
    dialled: "miroir_net_connections_total{side=\"dialled\"}",
    dials_failed: "miroir_net_dials_failed_total",
    refused_limit: "miroir_net_refused_total{reason=\"too many connections\"}",
    refused_stranger: "miroir_net_refused_total{reason=\"stranger\"}",
    refused_version: "miroir_net_refused_total{reason=\"version\"}",
    refused_key: "miroir_net_refused_total{reason=\"key\"}",
    refused_name: "miroir_net_refused_total{reason=\"cluster or name\"}",
    refused_slow: "miroir_net_refused_total{reason=\"handshake not finished\"}",
}

impl Stats {
    /// Counts a handshake that failed at this side's door.
    pub(super) fn refused(&self, error: &HandshakeError) {
        match error {
            HandshakeError::Full => self.refused_limit(1),
            HandshakeError::Stranger { .. } => self.refused_stranger(1),
            HandshakeError::Version { .. } | HandshakeError::Wire { .. } => self.refused_version(1),
            HandshakeError::NoKey | HandshakeError::UnknownKey | HandshakeError::WrongKey => self.refused_key(1),
            HandshakeError::Cluster { .. } | HandshakeError::Name { .. } | HandshakeError::Refused { .. } => {
                self.refused_name(1);
            }
            HandshakeError::Slow | HandshakeError::Closed | HandshakeError::Io(_) | HandshakeError::OtherMachine => {
                self.refused_slow(1);
            }
        }
    }
}
