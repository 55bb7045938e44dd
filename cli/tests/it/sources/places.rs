//! Where sources lie: directories, repositories, archives; and backends that come from a channel.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use doge_queries::testing::{ChannelBuilder, PackageBuilder};

use crate::site::{PLATFORM, Ran};
use crate::sources::{Sources, backend, git, other_workspace};

/// A repository with the package `b` in the directory `packages/b`.
pub(crate) fn repository(sources: &Sources) -> PathBuf {
    let repository = sources.site.root().join("repository");
    std::fs::create_dir_all(repository.join("packages")).expect("it can be made");
    std::fs::rename(sources.site.path("b"), repository.join("packages/b")).expect("it can be moved");
    std::fs::write(repository.join("pixi.toml"), other_workspace()).expect("it can be written");
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-qm", "first"]);
    repository
}

fn commit(repository: &Path, text: &str) {
    std::fs::write(repository.join("packages/b/content/share/b/data.txt"), text).expect("it can be written");
    git(repository, &["commit", "-qam", "next"]);
}

#[test]
fn a_branch_of_a_repository_is_pinned_by_the_lock_file_until_it_is_updated() {
    let sources = Sources::new();
    let repository = repository(&sources);
    let url = format!("file://{}", repository.display());
    sources.site.needs(&format!("b = {{ git = '{url}', branch = 'main', subdirectory = 'packages/b' }}"));
    sources.install();
    assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "data of b\n");
    sources.assert_settled();
    let first = git(&repository, &["rev-parse", "HEAD"]);
    assert!(sources.site.lock_file().contains(&first), "{}", sources.site.lock_file());
    commit(&repository, "newer data\n");
    sources.assert_settled();
    sources.json(&["install", "--update=b"]);
    assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "newer data\n");
    sources.assert_builds(0);
    sources.assert_settled();
    // What was locked can be had without the repository, and what was built even without the checkout.
    std::fs::remove_dir_all(&repository).expect("it is there");
    sources.assert_settled();
    std::fs::remove_dir_all(sources.site.cache().join("sources")).expect("it is there");
    sources.assert_settled();
}

#[test]
fn tags_revisions_and_abbreviated_ones_are_found() {
    let sources = Sources::new();
    let repository = repository(&sources);
    git(&repository, &["tag", "v1"]);
    let first = git(&repository, &["rev-parse", "HEAD"]);
    commit(&repository, "newer data\n");
    let url = format!("file://{}", repository.display());
    for reference in ["tag = 'v1'".to_owned(), format!("rev = '{first}'"), format!("rev = '{}'", &first[..10])] {
        sources.site.needs(&format!("b = {{ git = '{url}', {reference}, subdirectory = 'packages/b' }}"));
        sources.install();
        assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "data of b\n", "{reference}");
        sources.assert_settled();
    }
    sources.site.needs(&format!("b = {{ git = '{url}', branch = 'nothing', subdirectory = 'packages/b' }}"));
    sources.run(&["install"]).assert_fails_with(&["nothing"]);
}

#[test]
fn a_checkout_that_is_gone_is_made_again_when_something_has_to_be_built() {
    let sources = Sources::new();
    let repository = repository(&sources);
    let url = format!("file://{}", repository.display());
    sources.site.needs(&format!("b = {{ git = '{url}', subdirectory = 'packages/b' }}"));
    sources.install();
    std::fs::remove_dir_all(sources.site.cache().join("sources")).expect("it is there");
    let ran = sources.json(&["install", "--force=b"]);
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    sources.assert_settled();
}

/// The only directory below another one, as far down as that goes: to the top of a checkout.
fn top(mut directory: PathBuf) -> PathBuf {
    loop {
        let entries = std::fs::read_dir(&directory).expect("it is there").flatten().map(|entry| entry.path());
        let directories: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        match directories.as_slice() {
            [only] if !directory.join("pixi.toml").exists() => directory = only.clone(),
            _ => return directory,
        }
    }
}

#[test]
fn a_checkout_that_was_changed_is_made_anew_before_it_is_used() {
    for is_archive in [false, true] {
        let sources = Sources::new();
        // It writes into its sources when it has read them.
        sources.package("b", "", "fail = 'touch_own_globs'");
        let (place, checkouts) = if is_archive {
            (format!("url = 'file://{}'", archive(&sources).display()), "sources/unpacked")
        } else {
            let repository = repository(&sources);
            (format!("git = 'file://{}', subdirectory = 'packages/b'", repository.display()), "sources/checkouts")
        };
        sources.site.needs(&format!("b = {{ {place} }}"));
        sources.install();
        let written = sources.site.prefix("touched.txt");
        assert!(!written.exists());
        let top = top(sources.site.cache().join(checkouts));
        let data = if is_archive { "content/share/b/data.txt" } else { "packages/b/content/share/b/data.txt" };
        std::fs::write(top.join(data), "somebody was here\n").expect("it is there");
        // Nobody has to look at it.
        sources.assert_settled();
        let ran = sources.json(&["install", "--force=b"]);
        assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
        assert!(!written.exists());
        assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "data of b\n");
        sources.assert_settled();
    }
}

