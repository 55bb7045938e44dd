//! Programs of the system.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use doge::{Change, Epoch, Fingerprint, Last, Observation, ObserveContext, Seen, Spec, Values};
use serde::{Deserialize, Serialize};

use crate::epoch::OWN;
use crate::file_stamp::FileStamp;
use crate::told::short;

/// A program: where it is, and what is in it. Looked at again when its stamp or the `PATH` changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExecutableSpec {
    /// A path, or a name that is looked for on the `PATH`.
    pub program: String,
}

impl fmt::Display for ExecutableSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {}", self.program)
    }
}

impl Spec for ExecutableSpec {
    const KIND: &'static str = "executable";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What is in a program; nothing if there is no such program.
pub type Executable = Option<Fingerprint>;

/// Where a program was found, and its stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutableStamp {
    place: Option<PathBuf>,
    stamp: Option<FileStamp>,
}

/// Where a program is.
pub(crate) fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') || program.contains('\\') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let names: &[String] = &if cfg!(windows) {
        vec![format!("{program}.exe"), format!("{program}.bat"), program.to_owned()]
    } else {
        vec![program.to_owned()]
    };
    let candidate = |directory: PathBuf| names.iter().map(|name| directory.join(name)).find(|path| is_program(path));
    std::env::split_paths(path?).filter(|directory| !directory.as_os_str().is_empty()).find_map(candidate)
}

fn is_program(path: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    #[cfg(unix)]
    let may_run = {
        use std::os::unix::fs::PermissionsExt as _;
        metadata.permissions().mode() & 0o111 != 0
    };
    #[cfg(not(unix))]
    let may_run = true;
    metadata.is_file() && may_run
}

impl Observation for ExecutableSpec {
    type Output = Executable;
    type Error = Infallible;
    type Stamp = ExecutableStamp;

    fn changes(&self, was: &Executable, now: &Executable, _: &Values<'_>) -> Option<Vec<Change>> {
        let content = |content: &Executable| content.as_ref().map(short);
        Some(vec![Change::new("program", self.program.clone(), content(was), content(now))])
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        let program = self.program.clone();
        Ok(ctx
            .blocking(move || {
                let place = find(&program, std::env::var_os("PATH").as_deref());
                let stamp = place.as_deref().and_then(|place| FileStamp::of(place).ok().flatten());
                let stamp = ExecutableStamp { place, stamp };
                if last.is_some_and(|last| last.is(&stamp)) {
                    return Seen::Same;
                }
                let read = |place: &PathBuf| std::fs::read(place).ok();
                let value = stamp.place.as_ref().and_then(read).map(|bytes| Fingerprint::of(&bytes));
                Seen::New { value, newest: stamp.stamp.as_ref().map(FileStamp::newest), stamp }
            })
            .await)
    }
}
