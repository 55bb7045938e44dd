//! Runs all benches and writes a table of what they measured, with ratios to floors and to the run before.
//!
//! ```sh
//! cargo run --manifest-path benches/run/Cargo.toml            # everything
//! cargo run --manifest-path benches/run/Cargo.toml -- engine  # bench programs whose names contain a word
//! ```
//!
//! Nothing is listed here: it runs every `[[bench]]` of every package of the repository, those that are workspaces of
//! their own, too. It reads what they print in two forms:
//!
//! * the trees of divan, of which it takes the smallest time, which was disturbed least;
//! * lines `measured WHO NANOSECONDS WHAT`.
//!
//! A floor is what is named so: in a tree, a bench called `version`, or better one called `floor`, is that of
//! the bench program; of lines that measure the same thing, that of `floor`, `salsa` or `rattler` is. The table goes to
//! `target/bench/latest.md`, the figures to `target/bench/latest.txt`, and those of the run before to `previous.txt`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What may stand for WHO in a line that is a floor, the best one first.
const FLOORS: [&str; 3] = ["floor", "salsa", "rattler"];

/// One figure: the bench program, what was measured, and the nanoseconds.
type Figures = BTreeMap<(String, String), f64>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("not in a repository")?;
    let out = root.join("target/bench");
    std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;

    let mut figures = Figures::new();
    let mut failed = Vec::new();
    for (name, mut command) in programs(root)? {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        eprintln!("# {name}");
        command.current_dir(root).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cargo could not be started: {error}"))?;
        let mut text = String::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                println!("{line}");
                text.push_str(&line);
                text.push('\n');
            }
        }
        if !child.wait().is_ok_and(|status| status.success()) {
            failed.push(name.clone());
        }
        let read = read(&text);
        if read.is_empty() {
            failed.push(format!("{name} (nothing that it printed is a figure)"));
        }
        figures.extend(read.into_iter().map(|(what, time)| ((name.clone(), what), time)));
    }

    let latest = out.join("latest.txt");
    let before = std::fs::read_to_string(&latest).ok();
    // A run of some benches leaves what is known of the others.
    let known = before.as_deref().map(kept).unwrap_or_default();
    if let Some(before) = &before {
        write(&out.join("previous.txt"), before)?;
    }
    write(&out.join("latest.md"), &table(&figures, &known))?;
    let mut all = known;
    all.extend(figures);
    write(&latest, &all.iter().map(|((name, what), time)| format!("{name}\t{what}\t{time:.1}\n")).collect::<String>())?;
    eprintln!("{}", out.join("latest.md").display());
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Every bench program: its name, and how it is run.
fn programs(root: &Path) -> Result<Vec<(String, Command)>, String> {
    let mut manifests = Vec::new();
    find(root, &mut manifests).map_err(|error| format!("{}: {error}", root.display()))?;
    manifests.sort();
    let mut programs = Vec::new();
    for manifest in manifests {
        let text = std::fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
        let package = text.lines().skip_while(|line| line.trim() != "[package]").find_map(|line| value(line, "name"));
        let Some(package) = package else { continue };
        let sections = text.split("\n[[bench]]\n").skip(1);
        for bench in sections.filter_map(|section| section.lines().find_map(|line| value(line, "name"))) {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            // One folder for all of them, so that nothing is built twice.
            command.args(["bench", "--manifest-path"]).arg(&manifest).args(["--bench", bench]);
            command.env("CARGO_TARGET_DIR", root.join("target"));
            programs.push((format!("{package} {bench}"), command));
        }
    }
    Ok(programs)
}

/// The text that a line of a manifest gives to a key.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.trim().strip_prefix(key)?.trim_start().strip_prefix('=')?;
    rest.trim().strip_prefix('"')?.split('"').next()
}

/// The manifests of the repository.
fn find(folder: &Path, manifests: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "Cargo.toml" {
            manifests.push(entry.path());
        } else if entry.file_type()?.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            find(&entry.path(), manifests)?;
        }
    }
    Ok(())
}

