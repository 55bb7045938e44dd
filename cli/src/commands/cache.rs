//! `doge cache`.

use std::collections::BTreeMap;
use std::path::Path;

use std::time::{Duration, SystemTime};

use doge_queries::CacheDirs;
use doge_queries::collect::{self, Limits, size_of};
use doge_queries::doge::storage::{Amount, Amounts, Collected, Collection};
use miette::{IntoDiagnostic as _, WrapErr as _};
use serde_json::json;

use crate::arguments::{CacheCommand, Common, Size};
use crate::outcome::{Exit, inform, print, print_json, say};
use crate::words::{counted, of};
use crate::workspace::{cache_dirs, cache_limits, root_here};

pub(crate) fn run(common: &Common, command: CacheCommand) -> miette::Result<Exit> {
    let caches = cache_dirs(common)?;
    match command {
        CacheCommand::Dir { json } => dir(&caches, json),
        CacheCommand::Info { json } => info(common, &caches, json),
        CacheCommand::Clear { packages, repodata, results, json } => {
            let results = results || !(packages || repodata);
            clear(&caches, [packages, repodata, results], json)
        }
        CacheCommand::Gc { max_size, older_than, packages, repodata, dry_run, compact, json } => {
            let wanted = Wanted { max_size, older_than, packages, repodata, dry_run, compact };
            gc(common, &caches, &wanted, json)
        }
        CacheCommand::Verify { json } => verify(&caches, json),
    }
}

fn dir(caches: &CacheDirs, json: bool) -> miette::Result<Exit> {
    if json {
        print_json(&json!({ "packages": caches.packages, "repodata": caches.repodata, "results": caches.store }))?;
        return Ok(Exit::Done);
    }
    for (what, path) in caches.all() {
        print(&format!("{what:<9} {}", path.display()));
    }
    Ok(Exit::Done)
}

fn info(common: &Common, caches: &CacheDirs, json: bool) -> miette::Result<Exit> {
    let opened = collect::store(caches, true);
    let store = opened.info();
    let mut kinds = opened.survey(collect::kept(caches)).kinds;
    if let Some(root) = root_here(common) {
        let none = Limits { max_bytes: None, max_age: None };
        kinds.extend(collect::collect_in(&root, none, true));
    }
    let sizes = [("packages", &caches.packages), ("repodata", &caches.repodata), ("results", &caches.store)]
        .map(|(what, path)| (what, path, size_of(path)));
    if json {
        let tables: Vec<_> = store
            .tables
            .iter()
            .map(|(name, entries, bytes)| json!({ "name": name, "entries": entries, "bytes": bytes }))
            .collect();
        let mut object = json!({
            "store": {
                "directory": store.directory,
                "bytes": store.file_bytes,
                "tables": tables,
                "pending": store.pending,
                "quarantined": store.quarantined,
            },
            "kinds": by_kind(&kinds, kept_json),
        });
        for (what, path, (files, bytes)) in sizes {
            object[what] = json!({ "directory": path, "files": files, "bytes": bytes });
        }
        print_json(&object)?;
        return Ok(Exit::Done);
    }
    for (what, path, (files, bytes)) in sizes {
        let of = of(files, "file ", "files");
        print(&format!("{what:<9} {:>10}  {files:>7} {of}  {}", human(bytes), path.display()));
    }
    print(&format!("store     {:>10}  {}", human(store.file_bytes), store.directory.display()));
    for (kind, amounts) in &kinds {
        let Amount { count, bytes } = amounts.before;
        let ages = match (amounts.oldest, amounts.newest) {
            (Some(oldest), Some(newest)) => format!("  last used {} to {} ago", age(oldest), age(newest)),
            _ => String::new(),
        };
        print(&format!("  {kind:<10} {:>10}  {count:>7}{ages}", human(bytes)));
    }
    if store.pending > 0 {
        let batches = counted(store.pending as u64, "batch waits", "batches wait");
        print(&format!("  {batches} to be taken in"));
    }
    if store.quarantined > 0 {
        let files = counted(store.quarantined as u64, "damaged file was", "damaged files were");
        print(&format!("  {files} put aside"));
    }
    Ok(Exit::Done)
}

/// How `gc` was asked.
struct Wanted {
    max_size: Option<Size>,
    older_than: Option<Duration>,
    packages: bool,
    repodata: bool,
    dry_run: bool,
    compact: bool,
}

