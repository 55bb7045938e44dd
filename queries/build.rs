//! Finds out which libraries, in which versions, this program is linked with.
//!
//! Their versions are part of every key, so that results made by another solver, or by older code of ours, are never
//! found. They stand in `Cargo.lock`; while our own version is not a released one, a hash of our sources stands in
//! for it.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The libraries that decide results: the name of the constant and of the crate.
const LIBRARIES: [(&str, &str); 14] = [
    ("RATTLER", "rattler"),
    ("RATTLER_CACHE", "rattler_cache"),
    ("CONDA_TYPES", "rattler_conda_types"),
    ("CONDA_VERSION", "rattler_conda_version"),
    ("LOCK", "rattler_lock"),
    ("PACKAGE_STREAMING", "rattler_package_streaming"),
    ("GATEWAY", "rattler_repodata_gateway"),
    ("GIX", "gix"),
    ("IGNORE", "ignore"),
    ("SOLVE", "rattler_solve"),
    ("VIRTUAL_PACKAGES", "rattler_virtual_packages"),
    ("RESOLVO", "resolvo"),
    ("SHELL", "rattler_shell"),
    ("TOML", "toml"),
];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    // As a dependency of another program our versions stand in the lock file of that program, above the build
    // directory; else in our own.
    let lock = find_above(&out, "Cargo.lock").or_else(|| find_above(&here, "Cargo.lock"));
    let versions = lock.as_deref().map(read_versions).unwrap_or_default();
    let sources = hash_sources(&here);
    let mut code = String::new();
    for (constant, library) in LIBRARIES {
        // Without a lock file nothing is known of the libraries; the sources at least are ours.
        let version = versions.get(library).cloned().unwrap_or_else(|| format!("unknown with {sources}"));
        writeln!(
            code,
            "pub(crate) const {constant}: doge::Library = doge::Library {{ name: {library:?}, version: {version:?} }};"
        )
        .expect("writing to a string cannot fail");
    }
    let own = env::var("CARGO_PKG_VERSION").expect("cargo says the version");
    let own = if own.contains('-') { format!("{own}+{sources}") } else { own };
    writeln!(
        code,
        "pub(crate) const OWN: doge::Library = doge::Library {{ name: \"doge-queries\", version: {own:?} }};"
    )
    .expect("writing to a string cannot fail");
    fs::write(out.join("libraries.rs"), code).expect("the build directory can be written");
    if let Some(lock) = lock {
        println!("cargo::rerun-if-changed={}", lock.display());
    }
}

fn find_above(from: &Path, name: &str) -> Option<PathBuf> {
    from.ancestors().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// The version of each crate; several versions of one crate are all named.
fn read_versions(lock: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(lock).unwrap_or_default();
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    let mut name = None;
    let value = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.trim().strip_prefix('=')?.trim().trim_matches('"').to_owned())
    };
    for line in text.lines() {
        if let Some(found) = value(line, "name") {
            name = Some(found);
        } else if let (Some(version), Some(name)) = (value(line, "version"), name.take()) {
            let known = versions.entry(name).or_default();
            if !known.is_empty() {
                known.push(' ');
            }
            known.push_str(&version);
        }
    }
    versions
}

/// A hash of everything that we wrote and that decides results.
fn hash_sources(here: &Path) -> String {
    let mut files = Vec::new();
    for folder in [here.join("src"), here.join("../src")] {
        collect(&folder, &mut files);
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        // FNV: a build script needs no dependency for this, and nobody attacks it.
        for byte in fs::read(&file).unwrap_or_default() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
