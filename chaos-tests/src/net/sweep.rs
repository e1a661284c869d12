//! What a run left behind that could not clean up itself: its namespaces, and whoever is still in them.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    NAMESPACES,
    command::{output, run},
};

/// Removes networks whose maker is gone, with all that runs in them.
pub fn sweep_networks() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(maker) = maker(&name) else { continue };
        if is_one_of_us(maker) {
            continue;
        }
        for pid in output("ip", &["netns", "pids", &name]).lines().filter_map(|line| line.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = run("ip", &["netns", "del", &name]);
    }
}

/// The pid in `minder-PID-NODE`.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix("minder-")?.split_once('-')?.0.parse().ok()
}

/// A pid may be somebody else's by now.
fn is_one_of_us(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("chaos")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_ours() {
        assert_eq!(maker("minder-42-lan"), Some(42));
        for other in ["minder-x-lan", "minder-42", "other-42-lan", "minder--lan"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