fn gc(common: &Common, caches: &CacheDirs, wanted: &Wanted, json: bool) -> miette::Result<Exit> {
    let limits = cache_limits()?;
    let mut kept = collect::kept(caches);
    if wanted.packages {
        kept.extend(collect::packages(caches));
    }
    if wanted.repodata {
        kept.extend(collect::repodata(caches));
    }
    let collection = Collection {
        max_bytes: wanted.max_size.map(|Size(bytes)| bytes).or(limits.max_bytes),
        older_than: wanted.older_than.or(limits.max_age),
        dry_run: wanted.dry_run,
        within: None,
        kept,
    };
    let store = collect::store(caches, false);
    let mut collected = store
        .collect(&collection)
        .into_diagnostic()
        .wrap_err_with(|| format!("nothing was collected in `{}`", caches.store.display()))?;
    if let Some(root) = root_here(common) {
        let limits = Limits { max_bytes: collection.max_bytes, max_age: collection.older_than };
        collected.kinds.extend(collect::collect_in(&root, limits, wanted.dry_run));
    }
    if wanted.compact && store.directory().exists() {
        store.compact().into_diagnostic().wrap_err("the results cannot be made smaller")?;
    }
    if json {
        print_json(&collected_json(&collected, wanted))?;
        return Ok(Exit::Done);
    }
    for (kind, amounts) in collected.kinds.iter().filter(|(_, amounts)| amounts.removed.count > 0) {
        let Amount { count, bytes } = amounts.removed;
        print(&format!("{kind:<10} {:>10}  {count:>7} of {}", human(bytes), amounts.before.count));
    }
    let (removed, before) = (collected.removed(), collected.before());
    let verb = if wanted.dry_run { "would remove" } else { "removed" };
    inform(&format!("{verb} {} of {}", human(removed.bytes), human(before.bytes)));
    if !collected.alone && !wanted.dry_run {
        inform("somebody else is at work, so what was used within a day stays");
    }
    Ok(Exit::Done)
}

fn collected_json(collected: &Collected, wanted: &Wanted) -> serde_json::Value {
    let amount = |amount: Amount| json!({ "count": amount.count, "bytes": amount.bytes });
    let kinds = by_kind(&collected.kinds, |amounts| {
        let mut object = kept_json(amounts);
        object["removed"] = amount(amounts.removed);
        object
    });
    json!({
        "dry_run": wanted.dry_run,
        "compacted": wanted.compact,
        "alone": collected.alone,
        "complete": collected.complete,
        "before": amount(collected.before()),
        "removed": amount(collected.removed()),
        "kinds": kinds,
    })
}

fn by_kind(
    kinds: &BTreeMap<&'static str, Amounts>,
    json: impl Fn(&Amounts) -> serde_json::Value,
) -> serde_json::Map<String, serde_json::Value> {
    kinds.iter().map(|(kind, amounts)| ((*kind).to_owned(), json(amounts))).collect()
}

fn kept_json(amounts: &Amounts) -> serde_json::Value {
    let time = |time: Option<SystemTime>| time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    json!({
        "count": amounts.before.count,
        "bytes": amounts.before.bytes,
        "oldest_use": time(amounts.oldest),
        "newest_use": time(amounts.newest),
    })
}

fn verify(caches: &CacheDirs, json: bool) -> miette::Result<Exit> {
    let verified = collect::store(caches, false)
        .verify()
        .into_diagnostic()
        .wrap_err_with(|| format!("the results in `{}` cannot be read", caches.store.display()))?;
    let exit = if verified.findings.is_empty() { Exit::Done } else { Exit::Failed };
    if json {
        let findings: Vec<_> = verified
            .findings
            .iter()
            .map(|finding| json!({ "place": finding.place, "name": finding.name, "reason": finding.reason }))
            .collect();
        print_json(&json!({
            "ok": verified.findings.is_empty(),
            "entries": verified.entries,
            "findings": findings,
            "repaired": verified.repaired,
            "taken_over": verified.taken_over,
        }))?;
        return Ok(exit);
    }
    for finding in &verified.findings {
        let name = if finding.name.is_empty() { String::new() } else { format!(" {}", finding.name) };
        print(&format!("{}{name}: {}", finding.place, finding.reason));
    }
    let whole = counted(verified.entries, "entry is whole", "entries are whole");
    match (exit, verified.repaired) {
        (Exit::Done, _) => inform(&whole),
        (_, true) => {
            let taken_over = counted(verified.taken_over, "result was", "results were");
            say(&format!("{whole}; what was damaged is put aside, and {taken_over} taken over from it"));
        }
        (_, false) => say(&format!("{whole}; what is damaged could not be put aside")),
    }
    Ok(exit)
}

fn clear(caches: &CacheDirs, which: [bool; 3], json: bool) -> miette::Result<Exit> {
    let [packages, repodata, results] = which;
    let mut cleared = Vec::new();
    if results {
        collect::store(caches, false)
            .clear()
            .into_diagnostic()
            .wrap_err_with(|| format!("the results in `{}` cannot be removed", caches.store.display()))?;
        remove(&caches.solutions)?;
        cleared.push(("results", caches.store.clone()));
    }
    if packages {
        remove(&caches.packages)?;
        cleared.push(("packages", caches.packages.clone()));
    }
    if repodata {
        remove(&caches.repodata)?;
        cleared.push(("repodata", caches.repodata.clone()));
    }
    if json {
        let cleared: Vec<_> = cleared.iter().map(|(what, path)| json!({ "what": what, "directory": path })).collect();
        print_json(&json!({ "cleared": cleared }))?;
    } else {
        for (what, path) in cleared {
            inform(&format!("removed the {what} in {}", path.display()));
        }
    }
    Ok(Exit::Done)
}

fn remove(path: &Path) -> miette::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).into_diagnostic().wrap_err_with(|| format!("`{}` cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn human(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// How long ago something was, in its largest unit.
fn age(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
