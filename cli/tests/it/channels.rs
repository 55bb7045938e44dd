//! Channels: what is asked of them, and what a change in them costs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use doge_queries::testing::PackageBuilder;
use serde_json::json;

use crate::site::{Ran, Server, Site, answering, deserted, locked};

#[test]
fn a_change_that_touches_nothing_that_was_reached_solves_nothing() {
    let mut site = Site::new();
    site.install();
    site.json(&["solve", "--update"]);
    site.channel.edit("noarch", "other-1.0-0.conda", |record| record["license"] = json!("changed"));
    site.channel.add(PackageBuilder::new("another", "1.0")).expect("it can be written");
    site.index();
    let solved = site.json(&["solve", "--update"]);
    assert_eq!(solved.ran(), ["channel_index", "record_closure"]);
    assert_eq!(solved.value()["cut_off"], 1);
}

#[test]
fn a_change_of_something_reached_runs_exactly_its_chain_and_why_names_the_record() {
    let mut site = Site::new();
    site.install();
    site.json(&["solve", "--update"]);
    site.channel.edit("noarch", "lib-1.0-0.conda", |record| record["license"] = json!("changed"));
    site.index();
    let solved = site.json(&["solve", "--update"]);
    assert_eq!(
        solved.ran(),
        ["channel_index", "lock_workspace", "record_closure", "solve_conda_environment", "solve_unit"]
    );
    let why = site.run(&["why", "solve"]);
    assert!(why.stdout.starts_with("solve default@"), "{}", why.stdout);
    assert!(why.stdout.contains("lib-1.0-0.conda"), "{}", why.stdout);
    assert!(!why.stdout.contains("app-"), "{}", why.stdout);
}

#[test]
fn a_channel_that_is_written_in_another_way_has_not_changed() {
    let site = Site::new();
    site.install();
    site.json(&["solve", "--update"]);
    let path = "channel/noarch/repodata.json";
    let mut repodata: serde_json::Value = serde_json::from_str(&site.read(path)).expect("JSON");
    for record in repodata["packages.conda"].as_object_mut().expect("a map").values_mut() {
        let turned = record.as_object().expect("a map").clone().into_iter().rev().collect();
        *record = serde_json::Value::Object(turned);
    }
    site.write(path, &repodata.to_string());
    let solved = site.json(&["solve", "--update"]);
    assert_eq!(solved.ran(), ["channel_index", "record_closure"]);
    assert_eq!(solved.value()["cut_off"], 1);
}

#[test]
fn a_requirement_decides_which_records_are_reached_and_why_names_it() {
    let site = Site::new();
    site.install();
    site.needs("app = '*'\ntool = '>=1'");
    site.install();
    let why = site.run(&["why", "solve_conda_environment"]);
    assert!(why.stdout.contains("needs/requirements/tool: added"), "{}", why.stdout);
    let why = site.run(&["why", "lock_workspace"]);
    assert!(why.stdout.contains("line of pixi.toml added: tool = '>=1'"), "{}", why.stdout);
}

fn served(shards: bool, json: bool, zst: bool) -> (Site, Server) {
    let mut site = Site::new();
    site.channel = site.channel.with_shards(shards).with_variants(json, zst);
    site.index();
    let server = Server::start(site.channel.root());
    let url = server.url().to_string();
    site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", &url));
    (site, server)
}

#[test]
fn servers_are_asked_once_whatever_form_their_records_have() {
    for (shards, json, zst) in [(false, true, false), (false, true, true), (true, true, true)] {
        let (site, server) = served(shards, json, zst);
        site.install();
        let asked: Vec<String> = server.take_requests().into_iter().map(|request| request.path).collect();
        let archives = asked.iter().filter(|path| path.ends_with(".conda")).count();
        assert_eq!(archives, 2, "{asked:?}");
        assert_eq!(shards, asked.iter().any(|path| path.contains("/shards/")), "{asked:?}");
        site.install().assert_nothing_ran();
        assert_eq!(server.take_requests().len(), 0, "what is locked and installed asks nobody");
        std::fs::remove_dir_all(site.prefix("")).expect("it is there");
        site.install();
        assert_eq!(server.take_requests().len(), 0, "what is in the cache is not fetched");
    }
}

#[test]
fn a_server_that_said_how_long_its_answer_holds_is_not_asked_before() {
    let (site, server) = served(false, true, false);
    server.cache_control(Some("public, max-age=3600"));
    site.install();
    server.take_requests();
    site.json(&["solve", "--update"]);
    assert_eq!(server.take_requests().len(), 0);
    site.json(&["solve", "--update", "--refresh"]);
    assert!(!server.take_requests().is_empty());
}

#[test]
fn without_a_network_the_cache_has_to_do() {
    let (site, server) = served(false, true, false);
    site.run(&["install", "--offline"]).assert_fails_with(&["not in the cache", "run once without `--offline`"]);
    assert_eq!(server.take_requests().len(), 0);
    site.needs("lib = '1.0'");
    let url = server.url().to_string();
    site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", &url));
    site.install();
    server.take_requests();
    // Repodata names both, but only one can be had.
    site.write("pixi.toml", &site.read("pixi.toml").replace("'1.0'", "'*'"));
    std::fs::remove_file(site.path("pixi.lock")).expect("it is there");
    site.json(&["install", "--offline"]);
    assert_eq!(locked(&site.lock_file()), ["lib-1.0"]);
    assert_eq!(server.take_requests().len(), 0);
    site.json(&["install", "--update"]);
    assert_eq!(locked(&site.lock_file()), ["lib-1.1"], "what was found offline is not taken for what is there");
}

