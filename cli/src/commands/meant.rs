//! What is meant by a word: a kind, a package, a part of a label or of what a spec says.

use std::borrow::Cow;
use std::collections::BTreeSet;

use doge_queries::doge::RecordedSpec;
use miette::miette;

use crate::words::shortened;

/// The first answer that a way of taking a word gives, the narrowest way first; if none does, whatever case its letters
/// have.
pub(crate) fn with_ways<T>(
    word: &str,
    mut answer: impl FnMut(&dyn Fn(&RecordedSpec) -> bool) -> Option<T>,
) -> Option<T> {
    if word.is_empty() {
        return None;
    }
    let as_it_is: fn(&str) -> Cow<'_, str> = |text| Cow::Borrowed(text);
    let in_lowercase: fn(&str) -> Cow<'_, str> = |text| Cow::Owned(text.to_lowercase());
    [as_it_is, in_lowercase].into_iter().find_map(|folded| with_folded(&folded(word), folded, &mut answer))
}

/// As [`with_ways`], with all texts in one case.
fn with_folded<T>(
    word: &str,
    folded: fn(&str) -> Cow<'_, str>,
    mut answer: impl FnMut(&dyn Fn(&RecordedSpec) -> bool) -> Option<T>,
) -> Option<T> {
    let has_word = |text: &str| {
        // A folder of that name is not what is meant.
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/');
        text.match_indices(word)
            .any(|(place, _)| !text[..place].ends_with(is_part) && !text[place + word.len()..].starts_with(is_part))
    };
    let said = |spec: &RecordedSpec, test: &dyn Fn(&str) -> bool| {
        spec.label.as_deref().is_some_and(|label| test(&folded(label))) || test(&folded(&spec.name))
    };
    let ways: [&dyn Fn(&RecordedSpec) -> bool; 5] = [
        &|spec| spec.kind == word,
        &|spec| said(spec, &|text| text == word),
        &|spec| said(spec, &has_word),
        &|spec| spec.kind.contains(word),
        &|spec| said(spec, &|text| text.contains(word)),
    ];
    ways.into_iter().find_map(|is_meant| answer(is_meant))
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
    miette!(help = help, "nothing that ran in this workspace is called `{}`", shortened(word))
}
