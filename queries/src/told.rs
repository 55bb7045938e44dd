//! Changes in the words of people: what `doge why` says of files, packages and lines of text.

use std::collections::{BTreeMap, BTreeSet};

use doge::{Change, Fingerprint, Values, differing_lines};
use rattler_conda_types::PackageRecord;

use crate::records::Records;

/// A value that came, went or changed, by name.
pub(crate) fn by_name<T: PartialEq>(
    was: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
    change: impl Fn(&str, Option<&T>, Option<&T>) -> Change,
) -> Vec<Change> {
    let names: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let both = names.into_iter().map(|name| (name, was.get(name), now.get(name)));
    both.filter(|(_, was, now)| was != now).map(|(name, was, now)| change(name, was, now)).collect()
}

/// The first digits of a fingerprint.
pub(crate) fn short(fingerprint: &Fingerprint) -> String {
    fingerprint.to_hex()[..12].to_owned()
}

/// How the lines of a file differ. A line that is like one that went is told beside it.
pub(crate) fn lines(file: &str, was: &str, now: &str) -> Vec<Change> {
    let what = format!("line of {file}");
    let (gone, mut new) = differing_lines(was, now);
    let subject = |line: &str| line.split(['=', ':']).next().unwrap_or_default().trim().to_owned();
    let mut changes = Vec::new();
    for line in gone {
        let is_like = |other: &String| subject(other) == subject(&line);
        let now = new.iter().position(is_like).map(|place| new.remove(place));
        let said = if now.is_some() { what.clone() } else { format!("{what} removed") };
        changes.push(Change::new(&said, "", Some(line), now));
    }
    changes.extend(new.into_iter().map(|line| Change::new(&format!("{what} added"), "", None, Some(line))));
    changes
}

/// An option that somebody gave in another way. One that is empty was not given.
pub(crate) fn option(name: &str, was: &impl ToString, now: &impl ToString) -> Option<Change> {
    let given = |value: String| Some(value).filter(|value| !value.is_empty());
    let (was, now) = (given(was.to_string()), given(now.to_string()));
    (was != now).then(|| Change::new("option", name, was, now))
}

/// An option that is given or not.
pub(crate) fn switch(name: &str, was: bool, now: bool) -> Option<Change> {
    let what = if now { "option added" } else { "option removed" };
    (was != now).then(|| Change::new(what, name, None, None))
}

/// A file of a directory of the workspace.
pub(crate) fn place(directory: &str, name: &str) -> String {
    match directory {
        "" | "." => name.to_owned(),
        directory => crate::source::normalized(&format!("{directory}/{name}")),
    }
}

/// How packages differ, by name.
pub(crate) fn packages<'p>(
    was: impl Iterator<Item = &'p PackageRecord>,
    now: impl Iterator<Item = &'p PackageRecord>,
) -> Vec<Change> {
    let (was, now): (BTreeMap<_, _>, BTreeMap<_, _>) = (was.map(named).collect(), now.map(named).collect());
    by_name(&was, &now, |name, was, now| {
        let shown = |package: &&PackageRecord| format!("{} {}", package.version, package.build);
        match (was.map(shown), now.map(shown)) {
            (Some(was), Some(now)) if was == now => Change::new("package with other content", name, None, Some(now)),
            (was, now) => Change::new("package", name, was, now),
        }
    })
}

/// The records of packages that are not to be built.
pub(crate) fn of_archives(records: &Records) -> impl Iterator<Item = &PackageRecord> {
    records.as_slice().iter().map(|record| &record.package_record)
}

fn named(package: &PackageRecord) -> (String, &PackageRecord) {
    (package.name.as_normalized().to_owned(), package)
}

/// How records of packages differ, also of those that are to be built; nothing if some are not kept.
pub(crate) fn records(was: &Records, now: &Records, values: &Values<'_>) -> Option<Vec<Change>> {
    let mut changes = packages(of_archives(was), of_archives(now));
    let sources = |records: &Records| -> Option<BTreeMap<String, (String, Fingerprint)>> {
        let sources = records.sources().iter().map(|name| {
            let source = values.get(name)?;
            let shown = format!("{} {} of {}", source.record.version, source.record.build, source.manifest);
            Some((source.name().to_owned(), (shown, name.fingerprint())))
        });
        sources.collect()
    };
    changes.extend(by_name(&sources(was)?, &sources(now)?, |name, was, now| match (was, now) {
        (Some((was, _)), Some((now, _))) if was == now => {
            Change::new("package built with something else", name, None, Some(now.clone()))
        }
        (was, now) => Change::new("package", name, was.map(|was| was.0.clone()), now.map(|now| now.0.clone())),
    }));
    Some(changes)
}

/// How archives of packages differ, as their file names tell.
pub(crate) fn archives<'a>(was: impl Iterator<Item = &'a str>, now: impl Iterator<Item = &'a str>) -> Vec<Change> {
    let was: BTreeSet<&str> = was.collect();
    let now: BTreeSet<&str> = now.collect();
    let name = |file: &str| file.rsplitn(3, '-').last().unwrap_or_default().to_owned();
    let mut changed: BTreeMap<String, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    was.difference(&now).for_each(|file| changed.entry(name(file)).or_default().0.push(file));
    now.difference(&was).for_each(|file| changed.entry(name(file)).or_default().1.push(file));
    let mut changes = Vec::new();
    for (name, (gone, new)) in changed {
        match (gone.as_slice(), new.as_slice()) {
            ([was], [now]) => {
                changes.push(Change::new("package", name, Some((*was).to_owned()), Some((*now).to_owned())));
            }
            (gone, new) => {
                changes.extend(gone.iter().map(|file| Change::new("package removed", *file, None, None)));
                changes.extend(new.iter().map(|file| Change::new("package added", *file, None, None)));
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_is_told_beside_the_one_that_it_was() {
        let (was, now) = ("a = 1\nb = 2\nb = 2\n", "b = 2\n\n  a = 3\nc = 4\n");
        assert_eq!(
            told(&lines("f", was, now)),
            ["line of f: a = 1 -> a = 3", "line of f removed: b = 2", "line of f added: c = 4"]
        );
        assert_eq!(lines("f", "a\n", "  a"), []);
    }

    #[test]
    fn a_package_of_which_another_version_is_there_is_one_change() {
        let (was, now) = (["a-b-1.0-0.conda", "c-1-0.conda"], ["a-b-2.0-0.conda", "c-1-0.conda", "d-1-0.conda"]);
        assert_eq!(
            told(&archives(was.into_iter(), now.into_iter())),
            ["package: a-b a-b-1.0-0.conda -> a-b-2.0-0.conda", "package added: d-1-0.conda"]
        );
    }
}
