//! The slave of the machine itself, asked over its unix socket, with or without managers.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use minder_model::MESSAGE_BYTES_MAX;
use minder_proto::{
    dial,
    v1::{self, local_client::LocalClient},
};
use tokio::time::timeout;
use tonic::{Status, Streaming, transport::Channel};

use crate::error::{Error, Verdict, judge};

/// Longest path the kernel takes for a socket, its ending zero left out.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A slave on this machine.
pub struct Local {
    client: LocalClient<Channel>,
    deadline: Duration,
    /// Keeps the way to a socket open whose path is too long for the kernel.
    _folder: Option<File>,
}

impl Local {
    /// Connects to the socket, or says why the kernel refuses. Each call takes at most `deadline`.
    pub fn open(socket: &Path, deadline: Duration) -> io::Result<Self> {
        let (path, folder) = reachable(socket)?;
        // The kernel's own reason reads better than what a channel makes of it.
        drop(UnixStream::connect(&path)?);
        let endpoint = dial::local(&path).map_err(io::Error::other)?;
        let client = LocalClient::new(endpoint.connect_lazy()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client, deadline, _folder: folder })
    }

    /// The selected instances.
    pub async fn list(&self, selection: v1::Selection) -> Result<v1::LocalListReply, Error> {
        let request = v1::LocalListRequest { selection: Some(selection) };
        let mut client = self.client.clone();
        self.within(client.list(request)).await
    }

    /// Tells the selected instances what to do; answered when it is on the slave's disk.
    pub async fn order(
        &self,
        kind: v1::LocalOrderKind,
        selection: v1::Selection,
    ) -> Result<v1::LocalOrderReply, Error> {
        let request = v1::LocalOrderRequest { selection: Some(selection), kind: kind.into() };
        let mut client = self.client.clone();
        self.within(client.order(request)).await
    }

    /// Makes the slave belong to another cluster; nothing that runs is touched.
    pub async fn accept_cluster(&self, cluster_id: &str) -> Result<v1::LocalAcceptClusterReply, Error> {
        let request = v1::LocalAcceptClusterRequest { cluster_id: cluster_id.into() };
        let mut client = self.client.clone();
        self.within(client.accept_cluster(request)).await
    }

    /// Output of the selected instances.
    pub async fn logs(&self, request: v1::LogsRequest) -> Result<Streaming<v1::LogChunk>, Error> {
        let mut client = self.client.clone();
        self.within(client.logs(request)).await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Error> {
        match timeout(self.deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(match judge(&status) {
                Verdict::Final(error) => error,
                Verdict::Again(text) | Verdict::AgainUnsure(text) => Error::Failed(text),
            }),
            Err(_) => Err(Error::Failed(format!("the slave did not answer within {:?}", self.deadline))),
        }
    }
}

/// A path that the kernel takes, through a descriptor where the given one is too long.
fn reachable(socket: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let socket = std::path::absolute(socket)?;
    match (socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX, socket.parent(), socket.file_name()) {
        (true, Some(folder), Some(name)) => {
            let folder = File::open(folder)?;
            let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
            Ok((path, Some(folder)))
        }
        _ => Ok((socket, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernels_reason_is_kept_and_a_long_path_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("a-long-name".repeat(20));
        std::fs::create_dir(&long).unwrap();
        let socket = long.join("control.sock");
        let open = || Local::open(&socket, Duration::from_secs(1)).map(drop).map_err(|error| error.kind());
        assert_eq!(open(), Err(io::ErrorKind::NotFound));
        let (path, folder) = reachable(&socket).unwrap();
        assert!(folder.is_some() && path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(open(), Ok(()));
        drop(listener);
        assert_eq!(open(), Err(io::ErrorKind::ConnectionRefused));
    }
}
