//! Reading TOML tables so that every key is accounted for.
//!
//! A [`Table`] knows its dotted path and which keys were asked for; [`Table::finish`] turns the rest into warnings, so
//! a key nobody reads is never passed over in silence. Keys come in the order of the text, not of the alphabet: the
//! order of target tables and environments means something.

use std::{cell::RefCell, collections::BTreeSet, fmt::Write as _, ops::Range, rc::Rc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ManifestError, ManifestErrorKind, SourceText},
    warning::{Warning, WarningKind},
};

/// What a whole reading shares: the text and the warnings so far.
pub(crate) struct Reading {
    pub(crate) source: SourceText,
    warnings: RefCell<Vec<Warning>>,
}

impl Reading {
    pub(crate) fn new(source: SourceText) -> Self {
        Self { source, warnings: RefCell::new(Vec::new()) }
    }

    pub(crate) fn warn(&self, key: impl Into<String>, span: &Range<usize>, kind: WarningKind) {
        let line = self.source.line(span.start);
        self.warnings.borrow_mut().push(Warning { key: key.into(), line, span: span.clone(), kind });
    }

    /// The warnings in the order of the text.
    pub(crate) fn into_warnings(self) -> (SourceText, Vec<Warning>) {
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by(|a, b| (a.span.start, &a.key).cmp(&(b.span.start, &b.key)));
        warnings.dedup();
        (self.source, warnings)
    }
}

/// The keys that lead to a table. Written out only to say what is wrong with it.
#[derive(Clone, Default)]
struct KeyPath<'a>(Option<Rc<(KeyPath<'a>, &'a str)>>);

impl<'a> KeyPath<'a> {
    fn with(&self, key: &'a str) -> Self {
        Self(Some(Rc::new((self.clone(), key))))
    }

    /// The keys with dots between them, those in quotes that need it.
    fn dotted(&self) -> String {
        let Some(step) = &self.0 else { return String::new() };
        let (table, key) = step.as_ref();
        let mut dotted = table.dotted();
        if !dotted.is_empty() {
            dotted.push('.');
        }
        if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            dotted.push_str(key);
        } else {
            write!(dotted, "{key:?}").expect("writing to a string does not fail");
        }
        dotted
    }
}

/// A table being read.
#[derive(Clone)]
pub(crate) struct Table<'a, 'i> {
    reading: &'a Reading,
    path: KeyPath<'a>,
    span: Range<usize>,
    inner: &'a DeTable<'i>,
    seen: RefCell<BTreeSet<&'static str>>,
}

/// A key with its value.
#[derive(Clone)]
pub(crate) struct Entry<'a, 'i> {
    reading: &'a Reading,
    /// The way to the table that has the key.
    table: KeyPath<'a>,
    /// The key itself.
    pub(crate) key: &'a str,
    /// Where the key is.
    pub(crate) key_span: Range<usize>,
    value: &'a Spanned<DeValue<'i>>,
}

impl<'a, 'i> Table<'a, 'i> {
    pub(crate) fn root(reading: &'a Reading, inner: &'a Spanned<DeTable<'i>>) -> Self {
        Self { reading, path: KeyPath::default(), span: inner.span(), inner: inner.get_ref(), seen: RefCell::default() }
    }

