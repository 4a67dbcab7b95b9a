//! Regular expressions of `matches`, in the syntax of RE2 as CEL has it (the CEL language definition, "Regular expressions"). Sans-io.
//!
//! Each is made an automaton when the filter is compiled, or refused if that is too large. So what a match costs is known then: one
//! look into a table for each byte of the text, whatever the expression and the text. An engine that builds the automaton as
//! it goes, or does without, takes a thousand times as long for some.

use std::error::Error as _;

use regex_automata::Input;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;

/// A regular expression, compiled.
#[derive(Debug)]
pub(super) struct Regex(dense::DFA<Vec<u32>>);

/// What the automata of one filter may take together, bytes. Those of sensible expressions take some hundred to some thousand.
pub(super) const REGEX_BYTES: usize = 32 << 10;

impl Regex {
    /// Compiles `pattern` to at most `most` bytes.
    ///
    /// # Errors
    /// With what is wrong.
    pub(super) fn compile(pattern: &str, most: usize) -> Result<Self, String> {
        let too_large = || "this regular expression is too large".to_owned();
        let states = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(REGEX_BYTES))
            .which_captures(WhichCaptures::None);
        let states = thompson::Compiler::new()
            .syntax(syntax::Config::new().utf8(false))
            .configure(states)
            .build(&with_ascii_classes(pattern))
            .map_err(|error| match error.source() {
                Some(wrong) => {
                    let text = wrong.to_string();
                    format!("no regular expression: {}", text.lines().last().unwrap_or_default().trim())
                }
                None => too_large(),
            })?;
        // Making it may take four times the memory that it has in the end.
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(most))
            .determinize_size_limit(Some(most.saturating_mul(4)));
        let automaton = dense::Builder::new().configure(config).build_from_nfa(&states);
        automaton.map(Self).map_err(|_| too_large())
    }

    /// Bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        self.0.memory_usage()
    }

    /// Whether it matches anywhere in `text`.
    pub(super) fn is_match(&self, text: &str) -> bool {
        // No error: it stops at no byte, and starts anywhere.
        self.0.try_search_fwd(&Input::new(text).earliest(true)).is_ok_and(|found| found.is_some())
    }
}

/// `\d`, `\w`, `\s`, `\b` and their opposites are about ASCII in RE2; the parser would take them for all of Unicode.
fn with_ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let escaped = if c == '\\' { rest.next() } else { None };
        match escaped {
            None => out.push(c),
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str(r"[\t\n\f\r ]"),
            Some('S') => out.push_str(r"[^\t\n\f\r ]"),
            Some('b') => out.push_str(r"(?-u:\b)"),
            Some('B') => out.push_str(r"(?-u:\B)"),
            Some(other) => out.extend(['\\', other]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        Regex::compile(pattern, REGEX_BYTES)
            .unwrap_or_else(|wrong| panic!("{pattern}: {wrong}"))
            .is_match(text)
    }

    #[test]
    fn matches_anywhere_unless_it_is_bound() {
        for (pattern, yes, no) in [
            ("b+", "abba", "acca"),
            ("^a.*z$", "a to z", "from a to z"),
            ("^.{3}$", "für", "fü"),
            ("(?i)GRÖSSE|straße", "die größe STRASSE Straße", "strasse"),
            (r"^\w+@\w+[.]\w{2,}$", "ada@example.com", "adä@example.com"),
            (r"\bfoo\b", "a foo, b", "a foobar"),
            (r"\Boo\B", "fooz", "oo"),
            (r"^[\w-]+[^\d\s]$", "a-b.", "a-b1"),
            (r"^\D\S\W$", "ö-.", "ö-x"),
            (r"^\\d$", r"\d", "1"),
            (r"^((25[0-5]|2[0-4]\d|1?\d?\d)[.]){3}(25[0-5]|2[0-4]\d|1?\d?\d)$", "10.0.255.1", "10.0.256.1"),
            (
                r"^(GET|PUT) /api/v\d+/(users|orders)/[0-9a-f-]{36}$",
                "GET /api/v2/users/7b1f7b1f-7b1f-7b1f-7b1f-7b1f7b1f7b1f",
                "GET /api/v/users/1",
            ),
            ("", "", "never"),
        ] {
            assert!(is_match(pattern, yes), "{pattern} on {yes}");
            assert_eq!(is_match(pattern, no), pattern.is_empty(), "{pattern} on {no}");
        }
    }

    #[test]
    fn what_has_no_small_automaton_is_refused() {
        for pattern in ["(a{1000}){1000}", "[ab]*a[ab]{200}b", "(a|b)*a(a|b){200}(c|d)", "(.{1,9}a){5}"] {
            assert_eq!(
                Regex::compile(pattern, REGEX_BYTES).unwrap_err(),
                "this regular expression is too large",
                "{pattern}"
            );
        }
        for pattern in ["(", "a{2,1}", r"\", r"[\b]"] {
            let wrong = Regex::compile(pattern, REGEX_BYTES).unwrap_err();
            assert!(wrong.starts_with("no regular expression: error: "), "{pattern}: {wrong}");
        }
    }
}
