//! Unix sockets that streams come in at: for programs of the same user on the same machine.

use super::{Arrival, BoxIo, Incoming, Peer, tls::ServerTlsLayer};
use futures::{FutureExt, future::BoxFuture};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::{UnixListener, UnixStream};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// How long nothing is accepted after the machine ran out of something.
const PAUSE: Duration = Duration::from_millis(200);
/// Only the own user may connect.
const MODE: u32 = 0o600;

/// A Unix socket. Its file is removed when this is dropped.
pub struct UnixIncoming {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file: another one at the path is not ours to remove.
    file: (u64, u64),
    told: bool,
    tls: Option<ServerTlsLayer>,
}

impl fmt::Debug for UnixIncoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixIncoming").field("path", &self.path).finish_non_exhaustive()
    }
}

impl UnixIncoming {
    /// Listens. A socket that nobody answers at is replaced; the new one is for the own user only (mode 0600).
    ///
    /// # Errors
    /// Somebody answers at the path, something else than a socket is there, or the socket cannot be made; the text names it.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let failed = |reason: io::Error| {
            io::Error::new(reason.kind(), format!("cannot listen on {}: {reason}", path.display()))
        };
        make_way(path).map_err(failed)?;
        let (listener, file) = listen(path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), file, told: false, tls: None })
    }

    /// Speaks TLS with whoever comes, if there is a layer.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<ServerTlsLayer>) -> Self {
        self.tls = tls;
        self
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixIncoming {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Incoming for UnixIncoming {
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>> {
        async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        self.told = false;
                        return Some(arrival(stream, &self.path, self.tls.clone()));
                    }
                    Err(e) => {
                        if !self.told {
                            tracing::warn!(at = %self.path.display(), error = %e, "no connections can be accepted; trying on");
                            self.told = true;
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        .boxed()
    }
}

fn arrival(stream: UnixStream, path: &Path, tls: Option<ServerTlsLayer>) -> Arrival {
    let user = stream.peer_cred().map(|peer| format!(" (user {})", peer.uid())).unwrap_or_default();
    let io: BoxIo = Box::new(stream);
    let ready = async move {
        match tls {
            Some(tls) => tls.accept(io, Peer::default()).await,
            None => Ok((io, Peer::default())),
        }
    };
    Arrival { from: format!("{}{user}", path.display()), ready: ready.boxed() }
}

/// Removes what an earlier process left at the path, if it is a socket at which nobody answers.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            let text = "something that is no socket is there; move it away, or choose another path";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {}
    }
    // On a socket this neither blocks nor sends: the backlog takes the connection, or refuses it.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        Ok(()) | Err(_) => {
            let text = "another program answers there; end it, or choose another path";
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

fn listen(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so nobody can connect with the permissions that the umask gave.
    let made = fs::set_permissions(path, fs::Permissions::from_mode(MODE))
        .and_then(|()| fs::symlink_metadata(path))
        .and_then(|found| socket.listen(BACKLOG).map(|()| identity(&found)))
        .and_then(|file| Ok((UnixListener::from_std(socket.into())?, file)));
    made.inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
