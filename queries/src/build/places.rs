//! Packages of one name in different places.
//!
//! An environment has one package of a name. Whoever needs it from source says where the source is, and all in an
//! environment who say so have to mean the same. Others may mean another: in another environment, or a variant of a
//! package that is not taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use miette::Diagnostic;
use rattler_conda_types::RepoDataRecord;
use thiserror::Error;

use crate::build::solve::{SolvePixiError, places_of};
use crate::records::Records;
use crate::source::{PinnedSource, SourceLocation, SourceRecord};
use crate::workspace::{RecordSet, SolveDescription, SourceRequirement, parse_canonical, stand_in};

/// A package that would have to come from two places.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{environment} would have `{package}` from two places: {first}, for {first_by}; and {second}, for {second_by}")]
#[diagnostic(help(
    "an environment has one package of a name: name the same place in both, give one of the packages another name, or put \
     what needs them into environments of their own"
))]
pub struct TwoPlaces {
    /// The environment.
    pub environment: String,
    /// The package.
    pub package: String,
    /// One place.
    pub first: String,
    /// Who needs it from there.
    pub first_by: String,
    /// The other place.
    pub second: String,
    /// Who needs it from there.
    pub second_by: String,
}

/// What places stand for, by the package that is looked for there.
pub(crate) type Pins = BTreeMap<(String, SourceLocation), PinnedSource>;

/// Whether a package is offered from more than one place.
pub(crate) fn is_ambiguous(offered: &[Arc<SourceRecord>]) -> bool {
    let mut known: BTreeMap<&str, &PinnedSource> = BTreeMap::new();
    offered.iter().any(|record| *known.entry(record.name()).or_insert(&record.manifest) != &record.manifest)
}

/// Where the packages of an environment have to come from, and who says so.
pub(crate) struct Places<'a> {
    environment: &'a str,
    pins: &'a Pins,
    known: BTreeMap<String, (PinnedSource, String)>,
}

impl<'a> Places<'a> {
    /// What is certain before it is known which variants are taken: what is asked for, and what all variants of that need
    /// from the same place.
    ///
    /// # Errors
    ///
    /// If a package has to come from two places.
    pub(crate) fn certain(
        environment: &'a str,
        pins: &'a Pins,
        asked: &[SourceRequirement],
        offered: &[Arc<SourceRecord>],
    ) -> Result<Self, SolvePixiError> {
        let mut places = Self { environment, pins, known: BTreeMap::new() };
        let mut waiting: VecDeque<(String, SourceLocation, String)> = places.asked(asked).collect();
        while let Some((name, location, by)) = waiting.pop_front() {
            if !places.add(&name, &location, &by)? {
                continue;
            }
            let mut variants = offered.iter().filter(|record| record.name() == name && places.has(record));
            let Some(first) = variants.next() else { continue };
            let extras = extras_of(&name, asked);
            let mut needed = in_any_case(first, &extras)?;
            for other in variants {
                let of_other = in_any_case(other, &extras)?;
                needed.retain(|needed| of_other.contains(needed));
            }
            waiting.extend(needed.into_iter().map(|(name, location)| (name, location, described(first))));
        }
        Ok(places)
    }

    /// What is asked for, and what those packages need that were chosen.
    ///
    /// # Errors
    ///
    /// If a package has to come from two places.
    pub(crate) fn of_chosen(
        environment: &'a str,
        pins: &'a Pins,
        needs: &SolveDescription,
        records: &Records,
        chosen: &[Arc<SourceRecord>],
    ) -> Result<Self, SolvePixiError> {
        let mut places = Self { environment, pins, known: BTreeMap::new() };
        for (name, location, by) in places.asked(&needs.sources).collect::<Vec<_>>() {
            places.add(&name, &location, &by)?;
        }
        for (asker, needed) in needed_among(needs, records, chosen) {
            let said = asker.sources.get(needed.name());
            if let Some(location) = said.and_then(|said| said.resolved(&asker.manifest)) {
                places.add(needed.name(), &location, &described(asker))?;
            }
        }
        Ok(places)
    }

    /// Whether a package is from where it has to come from, if anybody says where.
    pub(crate) fn has(&self, record: &SourceRecord) -> bool {
        self.known.get(record.name()).is_none_or(|(place, _)| place.is_same_source(&record.manifest))
    }