/// The hash of the large file, whose content is `big`.
#[cfg(unix)]
const LARGE: &str = "2a21fe6d592a19b7de898b50eb53c429608de1a66f3e9f62da19714a770553d1";

/// Makes `b` a package of a repository with a large file, and a program that stands for `git lfs` and does this before it
/// gets the file, of which it keeps a copy where `git lfs` does. Where that program is, and a run with it.
#[cfg(unix)]
fn with_large_file<'a>(sources: &'a Sources, pull: &str) -> (PathBuf, impl Fn() -> Command + use<'a>) {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{LARGE}\nsize 3\n");
    sources.site.write("b/content/share/b/data.txt", &pointer);
    sources.site.write("b/.gitattributes", "content/share/b/data.txt filter=lfs -text\n");
    let repository = repository(sources);
    let url = format!("file://{}", repository.display());
    sources.site.needs(&format!("b = {{ git = '{url}', subdirectory = 'packages/b', lfs = true }}"));
    let directory = sources.site.root().join("programs");
    std::fs::create_dir(&directory).expect("it can be made");
    let here = directory.display();
    let kept = format!("kept=$(git config lfs.storage)/objects/2a/21/{LARGE}");
    // It takes what it has if it has the right size.
    let gets = "test -e $kept || { mkdir -p ${kept%/*}; printf big > $kept; echo $kept >> $here/fetched; }; \
                cp $kept packages/b/content/share/b/data.txt";
    let looks = "test \"$(cat $kept)\" = big || mv $kept $here";
    let script = format!("here={here}\n{kept}\ncase $1 in pull) {pull}; {gets};; fsck) {looks};; esac\n");
    program(&directory.join("git-lfs"), &script);
    let path = format!("{here}:{}", std::env::var("PATH").expect("there are programs"));
    let command = move || {
        let mut command = sources.command(&["install"]);
        command.env("PATH", &path);
        command
    };
    (directory, command)
}

#[cfg(unix)]
fn program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, format!("#!/bin/sh\n{script}")).expect("it can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[cfg(unix)]
#[test]
fn what_gets_large_files_ends_with_the_run() {
    let sources = Sources::new();
    let waits = "test -e $here/id || { echo $$ > $here/new; mv $here/new $here/id; exec sleep 60; }";
    let (directory, run) = with_large_file(&sources, waits);
    let mut child = run().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
    let begun = Instant::now();
    let wait = |what: &str| {
        assert!(begun.elapsed() < Duration::from_secs(50), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let id = loop {
        match std::fs::read_to_string(directory.join("id")) {
            Ok(id) => break id.trim().to_owned(),
            Err(_) => wait("it is not asked"),
        }
    };
    // Not the group, as a terminal does.
    let kill = |arguments: &[&str]| Command::new("kill").args(arguments).stderr(Stdio::null()).status();
    assert!(kill(&["-INT", &child.id().to_string()]).expect("there is such a program").success());
    child.wait().expect("it is ours");
    while kill(&["-0", &id]).expect("there is such a program").success() {
        wait("it goes on");
    }
    let ran = Ran::by(run());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "big");
}

#[cfg(unix)]
#[test]
fn what_gets_large_files_asks_nobody_for_a_password() {
    let sources = Sources::new();
    let pull = "printf 'protocol=https\\nhost=example.invalid\\n\\n' | git credential fill > $here/told 2>&1";
    let (directory, run) = with_large_file(&sources, pull);
    let asks = directory.join("asks");
    program(&asks, &format!("echo >> {}/asked\n", directory.display()));
    let mut command = run();
    command.env("GIT_ASKPASS", &asks).env("SSH_ASKPASS", &asks);
    let ran = Ran::by(command);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "big");
    assert!(directory.join("told").exists() && !directory.join("asked").exists());
}

#[cfg(unix)]
#[test]
fn a_large_file_that_is_damaged_where_it_is_kept_is_fetched_again() {
    let sources = Sources::new();
    let (directory, run) = with_large_file(&sources, ":");
    let fetched = || std::fs::read_to_string(directory.join("fetched")).expect("it was fetched");
    let installs = || {
        let mut command = run();
        command.arg("--force=b");
        let ran = Ran::by(command);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "big");
    };
    installs();
    for (damage, times) in [(None, 1), (Some("bug"), 2)] {
        if let Some(damage) = damage {
            std::fs::write(fetched().trim(), damage).expect("it is there");
        }
        std::fs::remove_dir_all(sources.site.cache().join("sources/checkouts")).expect("it is there");
        installs();
        assert_eq!(fetched().lines().count(), times, "{damage:?}");
    }
}

