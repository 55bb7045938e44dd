//! What a workspace is solved for: a conda subdir and the virtual packages a machine is taken to have.
//!
//! A solve does not ask the machine it runs on; it takes the virtual packages its platform declares, filled up with
//! the defaults of the subdir. So every machine gets the same result. Whether *this* machine can run the result is a
//! question for the installer.
//!
//! A platform is known by a name, which is the subdir unless it declares more than the defaults. Two platforms are the
//! same if subdir and declarations are, whatever their names: lock files of other versions use other names.

use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

use rattler_conda_types::{GenericVirtualPackage, PackageName, Subdir, Version, package::BuildString};
use rattler_virtual_packages::Archspec;

use super::{
    error::{ManifestError, ManifestErrorKind},
    table::{Entry, Table, closest},
    warning::WarningKind,
};

/// The kernel that is assumed on linux.
const DEFAULT_LINUX: &str = "4.18";
/// The C library that is assumed on linux.
const DEFAULT_GLIBC: &str = "2.28";
/// The C library that is assumed on riscv64, where nothing older exists.
const DEFAULT_GLIBC_RISCV64: &str = "2.39";
/// The system that is assumed on macOS.
const DEFAULT_OSX: &str = "13.0";

/// The virtual packages with a short key in a platform table, in the order they have in a derived name.
const SHORT_KEYS: [(&str, &str); 6] = [
    ("cuda", "__cuda"),
    ("archspec", "__archspec"),
    ("glibc", "__glibc"),
    ("linux", "__linux"),
    ("macos", "__osx"),
    ("windows", "__win"),
];

/// A platform with all its virtual packages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// The name: the subdir, or a name that tells the declared virtual packages.
    pub name: String,
    /// The conda subdir packages are taken from.
    pub subdir: Subdir,
    /// Every virtual package a solve may count on, sorted by name, defaults included.
    pub virtual_packages: Vec<GenericVirtualPackage>,
}

impl Platform {
    /// The platform of a subdir where only the defaults are assumed.
    pub fn of_subdir(subdir: Subdir) -> Self {
        Self::with_declared(None, subdir, Vec::new())
    }

    /// A platform that declares virtual packages. Without a name it gets the one that follows from them.
    pub(crate) fn with_declared(name: Option<String>, subdir: Subdir, declared: Vec<GenericVirtualPackage>) -> Self {
        let virtual_packages = fill_up(declared, subdir);
        let name = name.unwrap_or_else(|| derived_name(subdir, &virtual_packages));
        Self { name, subdir, virtual_packages }
    }

    /// The virtual packages that differ from what is assumed for the subdir: with the subdir, the platform's identity.
    pub fn declared(&self) -> impl Iterator<Item = &GenericVirtualPackage> {
        beyond_defaults(&self.virtual_packages, self.subdir)
    }

    /// Whether only the defaults are assumed.
    pub fn is_plain(&self) -> bool {
        self.declared().next().is_none()
    }

