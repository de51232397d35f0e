//! The running node's side of the control socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::execute::{Hosted, REPLY_QUEUE, execute};
use super::protocol::{Code, Failure, Reply, Request};
use super::{lines, socket};

/// Commands served at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;

/// Serves commands until it is stopped.
#[derive(Debug)]
pub(crate) struct Server {
    data: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Listens in the data directory of `hosted`, whose lock the caller holds.
    pub(crate) fn start(hosted: Hosted) -> io::Result<Server> {
        let listener = socket::listen(&hosted.data)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Server { data: hosted.data.clone(), stop, tasks };
        let serve = accept_all(listener, hosted, server.stop.clone(), server.tasks.clone());
        server.tasks.spawn(serve);
        Ok(server)
    }

    /// Takes no more commands and ends those under way.
    pub(crate) async fn stop(self) {
        socket::remove(&self.data);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept_all(
    listener: UnixListener,
    hosted: Hosted,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept = async {
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (hosted, stop) = (hosted.clone(), stop.clone());
                    tasks.spawn(async move {
                        let _place = place;
                        if let Some(Err(error)) =
                            stop.run_until_cancelled(serve(stream, hosted)).await
                        {
                            debug!(%error, "a command's connection failed");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a command");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accept).await;
}

/// Answers the requests that come on one connection, one after the other.
async fn serve(stream: UnixStream, hosted: Hosted) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let request = match lines::read::<Request>(&mut reader).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let message = format!("the running node does not understand the request: {error}");
                let failure = Failure::new(Code::Usage, message);
                return lines::write(&mut writer, &Reply::Failure(failure)).await;
            }
            Err(error) => return Err(error),
        };
        let (give, mut replies) = mpsc::channel(REPLY_QUEUE);
        let mut work = Box::pin(execute(hosted.clone(), request, give));
        let (mut working, mut listening) = (true, true);
        loop {
            tokio::select! {
                biased;
                reply = replies.recv() => match reply {
                    Some(reply) => lines::write(&mut writer, &reply).await?,
                    None => break,
                },
                () = &mut work, if working => working = false,
                // Whoever asked has gone when nothing more will come from there.
                more = reader.fill_buf(), if listening => {
                    if more?.is_empty() {
                        return Ok(());
                    }
                    listening = false;
                }
            }
        }
    }
}
