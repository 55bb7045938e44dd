//! Dependencies point one way, and each of the large libraries is named by one package only.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The packages, each with those of ours that it may name.
const MAY_NAME: [(&str, &[&str]); 5] = [
    ("doge-storage", &[]),
    ("doge", &["doge-storage"]),
    ("doge-queries", &["doge"]),
    ("doge-cli", &["doge-queries"]),
    // It speaks the build protocol without knowing how we do.
    ("doge-test-backend", &[]),
];

/// Libraries, by the beginning of their name, and who may name them.
const BELONGS_TO: [(&str, &str); 4] =
    [("redb", "doge-storage"), ("salsa", "doge"), ("rattler", "doge-queries"), ("gix", "doge-queries")];

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().expect("a name");
        for dependency in package["dependencies"].as_array().expect("a list of dependencies") {
            let dependency = dependency["name"].as_str().expect("a name");
            // A package names itself to turn on features for its own tests.
            if dependency != name {
                named.entry(name).or_default().insert(dependency);
            }
        }
    }
    for (package, allowed) in MAY_NAME {
        let dependencies = named.remove(package).unwrap_or_else(|| panic!("there is no package {package}"));
        for dependency in dependencies {
            if dependency.starts_with("doge") {
                // Tests of the store may look at it with other eyes; nobody may look at it from above.
                assert!(allowed.contains(&dependency), "{package} must not name {dependency}");
            }
            for (library, owner) in BELONGS_TO {
                assert!(!dependency.starts_with(library) || package == owner, "{package} must not name {dependency}");
            }
        }
    }
    assert!(named.is_empty(), "no rule for {named:?}");
}
