//! Tries what a worker must not be able to do, and says of each attempt how it went, as JSON. `--confined` gives up first what a worker gives up.
//!
//! `probe --own FOLDER [--confined] [--victim PID] [--file FILE]... [--socket SOCKET]... [--reach HOST:PORT]...`
//!
//! The tests of this crate run it beside a process with something to hide, and the test of the stack runs it in a container beside the others.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IoSliceMut};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mayfly_sandbox::{Bounds, Demand};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::{ptrace, stat};
use nix::unistd::{Pid, chroot};

/// Readable for every worker.
const SYSTEM: &[&str] = &["/etc", "/usr", "/lib", "/lib64"];
const DONE: &str = "done";
const CONNECT: Duration = Duration::from_secs(2);

/// What is tried.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// The folder of the process's own.
    pub(crate) own: PathBuf,
    /// Whether the process gives up first what a worker gives up.
    pub(crate) confined: bool,
    /// A process of the same user.
    pub(crate) victim: Option<i32>,
    /// Files that are not the process's own.
    pub(crate) files: Vec<PathBuf>,
    /// Addresses that must not be reached.
    pub(crate) addresses: Vec<String>,
    /// Sockets in the file system on which somebody listens.
    pub(crate) sockets: Vec<PathBuf>,
}

/// How each attempt went: `done`, or what the system said.
pub(crate) type Outcomes = BTreeMap<String, String>;

#[allow(dead_code, reason = "the tests of the crate have a main of their own")]
fn main() {
    let targets = Targets::parse(std::env::args().skip(1)).expect("the arguments are as the first lines say");
    let outcomes = serde_json::to_string_pretty(&attempts(&targets)).expect("texts are JSON");
    #[expect(clippy::print_stdout, reason = "what it found is what it is for")]
    {
        println!("{outcomes}");
    }
}

impl Targets {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut targets = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--confined" => targets.confined = true,
                "--own" => targets.own = arguments.next()?.into(),
                "--victim" => targets.victim = Some(arguments.next()?.parse().ok()?),
                "--file" => targets.files.push(arguments.next()?.into()),
                "--reach" => targets.addresses.push(arguments.next()?),
                "--socket" => targets.sockets.push(arguments.next()?.into()),
                _ => return None,
            }
        }
        Some(targets)
    }
}

/// Tries everything.
pub(crate) fn attempts(targets: &Targets) -> Outcomes {
    if targets.confined {
        let bounds = Bounds {
            own: vec![targets.own.clone()],
            readable: SYSTEM.iter().map(PathBuf::from).collect(),
            ..Bounds::default()
        };
        mayfly_sandbox::confine(&bounds, Demand::Required).expect("the system has what the sandbox needs");
    }
    let mut tried = Tried::default();
    tried.own(&targets.own);
    tried.system(&targets.own);
    for file in &targets.files {
        tried.file(file, &targets.own);
    }
    for socket in &targets.sockets {
        tried.note(
            "connect to a socket in the file system",
            UnixStream::connect(socket),
        );
    }
    for address in &targets.addresses {
        tried.note(format!("reach {address}"), reached(address));
    }
    if let Some(pid) = targets.victim {
        tried.process(pid);
    }
    tried.itself(&targets.own);
    tried.0
}

#[derive(Default)]
struct Tried(Outcomes);

impl Tried {
    fn note<T>(&mut self, what: impl Into<String>, result: io::Result<T>) {
        let outcome = result.map_or_else(|error| error.to_string(), |_| DONE.to_owned());
        self.0.insert(what.into(), outcome);
    }

    /// What a worker needs.
    fn own(&mut self, own: &Path) {
        let (file, folder) = (own.join("file"), own.join("folder"));
        self.note("own: write a file", fs::write(&file, "x"));
        self.note("own: write it again", fs::write(&file, "y"));
        self.note("own: make a folder", fs::create_dir(&folder));
        self.note("own: move the file there", fs::rename(&file, folder.join("file")));
        self.note("own: read it", fs::read(folder.join("file")));
        self.note("own: link it", fs::hard_link(folder.join("file"), &file));
        self.note("own: list the folder", fs::read_dir(&folder).map(Iterator::count));
        self.note(
            "own: remove both",
            fs::remove_dir_all(&folder).and_then(|()| fs::remove_file(&file)),
        );
        self.note(
            "own: look a name up",
            ("localhost", 80).to_socket_addrs().map(Iterator::count),
        );
        self.note(
            "own: begin a thread",
            std::thread::Builder::new()
                .spawn(|| {})
                .map(std::thread::JoinHandle::join),
        );
        self.note("own: listen", TcpListener::bind(("127.0.0.1", 0)));
    }

