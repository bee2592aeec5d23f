//! The key that the processes of a cluster share. It is printed once, when it is made, and never again.

#![expect(clippy::disallowed_methods, reason = "a key lies in a file")]

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use thiserror::Error;

#[cfg(not(madsim))]
use crate::net::tcp::{os::OsSockets, sockets::Sockets as _};

/// 256 bits that every process of a cluster knows, and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(pub(super) [u8; 32]);

impl fmt::Debug for SharedKey {
    /// Shows nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

/// Why a file gives no key. What the file contains is never part of the text.
#[derive(Debug, Error)]
pub enum KeyFileError {
    #[error("cannot read the key file {path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("the key file {path} does not hold 64 hexadecimal digits; `miroir key` prints a new key")]
    NoKey { path: String },
    #[error("others than its owner may read the key file {path} (mode {mode:03o}); `chmod 600` it")]
    Open { path: String, mode: u32 },
}

impl SharedKey {
    /// Draws a new key from the operating system.
    #[cfg(not(madsim))]
    pub fn fresh() -> SharedKey {
        let mut bytes = [0; 32];
        OsSockets.random(&mut bytes).expect("the system gives random numbers");
        SharedKey(bytes)
    }

    /// Reads a file with 64 hexadecimal digits that only its owner may read.
    pub fn read(path: &Path) -> Result<SharedKey, KeyFileError> {
        let shown = path.display().to_string();
        let unreadable = |error| KeyFileError::Unreadable { path: shown.clone(), error };
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open { path: shown, mode });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        SharedKey::from_hex(text.trim()).ok_or(KeyFileError::NoKey { path: shown })
    }

    /// 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<SharedKey> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(SharedKey(bytes))
    }

    /// As it stands in a file.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_printed_and_shown_to_nobody() {
        let key = SharedKey::fresh();
        assert_ne!(key, SharedKey::fresh());
        assert_eq!(SharedKey::from_hex(&key.to_hex()), Some(key.clone()));
        assert_eq!(format!("{key:?}"), "SharedKey(..)");
        assert_eq!(SharedKey::from_hex("00"), None);
        assert_eq!(SharedKey::from_hex(&"+1".repeat(32)), None, "a sign is no digit");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let path = std::env::temp_dir().join(format!("miroir-key-{}", std::process::id()));
        std::fs::write(&path, SharedKey::fresh().to_hex()).expect("a file");
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        set(0o644);
        assert!(matches!(SharedKey::read(&path), Err(KeyFileError::Open { mode: 0o644, .. })));
        set(0o600);
        assert!(SharedKey::read(&path).is_ok());
        std::fs::write(&path, "secret").expect("a file");
        let refusal = SharedKey::read(&path).expect_err("no key").to_string();
        assert!(!refusal.contains("secret"), "{refusal}");
        std::fs::remove_file(&path).expect("cleaned up");
    }
}