    /// The declared virtual packages in text form.
    pub(crate) fn declared_text(&self) -> Vec<String> {
        self.declared().map(short_form).collect()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A virtual package as lock files write it: without a build string that says nothing.
pub(crate) fn short_form(package: &GenericVirtualPackage) -> String {
    let name = package.name.as_normalized();
    match package.build_string.as_str() {
        // `__unix` is written with its build string everywhere.
        "" | "0" if name != "__unix" => format!("{name}={}", package.version),
        build => format!("{name}={}={build}", package.version),
    }
}

/// Reads the form lock files use, `__name=version[=build]`. `None` for anything else.
pub(crate) fn parse_virtual_package(text: &str) -> Option<GenericVirtualPackage> {
    let mut parts = text.splitn(3, '=');
    let name = PackageName::from_str(parts.next()?).ok()?;
    let version = Version::from_str(parts.next()?).ok()?;
    Some(virtual_package(name, version, parts.next().unwrap_or("0")))
}

/// Makes a virtual package. No build string and the build string `0` mean the same.
fn virtual_package(name: PackageName, version: Version, build: &str) -> GenericVirtualPackage {
    let build = if build.is_empty() { "0" } else { build };
    GenericVirtualPackage { name, version, build_string: BuildString::new_unchecked(build) }
}

/// A virtual package from constants.
fn known(name: &str, version: &str, build: &str) -> GenericVirtualPackage {
    let version = Version::from_str(version).expect("invariant: a constant version can be read");
    virtual_package(PackageName::new_unchecked(name), version, build)
}

/// What is assumed of a machine when a workspace says no more than a subdir.
pub fn default_virtual_packages(subdir: Subdir) -> Vec<GenericVirtualPackage> {
    let mut packages = Vec::new();
    if subdir.is_unix() {
        packages.push(known("__unix", "0", "0"));
    }
    if subdir.is_linux() {
        packages.push(known("__linux", DEFAULT_LINUX, "0"));
        let glibc = if subdir == Subdir::LinuxRiscv64 { DEFAULT_GLIBC_RISCV64 } else { DEFAULT_GLIBC };
        packages.push(known("__glibc", glibc, "0"));
    }
    if subdir.is_windows() {
        packages.push(known("__win", "0", "0"));
    }
    if subdir.is_osx() {
        packages.push(known("__osx", DEFAULT_OSX, "0"));
    }
    if let Some(archspec) = lowest_archspec(subdir) {
        packages.push(known("__archspec", "0", &archspec));
    }
    packages.sort();
    packages
}

/// The least processor of a subdir, as rattler has it.
///
/// Asking rattler reads a database of all processors, which takes longer than all else that is done where nothing has
/// to be. So for the subdirs of most people the answer stands here.
fn lowest_archspec(subdir: Subdir) -> Option<Cow<'static, str>> {
    match subdir {
        Subdir::Linux64 | Subdir::Osx64 | Subdir::Win64 => Some("x86_64".into()),
        Subdir::LinuxAarch64 | Subdir::WinArm64 => Some("aarch64".into()),
        Subdir::OsxArm64 => Some("m1".into()),
        Subdir::LinuxPpc64le => Some("ppc64le".into()),
        other => Archspec::from_platform(other).map(|archspec| archspec.as_str().to_owned().into()),
    }
}

/// Adds the defaults of a subdir to what is declared. A declared C library stands for the default one.
pub(crate) fn fill_up(mut declared: Vec<GenericVirtualPackage>, subdir: Subdir) -> Vec<GenericVirtualPackage> {
    let has_libc = declared.iter().any(|package| is_libc(package.name.as_normalized()));
    for default in default_virtual_packages(subdir) {
        let replaced = declared.iter().any(|package| package.name == default.name)
            || (has_libc && is_libc(default.name.as_normalized()));
        if !replaced {
            declared.push(default);
        }
    }
    declared.sort();
    declared
}

pub(crate) fn is_libc(name: &str) -> bool {
    matches!(name, "__glibc" | "__musl" | "__eglibc")
}

/// Those of `packages` that are not the defaults of the subdir.
pub(crate) fn beyond_defaults(
    packages: &[GenericVirtualPackage],
    subdir: Subdir,
) -> impl Iterator<Item = &GenericVirtualPackage> {
    let defaults = default_virtual_packages(subdir);
    packages.iter().filter(move |package| !defaults.contains(package))
}

/// The name of a platform that was not given one: the subdir and what is declared beyond its defaults.
fn derived_name(subdir: Subdir, packages: &[GenericVirtualPackage]) -> String {
    let declared: Vec<_> = beyond_defaults(packages, subdir).collect();
    let mut name = subdir.as_str().to_owned();
    let mut add = |key: &str, value: &str| {
        name.push('-');
        name.push_str(&dashed(key));
        name.push('-');
        name.push_str(&dashed(value));
    };
    let mut rest = declared.clone();
    for (key, conda_name) in SHORT_KEYS {
        let Some(package) = declared.iter().find(|package| package.name.as_normalized() == conda_name) else {
            continue;
        };
        let build = package.build_string.as_str();
        let value = match conda_name {
            "__archspec" if package.version == Version::major(0) => build.to_owned(),
            _ if build == "0" => package.version.to_string(),
            _ => continue,
        };
        add(key, &value);
        rest.retain(|other| other.name != package.name);
    }
    for package in rest {
        let value = match package.build_string.as_str() {
            "0" => package.version.to_string(),
            build => format!("{}={build}", package.version),
        };
        add(package.name.as_normalized(), &value);
    }
    name
}

/// Letters and digits, with one dash for whatever stands between them.
fn dashed(text: &str) -> String {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// A platform as the workspace lists it.
#[derive(Debug, Clone)]
pub(crate) struct ListedPlatform {
    pub(crate) platform: Platform,
    pub(crate) span: Range<usize>,
    /// Whether this is a subdir and nothing else.
    pub(crate) bare: bool,
}

/// Reads a subdir by its name. `noarch` is not a platform.
pub(crate) fn read_subdir(entry: &Entry<'_, '_>, text: &str, span: &Range<usize>) -> Result<Subdir, ManifestError> {
    if let Ok(subdir) = Subdir::from_str(text)
        && subdir != Subdir::NoArch
    {
        return Ok(subdir);
    }
    let known = Subdir::all().filter(|subdir| *subdir != Subdir::NoArch).map(Subdir::as_str);
    let help = closest(text, known).map_or_else(
        || "platforms are named like `linux-64`, `osx-arm64` or `win-64`".to_owned(),
        |close| format!("did you mean `{close}`?"),
    );
    let kind = ManifestErrorKind::UnknownPlatform { platform: text.to_owned() };
    Err(entry.source().error(kind).at(span).help(help).done())
}

/// Reads an element of `workspace.platforms`: a subdir, or a table that declares virtual packages.
pub(crate) fn read_listed_platform(entry: &Entry<'_, '_>) -> Result<ListedPlatform, ManifestError> {
    let span = entry.value_span();
    if let Some(text) = entry.as_string() {
        let platform = Platform::of_subdir(read_subdir(entry, text, &span)?);
        return Ok(ListedPlatform { platform, span, bare: true });
    }
    if !entry.is_table() {
        return Err(entry.wrong_type("a string or a table"));
    }
    let table = entry.table()?;
    let name = table.string("name")?;
    let subdir = match (table.string("platform")?, &name) {
        (Some((text, span)), _) => read_subdir(entry, text, &span)?,
        (None, Some((text, span))) => read_subdir(entry, text, span)?,
        (None, None) => {
            let kind = ManifestErrorKind::MissingKey { key: format!("{}.platform", table.path()) };
            return Err(entry.source().error(kind).at(&span).done());
        }
    };
    let declared = read_declared(&table)?;
    if let Some((name, span)) = &name {
        check_name(entry, name, span, subdir)?;
    }
    let platform = Platform::with_declared(name.map(|(name, _)| name.to_owned()), subdir, declared);
    if platform.name == subdir.as_str() && !platform.is_plain() {
        let kind = ManifestErrorKind::BadName {
            what: "a platform with virtual packages of its own",
            name: platform.name,
            why: "it means the platform with the default ones",
        };
        return Err(entry.source().error(kind).at(&span).done());
    }
    let bare = platform.name == subdir.as_str();
    Ok(ListedPlatform { platform, span, bare })
}

fn check_name(entry: &Entry<'_, '_>, name: &str, span: &Range<usize>, subdir: Subdir) -> Result<(), ManifestError> {
    let why = if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        "only letters, digits, `-` and `_` are allowed"
    } else if name != subdir.as_str() && Subdir::from_str(name).is_ok() {
        "it is the name of another platform"
    } else {
        return Ok(());
    };
    let kind = ManifestErrorKind::BadName { what: "a platform", name: name.to_owned(), why };
    Err(entry.source().error(kind).at(span).done())
}

/// Reads every virtual package a platform table declares.
fn read_declared(table: &Table<'_, '_>) -> Result<Vec<GenericVirtualPackage>, ManifestError> {
    let mut declared: Vec<GenericVirtualPackage> = Vec::new();
    let mut add = |entry: &Entry<'_, '_>, packages: Vec<GenericVirtualPackage>| {
        for package in packages {
            if declared.iter().any(|other| other.name == package.name) {
                let name = package.name.as_normalized().to_owned();
                let kind = ManifestErrorKind::Duplicate { what: "the virtual package", name };
                return Err(entry.source().error(kind).at(&entry.key_span).done());
            }
            declared.push(package);
        }
        Ok(())
    };
    for (key, conda_name) in SHORT_KEYS {
        if let Some(entry) = table.get(key) {
            add(&entry, read_declaration(&entry, conda_name)?)?;
        }
    }
    for (alias, conda_name) in [("osx", "__osx"), ("libc", "__glibc")] {
        if let Some(entry) = table.get(alias) {
            add(&entry, read_declaration(&entry, conda_name)?)?;
        }
    }
    // Any other key names a virtual package too, unless it is a known key with a typing mistake.
    let known: Vec<&str> = SHORT_KEYS.iter().map(|(key, _)| *key).chain(["name", "platform", "osx", "libc"]).collect();
    for entry in table.entries().into_iter().filter(|entry| !known.contains(&entry.key)) {
        match closest(entry.key, known.iter().copied()) {
            Some(close) => entry.warn(WarningKind::UnknownKey { suggestion: Some(close.to_owned()) }),
            None => {
                let name = format!("__{}", entry.key.trim_start_matches('_'));
                add(&entry, read_declaration(&entry, &name)?)?;
            }
        }
    }
    Ok(declared)
}

/// Reads the declaration of one virtual package. That of `cuda` may be a table of driver and architecture.
fn read_declaration(entry: &Entry<'_, '_>, conda_name: &str) -> Result<Vec<GenericVirtualPackage>, ManifestError> {
    let name = PackageName::from_str(conda_name).map_err(|_| {
        let why = "only letters, digits, `-`, `_` and `.` are allowed";
        let kind = ManifestErrorKind::BadName { what: "a virtual package", name: conda_name.to_owned(), why };
        entry.source().error(kind).at(&entry.key_span).done()
    })?;
    if conda_name == "__cuda" && entry.is_table() {
        let table = entry.table()?;
        let Some(driver) = table.get("driver") else {
            let kind = ManifestErrorKind::MissingKey { key: format!("{}.driver", table.path()) };
            return Err(entry.source().error(kind).at(&entry.value_span()).done());
        };
        let mut packages = read_declaration(&driver, "__cuda")?;
        if let Some(arch) = table.get("arch") {
            packages.extend(read_declaration(&arch, "__cuda_arch")?);
        }
        table.finish();
        return Ok(packages);
    }
    let (text, _) = entry.string()?;
    let (version, build) = match text.split_once('=') {
        Some((version, build)) => (version, build),
        None if conda_name == "__archspec" => ("0", text),
        None => (text, "0"),
    };
    let version = Version::from_str(version).map_err(|error| entry.bad_value("a version", error))?;
    Ok(vec![virtual_package(name, version, build)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_processors_are_those_that_rattler_knows() {
        for subdir in Subdir::all() {
            let rattlers = Archspec::from_platform(subdir).map(|archspec| archspec.as_str().to_owned());
            assert_eq!(lowest_archspec(subdir).as_deref(), rattlers.as_deref(), "{subdir}");
        }
    }

    #[test]
    fn the_default_platform_is_named_after_its_subdir_and_declares_nothing() {
        let platform = Platform::of_subdir(Subdir::Linux64);
        assert_eq!(platform.name, "linux-64");
        assert!(platform.is_plain());
        let text: Vec<_> = platform.virtual_packages.iter().map(short_form).collect();
        assert_eq!(text, ["__archspec=0=x86_64", "__glibc=2.28", "__linux=4.18", "__unix=0=0"]);
    }

    #[test]
    fn what_is_declared_makes_the_name_in_a_fixed_order() {
        let declared = ["__glibc=2.31", "__cuda=12.0", "__archspec=0=x86_64_v3", "__site_thing=2=h1"]
            .map(|text| parse_virtual_package(text).unwrap());
        let platform = Platform::with_declared(None, Subdir::Linux64, declared.to_vec());
        assert_eq!(platform.name, "linux-64-cuda-12-0-archspec-x86-64-v3-glibc-2-31-site-thing-2-h1");
    }

    #[test]
    fn declaring_a_default_declares_nothing() {
        let declared = vec![parse_virtual_package("__glibc=2.28").unwrap()];
        assert_eq!(Platform::with_declared(None, Subdir::Linux64, declared), Platform::of_subdir(Subdir::Linux64));
    }

    #[test]
    fn another_c_library_stands_for_the_default_one() {
        let platform =
            Platform::with_declared(None, Subdir::Linux64, vec![parse_virtual_package("__musl=1.2").unwrap()]);
        assert!(platform.virtual_packages.iter().all(|package| package.name.as_normalized() != "__glibc"));
    }

    #[test]
    fn the_text_form_reads_back() {
        for subdir in Subdir::all() {
            for package in default_virtual_packages(subdir) {
                assert_eq!(parse_virtual_package(&short_form(&package)), Some(package));
            }
        }
        assert_eq!(parse_virtual_package("__cuda"), None);
    }
}
