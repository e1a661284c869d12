//! A hop in front of a manager's peer port that can lose whatever the manager answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{Manager, own_loopback};

/// The hop. It ends when dropped.
pub struct Muffle {
    mute: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Muffle {
    /// Puts the hop before a prepared manager and starts that.
    pub async fn before(manager: &mut Manager) -> Self {
        let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
        manager.peer_advertise = Some(listener.local_addr().unwrap().to_string());
        // The kernel tells a free port, which is free at this address until the manager takes it.
        let free = std::net::TcpListener::bind((own_loopback(), 0)).unwrap().local_addr().unwrap();
        manager.peer_listen = free.to_string();
        manager.restart();
        let mute = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(accept(listener, free, mute.clone()));
        Self { mute, task }
    }

    /// From now on answers are lost, or not any more.
    pub fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }
}

impl Drop for Muffle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, mute: Arc<AtomicBool>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((from, _)) = listener.accept().await {
        let mute = mute.clone();
        connections.spawn(async move {
            let Ok(to) = TcpStream::connect(to).await else { return };
            let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
            // Whichever way ends first ends both.
            tokio::select! {
                () = pump(from_read, to_write, Arc::default()) => {}
                () = pump(to_read, from_write, mute) => {}
            }
        });
    }
}

/// Passes bytes on. Once any were lost the connection is of no use: it stays silent until its user gives it up.
async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, mute: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut lost = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        lost |= mute.load(Ordering::Relaxed);
        if !lost && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
