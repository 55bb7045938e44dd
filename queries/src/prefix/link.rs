//! Changing a prefix: the effect.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doge::{ActionContext, Effect, Epoch, Fingerprint, Interned, Resource, Spec};
use rattler::install::{InstallerError, Transaction};
use rattler_conda_types::{PackageName, PrefixRecord, RepoDataRecord, Subdir};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use crate::cached_package::{Intact, intact, is_of_another};
use crate::epoch::{CONDA_TYPES, OWN, RATTLER};
use crate::package::{FetchPackageSpec, Packages};
use crate::prefix::change::{Change, Coming};
use crate::prefix::difference::{Difference, differences};
use crate::prefix::files::{
    CONDA_META, OWN_LOCK, PIXI_ENVIRONMENT, PIXI_FINGERPRINT, PIXI_PREFIX, aside, meta, remove, remove_leftovers,
    replace,
};
use crate::prefix::inventory::Inventory;
use crate::prefix::journal::{CLOBBERS, CleanedUp, Journal, Planned, relative, remove_unnamed};
use crate::prefix::ledger::{Ledger, LedgerEntry};
use crate::prefix::python::NoPython;
use crate::prefix::reports::Reports;
use crate::prefix::state::{
    PackageIdentity, PrefixError, PrefixState, PrefixStateSpec, is_record, look_now, parse_record,
};
use crate::prefix::threads::{NotDone, on_its_own};
use crate::records::Records;
use crate::waiting::are_not_to_be_had;

/// How files come from the package cache into a prefix. `None` lets the installer find out what works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkOptions {
    /// Symbolic links.
    pub symbolic: Option<bool>,
    /// Hard links.
    pub hard: Option<bool>,
    /// Copies that share their blocks.
    pub reference: Option<bool>,
}

impl fmt::Display for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [("symbolic", self.symbolic), ("hard", self.hard), ("reference", self.reference)];
        let told = named.into_iter().filter_map(|(name, allowed)| match allowed? {
            true => Some(name.to_owned()),
            false => Some(format!("not {name}")),
        });
        f.write_str(&told.collect::<Vec<_>>().join(", "))
    }
}

/// Making a prefix hold exactly these packages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkPrefixSpec {
    /// The prefix.
    pub prefix: PrefixStateSpec,
    /// What it holds, as seen by whoever asks; if it holds something else by now, nothing is done.
    pub seen: Fingerprint,
    /// What it is to hold.
    pub records: Interned<Records>,
    /// The platform that the packages run on.
    pub platform: Subdir,
    /// Packages that are linked anew even if they are as wanted.
    pub relink: Relink,
    /// How files come into the prefix.
    pub options: LinkOptions,
    /// Whether scripts of packages are run.
    pub link_scripts: bool,
    /// What is not as wanted, for people.
    pub found: Vec<String>,
}

/// Which packages are linked anew even if they are as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relink {
    /// None.
    #[default]
    Nothing,
    /// All.
    Everything,
    /// These.
    Packages(BTreeSet<String>),
}

impl fmt::Display for LinkPrefixSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.prefix)
    }
}

impl Spec for LinkPrefixSpec {
    const KIND: &'static str = "link_prefix";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, RATTLER, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What was done to a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSummary {
    /// Packages that were not there before.
    pub linked: Vec<String>,
    /// Packages that are not there any more.
    pub unlinked: Vec<String>,
    /// Packages that were replaced by another version, build or archive.
    pub changed: Vec<String>,
    /// Packages that were linked anew.
    pub relinked: Vec<String>,
    /// How many packages were left as they were.
    pub unchanged: usize,
    /// How many files of an interrupted change were removed.
    pub cleaned_up: usize,
    /// What went wrong in scripts of packages; that does not undo the rest.
    pub script_failures: Vec<String>,
}

