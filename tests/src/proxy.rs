//! Between gateway and PostgreSQL: connections that break when they are told to, at whatever moment that is, and a network that
//! carries nothing for a while.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{broadcast, watch},
};

use crate::postgres::{Postgres, SOCKET};

/// For so long a connection that is being cut still takes what the gateway says: a COMMIT gets through, its answer does not.
const DEAF: Duration = Duration::from_millis(5);

/// A server that is reached by TCP finds out after so long that nobody answers its keepalives.
const KEEPALIVE: Duration = Duration::from_secs(11);

pub struct Proxy {
    folder: TempDir,
    cut: broadcast::Sender<u32>,
    parted: watch::Sender<bool>,
}

impl Proxy {
    pub fn start(postgres: &Postgres) -> Self {
        let folder =
            tempfile::Builder::new().prefix("tollway-e2e-px-").tempdir_in("/tmp").expect("/tmp takes a folder");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("the folder is ours");
        let (cut, _) = broadcast::channel(16);
        let (parted, is_parted) = watch::channel(false);
        let (server, cuts) = (postgres.dir().join(SOCKET), cut.clone());
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                tokio::spawn(carry(number, client, server.clone(), cuts.subscribe(), is_parted.clone()));
            }
        });
        Self { folder, cut, parted }
    }

    /// Where its socket is, in place of the cluster's.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Breaks one in three of the open connections, in turn.
    pub fn cut(&self, turn: u32) {
        // Nobody is connected: nothing to cut.
        let _ = self.cut.send(turn);
    }

    /// From now on nothing is carried, in open connections and in new ones. Nobody is told.
    pub fn part(&self) {
        self.parted.send_replace(true);
    }

    /// What was held back is delivered, as a network does that comes back.
    pub fn heal(&self) {
        self.parted.send_replace(false);
    }
}

async fn carry(
    number: u32,
    client: UnixStream,
    server: PathBuf,
    mut cuts: broadcast::Receiver<u32>,
    parted: watch::Receiver<bool>,
) {
    let Ok(server) = UnixStream::connect(server).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let told = async {
        loop {
            match cuts.recv().await {
                Ok(turn) if !(number + turn).is_multiple_of(3) => {}
                _ => return,
            }
        }
    };
    let mut asking = Box::pin(copy(&mut from_client, &mut to_server, parted.clone()));
    let is_lost = tokio::select! {
        () = &mut asking => return,
        () = copy(&mut from_server, &mut to_client, parted.clone()) => return,
        () = lost(parted.clone()) => true,
        () = told => false,
    };
    if is_lost {
        drop(asking);
        drop((from_server, to_server));
        // The client learns of it only from a network that carries again.
        let _ = { parted }.wait_for(|parted| !parted).await;
    } else {
        let _ = tokio::time::timeout(DEAF, asking).await;
    }
}

/// Waits until nothing was carried for so long that the server takes the connection for dead.
async fn lost(mut parted: watch::Receiver<bool>) {
    loop {
        if parted.wait_for(|parted| *parted).await.is_err() {
            return std::future::pending().await;
        }
        let healed = parted.wait_for(|parted| !parted);
        if tokio::time::timeout(KEEPALIVE, healed).await.is_err() {
            return;
        }
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut parted: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        // The proxy is gone: so are its connections.
        let whole = parted.wait_for(|parted| !parted).await.is_ok();
        if !whole || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