/// An archive with the package `b` in one directory at its top.
fn archive(sources: &Sources) -> PathBuf {
    let archive = sources.site.root().join("b-1.0.tar.gz");
    let output = Command::new("tar").arg("czf").arg(&archive).arg("b").current_dir(sources.site.path("")).output();
    assert!(output.expect("tar is installed").status.success());
    archive
}

#[test]
fn an_archive_is_looked_at_by_its_stamp_and_pinned_by_its_hash() {
    let sources = Sources::new();
    let archive_path = archive(&sources);
    let url = format!("file://{}", archive_path.display());
    sources.site.needs(&format!("b = {{ url = '{url}' }}"));
    sources.install();
    assert!(sources.site.prefix("share/b/data.txt").is_file());
    assert!(sources.site.lock_file().contains("sha256="), "{}", sources.site.lock_file());
    sources.assert_settled();
    sources.site.write("b/content/share/b/data.txt", "newer data\n");
    archive(&sources);
    sources.assert_settled();
    sources.json(&["install", "--update=b"]);
    assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "newer data\n");
    sources.site.needs(&format!("b = {{ url = '{url}', sha256 = '{}' }}", "0".repeat(64)));
    let ran = sources.run(&["install"]);
    ran.assert_fails_with(&["has the SHA-256", "was asked for by", "pixi.toml", "put its hash there"]);
}

/// A server of one archive: its bytes, and what is said of it to whoever only looks and to whoever takes it.
struct Served {
    archive: Vec<u8>,
    looked_at: &'static str,
    taken: &'static str,
    takes: usize,
}

/// What is served from now on, and where.
fn served(archive: Vec<u8>, says: &'static str) -> (Arc<Mutex<Served>>, String) {
    let served = Arc::new(Mutex::new(Served { archive, looked_at: says, taken: says, takes: 0 }));
    let server = served.clone();
    let port = crate::site::answering(move |request| {
        let mut served = server.lock().expect("nobody panics with it");
        let is_look = request.starts_with("HEAD");
        served.takes += usize::from(!is_look);
        let says = if is_look { served.looked_at } else { served.taken };
        let length = served.archive.len();
        let head = format!("HTTP/1.1 200 x\r\nContent-Length: {length}\r\nConnection: close\r\n{says}\r\n");
        let body: &[u8] = if is_look { &[] } else { &served.archive };
        [head.as_bytes(), body].concat()
    });
    (served, format!("http://127.0.0.1:{port}/b-1.0.tar.gz"))
}

/// Packs other data, and tells them.
fn packed(sources: &Sources, data: &str) -> Vec<u8> {
    sources.site.write("b/content/share/b/data.txt", data);
    std::fs::read(archive(sources)).expect("it is there")
}

#[test]
fn an_archive_that_may_have_been_replaced_in_the_second_it_was_fetched_in_is_fetched_again() {
    let sources = Sources::new();
    let data = || sources.site.read(".pixi/envs/default/share/b/data.txt");
    let same_second = "Date: Tue, 01 Oct 2024 10:00:00 GMT\r\nLast-Modified: Tue, 01 Oct 2024 10:00:00 GMT\r\n";
    let (served, url) = served(packed(&sources, "older data\n"), same_second);
    let now = || served.lock().expect("nobody panics with it");
    sources.site.needs(&format!("b = {{ url = '{url}' }}"));
    sources.install();
    let archive = packed(&sources, "newer data\n");
    let later = "Date: Tue, 01 Oct 2024 10:00:09 GMT\r\nLast-Modified: Tue, 01 Oct 2024 10:00:00 GMT\r\n";
    *now() = Served { archive, looked_at: later, taken: later, takes: 0 };
    sources.json(&["install", "--update=b"]);
    assert_eq!(data(), "newer data\n");
    // By now it would have another time.
    sources.json(&["install", "--update=b"]);
    assert_eq!(now().takes, 1);
}