/// Why a prefix could not be changed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum LinkError {
    /// It could not be looked at.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Prefix(#[from] PrefixError),
    /// A file of ours could not be read or written.
    #[error("the environment at `{}` could not be changed", path.display())]
    #[diagnostic(help("check that the folder belongs to you and that the disk is not full"))]
    Io {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The installer failed.
    #[error("the packages could not be linked into `{}`", path.display())]
    Install {
        /// Where it is.
        path: PathBuf,
        /// What the installer says.
        #[source]
        source: Box<InstallerError>,
    },
    /// Packages need a Python to be installed for, and there is none.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NoPython(#[from] NoPython),
    /// The installer met something that it takes for impossible.
    #[error("the installer failed in the environment at `{}`: {message}", path.display())]
    #[diagnostic(help("somebody may have changed the environment while it was linked; try again"))]
    Panicked {
        /// Where it is.
        path: PathBuf,
        /// What it says.
        message: String,
    },
    /// Somebody else changes it all the time.
    #[error("the environment at `{}` is being changed by somebody else", path.display())]
    Restless {
        /// Where it is.
        path: PathBuf,
    },
    /// Packages vanish from the cache as fast as they are fetched.
    #[error("package `{name}` vanished from the package cache, or is damaged there")]
    PackageGone {
        /// The package.
        name: String,
    },
    /// A value or a resource is not at hand.
    #[error("{what} is not at hand")]
    NotAtHand {
        /// What.
        what: &'static str,
    },
}

impl Effect for LinkPrefixSpec {
    type Output = LinkSummary;
    type Error = LinkError;
    type Target = PrefixStateSpec;
    const RESOURCE: Resource = Resource::Io;

    fn target(&self) -> PrefixStateSpec {
        self.prefix.clone()
    }

    fn found(&self) -> Vec<String> {
        self.found.clone()
    }

    async fn run(&self, ctx: &ActionContext) -> Result<LinkSummary, LinkError> {
        let path = self
            .prefix
            .place(ctx.roots())
            .ok_or_else(|| PrefixError::NoRoot { root: self.prefix.root.clone(), path: self.prefix.path.clone() })?;
        let records = ctx.value(&self.records).await.ok_or(LinkError::NotAtHand { what: "the list of packages" })?;
        let packages = ctx.resource::<Packages>().ok_or(LinkError::NotAtHand { what: "the package cache" })?;
        let environment = || format!("the environment at `{}`", path.display());
        NoPython::check(environment, records.as_slice().iter().map(|record| &record.package_record))?;

        let lock = Arc::new(lock(ctx, &path).await?);
        let state = {
            let path = path.clone();
            ctx.blocking(move || look_now(&path)).await?
        };
        if fingerprint(&state) != Some(self.seen) && !is_fresh_lock(&state, self.seen) {
            ctx.observe_again(&self.prefix);
            return Err(LinkError::Restless { path });
        }
        let plan = {
            let (path, spec, records) = (path.clone(), self.clone(), records.clone());
            let packages = packages.clone();
            ctx.blocking(move || Plan::make(&path, &spec, &records, &state, &packages)).await?
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(gone) => return Err(fetch_again(ctx, &packages, &gone).await),
        };
        let planned: Vec<RepoDataRecord> = plan.coming.iter().map(|coming| coming.record.clone()).collect();
        let linked = {
            let change = Change {
                prefix: path.clone(),
                options: self.options,
                link_scripts: self.link_scripts,
                reports: Reports::new(ctx.reporter(), planned.len()),
                are_apart: false,
                runtime: tokio::runtime::Handle::current(),
            };
            let (platform, cancelled) = (self.platform, ctx.cancelled().clone());
            // Nobody else comes to the prefix before this has ended, even if nobody waits for it any more.
            let lock = lock.clone();
            ctx.blocking(move || {
                let _lock = lock;
                plan.carry_out(change, &records, platform, &|| cancelled.is_cancelled())
            })
            .await
        };
        let Err(error) = linked else { return linked };
        if matches!(error, LinkError::Restless { .. }) {
            ctx.observe_again(&self.prefix);
        }
        // Somebody may have taken packages away while they were linked.
        let directory = packages.directory.clone();
        let gone = ctx
            .blocking(move || {
                let is_gone = |record: &RepoDataRecord| whole(&directory, record).is_none();
                planned.into_par_iter().filter(is_gone).collect::<Vec<_>>()
            })
            .await;
        if gone.is_empty() { Err(error) } else { Err(fetch_again(ctx, &packages, &gone).await) }
    }
}

