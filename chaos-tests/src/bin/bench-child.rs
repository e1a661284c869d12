//! `bench-child FILE`: a program that is supervised in a benchmark. Its first act is to look at the clock; it writes
//! `NANOSECONDS PID` into FILE, on the clock that only goes forward, and stays.
#![allow(clippy::unwrap_used)]

use std::{fs::File, io::Write};

fn main() {
    let now = minder_chaos_tests::mono_now();
    let path = std::env::args_os().nth(1).expect("usage: bench-child FILE");
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    // One write of one line: appends of different processes do not mix.
    file.write_all(format!("{} {}\n", now.as_nanos(), std::process::id()).as_bytes()).unwrap();
    loop {
        std::thread::park();
    }
}
