//! The launch file: everything the shim needs to start one incarnation, frozen before it starts.
//!
//! Version 1 has fixed fields. Version 2 has the same and then a list of extensions, each a number and a text; a number
//! that is not known makes the file one of another version, for what it asks for must not be left out. A launch that
//! needs no extension is written as version 1, so that shims and slaves on either side of an upgrade read it.

use crate::bytes::{Malformed, Reader, Writer};

const MAGIC: u32 = 0x4d4c_4348;
const VERSION: u16 = 1;
const VERSION_EXTENDED: u16 = 2;

/// Numbers of extensions.
mod extension {
    pub const ENV_FILE: u8 = 1;
    pub const ENV_FILE_MAYBE: u8 = 2;
    pub const NO_NEW_PRIVILEGES: u8 = 3;
}

/// What to run and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The program: a path, or a name to look up in the environment's `PATH`.
    pub command: Vec<u8>,
    /// Its arguments, without the program itself.
    pub args: Vec<Vec<u8>>,
    /// Its whole environment. `HOME`, `USER`, `LOGNAME` and `SHELL` of its user are added where absent.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directory it starts in; empty is `/`.
    pub working_directory: Vec<u8>,
    /// User by name or number; empty keeps the shim's.
    pub user: Vec<u8>,
    /// Group by name or number; empty is the user's.
    pub group: Vec<u8>,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Resource limits: the kernel's resource number, soft, hard; `u64::MAX` is unlimited.
    pub limits: Vec<(u32, u64, u64)>,
    /// Niceness.
    pub nice: Option<i32>,
    /// Out-of-memory score adjustment.
    pub oom_score_adjust: Option<i32>,
    /// Directory of the log files.
    pub log_directory: Vec<u8>,
    /// Size at which a log file is rotated.
    pub log_bytes_max: u64,
    /// Log files kept per stream, the active one included.
    pub log_files_max: u32,
    /// Standard error goes into the file of standard output.
    pub log_combine: bool,
    /// The program waits when the disk does not take its output; otherwise it is counted and dropped.
    pub log_block: bool,
    /// The program puts itself into the background.
    pub daemon: Option<Daemon>,
    /// The cgroup v2 directory made for this incarnation; empty where there is none.
    pub cgroup: Vec<u8>,
    /// Files of variables, read as the program's user could. `env` counts before them, a later one before an earlier one.
    pub env_files: Vec<EnvFile>,
    /// Nothing that the program executes gives it more rights than it has.
    pub no_new_privileges: bool,
}

/// A file of variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvFile {
    /// Where it is.
    pub path: Vec<u8>,
    /// Not being there is no failure.
    pub may_be_missing: bool,
}

/// How a program that puts itself into the background is found again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Daemon {
    /// File with its main pid; empty takes the oldest process that stays.
    pub pid_file: Vec<u8>,
    /// How long the launcher may take.
    pub launch_timeout_ms: u64,
}