#[test]
fn an_archive_that_is_replaced_between_look_and_fetch_is_not_taken_for_the_one_before() {
    let sources = Sources::new();
    let data = || sources.site.read(".pixi/envs/default/share/b/data.txt");
    let (older, newer) = (packed(&sources, "older data\n"), packed(&sources, "newer data\n"));
    let (served, url) = served(newer, "ETag: \"new\"\r\n");
    let now = || served.lock().expect("nobody panics with it");
    now().looked_at = "ETag: \"old\"\r\n";
    sources.site.needs(&format!("b = {{ url = '{url}' }}"));
    sources.install();
    assert_eq!(data(), "newer data\n");
    let says = "ETag: \"old\"\r\n";
    *now() = Served { archive: older, looked_at: says, taken: says, takes: 0 };
    sources.json(&["install", "--update=b"]);
    assert_eq!(data(), "older data\n");
}

#[test]
fn an_archive_of_this_machine_that_cannot_be_read_is_told_by_its_address() {
    let sources = Sources::new();
    let url = format!("file://{}", sources.site.root().join("nowhere.tar.gz").display());
    let wants = |more: &str| sources.site.needs(&format!("b = {{ url = '{url}'{more} }}"));
    let says = [&format!("the source archive {url} cannot be read"), "check the address"];
    wants("");
    sources.run(&["install"]).assert_fails_with(&says);
    wants(&format!(", sha256 = '{}'", "0".repeat(64)));
    sources.run(&["install"]).assert_fails_with(&says);
    std::fs::create_dir(sources.site.root().join("nowhere.tar.gz")).expect("it can be made");
    wants("");
    sources.run(&["install"]).assert_fails_with(&says);
}

#[test]
fn an_archive_that_is_not_what_was_locked_is_told_with_the_way_to_take_it() {
    let sources = Sources::new();
    let archive_path = archive(&sources);
    let url = format!("file://{}", archive_path.display());
    sources.site.needs(&format!("b = {{ url = '{url}' }}"));
    sources.install();
    sources.site.write("b/content/share/b/data.txt", "newer data\n");
    archive(&sources);
    std::fs::remove_dir_all(sources.site.cache().join("sources")).expect("it is there");
    let ran = sources.run(&["install", "--force=b"]);
    ran.assert_fails_with(&["has the SHA-256", "was asked for by the lock file", "--update=PKG"]);
    sources.json(&["install", "--update=b"]);
    assert_eq!(sources.site.read(".pixi/envs/default/share/b/data.txt"), "newer data\n");
    sources.assert_builds(0);
    sources.assert_settled();
}

#[test]
fn a_package_at_the_root_of_its_workspace_is_built_once() {
    let sources = Sources::new();
    sources.site.needs("me = { path = '.' }");
    let workspace = sources.site.read("pixi.toml");
    sources.package(".", "", "");
    let package = sources.site.read("pixi.toml").replace("name = '.'", "name = 'me'");
    sources.site.write("pixi.toml", &format!("{workspace}\n{package}"));
    sources.site.write("content/share/me.txt", "me\n");
    let ran = sources.install();
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    assert!(sources.site.prefix("share/me.txt").is_file());
    // The lock file came into the directory that the build has looked at before.
    sources.assert_settled();
    std::fs::remove_dir_all(sources.site.path(".pixi")).expect("it is there");
    std::fs::remove_dir_all(sources.site.cache()).expect("it is there");
    sources.install();
    sources.assert_settled();
}

/// Puts the backend into the channel, as a package of this version.
fn package_of_backend(sources: &mut Sources, version: &str) {
    let program = std::fs::read(backend()).expect("it was built");
    let api = PackageBuilder::new("pixi-build-api-version", "7");
    let backend = PackageBuilder::new("doge-test-backend", version)
        .subdir(PLATFORM)
        .depends(["pixi-build-api-version >=7,<8"])
        .executable("bin/doge-test-backend", program);
    sources.site.channel.add(api).expect("it can be written");
    sources.site.channel.add(backend).expect("it can be written");
    sources.site.index();
}

fn isolated(sources: &Sources, arguments: &[&str]) -> Ran {
    let mut command = sources.command(&[arguments, &["--json"]].concat());
    command.env_remove("PIXI_BUILD_BACKEND_OVERRIDE");
    Ran::by(command)
}