/// Has packages fetched again that are not in the cache, or not whole.
async fn fetch_again(ctx: &ActionContext, packages: &Packages, gone: &[RepoDataRecord]) -> LinkError {
    for record in gone {
        let fetch = FetchPackageSpec::new(record);
        if let Err(error) = fetch.discard_damaged(ctx, packages).await {
            return LinkError::Io { path: packages.directory.join(cached(record)), source: error };
        }
        ctx.remake(&fetch);
    }
    let name = gone.first().map(name_of);
    LinkError::PackageGone { name: name.unwrap_or_default() }
}

/// The value that was observed is known by its fingerprint only.
fn fingerprint(state: &PrefixState) -> Option<Fingerprint> {
    rmp_serde::to_vec_named(state).ok().map(|bytes| Fingerprint::of(&bytes))
}

/// Taking the lock makes the folder of an environment that was not there.
fn is_fresh_lock(state: &PrefixState, seen: Fingerprint) -> bool {
    let is_empty = state
        .as_ref()
        .is_some_and(|state| state.packages.is_empty() && !state.unfinished && state.linked_for.is_none());
    is_empty && fingerprint(&None) == Some(seen)
}

/// The locks on an environment: ours, whose holder has a name, and pixi's, so that it keeps away too.
struct EnvironmentLock {
    _own: Option<doge::storage::LockGuard>,
    _pixi: Option<File>,
}

/// Takes both locks, waiting for as long as it takes and saying for whom.
async fn lock(ctx: &ActionContext, path: &Path) -> Result<EnvironmentLock, LinkError> {
    let io = |source| LinkError::Io { path: path.to_owned(), source };
    let folder = path.join(CONDA_META);
    let own = crate::waiting::acquire(ctx, &folder.join(OWN_LOCK), "changing the environment").await.map_err(io)?;
    let mut waiting = None;
    let pixi = loop {
        let path = folder.join(PIXI_FINGERPRINT);
        let locked = ctx
            .blocking(move || -> io::Result<_> {
                let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
                let locked = file.try_lock();
                Ok((file, locked))
            })
            .await;
        let (file, locked) = locked.map_err(io)?;
        match locked {
            Ok(()) => break Some(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                waiting.get_or_insert_with(|| ctx.reporter().waiting_for("pixi, which is changing the environment"));
                tokio::time::sleep(crate::waiting::PAUSE).await;
            }
            Err(std::fs::TryLockError::Error(error)) if are_not_to_be_had(&error) => break None,
            Err(std::fs::TryLockError::Error(error)) => return Err(io(error)),
        }
    };
    Ok(EnvironmentLock { _own: own, _pixi: pixi })
}

/// What is to be done, found out before anything is.
struct Plan {
    installed: Vec<PrefixRecord>,
    /// The fingerprints of the files of records, by name, as they were seen.
    contents: BTreeMap<String, Fingerprint>,
    transaction: Transaction<PrefixRecord, RepoDataRecord>,
    /// The packages that are linked.
    coming: Vec<Coming>,
    /// Everything that goes is removed before anything is linked, in a transaction of its own.
    in_two_steps: bool,
    summary: LinkSummary,
    journal: Journal,
}

/// Paths that several packages bring.
///
/// The installer settles which of several packages wins a path by their order, but gets it wrong, and differently
/// from time to time, where such a package is removed or was half linked before: what was unlinked is remembered as
/// the next to win. So all packages that bring such a path are removed first and linked together afterwards, which
/// comes to what a new environment is.
#[derive(Debug, Default)]
struct Contested {
    /// Packages that have to go along because they share a path with one that goes or comes.
    along: BTreeSet<String>,
    /// Packages that go share a path with each other, with one that comes or with one that has to go along. Not found out
    /// where nothing is installed.
    any: bool,
}