/// What a bench program printed: what was measured, and the nanoseconds.
fn read(text: &str) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut path: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(measured) = line.strip_prefix("measured ") {
            let mut words = measured.splitn(3, ' ');
            if let (Some(who), Some(Ok(time)), Some(what)) = (words.next(), words.next().map(str::parse), words.next())
            {
                figures.insert(format!("{what}: {who}"), time);
            }
            continue;
        }
        // Each level of a tree is indented by three characters.
        let Some(branch) = line.chars().position(|c| c == '├' || c == '╰') else { continue };
        let rest: String = line.chars().skip(branch + 3).collect();
        let Some(name) = rest.split_whitespace().next() else { continue };
        path.truncate(branch / 3);
        path.push(name.to_owned());
        let mut words = rest.split_whitespace().skip(1);
        if let (Some(Ok(number)), Some(unit)) = (words.next().map(str::parse::<f64>), words.next()) {
            let nanoseconds = match unit {
                "ns" => number,
                "µs" => number * 1e3,
                "ms" => number * 1e6,
                "s" => number * 1e9,
                _ => continue,
            };
            figures.insert(path.join(" "), nanoseconds);
        }
    }
    figures
}

/// The figures of an earlier run, as they were written.
fn kept(text: &str) -> Figures {
    let figure = |line: &str| {
        let mut parts = line.split('\t');
        let (name, what, time) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        Some(((name.to_owned(), what.to_owned()), time))
    };
    text.lines().filter_map(figure).collect()
}

/// What a figure is to be compared with, if the same run measured such a thing.
fn floor_of(figures: &Figures, name: &str, what: &str) -> Option<f64> {
    let of = |what: &str| figures.get(&(name.to_owned(), what.to_owned())).copied();
    match what.rsplit_once(": ") {
        Some((_, who)) if FLOORS.contains(&who) => None,
        Some((load, _)) => FLOORS.iter().find_map(|floor| of(&format!("{load}: {floor}"))),
        None if what == "floor" || what == "version" => None,
        None => of("floor").or_else(|| of("version")),
    }
}

fn table(figures: &Figures, before: &Figures) -> String {
    let mut table =
        String::from("| bench | measured | time | to its floor | to the run before |\n|---|---|---|---|---|\n");
    let ratio = |time: f64, to: Option<f64>| to.map_or("–".to_owned(), |to| format!("{:.2}", time / to));
    for ((name, what), time) in figures {
        let floor = floor_of(figures, name, what);
        let earlier = before.get(&(name.clone(), what.clone())).copied();
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| {name} | {what} | {} | {} | {} |",
            readable(*time),
            ratio(*time, floor),
            ratio(*time, earlier)
        );
    }
    table
}

fn readable(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_and_lines_are_read() {
        let text = "Timer precision: 20 ns\n\
            engine                fastest       │ slowest\n\
            ├─ askers             3.606 ms      │ 24.64 ms\n\
            ├─ pure                             │\n\
            │  ├─ 1000            1.041 µs      │ 10.11 ms\n\
            │  ╰─ 10000           10.75 ns      │ 92.79 ms\n\
            ╰─ version            2 s           │ 3 s\n\
            measured salsa 100.5 a warm hit\n\
            measured doge 201 a warm hit\n";
        let read = read(text);
        let expected = [
            ("a warm hit: doge", 201.0),
            ("a warm hit: salsa", 100.5),
            ("askers", 3.606e6),
            ("pure 1000", 1.041e3),
            ("pure 10000", 10.75),
            ("version", 2e9),
        ];
        assert_eq!(read.iter().map(|(what, time)| (what.as_str(), *time)).collect::<Vec<_>>(), expected);

        let figures: Figures = read.into_iter().map(|(what, time)| (("engine".to_owned(), what), time)).collect();
        assert_eq!(floor_of(&figures, "engine", "a warm hit: doge"), Some(100.5));
        assert_eq!(floor_of(&figures, "engine", "askers"), Some(2e9));
        assert_eq!(floor_of(&figures, "engine", "version"), None);
        let again = kept(&figures.iter().map(|((n, w), t)| format!("{n}\t{w}\t{t}\n")).collect::<String>());
        assert_eq!(again, figures);
        assert!(table(&figures, &again).contains("| engine | a warm hit: doge | 201 ns | 2.00 | 1.00 |"));
    }
}
