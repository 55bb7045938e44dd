//! What tells a file from an edited one without reading it.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// What tells a file from an edited one, unless it was edited within the last two seconds.
///
/// It is kept as the bytes of its numbers: a prefix has hundreds of stamps, and every run goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Bytes", into = "Bytes")]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

/// Six numbers of eight bytes, little-endian; the last holds the nanoseconds of both times.
type Bytes = ByteArray<48>;

impl From<Bytes> for FileStamp {
    fn from(bytes: Bytes) -> Self {
        let (numbers, _) = bytes.as_chunks();
        let [device, inode, size, modified, changed, nanos] = std::array::from_fn(|at| u64::from_le_bytes(numbers[at]));
        Self {
            device,
            inode,
            size,
            modified: (modified as i64, (nanos >> 32) as u32),
            changed: (changed as i64, nanos as u32),
        }
    }
}

impl From<FileStamp> for Bytes {
    fn from(stamp: FileStamp) -> Self {
        let FileStamp { device, inode, size, modified, changed } = stamp;
        let nanos = u64::from(modified.1) << 32 | u64::from(changed.1);
        let numbers = [device, inode, size, modified.0 as u64, changed.0 as u64, nanos];
        let mut bytes = [0; 48];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        Bytes::new(bytes)
    }
}

impl FileStamp {
    /// The stamp of what a path leads to; nothing if it leads to nothing.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::new(&metadata))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether everything below a folder has the stamp that it had; the empty name is that of the folder.
    pub(crate) fn are_current<'a>(base: &Path, stamps: impl IntoIterator<Item = &'a (String, Option<Self>)>) -> bool {
        let mut path = PathBuf::new();
        stamps.into_iter().all(|(name, stamp)| {
            path.clear();
            path.push(base);
            if !name.is_empty() {
                path.push(name);
            }
            Self::of(&path).ok() == Some(*stamp)
        })
    }

    #[cfg(unix)]
    pub(crate) fn new(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or(0);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), nanos(metadata.mtime_nsec())),
            changed: (metadata.ctime(), nanos(metadata.ctime_nsec())),
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn new(metadata: &Metadata) -> Self {
        let of = |time: io::Result<SystemTime>| {
            let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            (since.as_secs() as i64, since.subsec_nanos())
        };
        let (modified, changed) = (of(metadata.modified()), of(metadata.created()));
        Self { device: 0, inode: 0, size: metadata.len(), modified, changed }
    }

    /// When the file or what is known of it changed last.
    pub(crate) fn newest(&self) -> SystemTime {
        let (seconds, nanos) = self.modified.max(self.changed);
        let since = Duration::new(u64::try_from(seconds).unwrap_or(0), nanos);
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_kept_as_it_is() {
        let stamp = FileStamp { device: 1, inode: u64::MAX, size: 3, modified: (-4, 5), changed: (6, 999_999_999) };
        let kept = rmp_serde::to_vec_named(&stamp).expect("plain data");
        assert_eq!(kept.len(), 50, "its numbers and what says how many bytes they are");
        assert_eq!(rmp_serde::from_slice::<FileStamp>(&kept).expect("it was written just now"), stamp);
        let numbers = rmp_serde::to_vec_named(&(1_u64, 2_u64, 3_u64, (4_i64, 5_u32), (6_i64, 7_u32)));
        let earlier = rmp_serde::from_slice::<FileStamp>(&numbers.expect("plain data"));
        assert!(earlier.is_err(), "one that was kept as numbers is no stamp any more");
    }

    /// [R7] Its size and the time of its content can be made what they were, the time of what is known of it cannot.
    #[test]
    fn an_edit_of_the_same_size_with_the_old_time_has_another_stamp() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "one").expect("it can be written");
        let before = FileStamp::of(&path).expect("it can be read").expect("it is there");
        let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("files have times");

        // Longer than a tick of the clock that files are stamped by.
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, "two").expect("it can be written");
        let file = std::fs::File::options().append(true).open(&path).expect("it is there");
        file.set_modified(modified).expect("it is ours");

        let after = FileStamp::of(&path).expect("it can be read").expect("it is there");
        assert_eq!((before.inode, before.size, before.modified), (after.inode, after.size, after.modified));
        assert_ne!(before, after);
        assert!(after.newest() > before.newest(), "what was edited just now is not settled, whatever its time says");
    }
}