impl Contested {
    /// Of what is installed, of which some go, and of what comes.
    fn new(installed: &[PrefixRecord], going: &BTreeSet<String>, coming: &[Planned]) -> Self {
        if installed.is_empty() {
            return Self::default();
        }
        let name = |record: &PrefixRecord| name_of(&record.repodata_record);
        // A record of a change that was cut off does not say who lost; every path has the place where it should be.
        let paths = |record: &PrefixRecord| -> Vec<String> {
            record.paths_data.paths.iter().filter_map(|entry| relative(entry.path())).collect()
        };
        let (go, stay): (Vec<_>, Vec<_>) = installed.iter().partition(|record| going.contains(&name(record)));
        let mut found = Self::default();
        let go: Vec<(String, Vec<String>)> = go.into_iter().map(|record| (name(record), paths(record))).collect();
        let mut moved: HashMap<&str, &str> = HashMap::new();
        let come = coming.iter().map(|planned| (&planned.name, &planned.paths));
        for (name, paths) in go.iter().map(|(name, paths)| (name, paths)).chain(come) {
            for path in paths {
                found.any |= *moved.entry(path).or_insert(name) != name;
            }
        }
        for record in stay {
            if paths(record).iter().any(|path| moved.contains_key(path.as_str())) {
                found.along.insert(name(record));
            }
        }
        found
    }
}

/// Whether each path is brought by packages of one name only, and none is a folder of another.
fn are_apart<'a>(packages: impl Iterator<Item = &'a Planned>) -> bool {
    let (mut files, mut folders) = (FxHashMap::default(), FxHashSet::default());
    for (name, path) in packages.flat_map(|package| package.paths.iter().map(|path| (&package.name, path))) {
        if files.insert(path.as_str(), name).is_some_and(|other| other != name) {
            return false;
        }
        let mut inner = path.as_str();
        while let Some((folder, _)) = inner.rsplit_once('/')
            && folders.insert(folder)
        {
            inner = folder;
        }
    }
    !folders.iter().any(|folder| files.contains_key(folder))
}

/// The names of the files of records in a prefix, sorted.
fn record_files(prefix: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(prefix.join(CONDA_META))? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_record(name)));
    }
    names.sort();
    Ok(names)
}

/// The records of a prefix that are whole, in the order of their files, and the names of the files that are not.
fn read_records(prefix: &Path) -> io::Result<(Vec<PrefixRecord>, Vec<String>)> {
    let read = |name: String| match std::fs::read(meta(prefix, &name)) {
        Ok(bytes) => Ok(parse_record(&bytes, &name).ok_or(name)),
        // It leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err(name)),
        Err(error) => Err(error),
    };
    let read: Vec<Result<PrefixRecord, String>> =
        record_files(prefix)?.into_par_iter().map(read).collect::<io::Result<_>>()?;
    let (mut whole, mut broken) = (Vec::new(), Vec::new());
    for record in read {
        match record {
            Ok(record) => whole.push(record),
            Err(name) => broken.push(name),
        }
    }
    Ok((whole, broken))
}

