//! The program as a person and a service manager see it: lines, exit codes, signals, what is kept.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

fn weft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEFT_")) {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code and standard error of a start that fails.
fn fails(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), text(&stderr))
}

/// A Weft that runs in `folder`, on free ports. Killed when dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    lines: Vec<String>,
}

impl Running {
    fn start(folder: &Path) -> Self {
        Self::with(folder, &["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"])
    }

    /// Waits for the last line that Weft says when it runs.
    fn with(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = weft();
        command.current_dir(folder).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.starts_with("Publish with curl")) {
            let mut line = String::new();
            if output.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
                panic!("weft ended: {errors}");
            }
            lines.push(line.trim_end().to_owned());
        }
        Self { child, output, lines }
    }

    /// The address behind `name` in the lines.
    fn address(&self, name: &str) -> String {
        let line = self.lines.iter().find(|line| line.trim_start().starts_with(name)).unwrap();
        let word = line.split_whitespace().nth(1).unwrap();
        word.trim_start_matches("http://").to_owned()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("http")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends SIGTERM.
    fn signal(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Sends SIGTERM; the exit code and the rest of both outputs.
    fn terminate(mut self) -> (Option<i32>, String, String) {
        self.signal();
        let (mut rest, mut errors) = (String::new(), String::new());
        self.output.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), rest, errors)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        weft().args([command, "--addr", &self.address("mqtt")]).args(rest).output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or(());
    }
}

#[test]
fn help_and_version_tell_what_there_is() {
    let help = text(&weft().arg("--help").output().unwrap().stdout);
    for word in
        ["--config", "--data", "--mqtt", "--http", "--allow-anonymous", "check", "pub", "sub", "Exit codes"]
    {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    let version = text(&weft().arg("--version").output().unwrap().stdout);
    assert_eq!(version, format!("weft {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(fails(weft().arg("--no-such-flag")).0, 2);
}

#[test]
fn the_start_says_what_listens_where_and_what_to_try() {
    let folder = TempDir::new().unwrap();
    let weft = Running::start(folder.path());
    let lines = weft.lines.join("\n");
    assert!(lines.starts_with(&format!("weft {} runs.", env!("CARGO_PKG_VERSION"))), "{lines}");
    let (mqtt, http) = (weft.address("mqtt"), weft.address("http"));
    assert!(!mqtt.ends_with(":0") && !http.ends_with(":0"), "{lines}");
    assert!(
        lines.contains("weft-data") && lines.contains("pub --addr") && lines.contains("/events?topic="),
        "{lines}"
    );
    assert!(folder.path().join("weft-data").is_dir());
}

#[test]
fn health_and_metrics_are_on_the_http_port() {
    let folder = TempDir::new().unwrap();
    let weft = Running::start(folder.path());
    assert!(weft.get("/live").starts_with("HTTP/1.1 200"));
    let ready = weft.get("/ready");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains(r#""status":"ready""#), "{ready}");
    let metrics = weft.get("/metrics");
    assert!(
        metrics.contains("process_resident_memory_bytes") && metrics.contains("# HELP weft_"),
        "{metrics}"
    );
    let nothing = weft.get("/nothing");
    assert!(
        nothing.starts_with("HTTP/1.1 404") && nothing.contains("urn:weft:problem:not-found"),
        "{nothing}"
    );
}

#[test]
fn sigterm_ends_with_0_and_state_is_kept() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(folder.path());
    let published = running.run(&["pub", "--retain", "--qos", "2", "lamps/kitchen", "on"]);
    assert!(published.status.success(), "{}", text(&published.stderr));
    let (code, rest, errors) = running.terminate();
    assert_eq!((code, rest.as_str()), (Some(0), ""), "{errors}");

    let again = Running::start(folder.path());
    assert!(again.lines.join("\n").contains("retained events: 1"), "{:?}", again.lines);
    let got = again.run(&["sub", "-v", "--count", "1", "lamps/+"]);
    assert_eq!(text(&got.stdout), "lamps/kitchen on\n", "{}", text(&got.stderr));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = TempDir::new().unwrap();
    // A publish that waits for a RocketMQ that is not there holds the stop up for seconds.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = format!(
        "rocketmq.main.name_servers = [\"{nobody}\"]\n[[route]]\ntopic = \"orders/#\"\nstore = \"main\"\n"
    );
    std::fs::write(folder.path().join("weft.toml"), file).unwrap();
    let mut running = Running::start(folder.path());
    let ready = running.get("/ready");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("rocketmq/main/store"), "{ready}");
    let mut publisher = weft();
    publisher.args(["pub", "--addr", &running.address("mqtt"), "orders/1", "x"]).stderr(Stdio::null());
    let mut publisher = publisher.spawn().unwrap();
    while !running.get("/metrics").contains("weft_core_events_in_total 1") {}
    running.signal();
    // The listener is closed at once, before connections get their time.
    while TcpStream::connect(running.address("http")).is_ok() {}
    running.signal();
    assert_eq!(running.child.wait().unwrap().code(), Some(1));
    publisher.wait().unwrap();
}

#[test]
fn what_is_published_is_seen() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(folder.path());
    std::fs::write(folder.path().join("data"), "from a file").unwrap();
    let mut subscriber = weft();
    subscriber.args(["sub", "--addr", &running.address("mqtt"), "-v", "--qos", "2", "--count", "3", "a/#"]);
    let mut subscriber = subscriber.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It says on standard error when the subscription is granted.
    let mut said = String::new();
    BufReader::new(subscriber.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("a/#"), "{said}");
    let file = folder.path().join("data").display().to_string();
    for arguments in
        [&["a/0", "zero", "--qos", "0"][..], &["a/1", "one"], &["a/2", "--file", &file, "--qos", "2"]]
    {
        let published = running.run(&[&["pub"], arguments].concat());
        assert!(published.status.success(), "{}", text(&published.stderr));
    }
    let got = subscriber.wait_with_output().unwrap();
    assert_eq!(text(&got.stdout), "a/0 zero\na/1 one\na/2 from a file\n");
}