#[test]
fn a_backend_comes_from_a_channel_and_stays_until_it_is_chosen_anew() {
    let mut sources = Sources::new();
    package_of_backend(&mut sources, "1.0");
    let ran = isolated(&sources, &["install"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(sources.site.prefix("bin/a").is_file());
    isolated(&sources, &["install"]).assert_nothing_ran();
    // A new release rebuilds nothing, not even when something else is installed.
    package_of_backend(&mut sources, "2.0");
    isolated(&sources, &["install"]).assert_nothing_ran();
    sources.site.needs("a = { path = 'a' }\ntool = '*'");
    let ran = isolated(&sources, &["install"]);
    assert_eq!(ran.executed().get("backend_build"), None, "{:?}", ran.executed());
    let unknown = isolated(&sources, &["install", "--refresh=nope"]);
    assert!(unknown.stderr.contains("no build backend `nope` was chosen anew"), "{}", unknown.stderr);
    let ran = isolated(&sources, &["install", "--refresh=doge-test-backend"]);
    assert!(!ran.stderr.contains("was chosen anew"), "{}", ran.stderr);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.executed()["backend_build"], 2, "{:?}", ran.executed());
    isolated(&sources, &["install"]).assert_nothing_ran();
}

#[test]
fn a_backend_whose_environment_is_gone_is_installed_again_only_to_be_asked() {
    let mut sources = Sources::new();
    package_of_backend(&mut sources, "1.0");
    assert_eq!(isolated(&sources, &["install"]).code, 0);
    std::fs::remove_dir_all(sources.site.cache().join("tools")).expect("it is there");
    isolated(&sources, &["install"]).assert_nothing_ran();
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    let ran = isolated(&sources, &["install"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
}

#[test]
fn a_backend_whose_environment_is_half_there_is_made_anew() {
    let mut sources = Sources::new();
    package_of_backend(&mut sources, "1.0");
    assert_eq!(isolated(&sources, &["install"]).code, 0);
    let tools = sources.site.cache().join("tools/envs");
    let entries: Vec<_> = std::fs::read_dir(tools).expect("it is there").flatten().map(|entry| entry.path()).collect();
    let [prefix] = entries.as_slice() else { panic!("there is one: {entries:?}") };
    for lost in ["bin/doge-test-backend", "conda-meta/doge-complete"] {
        std::fs::remove_file(prefix.join(lost)).expect("it is there");
        sources.site.write("a/content/bin/a", &format!("#!/bin/sh\necho without {lost}\n"));
        let ran = isolated(&sources, &["install"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    }
}

#[test]
fn a_backend_that_speaks_another_protocol_is_refused_by_name() {
    let mut sources = Sources::new();
    let program = std::fs::read(backend()).expect("it was built");
    let package = PackageBuilder::new("doge-test-backend", "1.0").executable("bin/doge-test-backend", program);
    sources.site.channel.add(package).expect("it can be written");
    sources.site.index();
    let ran = isolated(&sources, &["install"]);
    ran.assert_fails_with(&[
        "`doge-test-backend` does not say which version of the build protocol",
        "pixi-build-api-version",
    ]);
}

#[test]
fn a_backend_whose_environment_lacks_a_python_for_its_packages_is_refused_by_name() {
    let mut sources = Sources::new();
    let program = std::fs::read(backend()).expect("it was built");
    for package in [
        PackageBuilder::new("pixi-build-api-version", "7"),
        PackageBuilder::new("pure", "1.0").noarch_python().file("site-packages/pure.py", "x = 1\n"),
        PackageBuilder::new("doge-test-backend", "1.0")
            .depends(["pixi-build-api-version >=7,<8", "pure"])
            .executable("bin/doge-test-backend", program),
    ] {
        sources.site.channel.add(package).expect("it can be written");
    }
    sources.site.index();
    isolated(&sources, &["install"]).assert_fails_with(&[
        "the environment of the build backend `doge-test-backend` has no `python` to install `pure` for",
    ]);
}

/// `a` is built by `mine`, which is built itself, from the directory `backend`.
fn built_by_what_is_built() -> Sources {
    let mut sources = Sources::new();
    sources.site.channel.add(PackageBuilder::new("pixi-build-api-version", "7")).expect("it can be written");
    sources.site.index();
    backend_from_source(&sources, API, "one");
    let text = sources.site.read("a/pixi.toml");
    let by = |backend: &str| format!("backend = {{ name = '{backend}'");
    sources.site.write(
        "a/pixi.toml",
        &text.replace(
            &format!("{}, version = '*' }}", by("doge-test-backend")),
            &format!("{}, path = '../backend' }}", by("mine")),
        ),
    );
    sources.site.needs("a = { path = 'a' }");
    sources
}

fn backend_from_source(sources: &Sources, tables: &str, remark: &str) {
    let text = format!(
        "[package]\nname = 'mine'\nversion = '1.0'\n{tables}\n\
         [package.build]\nbackend = {{ name = 'doge-test-backend', version = '*' }}\n"
    );
    sources.site.write("backend/pixi.toml", &text);
    let program = format!("#!/bin/sh\n# {remark}\nexec {} \"$@\"\n", backend().display());
    sources.site.write("backend/content/bin/mine", &program);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let path = sources.site.path("backend/content/bin/mine");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
}

const API: &str = "[package.run-dependencies]\npixi-build-api-version = '>=7,<8'\n";

#[test]
fn a_backend_that_is_built_itself_is_built_before_what_it_builds_and_again_when_its_sources_change() {
    let mut sources = built_by_what_is_built();
    // `mine`, `b` and `a`.
    sources.assert_builds(3);
    assert!(sources.site.prefix("bin/a").is_file());
    assert!(!sources.site.prefix("bin/mine").exists(), "it is no package of the environment");
    sources.assert_settled();
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    sources.assert_builds(1);
    backend_from_source(&sources, API, "two");
    sources.assert_builds(2);
    sources.assert_settled();
    // What is in its environment beside it stays until that is asked for.
    sources.site.channel.add(PackageBuilder::new("pixi-build-api-version", "7.1")).expect("it can be written");
    sources.site.index();
    sources.assert_settled();
    backend_from_source(&sources, API, "three");
    sources.assert_builds(2);
    sources.assert_settled();
    let kept = || {
        let mut texts = std::fs::read_dir(sources.site.path(".pixi/doge/backends")).expect("it is there").flatten();
        std::fs::read_to_string(texts.next().expect("one is kept").path()).expect("it is text")
    };
    assert!(kept().contains("pixi-build-api-version-7-") && !kept().contains("pixi-build-api-version-7.1-"));
    let ran = sources.json(&["install", "--refresh=mine"]);
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    assert!(kept().contains("pixi-build-api-version-7.1-"), "{}", kept());
    sources.assert_settled();
}

#[test]
fn a_backend_is_asked_once_though_environments_differ_in_what_the_machine_has_to_have() {
    let mut sources = Sources::new();
    package_of_backend(&mut sources, "1.0");
    sources.site.manifest(
        "",
        "[dependencies]\na = { path = 'a' }\n[feature.other.system-requirements]\ncuda = '12'\n\
         [environments]\nother = ['other']\n",
    );
    let ran = isolated(&sources, &["install", "-e", "default", "-e", "other"]).succeeded();
    let executed = ran.executed();
    let counts = ["call_outputs", "backend_build", "install_tool"].map(|kind| executed[kind]);
    assert_eq!(counts, [2, 2, 1], "{executed:?}");
    isolated(&sources, &["install", "-e", "default", "-e", "other"]).assert_nothing_ran();
}

#[test]
fn a_backend_that_is_built_is_built_for_the_machine_whatever_it_builds_for() {
    let sources = built_by_what_is_built();
    backend_from_source(&sources, &format!("[package.host-dependencies]\nlib = '*'\n{API}"), "one");
    let other = if PLATFORM == "osx-64" { "linux-64" } else { "osx-64" };
    let variants = |platform: &str, lib: &str| format!("target.{platform}.build-variants = {{ lib = ['{lib}'] }}\n");
    let workspace = variants(PLATFORM, "1.0") + &variants(other, "1.1");
    sources.site.manifest(&workspace, "[dependencies]\na = { path = 'a' }\n");
    let text =
        sources.site.read("pixi.toml").replace(&format!("['{PLATFORM}']"), &format!("['{PLATFORM}', '{other}']"));
    sources.site.write("pixi.toml", &text);
    sources.assert_builds(3);
    sources.assert_settled();
    // Where the machine is none of the platforms, each of them has its own.
    let foreign = if cfg!(target_arch = "x86_64") { "linux-aarch64" } else { "win-64" };
    let text = text.replace(PLATFORM, foreign);
    sources.site.write("pixi.toml", &text);
    let ran = sources.json(&["solve"]);
    assert_eq!(ran.executed()["backend_build"], 1, "one of the two was built already: {:?}", ran.executed());
    sources.json(&["solve"]).assert_nothing_ran();
}

#[test]
fn environments_that_choose_in_another_way_have_backends_of_their_own() {
    let sources = built_by_what_is_built();
    backend_from_source(&sources, &format!("[package.host-dependencies]\nlib = '*'\n{API}"), "one");
    let mut second = ChannelBuilder::new(sources.site.path("second"));
    second.add(PackageBuilder::new("lib", "0.9").file("share/lib", "0.9\n")).expect("it can be written");
    second.index().expect("it can be written");
    let feature = |name: &str, priority: &str| {
        format!(
            "[feature.{name}]\nchannels = ['./second']\nchannel-priority = '{priority}'\n[feature.{name}.dependencies]\na = {{ path = 'a' }}\n"
        )
    };
    let environments = "[environments]\none = ['one']\ntwo = ['two']\n";
    sources.site.manifest("", &[&feature("one", "strict"), &feature("two", "disabled"), environments].concat());
    let ran = sources.json(&["install", "-e", "one", "-e", "two"]);
    // `mine` twice, `b`, and `a` by each `mine`.
    assert_eq!(ran.executed()["backend_build"], 5, "{:?}", ran.executed());
    for environment in ["one", "two", "one"] {
        sources.json(&["install", "-e", environment]);
    }
    sources.json(&["install", "-e", "one", "-e", "two"]).assert_nothing_ran();
}

#[test]
fn a_backend_in_the_repository_of_what_it_builds_is_built_from_the_same_commit() {
    let sources = built_by_what_is_built();
    let repository = sources.site.root().join("repository");
    let copy = |inside: &str| {
        let target = repository.join(inside);
        std::fs::create_dir_all(target.parent().expect("it is inside")).expect("it can be made");
        std::fs::copy(sources.site.path(inside), target).expect("it is there");
    };
    for path in ["a/pixi.toml", "a/content/bin/a", "b/pixi.toml", "backend/pixi.toml", "backend/content/bin/mine"] {
        copy(path);
    }
    for directory in ["a", "b", "backend"] {
        std::fs::remove_dir_all(sources.site.path(directory)).expect("it is there");
    }
    git(&repository, &["init", "-q", "-b", "main", "."]);
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "-q", "-m", "as it is"]);
    let place = format!("git = 'file://{}', branch = 'main', subdirectory = 'a'", repository.display());
    sources.site.needs(&format!("a = {{ {place} }}"));
    sources.assert_builds(3);
    sources.assert_settled();
    std::fs::write(repository.join("backend/content/bin/mine"), "#!/bin/sh\nexit 1\n").expect("it can be written");
    git(&repository, &["commit", "-q", "-a", "-m", "it works no more"]);
    // What is locked stays, and the backend with it.
    sources.assert_settled();
    sources.run(&["install", "--update"]).assert_fails_with(&["the build backend `mine`"]);
}

#[test]
fn what_a_backend_that_is_built_is_built_with_stays_and_is_built_first() {
    let mut sources = built_by_what_is_built();
    let host = "[package.host-dependencies]\nlib = '*'\nc = { path = '../c' }\n";
    sources.package("c", "", "");
    backend_from_source(&sources, &format!("{host}{API}"), "one");
    sources.assert_builds(4);
    sources.assert_settled();
    sources.site.channel.add(PackageBuilder::new("lib", "3.0").file("share/lib", "3.0\n")).expect("it can be written");
    sources.site.index();
    sources.assert_settled();
    sources.site.write("c/content/share/c.txt", "new\n");
    // `c`, and what is built with it: `mine`, and so `a`.
    sources.assert_builds(3);
    sources.assert_settled();
}

#[test]
fn a_backend_that_is_built_is_built_again_when_it_is_gone_and_somebody_needs_it() {
    let sources = built_by_what_is_built();
    sources.install();
    let lose = || {
        std::fs::remove_dir_all(sources.site.cache().join("tools")).expect("it is there");
        std::fs::remove_dir_all(sources.site.cache().join("pkgs")).expect("it is there");
        std::fs::remove_dir_all(sources.site.path(".pixi/doge/artifacts")).expect("it is there");
    };
    lose();
    sources.assert_settled();
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    sources.install();
    assert!(sources.site.read(".pixi/envs/default/bin/a").contains("changed"));
    // What was looked for and not found is no more what it was.
    sources.assert_builds(0);
    sources.assert_settled();
}

#[test]
fn a_backend_that_would_have_to_build_itself_is_a_cycle_that_names_it() {
    let sources = built_by_what_is_built();
    let text = sources.site.read("backend/pixi.toml");
    let own = "backend = { name = 'mine', path = '.' }";
    sources
        .site
        .write("backend/pixi.toml", &text.replace("backend = { name = 'doge-test-backend', version = '*' }", own));
    sources.run(&["install"]).assert_fails_with(&["dependency cycle", "environment of the tool mine", "backend"]);
    // So is one that is built with what it builds.
    backend_from_source(&sources, &format!("[package.host-dependencies]\na = {{ path = '../a' }}\n{API}"), "one");
    sources.run(&["install"]).assert_fails_with(&[
        "dependency cycle",
        "environment of the tool mine",
        "the host environment of `mine`",
    ]);
}

#[test]
fn a_backend_that_is_built_and_speaks_no_protocol_is_refused_by_name() {
    let sources = built_by_what_is_built();
    backend_from_source(&sources, "", "one");
    let parts = ["`mine` does not say which version of the build protocol", "pixi-build-api-version"];
    sources.run(&["install"]).assert_fails_with(&parts);
    std::fs::remove_dir_all(sources.site.path("backend")).expect("it is there");
    sources.run(&["install"]).assert_fails_with(&["there is no source at backend", "the package `mine` at backend"]);
}

#[test]
fn a_workspace_with_a_backend_that_is_built_can_be_moved() {
    let sources = built_by_what_is_built();
    sources.install();
    let moved = sources.site.root().join("moved");
    std::fs::rename(sources.site.path(""), &moved).expect("it can be moved");
    let mut command = sources.command(&["install", "--json"]);
    command.current_dir(&moved);
    let ran = Ran::by(command).succeeded();
    for kind in ["backend_build", "call_outputs", "install_tool"] {
        assert_eq!(ran.executed().get(kind), None, "{:?}", ran.executed());
    }
}

#[test]
fn packages_that_write_into_the_checkout_that_they_share_are_all_built() {
    let sources = Sources::new();
    let repository = sources.site.root().join("shared");
    std::fs::create_dir_all(&repository).expect("it can be made");
    let names = ["one", "two", "three", "four", "five"];
    let mut needs = String::new();
    for name in names {
        // What is written lies where all of them see it.
        sources.package(name, "", "fail = 'touch_own_globs'\ntouch = '../touched.txt'");
        let target = repository.join(name);
        std::fs::create_dir_all(target.join("content")).expect("it can be made");
        std::fs::copy(sources.site.path(&format!("{name}/pixi.toml")), target.join("pixi.toml")).expect("it is there");
        std::fs::write(target.join("content/file"), name).expect("it can be written");
        needs += &format!(
            "{name} = {{ git = 'file://{}', branch = 'main', subdirectory = '{name}' }}\n",
            repository.display()
        );
    }
    git(&repository, &["init", "-q", "-b", "main", "."]);
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "-q", "-m", "as it is"]);
    sources.site.needs(&needs);
    let ran = sources.install();
    assert!(ran.executed()["backend_build"] >= 5, "{:?}", ran.executed());
    sources.assert_settled();
}

/// Packages in one repository, which are built side by side.
fn in_one_repository(sources: &Sources, names: &[&str]) {
    sources.site.write(".pixi/config.toml", "[concurrency]\nbuilds = 4\n");
    let repository = sources.site.root().join("shared");
    std::fs::create_dir_all(&repository).expect("it can be made");
    for name in names {
        std::fs::rename(sources.site.path(name), repository.join(name)).expect("it is there");
    }
    git(&repository, &["init", "-q", "-b", "main", "."]);
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "-q", "-m", "as it is"]);
}

