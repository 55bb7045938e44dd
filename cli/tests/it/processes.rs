//! Several processes, and processes that end before they are done.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use doge_queries::testing::PackageBuilder;

use crate::site::{Ran, Server, Site};

fn start(site: &Site) -> Child {
    let mut command = site.command(&["install", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started")
}

#[test]
fn two_processes_share_the_work_of_one() {
    let site = Site::new();
    let server = Server::start(&site.path("channel"));
    let url = server.url().to_string();
    site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", &url));
    let both = [start(&site), start(&site)];
    let ran: Vec<Ran> = both.into_iter().map(|child| Ran::of(child.wait_with_output().expect("it ends"))).collect();
    for ran in &ran {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let archives: Vec<String> = server
        .take_requests()
        .into_iter()
        .map(|request| request.path)
        .filter(|path| path.ends_with(".conda"))
        .collect();
    assert_eq!(archives.len(), 2, "each is fetched once: {archives:?}");
    assert!(site.prefix("bin/app").is_file());
    site.install().assert_nothing_ran();
}

/// Enough files for an installation to take a while.
fn large() -> Site {
    let mut site = Site::new();
    let mut package = PackageBuilder::new("large", "1.0");
    for number in 0..400 {
        package = package.file(format!("share/large/{number}"), vec![b'x'; 2_000]);
    }
    site.channel.add(package).expect("it can be written");
    site.index();
    site.needs("app = '*'\nlarge = '*'");
    site
}

#[test]
fn a_process_that_was_killed_leaves_nothing_that_is_trusted() {
    let site = large();
    for trial in 0..12_u64 {
        if trial % 3 == 0 {
            drop(std::fs::remove_dir_all(site.prefix("")));
            drop(std::fs::remove_dir_all(site.cache()));
            drop(std::fs::remove_file(site.path("pixi.lock")));
        }
        let mut child = start(&site);
        std::thread::sleep(Duration::from_millis(5 + trial * 17 % 120));
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
    }
    site.install();
    for number in 0..400 {
        let content = std::fs::read(site.prefix(&format!("share/large/{number}"))).expect("it is there");
        assert_eq!(content.len(), 2_000, "{number}");
    }
    site.needs("lib = '*'");
    site.install();
    assert!(!site.prefix("share/large").exists(), "no files are left of what is not wanted");
    assert!(!site.prefix("bin/app").exists());
    site.install().assert_nothing_ran();
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_at_once_and_says_so() {
    let site = Site::new();
    // A server that takes the connection and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/", listener.local_addr().expect("it has one"));
    site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", &url));
    let child = start(&site);
    let (_stream, _) = listener.accept().expect("it asks");
    let began = Instant::now();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("there is such a program");
    assert!(killed.success());
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    assert_eq!(ran.value()["error"]["message"], "interrupted");
    assert!(!site.path("pixi.lock").exists());
}
