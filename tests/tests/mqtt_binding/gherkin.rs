//! Reads feature files: scenarios, outlines with examples, steps with a table or a text. No more of Gherkin than
//! `tests/conformance` needs; a line that is none of it is a panic.

/// A scenario, with its examples filled in.
#[derive(Debug, Default)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

/// What stands behind `Given`, `When`, `Then` or `And`, and below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) doc: Option<String>,
    /// The rows, with that of the headings.
    pub(crate) table: Vec<Vec<String>>,
}

impl Step {
    /// A table of two columns, without its headings.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        assert!(!self.table.is_empty() && self.table[0] == ["key", "value"], "{}: a table", self.text);
        self.table[1..].iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    }

    /// The text below it.
    pub(crate) fn doc(&self) -> &str {
        self.doc.as_deref().unwrap_or_else(|| panic!("{}: a text", self.text))
    }
}

/// All scenarios of a file, each with the background's steps first.
pub(crate) fn scenarios(text: &str) -> Vec<Scenario> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines();
    while let Some(raw) = lines.next() {
        let line = raw.trim();
        let block = blocks.last_mut();
        if let Some(name) = after(line, &["Background:", "Scenario:", "Scenario Outline:"]) {
            blocks.push(Block { name: name.to_owned(), ..Block::default() });
        } else if line.is_empty() || line.starts_with('#') {
        } else if let Some(block) = block {
            if line == "Examples:" {
                block.in_examples = true;
            } else if line.starts_with('|') {
                block.row(cells(line));
            } else if line == "\"\"\"" {
                let indent = raw.len() - raw.trim_start().len();
                let doc: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "\"\"\"").collect();
                let doc = doc.iter().map(|line| line.get(indent..).unwrap_or_default());
                block.step().doc = Some(doc.collect::<Vec<_>>().join("\n"));
            } else if let Some(text) = after(line, &["Given ", "When ", "Then ", "And "]) {
                assert!(!block.in_examples, "a step behind the examples: {line}");
                block.steps.push(Step { text: text.to_owned(), ..Step::default() });
            } else {
                panic!("not understood: {line}");
            }
        }
    }
    let background = blocks.remove(0);
    assert_eq!(background.name, "", "the background comes first");
    blocks.iter().flat_map(|block| block.scenarios(&background.steps)).collect()
}

#[derive(Default)]
struct Block {
    name: String,
    steps: Vec<Step>,
    in_examples: bool,
    examples: Vec<Vec<String>>,
}

impl Block {
    fn step(&mut self) -> &mut Step {
        self.steps.last_mut().expect("it belongs to a step")
    }

    fn row(&mut self, row: Vec<String>) {
        let rows = if self.in_examples { &mut self.examples } else { &mut self.step().table };
        assert!(rows.first().is_none_or(|first| first.len() == row.len()), "a row of other length: {row:?}");
        rows.push(row);
    }

    fn scenarios(&self, background: &[Step]) -> Vec<Scenario> {
        let headings = self.examples.first().cloned().unwrap_or_default();
        let rows = if headings.is_empty() { vec![Vec::new()] } else { self.examples[1..].to_vec() };
        let one = |row: &Vec<String>| {
            let fill = |text: &str| {
                let pairs = headings.iter().zip(row);
                pairs.fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
            };
            let filled = self.steps.iter().map(|step| Step {
                text: fill(&step.text),
                doc: step.doc.as_deref().map(fill),
                table: step.table.iter().map(|row| row.iter().map(|cell| fill(cell)).collect()).collect(),
            });
            Scenario { name: fill(&self.name), steps: background.iter().cloned().chain(filled).collect() }
        };
        rows.iter().map(one).collect()
    }
}

fn after<'a>(line: &'a str, words: &[&str]) -> Option<&'a str> {
    words.iter().find_map(|word| line.strip_prefix(word)).map(str::trim)
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    let inner = inner.unwrap_or_else(|| panic!("a row ends with |: {line}"));
    inner.split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn outlines_are_filled_in() {
    let text = "Feature: x\n about it\n Background:\n Given a\n\n Scenario Outline: of <n>\n # no\n When b <n>:\n  \"\"\"\n   <n>\n  \"\"\"\n \
                And c:\n | key | value |\n | k |  |\n Examples:\n | n |\n | 1 |\n | 2 |\n";
    let all = scenarios(text);
    assert_eq!(all.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["of 1", "of 2"]);
    let steps = &all[1].steps;
    assert_eq!(steps.iter().map(|step| &*step.text).collect::<Vec<_>>(), ["a", "b 2:", "c:"]);
    assert_eq!((steps[1].doc(), steps[2].pairs()), (" 2", vec![("k".into(), String::new())]));
}
