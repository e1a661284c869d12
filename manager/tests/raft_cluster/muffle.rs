//! A hop in front of a manager's peer port that can lose whatever the manager answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    /// What is lost from connections that were there when this was said; what is dialled later is heard.
    mute_present: Arc<AtomicU64>,
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
        let mute_present = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, free, mute.clone(), mute_present.clone()));
        Self { mute, mute_present, task }
    }

    /// From now on answers are lost, or not any more.
    pub fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    /// Answers are lost on all connections there are, and on none that is made from now on.
    pub fn mute_present(&self) {
        self.mute_present.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Muffle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, mute: Arc<AtomicBool>, mute_present: Arc<AtomicU64>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((from, _)) = listener.accept().await {
        let (mute, mute_present) = (mute.clone(), mute_present.clone());
        connections.spawn(async move {
            let Ok(to) = TcpStream::connect(to).await else { return };
            let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
            let begun = mute_present.load(Ordering::Relaxed);
            let lost = || mute.load(Ordering::Relaxed) || mute_present.load(Ordering::Relaxed) != begun;
            // Whichever way ends first ends both.
            tokio::select! {
                () = pump(from_read, to_write, || false) => {}
                () = pump(to_read, from_write, lost) => {}
            }
        });
    }
}

/// Passes bytes on. Once any were lost the connection is of no use: it stays silent until its user gives it up.
async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, mute: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut lost = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        lost |= mute();
        if !lost && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