impl Plan {
    /// The plan, or the records of packages that are not in the cache.
    fn make(
        path: &Path,
        spec: &LinkPrefixSpec,
        wanted: &Records,
        state: &PrefixState,
        packages: &Packages,
    ) -> Result<Result<Self, Vec<RepoDataRecord>>, LinkError> {
        let io = |source| LinkError::Io { path: path.to_owned(), source };
        let (mut installed, broken) = read_records(path).map_err(io)?;
        let mut relink: BTreeSet<String> = match &spec.relink {
            Relink::Nothing => BTreeSet::new(),
            Relink::Everything => wanted.as_slice().iter().map(name_of).collect(),
            Relink::Packages(names) => names.clone(),
        };
        let lost = lost(path, &broken, &installed, state).map_err(io)?;
        // Nothing is touched while pixi vouches for it.
        forget_pixi(path).map_err(io)?;
        let mut cleaned_up = remove_leftovers(path).map_err(io)?;
        match Journal::read(path).map_err(io)? {
            Some(Some(journal)) => {
                let cleaned = journal.clean_up(path, &installed).map_err(io)?;
                relink.extend(cleaned.link_anew);
                cleaned_up += cleaned.removed;
            }
            // What it said is lost: whatever is there may be incomplete.
            Some(None) => relink.extend(wanted.as_slice().iter().map(name_of)),
            None => {}
        }
        for difference in differences(state, wanted.as_slice(), spec.platform) {
            match difference {
                Difference::Moved { .. } => relink.extend(wanted.as_slice().iter().map(name_of)),
                Difference::Edited { file_name } => {
                    relink.extend(
                        installed
                            .iter()
                            .filter(|record| record.file_name() == file_name)
                            .map(|record| name_of(&record.repodata_record)),
                    );
                }
                _ => {}
            }
        }
        let cleaned = clean_up_lost(path, broken, lost, &installed).map_err(io)?;
        relink.extend(cleaned.link_anew);
        cleaned_up += cleaned.removed;
        while let Some(twice) = second_of_two(&installed, wanted) {
            let extra = installed.remove(twice);
            let planned = Planned::from(&extra);
            relink.insert(planned.name.clone());
            let cleaned = Journal::new(BTreeSet::new(), vec![planned]).clean_up(path, &installed).map_err(io)?;
            relink.extend(cleaned.link_anew);
            cleaned_up += cleaned.removed;
        }
        cleaned_up += remove_unnamed(path, Path::new(CLOBBERS), &installed).map_err(io)?;
        let (mut summary, transaction, removes, coming, links, in_two_steps) = loop {
            let reinstall: HashSet<PackageName> =
                relink.iter().map(|name| PackageName::new_unchecked(name.clone())).collect();
            let transaction = transaction(&installed, wanted.as_slice(), &reinstall, spec.platform)
                .map_err(|source| LinkError::Install { path: path.to_owned(), source: Box::new(source) })?;
            let unchanged = transaction.unchanged.len();
            let mut summary = LinkSummary { cleaned_up, unchanged, ..LinkSummary::default() };
            let mut removes = BTreeSet::new();
            let mut new_records: Vec<&RepoDataRecord> = Vec::new();
            for operation in &transaction.operations {
                let (old, new) = (operation.record_to_remove(), operation.record_to_install());
                removes.extend(old.map(|record| name_of(&record.repodata_record)));
                match (old, new) {
                    (Some(old), Some(new))
                        if old.repodata_record.package_record.sha256 == new.package_record.sha256 =>
                    {
                        summary.relinked.push(name_of(new))
                    }
                    (Some(_), Some(new)) => summary.changed.push(name_of(new)),
                    (None, Some(new)) => summary.linked.push(name_of(new)),
                    (Some(old), None) => summary.unlinked.push(name_of(&old.repodata_record)),
                    (None, None) => {}
                }
                new_records.extend(new);
            }
            // A package may list thousands of files.
            let planned: Vec<_> = new_records
                .into_par_iter()
                .map(|new| {
                    let Intact { index, paths } = whole(&packages.directory, new).ok_or(new)?;
                    let package = packages.directory.join(cached(new));
                    let planned = Planned::new(new, &package, &paths, transaction.python_info.as_ref());
                    Ok::<_, &RepoDataRecord>((Coming { record: new.clone(), package, index, paths }, planned))
                })
                .collect();
            let (mut coming, mut links, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            for planned in planned {
                match planned {
                    Ok((package, planned)) => {
                        coming.push(package);
                        links.push(planned);
                    }
                    Err(new) => gone.push(new.clone()),
                }
            }
            if !gone.is_empty() {
                return Ok(Err(gone));
            }
            let contested = Contested::new(&installed, &removes, &links);
            // What is not wanted goes anyway, so this ends.
            if contested.along.is_empty() {
                let in_two_steps = contested.any && !removes.is_empty();
                break (summary, transaction.to_owned(), removes, coming, links, in_two_steps);
            }
            relink.extend(contested.along);
        };
        for names in [&mut summary.linked, &mut summary.unlinked, &mut summary.changed, &mut summary.relinked] {
            names.sort();
        }
        let seen = state.iter().flat_map(|state| &state.packages);
        let contents = seen.map(|package| (package.file_name.clone(), package.content)).collect();
        let journal = Journal::new(removes, links);
        Ok(Ok(Self { installed, contents, transaction, coming, in_two_steps, summary, journal }))
    }

    /// Changes the prefix, on threads of its own.
    fn carry_out(
        self,
        mut change: Change,
        wanted: &Records,
        platform: Subdir,
        is_cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<LinkSummary, LinkError> {
        let path = change.prefix.clone();
        let io = |source| LinkError::Io { path: path.clone(), source };
        let installer = |source| LinkError::Install { path: path.clone(), source: Box::new(source) };
        let Self { installed, contents, mut transaction, coming, in_two_steps, mut summary, journal } = self;
        // From here on the journal says that nothing in the prefix can be trusted. What a change that was cut off has
        // linked is known to its journal, and this one takes its place.
        let before = Inventory::new(installed.par_iter().map(Planned::from).collect::<Vec<_>>());
        let (are_apart, written) = rayon::join(
            || are_apart(before.packages().chain(&journal.links)),
            || before.write(&path).and_then(|()| journal.write(&path)),
        );
        change.are_apart = are_apart;
        written.map_err(io)?;
        if change.options.symbolic.is_none() {
            change.options.symbolic = symbolic_links_work(&path).map_err(io)?;
        }
        let mut known: HashMap<Fingerprint, Known> = HashMap::new();
        let unlinked = |record: &PrefixRecord| journal.removes.contains(&name_of(&record.repodata_record));
        for record in installed.iter().filter(|record| !unlinked(record)) {
            if let Some(content) = contents.get(&record.file_name()) {
                known.insert(*content, Known::new(*content, record));
            }
        }
        change.reports.begin();
        let changed = on_its_own(|| {
            if in_two_steps {
                let stay = installed.iter().filter(|record| !unlinked(record));
                let stay: Vec<_> = stay.map(|record| record.repodata_record.clone()).collect();
                let first = self::transaction(&installed, &stay, &HashSet::new(), platform).map_err(installer)?;
                let first = change.carry_out(&first.to_owned(), Vec::new(), is_cancelled).map_err(installer)?;
                summary.script_failures.extend(first.script_failures);
                let installed = read_records(&path).map_err(io)?.0;
                remove_unnamed(&path, Path::new(CLOBBERS), &installed).map_err(io)?;
                let second = self::transaction(&installed, wanted.as_slice(), &HashSet::new(), platform);
                transaction = second.map_err(installer)?.to_owned();
            }
            change.carry_out(&transaction, coming, is_cancelled).map_err(installer)
        });
        let changed = changed.map_err(|error| match error {
            NotDone::Threads(source) => io(source),
            NotDone::Panicked(message) => LinkError::Panicked { path: path.clone(), message },
        })??;
        summary.script_failures.extend(changed.script_failures);
        let linked = changed.linked.into_par_iter();
        known.par_extend(linked.map(|(record, content)| (content, Known::new(content, &record))));
        // A script of a package may do with its links as it likes.
        let are_links_known = change.options.symbolic == Some(true) && !change.link_scripts;
        if are_links_known && let Some((path, source)) = not_linked(&path, &journal.links) {
            return Err(LinkError::Io { path, source });
        }
        if known.values().any(|known| !meta(&path, &known.files.record).exists()) {
            return Err(LinkError::Restless { path });
        }
        settle(&path, journal.links, known).map_err(io)?;
        Ok(summary)
    }
}

/// What leads from these packages to those.
fn transaction<'a>(
    installed: &'a [PrefixRecord],
    wanted: &'a [RepoDataRecord],
    reinstall: &HashSet<PackageName>,
    platform: Subdir,
) -> Result<Transaction<&'a PrefixRecord, &'a RepoDataRecord>, InstallerError> {
    Ok(Transaction::from_current_and_desired(installed, wanted, Some(reinstall), None, platform)?)
}

/// A symbolic link of a package that is not one in the prefix.
///
/// The installer takes an error at making it for a file system that has none, and copies what it leads to, as it is in
/// the cache.
fn not_linked(prefix: &Path, links: &[Planned]) -> Option<(PathBuf, io::Error)> {
    let symbolic = links.par_iter().flat_map(|planned| &planned.symbolic);
    let suspects: Vec<(&String, io::Error)> = symbolic
        .filter_map(|path| match std::fs::symlink_metadata(prefix.join(path)) {
            Ok(metadata) if metadata.is_symlink() => None,
            Ok(_) => Some((path, io::Error::other("a file was put where a symbolic link was to be made"))),
            Err(error) => Some((path, error)),
        })
        .collect();
    // Of a path that several packages bring, another one may have won.
    let is_brought_once = |path: &String| {
        links.iter().flat_map(|planned| &planned.paths).filter(|brought| *brought == path).take(2).count() == 1
    };
    let (path, error) = suspects.into_iter().find(|(path, _)| is_brought_once(path))?;
    Some((prefix.join(path), error))
}

fn name_of(record: &RepoDataRecord) -> String {
    record.package_record.name.as_normalized().to_owned()
}

/// What a package in the cache says of itself, if it is there, whole, and of this archive.
fn whole(cache: &Path, record: &RepoDataRecord) -> Option<Intact> {
    let package = cache.join(cached(record));
    if is_of_another(&package, record.package_record.sha256.as_ref()) { None } else { intact(&package) }
}

/// What the cache calls the package of a record.
fn cached(record: &RepoDataRecord) -> String {
    let package = &record.package_record;
    format!("{}-{}-{}", package.name.as_normalized(), package.version, package.build)
}

/// A record of a package that has another one, and is not the one that is wanted.
fn second_of_two(installed: &[PrefixRecord], wanted: &Records) -> Option<usize> {
    let mut seen: HashMap<&PackageName, usize> = HashMap::new();
    for (place, record) in installed.iter().enumerate() {
        let name = &record.repodata_record.package_record.name;
        if let Some(first) = seen.insert(name, place) {
            let is_wanted = |record: &RepoDataRecord| cached(record) == cached(&installed[first].repodata_record);
            return Some(if wanted.as_slice().iter().any(is_wanted) { place } else { first });
        }
    }
    None
}

/// The packages without a whole record, as far as the inventory knows them.
fn lost(prefix: &Path, broken: &[String], installed: &[PrefixRecord], state: &PrefixState) -> io::Result<Vec<Planned>> {
    let Some(state) = state else { return Ok(Vec::new()) };
    if broken.is_empty() && state.taken_away.is_empty() && !state.unfinished && state.pixi.is_none() {
        return Ok(Vec::new());
    }
    let mut inventory = Inventory::read(prefix)?;
    let whole: BTreeSet<String> = installed.iter().map(PrefixRecord::file_name).collect();
    if state.pixi.is_some() {
        // pixi may have put something else in the place of what it removed, which is to be known when it is forgotten, too.
        inventory.retain(|record| whole.contains(record) || broken.iter().any(|broken| broken == record));
        inventory.write(prefix)?;
    }
    Ok(inventory.packages().filter(|package| !whole.contains(&package.record)).cloned().collect())
}

/// Removes records that cannot be read, and the files of packages without a record: whether they are wanted or not,
/// nothing else will.
fn clean_up_lost(
    prefix: &Path,
    broken: Vec<String>,
    lost: Vec<Planned>,
    installed: &[PrefixRecord],
) -> io::Result<CleanedUp> {
    if broken.is_empty() && lost.is_empty() {
        return Ok(CleanedUp::default());
    }
    let cleaned = Journal::new(BTreeSet::new(), lost).clean_up(prefix, installed)?;
    for record in broken {
        remove(&meta(prefix, &record))?;
    }
    Ok(cleaned)
}

/// pixi must not believe that the prefix is as it left it.
fn forget_pixi(prefix: &Path) -> io::Result<()> {
    remove(&meta(prefix, PIXI_ENVIRONMENT))?;
    // This file is also the lock, which is why it is emptied and not removed.
    File::options()
        .write(true)
        .open(meta(prefix, PIXI_FINGERPRINT))
        .and_then(|file| file.set_len(0))
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// What is kept of a record in a prefix that is left.
struct Known {
    entry: LedgerEntry,
    files: Planned,
}

impl Known {
    fn new(content: Fingerprint, record: &PrefixRecord) -> Self {
        let package = PackageIdentity::new(&record.repodata_record.package_record);
        Self { entry: LedgerEntry { content, package }, files: Planned::from(record) }
    }
}

/// The prefix is as wanted: says so, for us and for pixi. Records whose content is `known` are not parsed again.
fn settle(prefix: &Path, linked: Vec<Planned>, mut known: HashMap<Fingerprint, Known>) -> io::Result<()> {
    remove_leftovers(prefix)?;
    let canonical = std::fs::canonicalize(prefix)?;
    let canonical = canonical.to_str().ok_or_else(|| io::Error::other("the path is not valid Unicode"))?;
    let read = |name: String| -> io::Result<Result<Fingerprint, Option<Known>>> {
        let bytes = std::fs::read(meta(prefix, &name))?;
        let content = Fingerprint::of(&bytes);
        Ok(match known.get(&content) {
            Some(known) if known.files.record == name => Ok(content),
            _ => Err(parse_record(&bytes, &name).map(|record| Known::new(content, &record))),
        })
    };
    let records: Vec<_> = record_files(prefix)?.into_par_iter().map(read).collect::<io::Result<_>>()?;
    let (entries, files): (Vec<_>, Vec<_>) = records
        .into_iter()
        .filter_map(|record| record.map_or_else(|parsed| parsed, |content| known.remove(&content)))
        .map(|Known { entry, files }| ((files.record.clone(), entry), files))
        .unzip();
    // One whose record somebody has spoiled since it was linked is known all the same.
    let whole: HashSet<&String> = entries.iter().map(|(record, _)| record).collect();
    let spoiled = linked.into_iter().filter(|planned| !whole.contains(&planned.record));
    let inventory = Inventory::new(spoiled.chain(files));
    let (inventory, ledger) = rayon::join(
        || inventory.write(prefix),
        || Ledger::new(canonical.to_owned(), entries.into_iter().collect()).write(prefix),
    );
    inventory.and(ledger)?;
    replace(&meta(prefix, PIXI_PREFIX), canonical.as_bytes())?;
    remove_empty(&prefix.join(CLOBBERS))?;
    Journal::remove(prefix)
}

/// Removes the folders in this one, and itself, in which there are no files.
fn remove_empty(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

/// Whether there can be symbolic links in the prefix; nothing where the installer finds that out well enough.
///
/// The installer would find out by itself, but takes any error for a no, and then copies what a link in a package
/// leads to, as it is in the cache.
fn symbolic_links_work(prefix: &Path) -> io::Result<Option<bool>> {
    #[cfg(unix)]
    {
        let probe = aside(prefix, "link");
        remove(&probe)?;
        match std::os::unix::fs::symlink("nowhere", &probe) {
            Ok(()) => remove(&probe).map(|()| Some(true)),
            // What file systems say that do not know them.
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                Ok(Some(false))
            }
            Err(error) => Err(error),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = prefix;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, paths: &[&str]) -> Planned {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Planned { name: name.to_owned(), record: format!("{name}-1-0.json"), paths, symbolic: Vec::new() }
    }

    #[test]
    fn packages_are_apart_unless_one_brings_what_another_does_or_what_is_a_folder_of_another() {
        let apart =
            |other: &Planned| are_apart([package("a", &["bin/a", "share/a/x", "share/a/y"]), other.clone()].iter());
        for paths in [&["bin/b", "share/a/z"][..], &["bin/a-b", "share/a.b"], &[]] {
            assert!(apart(&package("b", paths)), "{paths:?}");
        }
        for paths in [&["bin/b", "bin/a"][..], &["share/a"], &["share/a/x/z"], &["share"]] {
            assert!(!apart(&package("b", paths)), "{paths:?}");
        }
        assert!(apart(&package("a", &["bin/a", "bin/new"])), "a package takes its own place");
    }
}
