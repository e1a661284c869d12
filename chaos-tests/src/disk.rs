//! A small file system of our own in a file: it can be full, hang, and lose what was not synced.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// `FIFREEZE` and `FITHAW` (linux/fs.h): every write waits meanwhile.
const FREEZE: libc::c_ulong = 0xc004_5877;
const THAW: libc::c_ulong = 0xc004_5878;
/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, u32)`, and its mode "do not flush the journal" (linux/fs/ext4/ext4.h).
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const SHUTDOWN_WITHOUT_FLUSH: u32 = 2;
/// Who was killed lets go of his files within this.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);
/// What is put into the way of everybody else.
const FILLER: &str = "filler";

/// An ext4 file system in a file, mounted. Unmounted when dropped; the file stays.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes one of this size, of which the file takes only what is written. The error says what this machine lacks.
    pub fn make(image: PathBuf, mount: PathBuf, mib: u64) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("{}: {error}", image.display());
        File::create(&image).and_then(|file| file.set_len(mib << 20)).map_err(say)?;
        fs::create_dir_all(&mount).map_err(say)?;
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let disk = Self { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image), text(&self.mount)])
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Lets every write and sync wait until [`Disk::thaw`]. Nobody who waits can be killed meanwhile.
    pub fn freeze(&self) -> Result<(), String> {
        self.order(FREEZE, 0)
    }

    /// Ends it. No error where nothing is frozen.
    pub fn thaw(&self) {
        let _ = self.order(THAW, 0);
    }

    /// Takes everything but this much, which stays until [`Disk::empty`].
    pub fn fill(&self, left_mib: u64) -> Result<(), String> {
        let file = File::create(self.mount.join(FILLER)).map_err(|error| error.to_string())?;
        let free = nix::sys::statvfs::statvfs(&self.mount).map_err(|error| error.to_string())?;
        let bytes = (free.blocks_available() * free.fragment_size()).saturating_sub(left_mib << 20);
        nix::fcntl::posix_fallocate(file, 0, bytes as i64).map_err(|error| format!("cannot fill the disk: {error}"))
    }

    /// Gives back what was taken.
    pub fn empty(&self) {
        let _ = fs::remove_file(self.mount.join(FILLER));
    }

    /// From now on nothing reaches the file system, and what was not synced is lost. Nobody may use it until
    /// [`Disk::mount_again`].
    pub fn cut_power(&self) -> Result<(), String> {
        self.order(SHUTDOWN, SHUTDOWN_WITHOUT_FLUSH)
    }

    /// The power is back: the journal is replayed.
    pub fn mount_again(&self) -> Result<(), String> {
        let begin = Instant::now();
        while let Err(why) = run("umount", &[text(&self.mount)]) {
            if begin.elapsed() > LET_GO_WITHIN {
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Somebody else's view of the machine may hold the old one a little longer, and then it is that which is mounted.
        loop {
            self.mount()?;
            let probe = self.mount.join("probe");
            match fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)) {
                Ok(()) => return Ok(()),
                Err(error) if begin.elapsed() > LET_GO_WITHIN => return Err(error.to_string()),
                Err(_) => run("umount", &[text(&self.mount)])?,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn order(&self, order: libc::c_ulong, mode: u32) -> Result<(), String> {
        let say = |error: std::io::Error| format!("{}: {error}", self.mount.display());
        let root = File::open(&self.mount).map_err(say)?;
        // SAFETY: each of these orders reads at most one number.
        match unsafe { libc::ioctl(root.as_raw_fd(), order, &raw const mode) } {
            0 => Ok(()),
            _ => Err(say(std::io::Error::last_os_error())),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        // Whoever still has a file open keeps it until he ends.
        let _ = run("umount", &["-l", text(&self.mount)]);
    }
}

/// Unmounts what runs whose maker is gone left below folders of this name, which is followed by the maker's pid.
pub fn sweep_disks(prefix: &str) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let maker = mount.split_once(prefix).and_then(|(_, rest)| rest.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|maker| !Path::new(&format!("/proc/{maker}")).exists()) {
            drop(Disk { image: PathBuf::new(), mount: PathBuf::from(mount) });
        }
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