#[test]
fn credentials_are_sent_where_they_belong_and_written_down_nowhere() {
    let (site, server) = served(false, true, false);
    server.require_authorization("Basic dXNlcjpzM2NyM3Q=");
    let url = server.url().to_string();
    let with_credentials = url.replace("http://", "http://user:s3cr3t@");
    site.write("pixi.toml", &site.read("pixi.toml").replace(&url, &with_credentials));
    let host = url.trim_start_matches("http://").split([':', '/']).next().expect("a host").to_owned();
    let store = format!("{{\"{host}\":{{\"BasicHTTP\":{{\"username\":\"user\",\"password\":\"s3cr3t\"}}}}}}");
    let file = site.path("credentials.json");
    std::fs::write(&file, store).expect("it can be written");
    let output =
        site.command(&["install", "--json"]).env("RATTLER_AUTH_FILE", &file).output().expect("it can be started");
    let ran = crate::site::Ran::of(output);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_nowhere(&site, &ran, "s3cr3t");
}

/// Looks that nothing was said of a secret, and that it was written down nowhere.
#[track_caller]
fn assert_nowhere(site: &Site, ran: &Ran, secret: &str) {
    let mut places = vec![site.path("pixi.lock"), site.path(".pixi"), site.cache()];
    while let Some(path) = places.pop() {
        if path.is_dir() {
            places
                .extend(std::fs::read_dir(path).expect("it is there").map(|entry| entry.expect("it is there").path()));
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
    for said in [&ran.stdout, &ran.stderr] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// Runs a command with a token of conda for this machine, which is put into the path of every URL.
fn with_token(site: &Site, arguments: &[&str]) -> Ran {
    let file = site.root().join("credentials.json");
    std::fs::write(&file, r#"{"127.0.0.1":{"CondaToken":"tk-s3cr3t"}}"#).expect("it can be written");
    let mut command = site.command(arguments);
    command.env("RATTLER_AUTH_FILE", PathBuf::from(&file));
    Ran::by(command)
}

#[test]
fn a_token_is_neither_said_nor_kept_when_its_server_cannot_be_reached() {
    let site = Site::new();
    let manifest = site.read("pixi.toml");
    let place = format!("http://127.0.0.1:{}", deserted());
    let unreachable = [
        manifest.replace("./channel", &format!("{place}/channel")),
        manifest.replace("'*'", &format!("{{ url = '{place}/app.tar.gz' }}")),
    ];
    for manifest in unreachable {
        site.write("pixi.toml", &manifest);
        let ran = with_token(&site, &["install"]);
        ran.assert_fails_with(&["could not be fetched", &place]);
        assert_nowhere(&site, &ran, "s3cr3t");
    }
}

#[cfg(unix)]
#[test]
fn a_token_is_neither_said_nor_kept_when_a_package_cannot_be_fetched() {
    let (mut site, server) = served(false, true, false);
    let place = format!("http://127.0.0.1:{}/", deserted());
    site.channel.base_url("noarch", &place);
    site.index();
    // The path begins with the token.
    std::os::unix::fs::symlink(".", site.path("channel/t")).expect("a link");
    std::os::unix::fs::symlink(".", site.path("channel/tk-s3cr3t")).expect("a link");
    let ran = with_token(&site, &["install"]);
    ran.assert_fails_with(&["could not be fetched", &place]);
    assert_nowhere(&site, &ran, "s3cr3t");
    drop(server);
}

#[test]
fn credentials_that_cannot_be_read_are_the_reason_that_is_told_and_are_not_shown() {
    let (site, _server) = served(false, true, false);
    let file = site.root().join("malformed.json");
    std::fs::write(&file, r#"{"127.0.0.1":"tk-s3cr3t"}"#).expect("it can be written");
    let mut command = site.command(&["install"]);
    command.env("RATTLER_AUTH_FILE", &file);
    let ran = Ran::by(command);
    ran.assert_fails_with(&["malformed.json", "cannot be read", "malformed at line 1"]);
    assert!(!ran.stderr.contains("offline"), "{}", ran.stderr);
    assert_nowhere(&site, &ran, "s3cr3t");
}

#[test]
fn a_token_stays_with_its_server_when_that_leads_elsewhere() {
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = heard.clone();
    let elsewhere = answering(move |request| {
        hears.lock().expect("nobody panics with it").push_str(request);
        b"HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
    });
    let leading = answering(move |_| {
        let answer = format!(
            "HTTP/1.1 302 x\r\nLocation: http://localhost:{elsewhere}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        answer.into_bytes()
    });
    let site = Site::new();
    let channel = format!("http://127.0.0.1:{leading}/channel");
    site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", &channel));
    with_token(&site, &["install"]);
    let heard = heard.lock().expect("nobody panics with it");
    assert!(heard.contains("GET /x"), "{heard}");
    assert!(!heard.contains("s3cr3t"), "{heard}");
}

#[test]
fn a_channel_further_up_hides_those_below_unless_that_is_turned_off() {
    let site = Site::new();
    let mut first = doge_queries::testing::ChannelBuilder::new(site.path("first"));
    first.add(PackageBuilder::new("lib", "0.5").file("share/lib", "0.5\n")).expect("it can be written");
    first.index().expect("it can be written");
    site.needs("lib = '*'");
    let manifest = site.read("pixi.toml").replace("['./channel']", "['./first', './channel']");
    site.write("pixi.toml", &manifest);
    site.install();
    assert_eq!(locked(&site.lock_file()), ["lib-0.5"]);
    site.write("pixi.toml", &manifest.replace("name =", "channel-priority = 'disabled'\nname ="));
    site.json(&["install", "--update"]);
    assert_eq!(locked(&site.lock_file()), ["lib-1.1"]);
}
