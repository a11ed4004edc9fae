//! watch: a process that captures a tree whenever it changes, and captures it for others who ask.
//!
//! Those who ask are captures of the same tree into the same store. They reach the watcher by a socket in the store, and
//! can rely on two things:
//!
//! - **What they get is not older than their question.** A client makes a file of its own, the *cookie*, where the watcher
//!   looks for changes as well. The kernel queues events in the order of what happened, and the watcher begins only once it
//!   has heard of the cookie: whatever the client's process has seen written, the watcher has been told of.
//! - **A run is captured once.** A watcher may die, hang or be stopped at any moment, and the client then captures by
//!   itself. The cookie decides who does: it can be removed by one of the two only. The watcher removes it before it
//!   begins, the client where it has waited long enough. Where the watcher was first and died after that, the client looks
//!   for the run, whose id it has chosen itself.
//!
//! What is on the socket is described in `schema/store.md`, "watch/".

mod changes;
mod client;
mod protocol;
mod server;
mod stop;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::id::RunId;

pub use client::capture_with_watcher;
pub use server::{News, WatchOptions, watch};
pub use stop::Stop;

/// The store's folder of sockets, cookies and locks.
pub const FOLDER: &str = "watch";
/// The kernel takes no longer path for a socket.
const MAX_SOCKET_PATH: usize = 107;

/// Which tree, and how it is captured: what a watcher and its clients must agree on.
///
/// Files are named by the root's device and inode: they tell apart what one path leads to in several containers, and before
/// and after a rename. And a client needs no hash for them: the first one of a process takes 30 us on some machines, until
/// the hash has found out what the processor can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TreeKey {
    /// The resolved path, by which the project is named.
    root: PathBuf,
    device: u64,
    inode: u64,
    include_secrets: bool,
}

impl TreeKey {
    fn of(root: &Path, include_secrets: bool) -> io::Result<Self> {
        let metadata = root.metadata()?;
        Ok(Self { root: root.to_owned(), device: metadata.dev(), inode: metadata.ino(), include_secrets })
    }

    /// The path in the store of the file that is locked while the tree is watched, whatever the options.
    fn lock(&self) -> String {
        format!("{FOLDER}/{:x}-{:x}.lock", self.device, self.inode)
    }

    fn base(&self) -> String {
        let secrets = if self.include_secrets { "-secrets" } else { "" };
        format!("{:x}-{:x}{secrets}", self.device, self.inode)
    }

    /// The socket's name.
    fn socket(&self) -> String {
        format!("{}.sock", self.base())
    }

    /// A cookie's path in the store.
    fn cookie(&self, run: RunId) -> String {
        format!("{FOLDER}/{run}{}", self.cookie_ending())
    }

    /// How the names of all cookies of this tree end.
    fn cookie_ending(&self) -> String {
        format!("-{}.cookie", self.base())
    }
}

/// Does something with a socket in a folder, whose path may be longer than a socket's may be.
fn at_socket<T>(folder: &Path, name: &str, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = folder.join(name);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return act(&path);
    }
    let folder = File::open(folder)?;
    act(&PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())))
}

/// The process at the other end, if it is the same user's. The socket's mode alone does not say so: root may connect to
/// any, and who may write to a shared store may put a socket of his own there.
fn peer_of_same_user(stream: &UnixStream) -> Option<i32> {
    let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
    (peer.uid == rustix::process::geteuid()).then(|| peer.pid.as_raw_pid())
}
