//! Installing real packages into a new environment, beside the same work done by calling rattler directly.
//!
//! Both run in turns, each from the same state of the disk, so that their ratio means something: with an empty cache, and
//! with packages and repodata in the cache. Needs the environments and the channel that `DOGE_TEST_DATA` or
//! `../shared/data` hold, and the program `direct` (`cargo build --release --example direct`).

#![expect(clippy::print_stdout, reason = "what was measured is the result")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 8;

fn data() -> PathBuf {
    let near = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    std::env::var_os("DOGE_TEST_DATA").map_or_else(near, PathBuf::from)
}

/// Where one of the two works.
struct Place {
    manifest: PathBuf,
    cache: PathBuf,
    prefix: PathBuf,
}

impl Place {
    fn new(root: &Path, who: &str, manifest: &str) -> Self {
        let folder = root.join(who);
        std::fs::create_dir_all(&folder).expect("it can be made");
        let place =
            Self { manifest: folder.join("pixi.toml"), cache: folder.join("cache"), prefix: folder.join("prefix") };
        std::fs::write(&place.manifest, manifest).expect("it can be written");
        place
    }

    /// Takes away what was installed and solved, and what is kept if all is to be new.
    fn reset(&self, everything: bool) {
        let kept = if everything { self.cache.clone() } else { self.cache.join("doge") };
        for path in [&self.prefix, &kept] {
            drop(std::fs::remove_dir_all(path));
        }
        drop(std::fs::remove_file(self.manifest.with_file_name("pixi.lock")));
        // What was removed and written before is not to be waited for by whoever comes next.
        assert!(Command::new("sync").status().is_ok_and(|status| status.success()));
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn time(command: &mut Command) -> Duration {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it can be started");
    assert!(status.success(), "{command:?}");
    began.elapsed()
}

fn main() {
    let doge = Path::new(env!("CARGO_BIN_EXE_doge"));
    let direct = doge.with_file_name("examples").join("direct");
    assert!(direct.is_file(), "run `cargo build --release --example direct` first");
    let data = data();
    if !data.is_dir() {
        println!("skipped: there are no real packages in {}", data.display());
        return;
    }
    for environment in ["small", "medium", "large"] {
        let manifest = std::fs::read_to_string(data.join("envs").join(environment).join("pixi.toml"));
        let channel = data.join("channel").canonicalize().expect("the channel is there");
        let manifest = manifest.expect("it can be read").replace("../../channel", &channel.display().to_string());
        let root = tempfile::tempdir().expect("a temporary directory");
        let (ours, theirs) = (Place::new(root.path(), "doge", &manifest), Place::new(root.path(), "direct", &manifest));
        let run_ours = || {
            let place = &ours;
            time(
                Command::new(doge)
                    .args(["install", "--manifest-path"])
                    .arg(&place.manifest)
                    .arg("--cache-dir")
                    .arg(&place.cache)
                    .arg("--prefix")
                    .arg(&place.prefix),
            )
        };
        let run_theirs = || time(Command::new(&direct).args([&theirs.manifest, &theirs.cache, &theirs.prefix]));
        for (what, everything) in [("cold", true), ("packages in the cache", false)] {
            let mut best = [Duration::MAX; 2];
            for round in 0..ROUNDS {
                for turn in [round % 2, 1 - round % 2] {
                    let taken = if turn == 0 {
                        ours.reset(everything);
                        run_ours()
                    } else {
                        theirs.reset(everything);
                        run_theirs()
                    };
                    best[turn] = best[turn].min(taken);
                }
            }
            for (who, best) in ["doge", "rattler"].into_iter().zip(best) {
                println!("measured {who} {} {environment}, {what}", best.as_nanos());
            }
        }
    }
}
