//! `doge cache`.

use std::path::Path;

use doge_queries::CacheDirs;
use doge_queries::doge::storage::{Store, StoreOptions};
use miette::{IntoDiagnostic as _, WrapErr as _};
use serde_json::json;

use crate::arguments::{CacheCommand, Common};
use crate::outcome::{Exit, print, print_json, say};
use crate::workspace::cache_dirs;

pub(crate) fn run(common: &Common, command: CacheCommand) -> miette::Result<Exit> {
    let caches = cache_dirs(common)?;
    match command {
        CacheCommand::Dir { json } => dir(&caches, json),
        CacheCommand::Info { json } => info(&caches, json),
        CacheCommand::Clear { packages, repodata, results, json } => {
            let results = results || !(packages || repodata);
            clear(&caches, [packages, repodata, results], json)
        }
    }
}

fn dir(caches: &CacheDirs, json: bool) -> miette::Result<Exit> {
    if json {
        print_json(&json!({ "packages": caches.packages, "repodata": caches.repodata, "results": caches.store }))?;
        return Ok(Exit::Done);
    }
    for (what, path) in caches.all() {
        print(&format!("{what:<9} {}", path.display()));
    }
    Ok(Exit::Done)
}

fn info(caches: &CacheDirs, json: bool) -> miette::Result<Exit> {
    let mut options = StoreOptions::new(&caches.store);
    options.read_only = true;
    let store = Store::open(options).info();
    let sizes = [("packages", &caches.packages), ("repodata", &caches.repodata), ("results", &caches.store)]
        .map(|(what, path)| (what, path, size_of(path)));
    if json {
        let tables: Vec<_> = store
            .tables
            .iter()
            .map(|(name, entries, bytes)| json!({ "name": name, "entries": entries, "bytes": bytes }))
            .collect();
        let mut object = json!({
            "store": {
                "directory": store.directory,
                "bytes": store.file_bytes,
                "tables": tables,
                "pending": store.pending,
                "quarantined": store.quarantined,
            }
        });
        for (what, path, (files, bytes)) in sizes {
            object[what] = json!({ "directory": path, "files": files, "bytes": bytes });
        }
        print_json(&object)?;
        return Ok(Exit::Done);
    }
    for (what, path, (files, bytes)) in sizes {
        print(&format!("{what:<9} {:>10}  {files:>7} files  {}", human(bytes), path.display()));
    }
    print(&format!("store     {:>10}  {}", human(store.file_bytes), store.directory.display()));
    for (name, entries, bytes) in &store.tables {
        print(&format!("  {name:<7} {:>10}  {entries:>7} entries", human(*bytes)));
    }
    if store.pending > 0 {
        print(&format!("  {} batches wait to be taken in", store.pending));
    }
    if store.quarantined > 0 {
        print(&format!("  {} damaged files were put aside", store.quarantined));
    }
    Ok(Exit::Done)
}

fn clear(caches: &CacheDirs, which: [bool; 3], json: bool) -> miette::Result<Exit> {
    let [packages, repodata, results] = which;
    let mut cleared = Vec::new();
    if results {
        Store::open(StoreOptions::new(&caches.store))
            .clear()
            .into_diagnostic()
            .wrap_err_with(|| format!("the results in `{}` cannot be removed", caches.store.display()))?;
        remove(&caches.solutions)?;
        cleared.push(("results", caches.store.clone()));
    }
    if packages {
        remove(&caches.packages)?;
        cleared.push(("packages", caches.packages.clone()));
    }
    if repodata {
        remove(&caches.repodata)?;
        cleared.push(("repodata", caches.repodata.clone()));
    }
    if json {
        let cleared: Vec<_> = cleared.iter().map(|(what, path)| json!({ "what": what, "directory": path })).collect();
        print_json(&json!({ "cleared": cleared }))?;
    } else {
        for (what, path) in cleared {
            say(&format!("removed the {what} in {}", path.display()));
        }
    }
    Ok(Exit::Done)
}

fn remove(path: &Path) -> miette::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).into_diagnostic().wrap_err_with(|| format!("`{}` cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// How many files there are below a directory, and how many bytes they have. What cannot be looked at counts nothing.
fn size_of(path: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => {
                    files += 1;
                    bytes += metadata.len();
                }
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}

fn human(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
