//! An environment is what rattler's own installer makes of the same packages at the same place.

use crate::points;
use crate::site::{Site, contents};

/// The environment, made anew by rattler, has the same files with the same content.
pub(crate) fn assert_as_rattler_makes_it(site: &Site) {
    // What we and pixi keep there, and folders that rattler leaves empty.
    let is_kept = |name: &str| {
        name.starts_with("conda-meta/") && !name.ends_with(".json")
            || name.starts_with("__clobbers__/") && name.ends_with('/')
    };
    let made = || {
        let mut made = contents(&site.prefix(""));
        made.retain(|name, _| !is_kept(name));
        made
    };
    let ours = made();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a thread can be started");
    // Without a slash at its end, which would come to stand in files.
    let prefix: std::path::PathBuf = site.prefix("").components().collect();
    let cache = site.cache().join("pkgs");
    let installed = doge_queries::testing::install_with_rattler(&cache, &prefix);
    runtime.block_on(installed).expect("it can be installed");
    let theirs = made();
    let names = |made: &std::collections::BTreeMap<String, Vec<u8>>| made.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for (name, content) in &ours {
        assert_eq!(String::from_utf8_lossy(content), String::from_utf8_lossy(&theirs[name]), "{name}");
    }
}

#[test]
fn packages_of_all_kinds() {
    let site = points::site();
    site.install();
    assert_as_rattler_makes_it(&site);
}

#[test]
fn after_a_change() {
    let site = points::changing();
    site.install();
    assert_as_rattler_makes_it(&site);
}
