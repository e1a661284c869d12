//! The least that a durable write on a majority can cost on this machine: three processes with nothing between them and
//! the system's calls, no consensus, no table, no protocol. They are this program by another argument, so that what
//! wakes up for a write is a process of its own as it is with everybody else here.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Makes this program a member: `--floor FILE [FOLLOWER...]`. One that has followers leads.
pub const ARGUMENT: &str = "--floor";
/// What a write of a spec with a value of [`crate::single::VALUE_BYTES`] comes to in a log.
pub const ENTRY_BYTES: usize = 512;
const WARM_UP: Duration = Duration::from_millis(700);
const MEASURED: Duration = Duration::from_secs(3);

/// Whether this process is to be a member.
pub fn is_asked_for() -> bool {
    std::env::args().nth(1).as_deref() == Some(ARGUMENT)
}

/// Appends and syncs whatever comes, has followers do the same, and answers when a majority has.
pub fn run() {
    let args: Vec<String> = std::env::args().skip(2).collect();
    let mut log = File::create(&args[0]).unwrap();
    let mut followers: Vec<TcpStream> = args[1..].iter().map(|address| connect(address)).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let (mut asker, _) = listener.accept().unwrap();
    asker.set_nodelay(true).unwrap();
    let mut acknowledged = vec![0; followers.len()];
    let mut entry = [0; ENTRY_BYTES];
    for number in 1.. {
        // Whoever asked is gone, and with him the reason to be here.
        let Ok(()) = asker.read_exact(&mut entry) else { return };
        for follower in &mut followers {
            follower.write_all(&entry).unwrap();
        }
        log.write_all(&entry).unwrap();
        nix::unistd::fdatasync(&log).unwrap();
        while !followers.is_empty() && acknowledged.iter().all(|upto| *upto < number) {
            hear(&mut followers, &mut acknowledged);
        }
        asker.write_all(&[1]).unwrap();
    }
}

/// Waits for what followers say: a byte for each entry that they have.
fn hear(followers: &mut [TcpStream], acknowledged: &mut [u64]) {
    let mut waited: Vec<PollFd> = followers.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
    poll(&mut waited, PollTimeout::NONE).unwrap();
    let spoke: Vec<bool> = waited.iter().map(|one| one.any() == Some(true)).collect();
    for (at, _) in spoke.into_iter().enumerate().filter(|(_, spoke)| *spoke) {
        let read = followers[at].read(&mut [0; 64]).unwrap();
        assert_ne!(read, 0, "a follower is gone");
        acknowledged[at] += read as u64;
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Half of the writes of one client take no longer, all but one in a hundred no longer than the second.
pub fn measure(folder: &Path) -> (Duration, Duration) {
    let (mut first, first_at) = member(folder, "first", &[]);
    let (mut second, second_at) = member(folder, "second", &[]);
    let (mut leader, leader_at) = member(folder, "leader", &[&first_at, &second_at]);
    let mut leader_stream = connect(&leader_at);
    let mut took = Vec::new();
    let begin = Instant::now() + WARM_UP;
    loop {
        let sent = Instant::now();
        leader_stream.write_all(&[0x5a; ENTRY_BYTES]).unwrap();
        leader_stream.read_exact(&mut [0]).unwrap();
        if sent >= begin {
            took.push(sent.elapsed());
        }
        if sent >= begin + MEASURED {
            break;
        }
    }
    // The leader ends when its client is gone, and they end with their leader.
    drop(leader_stream);
    for child in [&mut leader, &mut first, &mut second] {
        child.wait().unwrap();
    }
    took.sort();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

fn member(folder: &Path, name: &str, followers: &[&str]) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg(ARGUMENT)
        .arg(folder.join(format!("floor-{name}")))
        .args(followers)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (child, address.trim().to_owned())
}
