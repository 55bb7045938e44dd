//! Files that are there whole or not at all.

use std::io::{self, Write as _};
use std::path::Path;

/// Puts a file into `directory` at `path`, which is in it, in place of what is there. Others may read it, as any new file.
///
/// It is written aside and synced first, so that whoever looks finds the old content or the new, also after a crash.
///
/// # Errors
///
/// What the system says; nothing has changed then.
pub fn write_whole(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".doge-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // What any new file gets: the mask of the process is applied to it.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
