//! What is meant by a word: a kind, a package, a part of a label or of what a spec says.

use std::collections::BTreeSet;

use doge_queries::doge::RecordedSpec;
use miette::miette;

/// The first answer that a way of taking a word gives, the narrowest way first.
pub(crate) fn with_ways<T>(
    word: &str,
    mut answer: impl FnMut(&dyn Fn(&RecordedSpec) -> bool) -> Option<T>,
) -> Option<T> {
    let has_word = |text: &str| {
        // A folder of that name is not what is meant.
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/');
        text.match_indices(word)
            .any(|(place, _)| !text[..place].ends_with(is_part) && !text[place + word.len()..].starts_with(is_part))
    };
    let said =
        |spec: &RecordedSpec, test: &dyn Fn(&str) -> bool| spec.label.as_deref().is_some_and(test) || test(&spec.name);
    let ways: [&dyn Fn(&RecordedSpec) -> bool; 5] = [
        &|spec| spec.kind == word,
        &|spec| said(spec, &|text| text == word),
        &|spec| said(spec, &has_word),
        &|spec| spec.kind.contains(word),
        &|spec| said(spec, &|text| text.contains(word)),
    ];
    ways.into_iter().filter(|_| !word.is_empty()).find_map(|is_meant| answer(is_meant))
}

/// Nothing is called so; these are, which are not much else.
pub(crate) fn unknown(word: &str, specs: impl Iterator<Item = RecordedSpec>) -> miette::Report {
    let (mut kinds, mut words) = (BTreeSet::new(), BTreeSet::new());
    for spec in specs {
        let text = format!("{} {}", spec.name, spec.label.as_deref().unwrap_or_default());
        let parts = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@')));
        words.extend(parts.filter(|part| part.len() > 2).map(str::to_owned));
        kinds.insert(spec.kind);
    }
    let likeness = |other: &String| strsim::jaro_winkler(&word.to_lowercase(), &other.to_lowercase());
    let mut similar: Vec<String> = kinds.iter().chain(&words).filter(|other| likeness(other) > 0.8).cloned().collect();
    similar.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)).then_with(|| a.cmp(b)));
    similar.dedup();
    similar.truncate(5);
    let help = if similar.is_empty() {
        format!("what ran was {}", kinds.into_iter().collect::<Vec<_>>().join(", "))
    } else {
        format!("did you mean `{}`?", similar.join("`, `"))
    };
    miette!(help = help, "nothing that ran in this workspace is called `{word}`")
}
