//! Where the control socket is, and the way around the length that its path may have.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const SOCKET_FILE: &str = "control.sock";

/// The longest path a Unix socket may have on the systems we know, with room for the final zero.
const MAX_PATH_BYTES: usize = 103;

/// Listens in the data directory `data`, whose lock the caller holds: a socket that is there already
/// is that of a process which died.
pub(super) fn listen(data: &Path) -> io::Result<UnixListener> {
    let path = data.join(SOCKET_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_short_path(data, |path| UnixListener::bind(path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket; while the directory's lock is still held, so that it is our own.
pub(super) fn remove(data: &Path) {
    if let Err(error) = fs::remove_file(data.join(SOCKET_FILE)) {
        tracing::debug!(%error, "the control socket stays behind");
    }
}

/// Connects to the node that runs on `data`; `None` if none does.
pub(super) fn connect(data: &Path) -> io::Result<Option<UnixStream>> {
    let stream = with_short_path(data, std::os::unix::net::UnixStream::connect);
    match stream {
        Ok(stream) => {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream).map(Some)
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error),
        },
    }
}

/// A path to the socket that is short enough: through the open directory where it would not be.
fn with_short_path<T>(data: &Path, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let path = data.join(SOCKET_FILE);
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return act(path);
    }
    let dir = File::open(data)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    if !through.exists() {
        let message = format!(
            "the path of {} is too long for a socket on this system ({MAX_PATH_BYTES} bytes): use \
             a data directory with a shorter one",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    act(through.join(SOCKET_FILE))
}