    pub(crate) fn reading(&self) -> &'a Reading {
        self.reading
    }

    pub(crate) fn source(&self) -> &'a SourceText {
        &self.reading.source
    }

    /// Its dotted path.
    pub(crate) fn path(&self) -> String {
        self.path.dotted()
    }

    pub(crate) fn span(&self) -> &Range<usize> {
        &self.span
    }

    fn entry(&self, key: &'a Spanned<std::borrow::Cow<'i, str>>, value: &'a Spanned<DeValue<'i>>) -> Entry<'a, 'i> {
        Entry { reading: self.reading, table: self.path.clone(), key: key.get_ref(), key_span: key.span(), value }
    }

    /// The entry of a key this reader knows.
    pub(crate) fn get(&self, key: &'static str) -> Option<Entry<'a, 'i>> {
        self.seen.borrow_mut().insert(key);
        let (key, value) = self.inner.get_key_value(key)?;
        Some(self.entry(key, value))
    }

    /// Marks keys as known and without bearing on environments.
    pub(crate) fn ignore(&self, keys: &[&'static str]) {
        self.seen.borrow_mut().extend(keys);
    }

    /// Marks a key as known; a value there is a warning that says what is missing.
    pub(crate) fn not_handled(&self, key: &'static str, consequence: &'static str) {
        if let Some(entry) = self.get(key) {
            entry.warn(WarningKind::NotHandled { consequence });
        }
    }

    /// The string of a key, if it is there.
    pub(crate) fn string(&self, key: &'static str) -> Result<Option<(&'a str, Range<usize>)>, ManifestError> {
        self.get(key).map(|entry| entry.string()).transpose()
    }

    /// The table of a key, if it is there.
    pub(crate) fn table(&self, key: &'static str) -> Result<Option<Table<'a, 'i>>, ManifestError> {
        self.get(key).map(|entry| entry.table()).transpose()
    }

    /// All entries in the order of the text, for tables whose keys are names.
    pub(crate) fn entries(&self) -> Vec<Entry<'a, 'i>> {
        let mut entries: Vec<_> = self.inner.iter().map(|(key, value)| self.entry(key, value)).collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Warns about every key nobody asked for. Names the reader took from [`Self::entries`] are not asked for; such a
    /// table is not finished.
    pub(crate) fn finish(self) {
        let seen = self.seen.borrow();
        for entry in self.entries() {
            if !seen.contains(entry.key) {
                let suggestion = closest(entry.key, seen.iter().copied()).map(str::to_owned);
                entry.warn(WarningKind::UnknownKey { suggestion });
            }
        }
    }
}

impl<'a, 'i> Entry<'a, 'i> {
    /// The dotted path of the key.
    pub(crate) fn path(&self) -> String {
        self.table.with(self.key).dotted()
    }

    pub(crate) fn source(&self) -> &'a SourceText {
        &self.reading.source
    }

    pub(crate) fn value_span(&self) -> Range<usize> {
        self.value.span()
    }

    pub(crate) fn warn(&self, kind: WarningKind) {
        self.reading.warn(self.path(), &self.key_span, kind);
    }

    pub(crate) fn wrong_type(&self, expected: &'static str) -> ManifestError {
        let found = with_article(self.value.get_ref());
        self.source()
            .error(ManifestErrorKind::WrongType { key: self.path(), expected, found })
            .at(&self.value_span())
            .done()
    }

    pub(crate) fn as_string(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn string(&self) -> Result<(&'a str, Range<usize>), ManifestError> {
        self.as_string().map(|text| (text, self.value_span())).ok_or_else(|| self.wrong_type("a string"))
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        self.value.get_ref().as_bool()
    }

    pub(crate) fn bool(&self) -> Result<bool, ManifestError> {
        self.as_bool().ok_or_else(|| self.wrong_type("`true` or `false`"))
    }

    pub(crate) fn integer(&self) -> Result<i64, ManifestError> {
        self.value
            .get_ref()
            .as_integer()
            .and_then(|integer| i64::from_str_radix(integer.as_str(), integer.radix()).ok())
            .ok_or_else(|| self.wrong_type("an integer of at most 64 bits"))
    }

    /// The number as it is written, for versions that were not quoted.
    pub(crate) fn number_text(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str()),
            DeValue::Float(float) => Some(float.as_str()),
            _ => None,
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    pub(crate) fn is_array(&self) -> bool {
        self.value.get_ref().is_array()
    }

    pub(crate) fn table(&self) -> Result<Table<'a, 'i>, ManifestError> {
        match self.value.get_ref() {
            DeValue::Table(inner) => Ok(Table {
                reading: self.reading,
                path: self.table.with(self.key),
                span: self.key_span.clone(),
                inner,
                seen: RefCell::default(),
            }),
            _ => Err(self.wrong_type("a table")),
        }
    }

    /// The elements of an array, each as an entry with the path of the array.
    pub(crate) fn array(&self) -> Result<Vec<Entry<'a, 'i>>, ManifestError> {
        match self.value.get_ref() {
            DeValue::Array(items) => Ok(items
                .iter()
                .map(|value| Entry {
                    reading: self.reading,
                    table: self.table.clone(),
                    key: self.key,
                    key_span: value.span(),
                    value,
                })
                .collect()),
            _ => Err(self.wrong_type("an array")),
        }
    }

    /// The elements of an array of strings.
    pub(crate) fn strings(&self) -> Result<Vec<(&'a str, Range<usize>)>, ManifestError> {
        self.array()?.iter().map(Entry::string).collect()
    }

    /// The value as JSON, its keys in the order of the alphabet: what they mean does not depend on their order.
    pub(crate) fn json(&self) -> Result<serde_json::Value, ManifestError> {
        Ok(match self.value.get_ref() {
            DeValue::String(text) => text.to_string().into(),
            DeValue::Boolean(yes) => (*yes).into(),
            DeValue::Integer(_) => self.integer()?.into(),
            DeValue::Float(float) => match float.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => number.into(),
                _ => return Err(self.bad_value("a number", "it is not finite")),
            },
            DeValue::Datetime(time) => time.to_string().into(),
            DeValue::Array(_) => self.array()?.iter().map(Entry::json).collect::<Result<Vec<_>, _>>()?.into(),
            DeValue::Table(_) => {
                let mut entries = self.table()?.entries();
                entries.sort_by_key(|entry| entry.key);
                let pairs = entries.iter().map(|entry| Ok((entry.key.to_owned(), entry.json()?)));
                serde_json::Value::Object(pairs.collect::<Result<_, _>>()?)
            }
        })
    }

    /// A value that has to be one of a few words.
    pub(crate) fn one_of<T: Copy>(&self, values: &[(&'static str, T)]) -> Result<T, ManifestError> {
        let (text, span) = self.string()?;
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let names: Vec<_> = values.iter().map(|(name, _)| format!("`{name}`")).collect();
        let error = ManifestErrorKind::NotOneOf { key: self.path(), value: text.to_owned() };
        Err(self.source().error(error).at(&span).help(format!("the values are {}", names.join(", "))).done())
    }

    /// A value that cannot be read as what it has to be.
    pub(crate) fn bad_value(&self, expected: &'static str, message: impl ToString) -> ManifestError {
        let value = self.as_string().or_else(|| self.number_text()).unwrap_or_default().to_owned();
        let message = message.to_string();
        self.source().error(ManifestErrorKind::BadValue { value, expected, message }).at(&self.value_span()).done()
    }
}

fn with_article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The candidate that differs from `word` by the fewest edits, if it differs by few enough to be what was meant.
pub(crate) fn closest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance. Words are short; anything long is not a typing mistake of a known word.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 3 || a.len().max(b.len()) > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
