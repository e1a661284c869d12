//! A disk that hangs: a manager whose syncs do not come back as long as a file exists.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// The disk of one manager.
pub struct Hold {
    folder: TempDir,
}

impl Hold {
    /// Compiles what is loaded before libc. Whoever compiles Rust has a C compiler: it links.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/raft_cluster/hold.c");
        let library = folder.path().join("hold.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([library.as_os_str(), source.as_ref()])
            .args(["-ldl"])
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(compiled.success(), "{source} does not compile");
        Self { folder }
    }

    /// What a manager's process needs to be held by this.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.folder.path().join("hold.so")), ("MINDER_HOLD_SYNCS", self.file())]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("hold")
    }

    /// From now on syncs hang, or not any more.
    pub fn hang(&self, hang: bool) {
        match hang {
            true => std::fs::write(self.file(), []).unwrap(),
            false => std::fs::remove_file(self.file()).unwrap(),
        }
    }
}
