//! Advisory locks between processes, each with a description of who holds it.
//!
//! A lock is a file that is locked as a whole; the system releases it when its holder dies, however it dies. The
//! file stays when the lock is released. Whoever locks one that was removed meanwhile, by a collection, locks the one that
//! is there now: else one process could hold the removed file and another a new one of the same name, both believing to be
//! alone. The files are small and named by what they protect.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A directory of locks.
#[derive(Clone, Debug)]
pub struct Locks {
    directory: PathBuf,
}

/// What came of trying to take a lock.
#[derive(Debug)]
pub enum Acquired {
    /// It is ours until this is dropped.
    Guard(LockGuard),
    /// Somebody else has it.
    Held(Holder),
}

/// Whoever holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process; zero if that is not known (yet).
    pub pid: u32,
    /// What it does, in its own words.
    pub description: String,
    /// Since when.
    pub since: SystemTime,
    /// How long ago it last showed that it lives.
    pub heartbeat_age: Duration,
    /// Whether it is stopped (as by Ctrl-Z) and so will not go on by itself.
    pub stopped: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if self.stopped {
            f.write_str(", which is stopped")?;
        }
        if !self.description.is_empty() {
            write!(f, " ({})", self.description)?;
        }
        Ok(())
    }
}

/// A lock that is held. Released when dropped.
#[derive(Debug)]
pub struct LockGuard {
    file: Arc<File>,
}

/// Shows that the holder of a lock lives.
#[derive(Clone, Debug)]
pub struct Beat {
    file: Arc<File>,
}

impl Locks {
    /// The locks in this directory, which is made when the first is taken.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where the file of a lock is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.lock"))
    }

    /// Takes a lock if nobody has it. Returns at once.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be made or locks do not work here.
    pub fn try_acquire(&self, name: &str, description: &str) -> io::Result<Acquired> {
        fs::create_dir_all(&self.directory)?;
        try_acquire(&self.path(name), description)
    }
}

/// Takes the lock that a file is, if nobody has it. Returns at once.
///
/// # Errors
///
/// Fails if the file cannot be made or locks do not work here.
pub fn try_acquire(path: &Path, description: &str) -> io::Result<Acquired> {
    take(path, description, File::try_lock)
}

/// As [`try_acquire`], but others may share the lock; who wants it for itself is told of one of them.
///
/// # Errors
///
/// Fails if the file cannot be made or locks do not work here.
pub fn try_share(path: &Path, description: &str) -> io::Result<Acquired> {
    take(path, description, File::try_lock_shared)
}