#[test]
fn a_client_without_a_weft_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, errors) = fails(weft().args(["pub", "--addr", &free, "a", "b"]));
    assert_eq!(code, 1);
    assert!(errors.contains(&free) && errors.contains("refused"), "{errors}");
    let (code, errors) = fails(weft().args(["sub", "--addr", &free, "a/#/b"]));
    assert_eq!(code, 1);
    assert!(errors.contains("'#'"), "{errors}");
}

#[test]
fn a_mistake_in_the_file_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("my.toml");
    std::fs::write(&file, "[mqtt]\nlistn = \"127.0.0.1:1883\"\n").unwrap();
    for arguments in [["--config", "my.toml"], ["check", "my.toml"]] {
        let (code, errors) = fails(weft().current_dir(folder.path()).args(arguments));
        assert_eq!(code, 2, "{errors}");
        assert_eq!(errors, "weft: my.toml:2: mqtt.listn: there is no such key; did you mean mqtt.listen?\n");
    }
    assert!(!folder.path().join("weft-data").exists());
    // Read without being named, too.
    std::fs::rename(&file, folder.path().join("weft.toml")).unwrap();
    let (code, errors) = fails(weft().current_dir(folder.path()));
    assert!(code == 2 && errors.contains("weft.toml:2"), "{errors}");
}

#[test]
fn check_says_that_a_file_is_fine() {
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/weft.toml");
    let output = weft().args(["check", reference]).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("weft.toml: fine"));
}

#[test]
fn an_open_listener_has_to_be_wanted() {
    let folder = TempDir::new().unwrap();
    let open = ["--mqtt", "0.0.0.0:0", "--http", "127.0.0.1:0"];
    let (code, errors) = fails(weft().current_dir(folder.path()).args(open));
    assert_eq!(code, 2);
    assert!(
        errors.starts_with("weft: --mqtt: mqtt.listen = 0.0.0.0:0: ") && errors.contains("--allow-anonymous"),
        "{errors}"
    );
    Running::with(folder.path(), &[&open[..], &["--allow-anonymous"]].concat());
}

#[test]
fn a_port_in_use_is_named() {
    let folder = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (mqtt, http) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let (code, errors) = fails(weft().current_dir(folder.path()).args(["--mqtt", mqtt, "--http", http]));
        assert_eq!(code, 1);
        assert!(errors.contains(&address) && errors.contains("another program listens there"), "{errors}");
    }
}

#[test]
fn a_folder_in_use_and_one_that_cannot_be_made_are_named() {
    let folder = TempDir::new().unwrap();
    let _first = Running::start(folder.path());
    let second = ["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let (code, errors) = fails(weft().current_dir(folder.path()).args(second));
    assert_eq!(code, 1);
    assert!(errors.contains("weft-data is in use by another weft"), "{errors}");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let (code, errors) = fails(weft().current_dir(folder.path()).args(second).args(["--data", "file/data"]));
    assert_eq!(code, 1);
    assert!(errors.contains("file/data"), "{errors}");
}

#[test]
fn logs_go_to_standard_error_as_text_or_json() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("weft.toml"), "log.format = \"json\"\n").unwrap();
    let (_, _, errors) = Running::start(folder.path()).terminate();
    assert!(!errors.is_empty());
    for line in errors.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

#[test]
fn further_listeners_are_served_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let tables = "[listener.plant]\nlisten = \"127.0.0.1:0\"\n\
                  [listener.pages]\nlisten = \"127.0.0.1:0\"\nprotocol = \"http\"\n";
    std::fs::write(folder.path().join("weft.toml"), tables).unwrap();
    let weft = Running::start(folder.path());
    let plant = weft.address("plant");
    let sent = weft_command(&["pub", "--addr", &plant, "--retain", "a/b", "by plant"]);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let got = weft_command(&["sub", "--addr", &weft.address("mqtt"), "-c", "1", "a/#"]);
    assert_eq!(text(&got.stdout), "by plant\n");
    let mut stream = TcpStream::connect(weft.address("pages")).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("weft_transport_connections_accepted_total{listener=\"plant\"} 1"), "{page}");
}

