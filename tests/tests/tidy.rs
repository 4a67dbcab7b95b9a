//! The rules of the house, checked: who may import whom (the table of ARCHITECTURE.md), where waiting is allowed, and
//! what every file and manifest looks like. A failure names the file and the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tests::weft::root;

#[test]
fn crates_import_what_the_table_allows() {
    let table = import_table();
    let mut broken = String::new();
    for member in members() {
        let folder = member.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let Some(row) = table.get(&folder) else {
            writeln!(broken, "{folder}: not in the table of ARCHITECTURE.md").unwrap();
            continue;
        };
        for name in dependencies(&member, "dependencies").iter().filter(|name| ours(&table).contains(*name)) {
            if !row.allowed.contains(name) {
                writeln!(broken, "{folder} imports {name}: the table of ARCHITECTURE.md does not allow it")
                    .unwrap();
            }
        }
    }
    for folder in table.keys().filter(|folder| !root().join(folder).join("Cargo.toml").exists()) {
        writeln!(broken, "{folder}: in the table of ARCHITECTURE.md, but there is no such crate").unwrap();
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn versions_and_lints_are_in_the_root_manifest() {
    let mut broken = String::new();
    for member in members() {
        let manifest = manifest(&member);
        let name = manifest["package"]["name"].as_str().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(list) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for (dependency, value) in list {
                // A crate may name itself, to have a feature on in its own tests.
                let itself = value.get("path").and_then(toml::Value::as_str) == Some(".");
                if !itself && value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    writeln!(
                        broken,
                        "{name}: {dependency} has to be `workspace = true`: one version for all"
                    )
                    .unwrap();
                }
            }
        }
        let lints =
            manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if lints != Some(true) && name != "weft-tests" {
            writeln!(broken, "{name}: has to have `[lints] workspace = true`").unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn only_drivers_wait() {
    hold(leaf_sources().filter(|file| !is_driver(file)), waits);
}

#[test]
fn what_decides_does_no_io() {
    hold(leaf_sources().filter(|file| is_sans_io(file) && !is_driver(file)), does_io);
}

#[test]
fn tasks_are_held() {
    hold(members().iter().flat_map(|member| sources(&member.join("src"))), bare_spawns);
}

#[test]
fn files_open_with_their_purpose() {
    let mut broken = String::new();
    for file in all_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            writeln!(broken, "{}: a file opens with `//!`: what lives here", place(&file, 1)).unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn files_and_functions_stay_short() {
    hold(members().iter().flat_map(|member| sources(&member.join("src"))), too_long);
}

#[test]
fn every_metric_is_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let mut broken = String::new();
    for name in metric_names() {
        let well_formed = name.split('_').count() >= 3 && !name.contains("__");
        if !well_formed {
            writeln!(broken, "{name}: a metric is weft_<part>_<noun>_<unit>[_total]").unwrap();
        }
        if !readme.contains(&name) {
            writeln!(broken, "{name}: every metric is described in README.md").unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut broken = String::new();
    for name in ["README.md", "ARCHITECTURE.md", "STYLE.md", "CHANGELOG.md", "tests/bench/README.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        for link in dead_links(&text, root().join(name).parent().unwrap()) {
            writeln!(broken, "{name}: nothing is at {link}").unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn the_rules_bite() {
    let text =
        "# One, `two` and three\n[a](#one-two-and-three) [b](#one) [c](STYLE.md) [d](no.md) [e](https://no)";
    assert_eq!(dead_links(text, root()), ["#one", "no.md"]);
    let check = |rule: fn(&[Line]) -> Vec<Fault>, text: &str| rule(&code(text)).len();
    assert_eq!(check(waits, "    task.await;"), 1);
    assert_eq!(check(waits, "// task.await;"), 0);
    assert_eq!(check(waits, "#[cfg(test)]\nmod tests {\n    task.await;\n}"), 0);
    assert_eq!(check(does_io, "let now = Instant::now();"), 1);
    assert_eq!(check(does_io, "fn handle(now: Instant) {"), 0);
    assert_eq!(check(bare_spawns, "{\n    tokio::spawn(task);\n    next();\n}"), 1);
    assert_eq!(check(bare_spawns, "{\n    tasks.spawn(task);\n}"), 0);
    assert_eq!(check(bare_spawns, "{\n    tokio::spawn(task)\n}"), 0);
    assert_eq!(check(too_long, &"line\n".repeat(FILE_MAX + 1)), 1);
    assert_eq!(
        check(too_long, &format!("pub(crate) async fn long() {{\n{}}}", "    line\n".repeat(FUNCTION_MAX))),
        1
    );
    assert_eq!(check(too_long, "fn short() {\n    line\n}"), 0);
}

/// Links within a document and to files beside it, in `folder`, that lead nowhere.
fn dead_links(text: &str, folder: &Path) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<String> =
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let leads = |link: &&str| match link.strip_prefix('#') {
        Some(anchor) => anchors.contains(anchor),
        None => link.contains("://") || folder.join(link.split('#').next().unwrap()).exists(),
    };
    links.filter(|link| !leads(link)).map(str::to_owned).collect()
}

/// How a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// A line of code and its number.
type Line = (usize, String);

/// Where a rule is broken, and the rule.
type Fault = (usize, String);

fn waits(code: &[Line]) -> Vec<Fault> {
    let words = [
        "async fn",
        "async move",
        "async {",
        ".await",
        "tokio::spawn",
        "tokio::time",
        "tokio::task",
        "tokio::select",
    ];
    forbid(code, &words, "in a leaf only driver.rs and driver/ wait")
}

fn does_io(code: &[Line]) -> Vec<Fault> {
    let words = [
        "tokio::",
        "net::Tcp",
        "net::Udp",
        "std::fs",
        "std::thread",
        "Instant::now",
        "SystemTime::now",
        "async ",
    ];
    forbid(code, &words, "codec, connection, session and binding have no socket, file, clock or task")
}

fn forbid(code: &[Line], words: &[&str], rule: &str) -> Vec<Fault> {
    let fault = |(number, line): &Line| {
        let word = words.iter().find(|word| line.contains(*word))?;
        Some((*number, format!("`{}`: {rule}", word.trim())))
    };
    code.iter().filter_map(fault).collect()
}

fn bare_spawns(code: &[Line]) -> Vec<Fault> {
    let bare = ["tokio::spawn(", "drop(tokio::spawn(", "let _ = tokio::spawn("];
    let places = (0..code.len()).filter(|at| {
        let line = code[*at].1.trim_start();
        bare.iter().any(|start| line.starts_with(start)) && !is_tail(&code[*at..])
    });
    places.map(|at| (code[at].0, "a task is held and ended by someone; no bare spawn".to_owned())).collect()
}

fn too_long(code: &[Line]) -> Vec<Fault> {
    let long = functions(code).into_iter().filter(|(_, length)| *length > FUNCTION_MAX);
    let mut faults: Vec<Fault> = long
        .map(|(number, length)| (number, format!("a function of {length} lines, at most {FUNCTION_MAX}")))
        .collect();
    if code.len() > FILE_MAX {
        faults.push((1, format!("{} lines; a file ends at {FILE_MAX}, tests apart", code.len())));
    }
    faults
}

/// Fails with every place in `files` that breaks `rule`.
fn hold(files: impl Iterator<Item = PathBuf>, rule: fn(&[Line]) -> Vec<Fault>) {
    let mut broken = String::new();
    for file in files.filter(|file| !is_test(file)) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, fault) in rule(&code(&text)) {
            writeln!(broken, "{}: {fault}", place(&file, number)).unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

/// Crates at the rim: sans-io parts and one driver.
const LEAVES: [&str; 15] = [
    "routing/access",
    "routing/parts",
    "protocols/mqtt",
    "protocols/websocket",
    "protocols/quic",
    "protocols/http",
    "protocols/eventmesh",
    "protocols/webhook",
    "protocols/eventmesh-http",
    "protocols/grpc",
    "protocols/tcp",
    "connectors/embedded",
    "connectors/remoting",
    "connectors/defibus",
    "connectors/rocketmq",
];

/// Modules that decide and do not act, by the names that all leaves use.
const SANS_IO: [&str; 20] = [
    "acl",
    "passwords",
    "scram",
    "codec",
    "connection",
    "session",
    "binding",
    "frame",
    "handshake",
    "deflate",
    "sse",
    "record",
    "body",
    "segment",
    "message",
    "proto",
    "request",
    "wire",
    "push",
    "target",
];

const FILE_MAX: usize = 800;
const FUNCTION_MAX: usize = 80;

struct Row {
    allowed: BTreeSet<String>,
}

/// Folder of a crate to what it may import, as ARCHITECTURE.md has it.
fn import_table() -> BTreeMap<String, Row> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| folder")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let mut table = BTreeMap::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (folder, name, allowed) = (cells[0].trim_matches('`'), cells[1].trim_matches('`'), cells[3]);
        let allowed = match allowed {
            "all" | "all of the above" => names.clone(),
            "–" => BTreeSet::new(),
            list => list.split(',').map(|name| name.trim().to_owned()).collect(),
        };
        names.insert(name.to_owned());
        table.insert(folder.to_owned(), Row { allowed });
    }
    assert!(table.len() > 5, "the table of ARCHITECTURE.md could not be read");
    table
}

/// The names our crates are imported by.
fn ours(table: &BTreeMap<String, Row>) -> BTreeSet<String> {
    table
        .keys()
        .map(|folder| manifest(&root().join(folder))["lib"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn members() -> Vec<PathBuf> {
    let workspace = manifest(root());
    let list = workspace["workspace"]["members"].as_array().unwrap();
    list.iter().map(|member| root().join(member.as_str().unwrap())).collect()
}

fn manifest(folder: &Path) -> toml::Table {
    let file = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn dependencies(member: &Path, section: &str) -> BTreeSet<String> {
    let manifest = manifest(member);
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

/// Every Rust file of the workspace that is written by hand.
fn all_files() -> Vec<PathBuf> {
    let folders = members().into_iter().chain([root().join("tests/fuzz")]);
    let mut files: Vec<PathBuf> = folders.flat_map(|folder| sources(&folder)).collect();
    files.sort();
    files.dedup();
    files
}

/// The Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn leaf_sources() -> impl Iterator<Item = PathBuf> {
    LEAVES.iter().flat_map(|leaf| sources(&root().join(leaf).join("src")))
}

/// Whether the file is, or lies in, a module that decides without I/O.
fn is_sans_io(file: &Path) -> bool {
    let inside = file.strip_prefix(root()).unwrap().with_extension("");
    inside.iter().any(|part| SANS_IO.iter().any(|name| part == *name))
}

fn is_driver(file: &Path) -> bool {
    let inside = file.strip_prefix(root()).unwrap();
    inside.components().any(|part| part.as_os_str() == "driver")
        || file.file_name().is_some_and(|n| n == "driver.rs")
}

/// Tests and fakes may be long, wait and spawn.
fn is_test(file: &Path) -> bool {
    let inside = file.strip_prefix(root()).unwrap();
    let tests = |part: std::path::Component<'_>| part.as_os_str() == "tests" || part.as_os_str() == "testing";
    let harness = inside.starts_with("tests/src");
    !harness
        && (inside.components().any(tests) || inside.to_str().is_some_and(|name| name.ends_with("tests.rs")))
}

/// The lines of a file with their numbers, without its tests and comments.
fn code(text: &str) -> Vec<Line> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    let code = lines.into_iter().take(end.unwrap_or(usize::MAX)).enumerate();
    code.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default().to_owned())).collect()
}

/// Whether the call that starts here is the value of its block, so that the caller holds what it yields.
fn is_tail(code: &[Line]) -> bool {
    let own = indent(&code[0].1);
    let end = code.iter().position(|(_, line)| !line.is_empty() && indent(line) < own).unwrap_or(code.len());
    !code[end - 1].1.trim_end().ends_with(';')
}

/// First line and length of each function that has a body, by its indentation: the sources are formatted.
fn functions(code: &[Line]) -> Vec<(usize, usize)> {
    let is_head = |line: &str| line.trim_start().starts_with("fn ") || line.contains(" fn ");
    let heads = code.iter().enumerate().filter(|(_, (_, line))| is_head(line) && !line.ends_with([';', '}']));
    heads.filter_map(|(at, (number, head))| Some((*number, length(&code[at..], indent(head))?))).collect()
}

/// Lines up to the brace that closes what starts at `own`; `None` if it has no body.
fn length(code: &[Line], own: usize) -> Option<usize> {
    for (at, (_, line)) in code.iter().enumerate().skip(1) {
        let text = line.trim();
        if text.is_empty() || indent(line) > own {
            continue;
        }
        if text.starts_with('}') {
            return Some(at + 1);
        }
        let is_signature =
            [")", "where", "{"].iter().any(|start| text.starts_with(start)) && !text.ends_with(';');
        if !is_signature {
            return None;
        }
    }
    None
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Every text of the sources that looks like the name of a metric.
fn metric_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let folders = members().into_iter().filter(|member| !member.ends_with("tests"));
    for file in folders.flat_map(|member| sources(&member.join("src"))) {
        for (_, line) in code(&std::fs::read_to_string(&file).unwrap()) {
            let is_name = |text: &&str| {
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                text.starts_with("weft_") && text.bytes().all(plain)
            };
            names.extend(line.split('"').skip(1).step_by(2).filter(is_name).map(str::to_owned));
        }
    }
    names
}

fn place(file: &Path, line: usize) -> String {
    format!("{}:{line}", file.strip_prefix(root()).unwrap().display())
}