fn take(path: &Path, description: &str, lock: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<Acquired> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    loop {
        let mut file = match options.open(path) {
            // Nothing of anybody's goes away with an empty directory, and nobody could work with it there.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                fs::remove_dir(path)?;
                options.open(path)?
            }
            opened => opened?,
        };
        match lock(&file) {
            // Somebody collected it meanwhile, or what it is in, and the next one would lock another.
            Ok(()) if !is_at(&file, path)? => {}
            Ok(()) => {
                // Who looks between these two sees a holder without a name, which is not wrong.
                file.set_len(0)?;
                file.rewind()?;
                let pid = std::process::id();
                writeln!(file, "{pid}\n{}\n{}", started(pid).unwrap_or(0), description.replace('\n', " "))?;
                return Ok(Acquired::Guard(LockGuard { file: Arc::new(file) }));
            }
            Err(TryLockError::WouldBlock) => return Ok(Acquired::Held(holder(&mut file)?)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether an open file is the one in this place.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (ours, there) = (file.metadata()?, fs::metadata(path));
    match there {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Files that are open stay where they are elsewhere.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

fn holder(file: &mut File) -> io::Result<Holder> {
    let mut text = String::new();
    // What is there may be half-written, or not ours.
    if file.read_to_string(&mut text).is_err() {
        text.clear();
    }
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let start: Option<u64> = lines.next().and_then(|line| line.parse().ok());
    let description = lines.next().unwrap_or_default().to_owned();
    let metadata = file.metadata()?;
    let modified = metadata.modified()?;
    // A process of the same number that started at another time is another process.
    let is_it = pid != 0 && start.is_some() && started(pid) == start;
    Ok(Holder {
        pid,
        description,
        since: metadata.created().unwrap_or(modified),
        heartbeat_age: SystemTime::now().duration_since(modified).unwrap_or_default(),
        stopped: is_it && is_stopped(pid),
    })
}

impl LockGuard {
    /// What shows that this holder lives, for whoever keeps it beating.
    pub fn beat(&self) -> Beat {
        Beat { file: self.file.clone() }
    }
}

impl Beat {
    /// Shows that the holder lives.
    pub fn beat(&self) {
        // Who cannot show it is taken for stopped after a while, which costs others work and nobody results.
        let _ = self.file.set_modified(SystemTime::now());
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // A heart that is still beating holds the file open, so closing it is not enough.
        let _ = self.file.unlock();
    }
}

/// The fields of `/proc/PID/stat` after the name of the program, which may hold anything: its state, its parent, its
/// group, and so on; see proc(5). `None` if there is no such process, or no such file on this system.
pub fn process_stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// When a process started, in ticks since the system did.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<u64> {
    process_stat(pid)?.get(19)?.parse().ok()
}

#[cfg(target_os = "linux")]
fn is_stopped(pid: u32) -> bool {
    process_stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state == "T" || state == "t"))
}

/// Elsewhere the heartbeat alone tells.
#[cfg(not(target_os = "linux"))]
fn started(_pid: u32) -> Option<u64> {
    Some(0)
}

#[cfg(not(target_os = "linux"))]
fn is_stopped(_pid: u32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_a_lock_and_others_are_told_who() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let locks = Locks::new(directory.path().join("locks"));
        let first = locks.try_acquire("a", "building\nfoo").expect("locks work here");
        assert!(matches!(first, Acquired::Guard(_)));
        match locks.try_acquire("a", "me too").expect("locks work here") {
            Acquired::Held(holder) => {
                assert_eq!(holder.pid, std::process::id());
                assert_eq!(holder.description, "building foo");
                assert!(!holder.stopped);
                assert!(holder.heartbeat_age < Duration::from_secs(60));
            }
            Acquired::Guard(_) => panic!("it is held"),
        }
        assert!(matches!(locks.try_acquire("b", "").expect("locks work here"), Acquired::Guard(_)));
        drop(first);
        assert!(matches!(locks.try_acquire("a", "").expect("locks work here"), Acquired::Guard(_)));
    }

    #[test]
    fn a_lock_that_was_replaced_by_an_empty_directory_is_made_again_and_one_with_something_in_it_is_left() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let locks = Locks::new(directory.path());
        fs::create_dir(locks.path("a")).expect("it can be made");
        assert!(matches!(locks.try_acquire("a", "").expect("locks work here"), Acquired::Guard(_)));
        let inside = locks.path("b").join("something");
        fs::create_dir_all(&inside).expect("it can be made");
        assert!(locks.try_acquire("b", "").is_err());
        assert!(inside.is_dir());
    }

    #[test]
    fn a_lock_that_is_shared_is_for_all_who_share_it_and_for_nobody_else() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.lock");
        let take = |shared: bool| {
            let taken = if shared { try_share(&path, "reading") } else { try_acquire(&path, "writing") };
            taken.expect("locks work here")
        };
        let (first, second) = (take(true), take(true));
        assert!(matches!((&first, &second), (Acquired::Guard(_), Acquired::Guard(_))));
        drop(first);
        assert!(matches!(take(false), Acquired::Held(holder) if holder.description == "reading"));
        drop(second);
        let alone = take(false);
        assert!(matches!(take(true), Acquired::Held(holder) if holder.description == "writing"));
        drop(alone);
        assert!(matches!(take(true), Acquired::Guard(_)));
    }

    #[test]
    fn who_locks_a_file_that_was_removed_meanwhile_has_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.lock");
        let tries = std::cell::Cell::new(0);
        let taken = take(&path, "", |file| {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                fs::remove_file(&path).expect("it was just opened");
            }
            file.try_lock()
        });
        assert!(matches!(taken.expect("locks work here"), Acquired::Guard(_)));
        assert!(path.is_file(), "nobody else would find it");
        assert_eq!(tries.get(), 2);
    }

    #[test]
    fn a_lock_is_released_even_if_its_heart_still_beats() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let locks = Locks::new(directory.path());
        let Acquired::Guard(guard) = locks.try_acquire("a", "").expect("locks work here") else { panic!("it is free") };
        let beat = guard.beat();
        drop(guard);
        assert!(matches!(locks.try_acquire("a", "").expect("locks work here"), Acquired::Guard(_)));
        beat.beat();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_died_holds_nothing_and_one_that_stopped_is_told_apart() {
        use std::process::{Command, Stdio};
        let directory = tempfile::tempdir().expect("a temporary directory");
        let locks = Locks::new(directory.path());
        let path = locks.path("a");
        // A shell holds the lock as any other program would.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg("exec 9<>\"$0\"; flock -n 9 || exit 1; echo locked; exec sleep 100")
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = [0; 7];
        child.stdout.as_mut().expect("it is piped").read_exact(&mut line).expect("it says that it has locked");
        fs::write(&path, format!("{}\n{}\nsleeping\n", child.id(), started(child.id()).expect("it lives")))
            .expect("it can be written");
        let held = || match locks.try_acquire("a", "").expect("locks work here") {
            Acquired::Held(holder) => Some(holder),
            Acquired::Guard(_) => None,
        };
        assert!(!held().expect("it is held").stopped);
        let signal = |name: &str| {
            assert!(Command::new("kill").args([name, &child.id().to_string()]).status().expect("it runs").success());
        };
        signal("-STOP");
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !held().expect("it is held").stopped {
            assert!(std::time::Instant::now() < deadline, "it must be seen to have stopped");
            std::thread::yield_now();
        }
        signal("-KILL");
        child.wait().expect("it was ours");
        assert!(held().is_none());
    }
}