/// What needs packages of that repository.
fn needs_of_it(sources: &Sources, names: &[&str]) {
    let place = sources.site.root().join("shared");
    let need = |name: &&str| format!("{name} = {{ git = 'file://{}', subdirectory = '{name}' }}\n", place.display());
    sources.site.needs(&names.iter().map(need).collect::<String>());
}

#[test]
fn a_build_that_begins_after_another_wrote_into_their_checkout_waits_for_it_and_begins_with_the_commit() {
    let sources = Sources::new();
    // It writes what `reader` would take along, and is at work for a while then.
    let own = "fail = 'touch_own_globs'\ntouch = '../reader/content/touched.txt'";
    sources.package("writer", "", &format!("{own}\nslow_after = 1500"));
    // It begins when `between` has been built, which takes longer than to write.
    let host = "[package.host-dependencies]\nbetween = { path = '../between' }\n";
    sources.package("reader", host, "");
    sources.site.write("reader/content/committed.txt", "committed\n");
    sources.package("between", "", "slow = 500\nslow_in = 'build'");
    in_one_repository(&sources, &["writer", "between", "reader"]);
    needs_of_it(&sources, &["writer", "reader"]);
    sources.install();
    assert!(sources.site.prefix("committed.txt").is_file());
    assert!(!sources.site.prefix("touched.txt").exists());
    sources.assert_settled();
}

#[test]
fn a_build_in_whose_checkout_another_one_writes_meanwhile_is_made_again_alone() {
    let sources = Sources::new();
    let own = "fail = 'touch_own_globs'\ntouch = '../reader/content/touched.txt'";
    sources.package("writer", "", own);
    // It reads when the other one has written.
    sources.package("reader", "", "slow = 1000\nslow_in = 'build'");
    sources.site.write("reader/content/committed.txt", "committed\n");
    in_one_repository(&sources, &["writer", "reader"]);
    needs_of_it(&sources, &["writer", "reader"]);
    sources.install();
    assert!(sources.site.prefix("committed.txt").is_file());
    assert!(!sources.site.prefix("touched.txt").exists(), "it was built from what the other one wrote");
    sources.assert_settled();
    // Who writes is known by now, and who does not as well.
    let ran = sources.json(&["install", "--force"]);
    assert!(!ran.stderr.contains("built again, alone"), "{}", ran.stderr);
    assert!(!sources.site.prefix("touched.txt").exists());
}
