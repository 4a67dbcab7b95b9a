//! Out of file descriptors: connections wait, and come when there is one again. Alone in its process, because it
//! lowers the limit of all.

use std::fs::File;
use std::process::Command;

use tokio::net::TcpStream;
use transport::{Accepted, Connections, Entry, Listener, Options};

#[tokio::test]
async fn without_descriptors_connections_wait() {
    let connections = Connections::new(&Options::default());
    let mut listener =
        Listener::bind("test", "127.0.0.1:0".parse().unwrap(), &connections, Entry::default()).unwrap();
    let pid = std::process::id().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, "--nofile=64"]).status();
    if !lowered.is_ok_and(|status| status.success()) {
        eprintln!("skipped: the program prlimit (util-linux) is needed to lower the limit of open files");
        return;
    }
    let client = TcpStream::connect(listener.address()).await.unwrap();
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(64).collect();
    assert!(files.len() < 64, "the limit holds");
    tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await.unwrap_err();
    files.clear();
    let Accepted::Ready(stream) = listener.accept().await else { panic!("it has nothing to say first") };
    assert_eq!(stream.peer().address, client.local_addr().unwrap());
}
