//! The rules for one subject, with its names put in: asked on the way of every publish. Sans-io.

use event::{TopicFilter, TopicName};

use super::Does;
use super::pattern::Pattern;

/// A topic of a rule, as written: a filter with places for names.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    Client,
}

/// What is put into the places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) client: &'a str,
}

/// How places are written.
const PLACES: [(&str, Part); 4] =
    [("${user}", Part::User), ("${client}", Part::Client), ("%u", Part::User), ("%c", Part::Client)];

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let places = PLACES.iter().filter_map(|place| Some((rest.find(place.0)?, place)));
            let Some((at, (word, part))) = places.min_by_key(|(at, _)| *at) else { break };
            parts.push(Part::Text(rest.get(..at).unwrap_or_default().to_owned()));
            parts.push(part.clone());
            rest = rest.get(at + word.len()..).unwrap_or_default();
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self(parts);
        let example = template.fill(Places { user: Some("x"), client: "x" }).unwrap_or_default();
        let filter = TopicFilter::parse(example).map_err(|error| format!("topic {text:?}: {error}"))?;
        if filter.share().is_some() {
            return Err(format!(
                "topic {text:?}: leave $share/group/ out; shared subscriptions follow the filter behind it"
            ));
        }
        if text.contains("${") && !template.has_places() {
            return Err(format!("topic {text:?}: the places are ${{user}} and ${{client}}"));
        }
        Ok(template)
    }

    pub(super) fn has_places(&self) -> bool {
        self.0.iter().any(|part| *part != Part::Text(String::new()) && !matches!(part, Part::Text(_)))
    }

    /// The filter with names in its places; `None` if a name is not there, or is no part of one level.
    fn fill(&self, places: Places<'_>) -> Option<String> {
        let name =
            |name: Option<&str>| name.filter(|name| !name.contains(['/', '+', '#', '\0'])).map(str::to_owned);
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::User => name(places.user),
            Part::Client => name(Some(places.client)),
        };
        self.0.iter().map(part).collect()
    }

    /// The filter as far as it is the same for all names, and all below it.
    fn stem(&self) -> String {
        let first = self.0.first().map_or("", |part| match part {
            Part::Text(text) => text,
            Part::User | Part::Client => "",
        });
        let whole_levels = first.rfind('/').and_then(|at| first.get(..=at)).unwrap_or_default();
        format!("{whole_levels}#")
    }
}

/// The rules for one subject.
#[derive(Debug, Default)]
pub(crate) struct Program(Box<[Line]>);

#[derive(Debug)]
struct Line {
    does: Does,
    pattern: Pattern,
}

impl Program {
    pub(super) fn new<'a>(lines: impl Iterator<Item = (Does, &'a Template)>, places: Places<'_>) -> Self {
        let line = |(does, template): (Does, &Template)| {
            let filter = match template.fill(places) {
                Some(filter) => filter,
                // An allowance for a name that cannot be put in is for nobody; a denial keeps away from all names.
                None if does.allow => return None,
                None => template.stem(),
            };
            Some(Line { does, pattern: Pattern::new(&filter) })
        };
        Self(lines.filter_map(line).collect())
    }

    /// Whether it may publish to `topic`: the first line that has it decides.
    pub(crate) fn may_publish(&self, topic: &TopicName) -> bool {
        let mut room = [""; LEVELS];
        let mut many = Vec::new();
        let mut count = 0;
        for level in topic.levels() {
            match room.get_mut(count) {
                Some(place) if many.is_empty() => *place = level,
                _ => {
                    if many.is_empty() {
                        many.extend_from_slice(&room);
                    }
                    many.push(level);
                }
            }
            count += 1;
        }
        let levels = if many.is_empty() { room.get(..count).unwrap_or_default() } else { &many };
        let line = self.0.iter().find(|line| line.does.publish && line.pattern.has(levels));
        line.is_some_and(|line| line.does.allow)
    }

    /// Whether it may get all that `filter` matches: an allowance has all of it, and no denial before that has any.
    pub(crate) fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        let wanted = Pattern::new(filter.pattern());
        for line in self.0.iter().filter(|line| line.does.subscribe) {
            match line.does.allow {
                true if line.pattern.covers(&wanted) => return true,
                false if line.pattern.meets(&wanted) => return false,
                true | false => {}
            }
        }
        false
    }
}

/// Levels of a topic that need no allocation.
const LEVELS: usize = 16;
