//! What a package says about what it was made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::archive::{Content, Packaged};
use crate::json::Reader;
use crate::protocol::RpcError;

/// FNV-1a, 64 bits. Nobody here wants to find collisions.
#[derive(Debug)]
pub(crate) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Adds a field, which is not the same as adding two halves of it.
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The packages in the prefixes of a build request, a line for each.
pub(crate) fn list(params: &Reader<'_>) -> Result<String, RpcError> {
    let mut lines = Vec::new();
    for (which, key) in [("build", "buildPrefix"), ("host", "hostPrefix")] {
        let prefix = params.reader(key)?;
        if prefix.is_empty() {
            continue;
        }
        let root = Path::new(prefix.required_string("prefix")?);
        for package in prefix.readers("packages")? {
            let name = package.required_string("name")?;
            let version = package.required_string("version")?;
            let build = package.required_string("build")?;
            lines.push(format!("{which} {name} {version} {build} {}\n", stamp_of(root, name)));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

/// The stamp that an installed package brought along, if it is one that was made here.
fn stamp_of(prefix: &Path, name: &str) -> String {
    let stamp = fs::read_to_string(prefix.join("share").join(name).join("stamp.txt"));
    stamp.map_or_else(|_| "-".to_owned(), |stamp| stamp.trim().to_owned())
}

/// The hash over all files.
pub(crate) fn stamp(files: &BTreeMap<String, Packaged>) -> String {
    let mut hash = Fingerprint::default();
    for (path, file) in files {
        hash.field(path.as_bytes());
        match &file.content {
            Content::File { bytes, executable } => {
                hash.field(if *executable { b"executable" } else { b"file" });
                hash.field(bytes);
            }
            Content::Link(target) => {
                hash.field(b"link");
                hash.field(target.as_bytes());
            }
        }
    }
    hash.hex()
}
