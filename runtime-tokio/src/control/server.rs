//! The running node's side of the control socket.

use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::cluster::answer;
use super::execute::{Hosted, REPLY_QUEUE, execute};
use super::pipeline::Pipeline;
use super::protocol::{Code, Failure, Reply, Request};
use super::{lines, socket};

/// Connections served at once; further ones wait. Holders of locks keep theirs.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a command may take to hear why the node has stopped.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves commands until it is stopped.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    data: PathBuf,
    stop: CancellationToken,
    /// Why the node stopped, where it did so by itself; set before `stop`.
    why: Arc<OnceLock<Failure>>,
    tasks: TaskTracker,
}

impl Server {
    /// Listens in the data directory of `hosted`, whose lock the caller holds.
    pub(crate) fn start(hosted: Hosted) -> io::Result<Server> {
        let listener = socket::listen(&hosted.data)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (data, why) = (hosted.data.clone(), Arc::default());
        let server = Server { data, stop, why, tasks };
        server.tasks.spawn(server.clone().accept_all(listener, Arc::new(hosted)));
        Ok(server)
    }

    /// Takes no more commands and ends those under way, which hear `why`.
    pub(crate) async fn stop(self, why: Option<Failure>) {
        socket::remove(&self.data);
        if let Some(why) = why {
            self.why.get_or_init(|| why);
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn accept_all(self, listener: UnixListener, hosted: Arc<Hosted>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accept = async {
            loop {
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let serve = self.clone().serve_one(stream, Arc::clone(&hosted));
                        self.tasks.spawn(async {
                            serve.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a command");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        self.stop.run_until_cancelled(accept).await;
    }

    /// Serves one connection until it ends or the node does.
    async fn serve_one(self, mut stream: UnixStream, hosted: Arc<Hosted>) {
        match self.stop.run_until_cancelled(serve(&mut stream, hosted)).await {
            Some(Err(error)) => debug!(%error, "a command's connection failed"),
            Some(Ok(())) => {}
            None => {
                if let Some(why) = self.why.get() {
                    let last = Reply::Failure(why.clone());
                    // Whoever does not listen, or has gone, does not want to know.
                    let _ = timeout(FAREWELL, lines::write(&mut stream, &last)).await;
                }
            }
        }
    }
}

/// Answers the requests that come on one connection, in their order. Those of a cluster that have one
/// answer each are carried out together, as many as have come; all others one after the other.
async fn serve(stream: &mut UnixStream, hosted: Arc<Hosted>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let (mut reader, mut line) = (BufReader::new(reader), Vec::new());
    let (mut pipeline, mut lines) = (Pipeline::new(), Vec::new());
    let mut alone = None::<Request>;
    loop {
        if pipeline.is_empty()
            && let Some(request) = alone.take()
        {
            if !carry_out(request, &hosted, &mut reader, &mut writer).await? {
                return Ok(());
            }
            continue;
        }
        let more = alone.is_none() && pipeline.has_room();
        tokio::select! {
            biased;
            () = pipeline.answers(|reply| add(&mut lines, &reply)), if !pipeline.is_empty() => {
                // Why it stopped is known in a moment, and said instead.
                if hosted.node.has_stopped() {
                    pending::<()>().await;
                }
                writer.write_all(&lines).await?;
                lines.clear();
                lines.shrink_to(lines::KEPT_BYTES);
            }
            request = lines::read_on::<Request>(&mut reader, &mut line), if more => {
                match request {
                    Ok(Some(Request::Cluster { timeout_ms, ask })) if !ask.streams() => {
                        let hosted = Arc::clone(&hosted);
                        pipeline.push(async move { answer(&hosted, timeout_ms, *ask).await });
                    }
                    Ok(Some(request)) => alone = Some(request),
                    // Whoever asked has gone.
                    Ok(None) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        let message =
                            format!("the running node does not understand the request: {error}");
                        let failure = Failure::new(Code::Usage, message);
                        return lines::write(&mut writer, &Reply::Failure(failure)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Adds a reply that is the only one, and what follows the last.
fn add(lines: &mut Vec<u8>, reply: &Reply) {
    let last = (!matches!(reply, Reply::Failure(_))).then_some(&Reply::End);
    for reply in std::iter::once(reply).chain(last) {
        lines::append(lines, reply).expect("replies can be written");
    }
}

/// Carries out one request, with any number of replies; `false` if whoever asked has gone.
async fn carry_out(
    request: Request,
    hosted: &Hosted,
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<bool> {
    let (give, mut replies) = mpsc::channel(REPLY_QUEUE);
    let mut work = Box::pin(execute(hosted.clone(), request, give));
    let (mut working, mut listening) = (true, true);
    loop {
        tokio::select! {
            biased;
            reply = replies.recv() => {
                let Some(reply) = reply else { return Ok(true) };
                // With whatever else is there: an answer and its end are one write.
                let (mut together, mut next) = (Vec::new(), Some(reply));
                while let Some(reply) = next {
                    if matches!(reply, Reply::Failure(_)) && hosted.node.has_stopped() {
                        writer.write_all(&together).await?;
                        // Why it stopped is known in a moment, and said instead.
                        pending::<()>().await;
                    }
                    lines::append(&mut together, &reply)?;
                    next = replies.try_recv().ok();
                }
                writer.write_all(&together).await?;
            }
            () = &mut work, if working => working = false,
            // Whoever asked has gone when nothing more will come from there.
            more = reader.fill_buf(), if listening => {
                if more?.is_empty() {
                    return Ok(false);
                }
                listening = false;
            }
        }
    }
}