fn weft_command(arguments: &[&str]) -> Output {
    weft().args(arguments).output().unwrap()
}

#[test]
fn passwd_adds_changes_and_deletes_users() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    let passwd = |arguments: &[&str], input: &str| {
        let mut command = weft();
        command.arg("passwd").arg(&file).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap_or(());
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let names = || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().map(|line| line.split_once('$').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(passwd(&["alice"], "one\n"), (0, String::new()));
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600,
        "others cannot read it"
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(passwd(&["bob", "--scram"], "two"), (0, String::new()));
    assert_eq!(names(), ["alice:", "bob:", "bob:SCRAM-SHA-256"]);
    let before = std::fs::read_to_string(&file).unwrap();
    assert_eq!(passwd(&["alice"], "three\n").0, 0);
    assert_eq!(names(), ["alice:", "bob:", "bob:SCRAM-SHA-256"]);
    assert_ne!(std::fs::read_to_string(&file).unwrap(), before);
    let (code, error) = passwd(&["carol", "-D"], "");
    assert!(code == 1 && error.contains("there is no user carol"), "{error}");
    assert!(passwd(&["a:b"], "x").1.contains("no ':'"));
    assert!(passwd(&["dave"], "\n").1.contains("the password is empty"));
    assert_eq!(passwd(&["bob", "--delete"], "").0, 0);
    assert_eq!(names(), ["alice:"]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640, "as it was set");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn check_looks_at_the_files_of_access() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weft.toml");
    std::fs::write(&config, "access.acl_file = \"acl.toml\"\n").unwrap();
    std::fs::write(folder.path().join("acl.toml"), "[[rule]]\nallow = 'all'\n").unwrap();
    let (code, error) = fails(weft().current_dir(folder.path()).arg("check").arg(&config));
    assert!(code == 1 && error.contains("acl.toml:1: missing field `topic`"), "{error}");
}

/// Whether or not something needs it.
#[test]
fn a_file_that_cannot_be_used_is_found_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    let run = |toml: &str, arguments: &[&str]| {
        std::fs::write(folder.path().join("weft.toml"), toml).unwrap();
        fails(weft().current_dir(folder.path()).args(arguments))
    };
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    let keys = "name_servers = [\"127.0.0.1:9876\"]\naccess_key = \"weft\"\n";
    let cases = [
        ("[webhook]\n", "webhook", "secret_file"),
        (&*format!("[rocketmq.main]\n{keys}"), "rocketmq.main", "secret_key_file"),
        (&*format!("[defibus.main]\n{keys}"), "defibus.main", "secret_key_file"),
        ("[rocketmq.main]\nname_servers = [\"127.0.0.1:9876\"]\n", "rocketmq.main", "tls_ca_file"),
    ];
    for (above, table, key) in cases {
        let line = above.lines().count() + 1;
        let empty = if key == "tls_ca_file" { "it holds no certificate" } else { "it is empty" };
        for (file, why) in [("nowhere", "No such file"), ("empty", empty)] {
            for arguments in [&["check", "weft.toml"][..], &[]] {
                let (code, error) = run(&format!("{above}{key} = \"{file}\"\n"), arguments);
                let start = format!("weft: weft.toml:{line}: {table}.{key} = \"{file}\": {file}: {why}");
                assert!(code == 2 && error.starts_with(&start), "{code} {error}");
            }
        }
    }
    let hook = "[hook.h]\nurl = \"https://example.org\"\ntopics = [\"a\"]\nsecret_file = \"empty\"\n";
    let access = "access.password_file = \"nowhere\"\n";
    for (toml, what) in [(hook, "hook.h: secret_file empty: it is empty"), (access, "access: nowhere: ")] {
        for arguments in [&["check", "weft.toml"][..], &[]] {
            let (code, error) = run(toml, arguments);
            assert!(code == 1 && error.starts_with(&format!("weft: {what}")), "{code} {error}");
        }
    }
    assert!(!folder.path().join("weft-data").exists());
}

#[test]
fn a_certificate_that_cannot_be_read_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let tables = "[listener.plant]\nlisten = \"127.0.0.1:0\"\ncarrier = \"tls\"\n[listener.plant.tls]\n\
                  certificate = \"nowhere.pem\"\nkey = \"nowhere.key\"\n";
    std::fs::write(folder.path().join("weft.toml"), tables).unwrap();
    for arguments in [&["check", "weft.toml"][..], &[]] {
        let (code, errors) = fails(weft().current_dir(folder.path()).args(arguments));
        assert_eq!(code, 2);
        let start = "weft: weft.toml:5: listener.plant.tls.certificate = \"nowhere.pem\": nowhere.pem: cannot be read: ";
        assert!(errors.starts_with(start), "{errors}");
    }
}