    /// The same, and pinned in just the way of whoever said it first.
    pub(crate) fn has_exactly(&self, record: &SourceRecord) -> bool {
        self.known.get(record.name()).is_none_or(|(place, _)| *place == record.manifest)
    }

    fn asked(&self, asked: &[SourceRequirement]) -> impl Iterator<Item = (String, SourceLocation, String)> + use<'_> {
        let asked: Vec<SourceRequirement> = asked.to_vec();
        asked.into_iter().map(|source| (source.name, source.location, self.environment.to_owned()))
    }

    /// Whether it was not known before where the package has to come from.
    fn add(&mut self, name: &str, location: &SourceLocation, by: &str) -> Result<bool, SolvePixiError> {
        let Some(place) = self.pins.get(&(name.to_owned(), location.clone())) else { return Ok(false) };
        match self.known.get(name) {
            None => {
                self.known.insert(name.to_owned(), (place.clone(), by.to_owned()));
                Ok(true)
            }
            Some((first, _)) if first.is_same_source(place) => Ok(false),
            Some((first, first_by)) => Err(SolvePixiError::TwoPlaces(Box::new(TwoPlaces {
                environment: self.environment.to_owned(),
                package: name.to_owned(),
                first: first.to_string(),
                first_by: first_by.clone(),
                second: place.to_string(),
                second_by: by.to_owned(),
            }))),
        }
    }
}

/// The extras that an environment asks for of a package.
fn extras_of(name: &str, asked: &[SourceRequirement]) -> BTreeSet<String> {
    let asked = asked.iter().filter(|asked| asked.name == name);
    asked.filter_map(|asked| parse_canonical(&asked.spec).ok()?.extras).flatten().collect()
}

/// What a record needs from source on whatever condition, and with these extras.
fn in_any_case(
    record: &SourceRecord,
    extras: &BTreeSet<String>,
) -> Result<Vec<(String, SourceLocation)>, SolvePixiError> {
    let package = &record.record;
    let of_extras = extras.iter().filter_map(|extra| package.extra_depends.get(extra)).flatten();
    let is_certain = |text: &&String| parse_canonical(text).is_ok_and(|spec| spec.condition.is_none());
    places_of(record, package.depends.iter().chain(of_extras).filter(is_certain))
}

/// Which packages that are built need which, of all that were chosen, with the extras that are asked for.
fn needed_among<'c>(
    needs: &SolveDescription,
    records: &Records,
    chosen: &'c [Arc<SourceRecord>],
) -> Vec<(&'c SourceRecord, &'c SourceRecord)> {
    let stand_ins: Vec<RepoDataRecord> = chosen.iter().map(stand_in).collect();
    let all = records.as_slice().iter().chain(&stand_ins);
    // A solver chooses one of a name.
    let Ok(set) = RecordSet::new(all, needs.generic_virtual_packages()) else { return Vec::new() };
    let asked = needs.requirements.iter().map(|asked| &asked.spec);
    let roots = asked.chain(needs.sources.iter().map(|asked| &asked.spec));
    let mut found = BTreeSet::new();
    let Ok(_) = set.walk(
        roots.filter_map(|spec| parse_canonical(spec).ok()).collect(),
        |asker, needed| found.extend([(asker, needed)]),
        |_| Ok::<(), Infallible>(()),
    );
    let record = |place: usize| Some(chosen.get(place.checked_sub(records.as_slice().len())?)?.as_ref());
    found.into_iter().filter_map(|(asker, needed)| Some((record(asker)?, record(needed)?))).collect()
}

