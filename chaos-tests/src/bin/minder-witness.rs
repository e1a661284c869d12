//! `minder-witness FILE`: a managed program that keeps its own account. It binds an abstract socket named after its
//! instance, which only one process on the machine can, and appends what happened to FILE. Nobody in Minder can make
//! it say otherwise.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::Write,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

fn main() {
    let file = std::env::args().nth(1).expect("usage: minder-witness FILE");
    let told = |name: &str| std::env::var(name).unwrap_or_default();
    let instance = format!("{}:{}@{}", told("MINDER_PROCESS"), told("MINDER_INSTANCE"), told("MINDER_HOST"));
    let mut account = File::options().create(true).append(true).open(&file).unwrap();
    let address = SocketAddr::from_abstract_name(format!("minder-witness {file} {instance}")).unwrap();
    let held = UnixListener::bind_addr(&address);
    let what = if held.is_ok() { "start" } else { "DOUBLE" };
    // One write of one line: appends of different processes do not mix.
    let line = format!("{what} {instance} {} {}\n", told("MINDER_INCARNATION"), std::process::id());
    account.write_all(line.as_bytes()).unwrap();
    loop {
        std::thread::park();
    }
}