    /// What no worker needs of the system.
    #[expect(clippy::disallowed_methods, reason = "that it fails is what is tried")]
    fn system(&mut self, own: &Path) {
        self.note("run a program", Command::new("/usr/bin/true").status());
        self.note(
            "make a link",
            std::os::unix::fs::symlink("/etc/passwd", own.join("link")),
        );
        self.note(
            "make a pipe",
            of(nix::unistd::mkfifo(&own.join("pipe"), stat::Mode::S_IRWXU)),
        );
        self.note("list the processes", fs::read_dir("/proc").map(Iterator::count));
        self.note("list the root", fs::read_dir("/").map(Iterator::count));
        self.note("list the home", fs::read_dir("/root").map(Iterator::count));
        self.note(
            "write to /etc",
            fs::write("/etc/mayfly-probe", "x").and_then(|()| fs::remove_file("/etc/mayfly-probe")),
        );
        self.note("read the machine's log", fs::File::open("/dev/kmsg"));
    }

    /// What changes the process itself, and so comes last.
    fn itself(&mut self, own: &Path) {
        let nothing = None::<&str>;
        let mounted = nix::mount::mount(nothing, own, Some("tmpfs"), MsFlags::empty(), nothing);
        self.note("mount", of(mounted.and_then(|()| nix::mount::umount(own))));
        self.note(
            "begin namespaces",
            of(nix::sched::unshare(CloneFlags::CLONE_NEWUSER)),
        );
        self.note("change the root", of(chroot(own)));
    }

    /// A file of somebody else.
    fn file(&mut self, file: &Path, own: &Path) {
        let named = |what: &str| format!("{what} {}", file.display());
        let beside = file.with_file_name("probe");
        self.note(named("link"), fs::hard_link(file, own.join("linked")));
        self.note(named("read"), fs::read(file));
        self.note(
            named("list the folder of"),
            fs::read_dir(beside.parent().unwrap_or(file)).map(Iterator::count),
        );
        self.note(named("write beside"), fs::write(&beside, "x"));
        self.note(
            named("move something to the folder of"),
            fs::rename(own.join("linked"), &beside),
        );
        self.note(named("write"), fs::OpenOptions::new().append(true).open(file));
        self.note(named("truncate"), of(nix::unistd::truncate(file, 1)));
        self.note(named("remove"), fs::remove_file(file));
    }

    /// A process of the same user.
    fn process(&mut self, pid: i32) {
        for name in ["environ", "cmdline", "maps", "mem"] {
            self.note(
                format!("read its {name}"),
                fs::File::open(format!("/proc/{pid}/{name}")),
            );
        }
        self.note(
            "list its files",
            fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count),
        );
        self.note(
            "walk its root",
            fs::read_dir(format!("/proc/{pid}/root")).map(Iterator::count),
        );
        let victim = Pid::from_raw(pid);
        self.note("send it a signal", of(kill(victim, Signal::SIGCONT)));
        self.note("trace it", of(ptrace::seize(victim, ptrace::Options::empty())));
        let mut bytes = [0; 8];
        let place = RemoteIoVec {
            base: 1,
            len: bytes.len(),
        };
        let read = process_vm_readv(victim, &mut [IoSliceMut::new(&mut bytes)], &[place]);
        // Nothing is at that address: whoever learns so got through.
        let is_through = matches!(read, Ok(_) | Err(nix::Error::EFAULT));
        self.note(
            "read its memory",
            if is_through { Ok(()) } else { of(read).map(drop) },
        );
    }
}

fn reached(address: &str) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn of<T>(result: nix::Result<T>) -> io::Result<T> {
    result.map_err(io::Error::from)
}
