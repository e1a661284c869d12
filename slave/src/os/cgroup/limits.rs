//! Limits on the whole of an incarnation: the controllers that can be had for leaves, and what is written into one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use minder_model::{LimitSupport, Resource, Resources};

/// Processor time is given out in periods of this length, the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// Where controllers are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// The root of the hierarchy.
    pub mount: &'a Path,
    /// The group that was given to the slave.
    pub given: &'a Path,
    /// The slave's own group in there, whose children are the leaves.
    pub base: &'a Path,
    /// The text of `/proc/self/cgroup`, which tells what cgroup v1 has.
    pub own: &'a str,
}

/// Turns on what can be turned on for the leaves, and says of the rest why not.
pub fn enable(tree: Tree<'_>) -> Vec<LimitSupport> {
    let one = |resource| {
        let missing = enable_one(tree, resource).err().unwrap_or_default();
        LimitSupport { resource, missing }
    };
    Resource::ALL.map(one).into()
}

/// None can be held, for this reason.
pub fn none(why: &str) -> Vec<LimitSupport> {
    Resource::ALL.map(|resource| LimitSupport { resource, missing: why.into() }).into()
}

fn enable_one(tree: Tree<'_>, resource: Resource) -> Result<(), String> {
    let word = resource.word();
    if !lists(&tree.given.join("cgroup.controllers"), word) {
        return Err(absent(tree, word));
    }
    for group in [tree.given, tree.base] {
        let file = group.join("cgroup.subtree_control");
        if lists(&file, word) {
            continue;
        }
        fs::write(&file, format!("+{word}")).map_err(|error| {
            let held = error.raw_os_error() == Some(libc::EBUSY);
            let hint = if held {
                "; it holds processes itself, give the slave a subgroup (DelegateSubgroup=slave)"
            } else {
                ""
            };
            format!("the {word} controller cannot be turned on in {}: {error}{hint}", group.display())
        })?;
    }
    Ok(())
}

fn absent(tree: Tree<'_>, word: &str) -> String {
    let in_v1 = tree.own.lines().any(|line| {
        let mut fields = line.split(':').skip(1);
        fields.next().is_some_and(|controllers| controllers.split(',').any(|one| one == word))
    });
    if in_v1 {
        format!("no {word} controller for cgroup v2 on this host, cgroup v1 has it")
    } else if lists(&tree.mount.join("cgroup.controllers"), word) {
        format!("the {word} controller is not delegated to {}", tree.given.display())
    } else {
        format!("no {word} controller on this host")
    }
}

fn lists(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_ascii_whitespace().any(|one| one == word))
}

/// A limit that was refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {value} to {}", file.display())]
pub struct Refused {
    file: PathBuf,
    value: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Writes into a leaf what is limited and can be held.
pub fn write(leaf: &Path, resources: &Resources, support: &[LimitSupport]) -> Result<(), Refused> {
    let held = |resource| support.iter().any(|one| one.resource == resource && one.missing.is_empty());
    let put = |file: &str, value: String| {
        let file = leaf.join(file);
        fs::write(&file, &value).map_err(|source| Refused { file, value, source })
    };
    if let Some(memory) = resources.memory.filter(|_| held(Resource::Memory)) {
        put("memory.max", memory.0.to_string())?;
        // Swap would put the end off and make everybody slow. A kernel without swap accounting has no such file.
        if leaf.join("memory.swap.max").exists() {
            put("memory.swap.max", "0".into())?;
        }
        // Half of a program is worse than none: its restart policy decides what comes next.
        put("memory.oom.group", "1".into())?;
    }
    if let Some(cpu) = resources.cpu.filter(|_| held(Resource::Cpu)) {
        put("cpu.max", format!("{} {CPU_PERIOD_US}", u64::from(cpu.0) * CPU_PERIOD_US / 1_000))?;
    }
    if let Some(pids) = resources.pids.filter(|_| held(Resource::Pids)) {
        put("pids.max", pids.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use minder_model::{Bytes, Cores};

    use super::*;

    fn put(folder: &Path, file: &str, text: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(file), text).unwrap();
    }

    #[test]
    fn controllers_are_turned_on_or_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (mount, given) = (folder.path(), folder.path().join("given"));
        let base = given.join("base");
        put(mount, "cgroup.controllers", "cpuset cpu io memory pids\n");
        put(&given, "cgroup.controllers", "memory pids\n");
        put(&given, "cgroup.subtree_control", "memory\n");
        put(&base, "cgroup.subtree_control", "");
        let tree = Tree { mount, given: &given, base: &base, own: "0::/given\n" };
        let missing = |tree| enable(tree).into_iter().map(|one| one.missing).collect::<Vec<_>>();
        let cpu = format!("the cpu controller is not delegated to {}", given.display());
        assert_eq!(missing(tree), ["", &cpu, ""]);
        let written = |folder: &Path| fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap();
        assert_eq!((written(&given), written(&base)), ("+pids".into(), "+pids".into()));
        fs::write(mount.join("cgroup.controllers"), "").unwrap();
        let tree = Tree { own: "5:cpu,cpuacct:/x\n0::/given\n", ..tree };
        assert_eq!(missing(tree)[1], "no cpu controller for cgroup v2 on this host, cgroup v1 has it");
        assert_eq!(missing(Tree { own: "5:cpuset:/\n", ..tree })[1], "no cpu controller on this host");
        fs::remove_file(base.join("cgroup.subtree_control")).unwrap();
        fs::create_dir(base.join("cgroup.subtree_control")).unwrap();
        assert!(missing(tree)[0].starts_with("the memory controller cannot be turned on in"), "{:?}", missing(tree));
    }

    #[test]
    fn only_what_is_limited_and_can_be_held_is_written() {
        let resources = Resources { memory: Some(Bytes(64 << 20)), cpu: Some(Cores(1_500)), pids: Some(100) };
        let support = |missing: [&str; 3]| {
            let all = Resource::ALL.into_iter().zip(missing);
            all.map(|(resource, missing)| LimitSupport { resource, missing: missing.into() }).collect::<Vec<_>>()
        };
        let files = |resources: &Resources, missing: [&str; 3], swap: bool| {
            let leaf = tempfile::tempdir().unwrap();
            if swap {
                put(leaf.path(), "memory.swap.max", "max");
            }
            write(leaf.path(), resources, &support(missing)).unwrap();
            let mut files: Vec<String> = fs::read_dir(leaf.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| format!("{} {}", path.file_name().unwrap().display(), fs::read_to_string(&path).unwrap()))
                .collect();
            files.sort();
            files
        };
        assert_eq!(
            files(&resources, ["", "", ""], true),
            ["cpu.max 150000 100000", "memory.max 67108864", "memory.oom.group 1", "memory.swap.max 0", "pids.max 100"]
        );
        assert_eq!(files(&resources, ["no", "", "no"], false), ["cpu.max 150000 100000"]);
        assert_eq!(files(&Resources::default(), ["", "", ""], false), [""; 0]);
        let refused = write(Path::new("/no/such/leaf"), &resources, &support(["no", "no", ""])).unwrap_err();
        assert_eq!(refused.to_string(), "cannot write 100 to /no/such/leaf/pids.max");
    }
}
