//! The slave's connection. One at a time; a new one takes the old one's place, for it is a restarted slave. Nothing here
//! waits: a slave that does not read loses its connection, not the shim its time.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use minder_shim::{
    bundle,
    protocol::{LAUNCH_IS_THERE, Request, encode_record, next_frame},
    record::Record,
};

/// Read at one turn of the loop. Hundreds of requests fit; somebody who never stops asking keeps nobody else waiting.
const TURN_BYTES_MAX: usize = 16 * 1024;

/// The socket and whoever is connected.
pub struct Socket {
    listener: UnixListener,
    connection: Option<UnixStream>,
    /// Whoever is connected has said so: who has not is told nothing.
    greeted: bool,
    buffer: Vec<u8>,
}

impl Socket {
    /// Listens in the bundle. Whoever is connected already is the slave that asked for this shim.
    pub fn listen(connection: Option<UnixStream>) -> io::Result<Self> {
        match fs::remove_file(bundle::SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(bundle::SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, connection, greeted: false, buffer: Vec::new() })
    }

    /// Waits until the slave that is connected from the beginning has written the launch file. `false` when it ends
    /// instead.
    pub fn until_launch_is_there(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| next_byte(connection, 0) == Some(LAUNCH_IS_THERE))
    }

    /// Waits until it speaks to this shim, which lets the program start. `false` when it ends instead.
    pub fn until_let_go(&self) -> bool {
        // The byte stays where it is, for it begins a request.
        let spoken = |connection: &UnixStream| next_byte(connection, libc::MSG_PEEK).is_some();
        self.connection.as_ref().is_none_or(|slave| spoken(slave) && slave.set_nonblocking(true).is_ok())
    }

    /// Descriptors to wait for; -1 is nobody.
    pub fn descriptors(&self) -> (RawFd, RawFd) {
        (self.listener.as_raw_fd(), self.connection.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    /// Takes a new connection in place of the old one.
    pub fn accept(&mut self) {
        if let Ok((connection, _)) = self.listener.accept()
            && connection.set_nonblocking(true).is_ok()
        {
            self.connection = Some(connection);
            self.greeted = false;
            self.buffer.clear();
        }
    }

    /// Whole requests that have come in. A connection that ends or speaks nonsense is dropped.
    pub fn requests(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        let Some(connection) = &mut self.connection else { return requests };
        let mut bytes = [0; 1_024];
        let mut ended = loop {
            if self.buffer.len() >= TURN_BYTES_MAX {
                break false;
            }
            match connection.read(&mut bytes) {
                Ok(0) => break true,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        while let Some(frame) = next_frame(&mut self.buffer).transpose() {
            match frame.and_then(|content| Request::decode(&content)) {
                Ok(request) => requests.push(request),
                Err(_) => {
                    ended = true;
                    break;
                }
            }
        }
        if ended {
            self.connection = None;
        }
        self.greeted |= requests.iter().any(|request| matches!(request, Request::Hello { .. }));
        requests
    }

    /// Tells whoever is connected and has greeted.
    pub fn tell(&mut self, record: &Record) {
        if self.greeted
            && let Some(connection) = &mut self.connection
            && connection.write_all(&encode_record(record)).is_err()
        {
            self.connection = None;
        }
    }
}

/// Waits for a byte. None when there will be none.
fn next_byte(connection: &UnixStream, flags: i32) -> Option<u8> {
    let mut byte = 0_u8;
    loop {
        // SAFETY: writes one byte, for which there is room.
        match unsafe { libc::recv(connection.as_raw_fd(), (&raw mut byte).cast(), 1, flags) } {
            1 => return Some(byte),
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}
