//! The least that a run which finds everything done can cost: opens a store, reads one state of it, and looks at each
//! file of a folder from outside. What `doge install` is compared with.
//!
//! `floor STORE FOLDER [TREE]`: the directory that `store-v3` lies in, the `conda-meta` of an environment, and a folder of
//! which every file and folder below is looked at, too.

use std::process::ExitCode;

use doge_storage::{Key, Store, StoreOptions};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(store), Some(folder)) = (arguments.next(), arguments.next()) else { return ExitCode::from(2) };
    let traces = Store::open(StoreOptions::new(store)).snapshot().traces(Key::from_bytes([0; 32]));
    let mut trees: Vec<_> = arguments.next().map(std::path::PathBuf::from).into_iter().collect();
    while let Some(tree) = trees.pop() {
        for entry in std::fs::read_dir(tree).into_iter().flatten().flatten() {
            let path = entry.path();
            if std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                trees.push(path);
            }
        }
    }
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let seen = files.filter(|file| std::fs::metadata(file.path()).is_ok()).count();
    // Nothing has that key; that something was looked at is what has to be so.
    ExitCode::from(u8::from(!traces.is_empty() || seen == 0))
}
