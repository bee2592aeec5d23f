//! A disk of a few MiB, which can be filled up: a file system in memory, mounted over the folder of one process.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exit::Failure;

/// Room for what a node keeps in a round, and little more.
const MIB: u32 = 24;
const BALLAST: &str = "ballast";

/// Unmounted when it goes.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts it. `None`: this user may not, on this system.
    pub fn mount(folder: &Path) -> Result<Option<SmallDisk>, Failure> {
        fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder.display(), &error))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={MIB}m"), "miroir-soak"]).arg(folder).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        Ok(mounted.then(|| SmallDisk { folder: folder.to_owned() }))
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<(), Failure> {
        let path = self.folder.join(BALLAST);
        let mut ballast = File::create(&path).map_err(|error| Failure::io("create", path.display(), &error))?;
        for bytes in [1 << 20, 4 << 10, 1] {
            let part = vec![0; bytes];
            while ballast.write_all(&part).is_ok() {}
        }
        Ok(())
    }

    pub fn make_room(&self) -> Result<(), Failure> {
        let path = self.folder.join(BALLAST);
        fs::remove_file(&path).map_err(|error| Failure::io("remove", path.display(), &error))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has files open there keeps them.
        let _still_mounted = Command::new("umount").arg("-l").arg(&self.folder).stderr(Stdio::null()).status();
    }
}
