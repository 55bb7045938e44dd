//! Words for people: numbers with what they count, and texts of others made fit to be shown.

use std::borrow::Cow;

/// How many letters of a word are repeated in a message.
const LONG: usize = 80;

/// A number with what it counts, of which there may be one.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", of(count, one, many))
}

/// What is said of one, or of another number.
pub(crate) fn of<'w>(count: u64, one: &'w str, many: &'w str) -> &'w str {
    if count == 1 { one } else { many }
}

/// A word that somebody gave, as it is repeated in a message: not more of it than anybody reads.
pub(crate) fn shortened(word: &str) -> Cow<'_, str> {
    match word.char_indices().nth(LONG) {
        None => Cow::Borrowed(word),
        Some((end, _)) => Cow::Owned(format!("{}...", &word[..end])),
    }
}

/// How long a word of an error is that nobody reads to its end: longer than paths and URLs are.
const TOO_LONG: usize = 400;

/// A text whose words are none too long. What ends a word, as a quotation mark does, is kept.
pub(crate) fn readable(text: &str) -> Cow<'_, str> {
    let is_too_long = |word: &str| word.len() > TOO_LONG && word.chars().nth(TOO_LONG).is_some();
    if !text.split_whitespace().any(is_too_long) {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        if is_too_long(word) {
            let bare = word.trim_end_matches(|c: char| c.is_ascii_punctuation());
            short.push_str(&shortened(word));
            short.extend(piece[bare.len()..].chars().rev().take(MOST_ENDS).collect::<Vec<_>>().into_iter().rev());
        } else {
            short.push_str(piece);
        }
    }
    Cow::Owned(short)
}

/// How many letters are kept that end a word.
const MOST_ENDS: usize = 4;

/// Whether a letter does something to a terminal, or to the order of what stands beside it.
fn is_harmful(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text that does nothing but to be read: without colours and what else terminals obey, other control characters
/// written out.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        // What is not ended takes no other line with it.
        let line = line.strip_suffix("\r\n").map_or(Cow::Borrowed(line), |line| Cow::Owned(format!("{line}\n")));
        for c in console::strip_ansi_codes(&line).chars() {
            if is_harmful(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
        }
        if line.ends_with('\n') && !safe.ends_with('\n') {
            safe.push('\n');
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_without_what_terminals_obey() {
        for (text, shown) in [
            ("plain\ttext\nof two lines\n", "plain\ttext\nof two lines\n"),
            ("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}and \u{1b}[2Jcleared", "red and cleared"),
            ("a bell\u{7}, a zero\0 and a delete\u{7f}", "a bell\\u{7}, a zero\\u{0} and a delete\\u{7f}"),
            ("10 %\r100 %\r\nnext", "10 %\\r100 %\nnext"),
            ("an open \u{1b}]0;title\nnext", "an open \nnext"),
            ("alone \u{1b}", "alone \\u{1b}"),
            ("turned \u{202e}round", "turned \\u{202e}round"),
            ("ä ö\u{9b}31mü", "ä öü"),
        ] {
            assert_eq!(harmless(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_word_is_cut_and_a_number_goes_with_what_it_counts() {
        assert_eq!(shortened("greet"), "greet");
        assert_eq!(shortened(&"ä".repeat(100_000)), "ä".repeat(LONG) + "...");
        let word = "ä".repeat(100_000);
        let text = format!("no `{word}`: {}\n", "x".repeat(TOO_LONG));
        assert_eq!(readable(&text), format!("no `{}...`: {}\n", "ä".repeat(LONG - 1), "x".repeat(TOO_LONG)));
        assert_eq!(readable(&".".repeat(100_000)).len(), LONG + 3 + MOST_ENDS);
        assert_eq!([0, 1, 2].map(|count| counted(count, "look", "looks")), ["0 looks", "1 look", "2 looks"]);
    }
}