impl Launch {
    /// The file's content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(MAGIC);
        let extensions = self.extensions();
        out.u16(if extensions.is_empty() { VERSION } else { VERSION_EXTENDED });
        out.text(&self.command);
        out.list(&self.args, |out, arg| out.text(arg));
        out.list(&self.env, |out, (key, value)| {
            out.text(key);
            out.text(value);
        });
        out.text(&self.working_directory);
        out.text(&self.user);
        out.text(&self.group);
        optional(&mut out, self.umask.map(|umask| umask as i32));
        out.list(&self.limits, |out, (resource, soft, hard)| {
            out.u32(*resource);
            out.u64(*soft);
            out.u64(*hard);
        });
        optional(&mut out, self.nice);
        optional(&mut out, self.oom_score_adjust);
        out.text(&self.log_directory);
        out.u64(self.log_bytes_max);
        out.u32(self.log_files_max);
        out.u8(u8::from(self.log_combine) | u8::from(self.log_block) << 1);
        out.u8(u8::from(self.daemon.is_some()));
        if let Some(daemon) = &self.daemon {
            out.text(&daemon.pid_file);
            out.u64(daemon.launch_timeout_ms);
        }
        out.text(&self.cgroup);
        if !extensions.is_empty() {
            out.list(&extensions, |out, (number, text)| {
                out.u8(*number);
                out.text(text);
            });
        }
        out.0
    }

    fn extensions(&self) -> Vec<(u8, &[u8])> {
        let env_file =
            |file: &EnvFile| if file.may_be_missing { extension::ENV_FILE_MAYBE } else { extension::ENV_FILE };
        let env_files = self.env_files.iter().map(|file| (env_file(file), file.path.as_slice()));
        let no_new_privileges = self.no_new_privileges.then_some((extension::NO_NEW_PRIVILEGES, [].as_slice()));
        env_files.chain(no_new_privileges).collect()
    }

    fn extend(&mut self, number: u8, text: &[u8]) -> Result<(), Malformed> {
        match number {
            extension::ENV_FILE | extension::ENV_FILE_MAYBE => {
                let may_be_missing = number == extension::ENV_FILE_MAYBE;
                self.env_files.push(EnvFile { path: text.to_vec(), may_be_missing });
            }
            extension::NO_NEW_PRIVILEGES => self.no_new_privileges = true,
            _ => return Err(Malformed("a launch file of another version")),
        }
        Ok(())
    }

    /// Reads the file's content.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        if input.u32()? != MAGIC {
            return Err(Malformed("not a launch file"));
        }
        let version = input.u16()?;
        if !(VERSION..=VERSION_EXTENDED).contains(&version) {
            return Err(Malformed("a launch file of another version"));
        }
        let text = |input: &mut Reader<'_>| input.text().map(<[u8]>::to_vec);
        let command = text(&mut input)?;
        let args = input.list(text)?;
        let env = input.list(|input| Ok((text(input)?, text(input)?)))?;
        let working_directory = text(&mut input)?;
        let user = text(&mut input)?;
        let group = text(&mut input)?;
        let umask = read_optional(&mut input)?.map(|umask| umask as u32);
        let limits = input.list(|input| Ok((input.u32()?, input.u64()?, input.u64()?)))?;
        let nice = read_optional(&mut input)?;
        let oom_score_adjust = read_optional(&mut input)?;
        let log_directory = text(&mut input)?;
        let log_bytes_max = input.u64()?;
        let log_files_max = input.u32()?;
        let flags = input.u8()?;
        let daemon = match input.u8()? {
            0 => None,
            _ => Some(Daemon { pid_file: text(&mut input)?, launch_timeout_ms: input.u64()? }),
        };
        let cgroup = text(&mut input)?;
        let extensions = match version {
            VERSION_EXTENDED => input.list(|input| Ok((input.u8()?, text(input)?)))?,
            _ => Vec::new(),
        };
        input.end()?;
        let mut launch = Self {
            command,
            args,
            env,
            working_directory,
            user,
            group,
            umask,
            limits,
            nice,
            oom_score_adjust,
            log_directory,
            log_bytes_max,
            log_files_max,
            log_combine: flags & 1 != 0,
            log_block: flags & 2 != 0,
            daemon,
            cgroup,
            env_files: Vec::new(),
            no_new_privileges: false,
        };
        extensions.iter().try_for_each(|(number, text)| launch.extend(*number, text))?;
        Ok(launch)
    }
}

fn optional(out: &mut Writer, value: Option<i32>) {
    out.u8(u8::from(value.is_some()));
    out.i32(value.unwrap_or_default());
}

fn read_optional(input: &mut Reader<'_>) -> Result<Option<i32>, Malformed> {
    let there = input.u8()? != 0;
    let value = input.i32()?;
    Ok(there.then_some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn launches_read_back(
            (command, args, env) in (any::<Vec<u8>>(), any::<Vec<Vec<u8>>>(), any::<Vec<(Vec<u8>, Vec<u8>)>>()),
            (umask, limits, nice) in (any::<Option<u32>>(), any::<Vec<(u32, u64, u64)>>(), any::<Option<i32>>()),
            (log_combine, log_block, daemon) in (any::<bool>(), any::<bool>(), any::<Option<(Vec<u8>, u64)>>()),
            (env_files, no_new_privileges) in (any::<Vec<(Vec<u8>, bool)>>(), any::<bool>()),
        ) {
            let env_file = |(path, may_be_missing)| EnvFile { path, may_be_missing };
            let env_files: Vec<EnvFile> = env_files.into_iter().map(env_file).collect();
            let plain = env_files.is_empty() && !no_new_privileges;
            let daemon = daemon.map(|(pid_file, launch_timeout_ms)| Daemon { pid_file, launch_timeout_ms });
            let launch = Launch { command, args, env, umask, limits, nice, log_combine, log_block, daemon, env_files, no_new_privileges, ..Launch::default() };
            prop_assert_eq!(launch.encode()[4], if plain { 1 } else { 2 });
            prop_assert_eq!(Launch::decode(&launch.encode()).unwrap(), launch);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let _ = Launch::decode(&bytes);
            let whole = Launch { command: bytes, ..Launch::default() }.encode();
            let cut = cut.index(whole.len());
            prop_assert!(Launch::decode(&whole[..cut]).is_err());
        }
    }
}