fn described(record: &SourceRecord) -> String {
    format!("`{}` of {}", record.name(), record.manifest)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use rattler_conda_types::package::BuildString;
    use rattler_conda_types::{PackageName, PackageRecord, VersionWithSource};

    use super::*;

    fn path(path: &str) -> PinnedSource {
        PinnedSource::Path { path: path.to_owned() }
    }

    /// A variant of a package that needs `foo` from a place to run.
    fn variant(name: &str, value: &str, foo: Option<&str>) -> Arc<SourceRecord> {
        let version = VersionWithSource::from_str("1.0").expect("it is one");
        let mut record =
            PackageRecord::new(PackageName::new_unchecked(name), version, BuildString::new_unchecked(value));
        record.depends = foo.iter().map(|_| "foo".to_owned()).collect();
        Arc::new(SourceRecord {
            record,
            sources: foo.iter().map(|foo| ("foo".to_owned(), SourceLocation::path(foo))).collect(),
            manifest: path(name),
            build_source: None,
            variants: BTreeMap::from([("v".to_owned(), rattler_lock::VariantValue::String(value.to_owned()))]),
            build: Records::default(),
            host: Records::default(),
        })
    }

    fn foo(place: &str) -> Arc<SourceRecord> {
        let mut record = SourceRecord::clone(&variant("foo", "", None));
        record.manifest = path(place);
        Arc::new(record)
    }

    fn asking(names: &[&str]) -> Vec<SourceRequirement> {
        let asking = |name: &&str| SourceRequirement {
            name: (*name).to_owned(),
            location: SourceLocation::path(name),
            spec: (*name).to_owned(),
        };
        names.iter().map(asking).collect()
    }

    fn needs(sources: Vec<SourceRequirement>) -> SolveDescription {
        SolveDescription {
            subdir: rattler_conda_types::Subdir::Linux64,
            virtual_packages: Vec::new(),
            channels: Vec::new(),
            channel_priority: Default::default(),
            strategy: Default::default(),
            requirements: Vec::new(),
            constraints: Vec::new(),
            sources,
            dev: Vec::new(),
            exclude_newer: None,
        }
    }

    fn pins(of: &[(&str, &str)]) -> Pins {
        of.iter().map(|(name, place)| (((*name).to_owned(), SourceLocation::path(place)), path(place))).collect()
    }

    #[test]
    fn variants_may_need_a_package_from_different_places_as_only_one_of_them_is_taken() {
        let pins = pins(&[("a", "a"), ("foo", "x"), ("foo", "y")]);
        let asked = asking(&["a"]);
        let (one, two) = (variant("a", "1", Some("../x")), variant("a", "2", Some("../y")));
        let (x, y) = (foo("x"), foo("y"));
        let offered = [one.clone(), two, x.clone(), y.clone()];
        assert!(is_ambiguous(&offered));
        let Ok(places) = Places::certain("e", &pins, &asked, &offered) else { panic!("nothing is certain of foo") };
        assert!(offered.iter().all(|record| places.has_exactly(record)));
        let needs = needs(asked);
        let Ok(places) = Places::of_chosen("e", &pins, &needs, &Records::default(), &[one, y.clone()]) else {
            panic!("one place is asked for")
        };
        assert!(places.has(&x));
        assert!(!places.has(&y), "the solver does not know of places");
    }

    #[test]
    fn what_is_needed_on_a_condition_that_does_not_hold_has_no_place() {
        let pins = pins(&[("a", "a"), ("b", "b"), ("foo", "x"), ("foo", "y")]);
        let asked = asking(&["a", "b"]);
        let (mut one, other) = (SourceRecord::clone(&variant("a", "1", Some("../x"))), variant("b", "1", Some("../y")));
        for (condition, is_needed) in [("nothing", false), ("b", true)] {
            one.record.depends = vec![format!("foo[when=\"{condition}\"]")];
            let chosen = [Arc::new(one.clone()), other.clone(), foo("y")];
            assert!(Places::certain("e", &pins, &asked, &chosen).is_ok(), "{condition}");
            let places = Places::of_chosen("e", &pins, &needs(asked.clone()), &Records::default(), &chosen);
            assert_eq!(places.is_err(), is_needed, "{condition}");
        }
    }

    #[test]
    fn what_all_variants_need_is_certain() {
        let pins = pins(&[("a", "a"), ("b", "b"), ("foo", "x"), ("foo", "y")]);
        let (one, two) = (variant("a", "1", Some("../x")), variant("a", "2", Some("../x")));
        let offered = [one, two, variant("b", "1", Some("../y")), foo("x"), foo("y")];
        let Err(error) = Places::certain("e", &pins, &asking(&["a", "b"]), &offered) else { panic!("they disagree") };
        assert_eq!(error.to_string(), "e would have `foo` from two places: x, for `a` of a; and y, for `b` of b");
    }
}
