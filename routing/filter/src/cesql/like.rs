//! Patterns of LIKE (CESQL §3.4.3), taken apart once. Sans-io.
//!
//! A pattern is pieces with `%` between them. The first is held against the start, the last against the end, and each of
//! the others is searched in what is left, from the left: no step back, so the cost is text times the longest piece at
//! worst, and that only for pieces with `_`; others are searched in linear time.

use memchr::memmem::Finder;

use crate::fuel::Fuel;

/// A pattern.
#[derive(Debug)]
pub(super) enum Pattern {
    /// No `%`: the whole text.
    Whole(Piece),
    /// `first%…%last`, with pieces that lie somewhere between, in this order.
    Spread { first: Piece, between: Box<[Piece]>, last: Piece },
}

/// What lies between two `%`.
#[derive(Debug)]
pub(super) enum Piece {
    /// Text alone.
    Text(Box<Finder<'static>>),
    /// With `_`: characters, `None` is any.
    Holes(Box<[Option<char>]>),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces: Vec<Vec<Option<char>>> = vec![Vec::new()];
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            let one = match c {
                '%' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '_' => None,
                '\\' => Some(rest.next_if(|next| matches!(next, '%' | '_')).unwrap_or('\\')),
                other => Some(other),
            };
            if let Some(last) = pieces.last_mut() {
                last.push(one);
            }
        }
        let mut pieces: Vec<Piece> = pieces.into_iter().map(Piece::new).collect();
        let last = pieces.pop();
        let mut pieces = pieces.into_iter();
        match (pieces.next(), last) {
            (Some(first), Some(last)) => {
                Self::Spread { first, between: pieces.filter(|piece| !piece.is_empty()).collect(), last }
            }
            (None, Some(whole)) => Self::Whole(whole),
            (_, None) => Self::Whole(Piece::new(Vec::new())),
        }
    }

    /// What it costs to hold it against the start and the end of a text.
    fn steps_at_ends(&self) -> usize {
        match self {
            Self::Whole(piece) => piece.cost(),
            Self::Spread { first, last, .. } => first.cost() + last.cost(),
        }
    }

    /// Whether `text` is like it. `None`: that costs more than there is.
    pub(super) fn matches(&self, text: &str, fuel: &mut Fuel) -> Option<bool> {
        fuel.take(self.steps_at_ends() + 1)?;
        Some(match self {
            Self::Whole(piece) => piece.at_start(text) == Some(text.len()),
            Self::Spread { first, between, last } => {
                let Some(start) = first.at_start(text) else { return Some(false) };
                let mut rest = text.get(start..).unwrap_or_default();
                let Some(end) = last.at_end(rest) else { return Some(false) };
                rest = rest.get(..end).unwrap_or_default();
                for piece in between {
                    let Some(behind) = piece.find(rest, fuel)? else { return Some(false) };
                    rest = rest.get(behind..).unwrap_or_default();
                }
                true
            }
        })
    }
}

impl Piece {
    fn new(characters: Vec<Option<char>>) -> Self {
        let text: Option<String> = characters.iter().copied().collect();
        match text {
            Some(text) => Self::Text(Box::new(Finder::new(text.as_bytes()).into_owned())),
            None => Self::Holes(characters.into()),
        }
    }

    /// What it costs to hold it against a place of a text.
    fn cost(&self) -> usize {
        match self {
            Self::Text(finder) => finder.needle().len() / 16,
            Self::Holes(holes) => holes.len(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(finder) => finder.needle().is_empty(),
            Self::Holes(_) => false,
        }
    }

    /// How many bytes of the start of `text` it is.
    fn at_start(&self, text: &str) -> Option<usize> {
        match self {
            Self::Text(finder) => {
                let needle = finder.needle();
                text.as_bytes().starts_with(needle).then_some(needle.len())
            }
            Self::Holes(holes) => {
                let mut characters = text.char_indices();
                for hole in holes {
                    let (_, c) = characters.next()?;
                    if hole.is_some_and(|wanted| wanted != c) {
                        return None;
                    }
                }
                Some(characters.next().map_or(text.len(), |(at, _)| at))
            }
        }
    }

    /// Where it starts if `text` ends with it.
    fn at_end(&self, text: &str) -> Option<usize> {
        match self {
            Self::Text(finder) => {
                let needle = finder.needle();
                text.as_bytes().ends_with(needle).then(|| text.len() - needle.len())
            }
            Self::Holes(holes) => {
                let mut characters = text.char_indices().rev();
                let mut start = text.len();
                for hole in holes.iter().rev() {
                    let (at, c) = characters.next()?;
                    if hole.is_some_and(|wanted| wanted != c) {
                        return None;
                    }
                    start = at;
                }
                Some(start)
            }
        }
    }

    /// The byte behind the first place where it is in `text`.
    fn find(&self, text: &str, fuel: &mut Fuel) -> Option<Option<usize>> {
        match self {
            Self::Text(finder) => {
                fuel.take(text.len() / 2)?;
                Some(finder.find(text.as_bytes()).map(|at| at + finder.needle().len()))
            }
            Self::Holes(holes) => {
                for (at, _) in text.char_indices() {
                    fuel.take(holes.len())?;
                    let rest = text.get(at..).unwrap_or_default();
                    if let Some(length) = self.at_start(rest) {
                        return Some(Some(at + length));
                    }
                }
                Some(None)
            }
        }
    }
}
